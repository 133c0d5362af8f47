//! The way back: the real etcd starts from what `cairn export` writes, with the same keys, indexes, events and users.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::fresh::etcd_takes_part;
use crate::gateway::Gateway;
use crate::node::{Node, wait_until};
use crate::program::{Recorded, found, migrate, text};
use crate::state::{Asker, is_hidden, timeless, without_dying_before};
use crate::support::http::{self, Request};
use crate::support::port::Port;
use crate::support::process::Process;
use crate::support::rng::{Rng, seed_from_env};
use crate::support::server::Flavor;
use crate::three;

fn cairn(words: &[&str]) -> (Option<i32>, String) {
    let said = crate::support::program::run(words);
    (said.code, said.out + &said.err)
}

/// An etcd on an exported directory.
struct Etcd {
    client: Port,
    peer: Port,
    process: Option<Process>,
}

impl Etcd {
    fn start(dir: &Path, flags: &[&str]) -> Self {
        let port = || Port::reserve().expect("the system has free ports");
        let mut etcd = Self { client: port(), peer: port(), process: None };
        etcd.run(dir, flags);
        etcd
    }

    fn run(&mut self, dir: &Path, flags: &[&str]) {
        self.process = None;
        let (client, peer) = (self.client.url(), self.peer.url());
        let words = ["--name", "m1", "--data-dir", text(dir), "--enable-v2"]
            .into_iter()
            .chain(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .chain(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .chain(flags.iter().copied());
        let words: Vec<_> = words.map(str::to_owned).collect();
        self.process = Some(Process::start(text(&Flavor::Etcd.program()), &words));
        wait_until("an etcd serves", || {
            let request = Request::get("/version");
            http::ask_within(self.client.addr(), &request, Duration::from_secs(1))
                .is_ok_and(|reply| reply.status() == 200 && !reply.text().contains("not_decided"))
        });
    }
}

/// Keys of the recordings die within a minute of their making, or after twenty years.
const LONG: &str = "2030";

#[test]
fn etcd_goes_on_from_what_was_exported() {
    if !etcd_takes_part() {
        return;
    }
    for name in ["snapshots", "auth"] {
        let recorded = Recorded::of(name);
        let dir = tempfile::tempdir().expect("a folder");
        let mut node = Node::named("m1");
        migrate(&node, &recorded.source, &[]);
        node.serve(&[]);
        let login = |addr| match name {
            "auth" => Asker::with(addr, "root", "rootpw"),
            _ => Asker::of(addr),
        };
        let asker = login(node.addr());
        wait_until("keys whose time was over go", || {
            without_dying_before(&asker.listing().1, LONG).1 == 0
        });
        let put = Request::new("PUT", "/v2/keys/written-here").form("value=%3Cx%3E&ttl=90000");
        assert_eq!(asker.ask(put).status(), 201);
        let (index, listing) = asker.listing();
        let events = asker.events(index - 40, index);
        let hidden = timeless(asker.json("/v2/keys/_hiddir?recursive=true"));
        let cluster = asker.get("/v2/keys/").get("X-Etcd-Cluster-Id");
        node.process().terminate();
        node.farewell();

        let target = dir.path().join("etcd");
        let (code, said) = cairn(&["export", text(&node.data_dir()), "--data-dir", text(&target)]);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains(&format!("at index {index}")) && said.contains("--force-new-cluster"),
            "{said}"
        );
        // Our own reader finds the same in it.
        let again = found(&target, &[]);
        assert_eq!(again["facts"]["index"].as_u64(), Some(index), "{again}");
        let mut etcd = Etcd::start(&target, &["--force-new-cluster"]);
        let asker = login(etcd.client.addr());
        let seen = asker.listing();
        assert_eq!(seen.1, listing, "{name}");
        // It publishes its own name and URLs.
        assert!((index + 1..=index + 2).contains(&seen.0), "{} after {index}", seen.0);
        let visible =
            |events: Vec<Value>| events.into_iter().filter(|e| !is_hidden(e)).collect::<Vec<_>>();
        assert_eq!(visible(asker.events(index - 40, index)), visible(events), "{name}");
        assert_eq!(timeless(asker.json("/v2/keys/_hiddir?recursive=true")), hidden);
        assert_eq!(asker.get("/v2/keys/").get("X-Etcd-Cluster-Id"), cluster, "{name}");
        if name == "auth" {
            assert_eq!(Asker::of(etcd.client.addr()).get("/v2/keys/dir/a").status(), 401);
            assert_eq!(asker.json("/v2/auth/users"), recorded.answers["auth"]["users"]);
            assert_eq!(asker.json("/v2/auth/roles"), recorded.answers["auth"]["roles"]);
        }
        let put = Request::new("PUT", "/v2/keys/written-there").form("value=2");
        assert_eq!(asker.ask(put).status(), 201);
        // And starts again as any other.
        etcd.run(&target, &[]);
        let key = asker.json("/v2/keys/written-there");
        assert_eq!(key["node"]["value"], "2", "{key}");
    }
}

#[test]
fn a_backup_file_is_exported_too_and_nothing_is_overwritten() {
    let recorded = Recorded::of("basic");
    let dir = tempfile::tempdir().expect("a folder");
    let mut node = Node::named("m1");
    migrate(&node, &recorded.source, &[]);
    node.serve(&[]);
    let (file, target) = (dir.path().join("backup"), dir.path().join("etcd"));
    let url = format!("http://{}", node.addr());
    assert_eq!(cairn(&["backup", "--endpoint", &url, text(&file)]).0, Some(0));
    let words = ["export", "--format", "etcd-backup", text(&file), "--data-dir", text(&target)];
    let (code, said) = cairn(&words);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 values or names that are not UTF-8"), "{said}");
    let keys = found(&target, &[])["facts"]["keys"].as_u64().expect("a number");
    assert!((20..=21).contains(&keys), "{keys}");
    let (code, said) = cairn(&words);
    assert!(code == Some(1) && said.contains("not overwritten"), "{said}");
    for (words, expected) in [
        (&["export", text(&file)][..], "--data-dir is missing"),
        (&["export", text(&file), "--data-dir", "x", "--format", "json"], "is not known"),
        (&["export", "--data-dir", "x"], "name a FILE or DIR"),
    ] {
        let (code, said) = cairn(words);
        assert!(code == Some(2) && said.contains(expected), "{words:?}: {said}");
    }
}

#[test]
fn version_3_goes_back_too() {
    if !etcd_takes_part() {
        return;
    }
    let seed = seed_from_env("MIGRATE_SEED");
    let mut rng = Rng::new(seed);
    let dir = tempfile::tempdir().expect("a folder");
    let mut node = Node::named("m1");
    node.serve(&[]);
    let gateway = Gateway::of(node.addr());
    for at in 0..300 {
        three::step(&gateway, &mut rng);
        if at == 100 {
            three::compact(&gateway, gateway.revision() - 5);
        }
    }
    // Larger than a page, and more than fit in one.
    gateway.put("large", &"x".repeat(20_000));
    for n in 0..200 {
        gateway.put(&format!("many/{n}"), "v");
    }
    let sum = three::hash(node.addr());
    let before = three::seen(&gateway, sum.1);
    node.process().terminate();
    node.farewell();
    let target = dir.path().join("etcd");
    let (code, said) = cairn(&["export", text(&node.data_dir()), "--data-dir", text(&target)]);
    let keys = before.keys.last().and_then(|(_, keys)| keys.as_array()).map_or(0, Vec::len);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(&format!("{keys} keys of version 3 at revision {}", before.revision)),
        "{said}"
    );
    let again = found(&target, &[]);
    assert_eq!(again["facts"]["version_3_hash"].as_u64(), Some(sum.0), "{again}");
    let mut etcd = Etcd::start(&target, &["--force-new-cluster"]);
    let gateway = Gateway::of(etcd.client.addr());
    three::same(&three::seen(&gateway, sum.1), &before, seed);
    assert_eq!(three::hash(etcd.client.addr()), sum, "seed {seed}");
    // And starts again as any other.
    assert_eq!(gateway.put("written-there", "2"), before.revision + 1);
    etcd.run(&target, &[]);
    assert_eq!(gateway.revision(), before.revision + 1);
}

#[test]
fn users_of_version_3_go_back_with_their_passwords() {
    if !etcd_takes_part() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut node = Node::named("m1");
    node.serve(&[]);
    let root = three::make_users(node.addr());
    let (users, keys) = (root.users(), root.keys(0));
    let target = dir.path().join("etcd");
    node.process().terminate();
    node.farewell();
    let (code, said) = cairn(&["export", text(&node.data_dir()), "--data-dir", text(&target)]);
    assert!(code == Some(0) && said.contains("and 4 users"), "{said}");
    let etcd = Etcd::start(&target, &["--force-new-cluster"]);
    let root = Gateway::login(etcd.client.addr(), "root", "secret");
    assert_eq!((root.users(), root.keys(0)), (users, keys));
    let alice = Gateway::login(etcd.client.addr(), "alice", "al/ice");
    assert!(three::can_put(&alice, "/app/x") && !three::can_put(&alice, "/other"));
    Gateway::login(etcd.client.addr(), "bob", "new");
}
