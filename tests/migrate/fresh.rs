//! Directories that the installed etcd makes now: random programs, small snapshots, users.

use std::time::Duration;

use serde_json::Value;

use crate::node::{Node, wait_until};
use crate::program::{found, migrate, run, text};
use crate::state::{Asker, is_hidden};
use crate::support::http::Request;
use crate::support::rng::{Rng, seed_from_env};
use crate::support::server::{Flavor, Server, etcd_is_there};

/// How long etcd takes to stop.
const STOP: Duration = Duration::from_secs(20);

/// Whether the real etcd takes part; its absence is told, and allowed only where that was said.
pub(crate) fn etcd_takes_part() -> bool {
    if std::env::var_os("CAIRN_SKIP_ETCD").is_some_and(|value| value == "1") {
        return false;
    }
    assert!(etcd_is_there(), "no etcd to make directories: set ETCD_BIN, or CAIRN_SKIP_ETCD=1");
    true
}

fn send(asker: &Asker, method: &str, target: &str, body: &str) -> u16 {
    asker.ask(Request::new(method, target.to_owned()).form(body.to_owned())).status()
}

/// One request of a program: over few keys, so that conditions hold about half of the time.
fn step(asker: &Asker, rng: &mut Rng, last: u64) {
    let key = format!("/v2/keys/{}", rng.pick(&["a", "b", "c/d", "c/e", "_h/x", "f", "g/h/i"]));
    let value = rng.below(4);
    let (method, query, body) = match rng.below(14) {
        0 => ("DELETE", "?recursive=true".to_owned(), String::new()),
        1 => ("DELETE", format!("?prevValue=v{value}"), String::new()),
        2 => ("PUT", format!("?prevValue=v{value}"), format!("value=v{}", rng.below(4))),
        3 => (
            "PUT",
            format!("?prevIndex={}", last.saturating_sub(rng.below(3))),
            "value=v0".to_owned(),
        ),
        4 => ("PUT", "?prevExist=false".to_owned(), format!("value=v{value}")),
        5 => ("PUT", "?prevExist=true".to_owned(), format!("value=v{value}&ttl=5000")),
        6 => ("PUT", String::new(), "ttl=6000&refresh=true&prevExist=true".to_owned()),
        7 => ("PUT", String::new(), format!("value=v{value}&ttl={}", 3000 + rng.below(1000))),
        8 => ("POST", String::new(), format!("value=job{value}")),
        9 => ("PUT", String::new(), "dir=true".to_owned()),
        _ => ("PUT", String::new(), format!("value=v{value}")),
    };
    let status = send(asker, method, &format!("{key}{query}"), &body);
    assert!(status < 500, "{method} {key}{query} {body}: {status}");
}

/// Everything that is compared.
#[derive(Debug, PartialEq)]
struct Seen {
    listing: Value,
    hidden: Value,
    events: Vec<Value>,
    cluster: Option<String>,
}

fn seen(asker: &Asker, up_to: u64) -> Seen {
    Seen {
        listing: asker.listing().1,
        hidden: crate::state::timeless(asker.json("/v2/keys/_h?recursive=true&sorted=true")),
        // Of hidden keys etcd tells in the history and not when they happen; here neither.
        events: asker.events(1, up_to).into_iter().filter(|event| !is_hidden(event)).collect(),
        cluster: asker.get("/v2/keys/").get("X-Etcd-Cluster-Id"),
    }
}

fn program(flags: &[&str], steps: u64) {
    if !etcd_takes_part() {
        return;
    }
    let seed = seed_from_env("MIGRATE_SEED");
    let mut rng = Rng::new(seed);
    let mut etcd = Server::start_with(Flavor::Etcd, flags);
    let asker = Asker::of(etcd.addr());
    send(&asker, "PUT", "/v2/keys/_h/first", "value=hidden");
    for _ in 0..steps {
        let last = asker.get("/v2/keys/").index().expect("an index");
        step(&asker, &mut rng, last);
    }
    send(&asker, "PUT", "/v2/keys/short", "value=x&ttl=1");
    wait_until("a key expires", || asker.get("/v2/keys/short").status() == 404);
    let (index, _) = asker.listing();
    let before = seen(&asker, index);
    etcd.terminate(STOP);

    let mut node = Node::named("n1");
    let said = migrate(&node, &etcd.data_dir(), &[]);
    assert_eq!(said["facts"]["index"].as_u64(), Some(index), "seed {seed}: {said}");
    node.serve(&[]);
    let asker = Asker::of(node.addr());
    assert_eq!(seen(&asker, index), before, "seed {seed}");
    // The member publishes where clients reach it now, as etcd would.
    assert_eq!(asker.listing().0, index + 1);
    assert_eq!(node.put("/next", "1"), index + 2);
    // And etcd goes on from its directory, as if nothing had happened.
    etcd.restart();
    assert_eq!(Asker::of(etcd.addr()).listing().1, before.listing, "seed {seed}");
}

#[test]
fn a_random_program_without_snapshots() {
    program(&[], 250);
}

#[test]
fn a_random_program_with_many_snapshots() {
    program(&["--snapshot-count=30"], 250);
}

#[test]
fn users_roles_and_a_watch_from_before() {
    if !etcd_takes_part() {
        return;
    }
    let mut etcd = Server::start(Flavor::Etcd);
    let asker = Asker::of(etcd.addr());
    let json = |asker: &Asker, target: &str, body: &str| {
        let request =
            Request::new("PUT", target.to_owned()).header("Content-Type", "application/json");
        let reply = asker.ask(request.body(body.to_owned()));
        assert!(matches!(reply.status(), 200 | 201), "{target}: {}", reply.text());
    };
    json(&asker, "/v2/auth/users/root", r#"{"user":"root","password":"secret"}"#);
    json(&asker, "/v2/auth/users/alice", r#"{"user":"alice","password":"al/ice"}"#);
    let role = r#"{"role":"app","permissions":{"kv":{"read":["/app/*"],"write":["/app/*"]}}}"#;
    json(&asker, "/v2/auth/roles/app", role);
    json(&asker, "/v2/auth/users/alice", r#"{"user":"alice","grant":["app"]}"#);
    json(&asker, "/v2/auth/enable", "");
    let root = Asker::with(etcd.addr(), "root", "secret");
    let alice = Asker::with(etcd.addr(), "alice", "al/ice");
    assert_eq!(send(&alice, "PUT", "/v2/keys/app/x", "value=1"), 201);
    let (index, listing) = root.listing();
    let answers = |root: &Asker| {
        ["users", "roles", "users/alice", "roles/app", "roles/guest", "enable"]
            .map(|name| root.json(&format!("/v2/auth/{name}")))
    };
    let auth = answers(&root);
    etcd.terminate(STOP);

    let mut node = Node::named("n1");
    let said = migrate(&node, &etcd.data_dir(), &[]);
    assert_eq!(said["facts"]["users"], 2, "{said}");
    node.serve(&[]);
    let root = Asker::with(node.addr(), "root", "secret");
    let alice = Asker::with(node.addr(), "alice", "al/ice");
    assert_eq!(root.listing().1, listing);
    assert_eq!(answers(&root), auth);
    assert_eq!(send(&alice, "PUT", "/v2/keys/app/x", "value=2"), 200);
    assert_eq!(send(&alice, "PUT", "/v2/keys/other", "value=2"), 401);
    // A watcher that saw `index` asks for the next one.
    let event =
        root.json(&format!("/v2/keys/app?wait=true&recursive=true&waitIndex={}", index + 1));
    assert_eq!(
        (&event["node"]["value"], &event["prevNode"]["modifiedIndex"]),
        (&"2".into(), &index.into())
    );
    let event = root.json(&format!("/v2/keys/app/x?wait=true&waitIndex={index}"));
    assert_eq!(event["node"]["value"], "1", "and one from before is there");
}

#[test]
fn a_running_etcd_is_noticed() {
    if !etcd_takes_part() {
        return;
    }
    let etcd = Server::start(Flavor::Etcd);
    let said = run(&["--from", text(&etcd.data_dir()), "--dry-run"]);
    assert!(said.code == Some(1) && said.err.contains("etcd is running"), "{said:?}");
    assert!(said.err.contains("Stop it first"), "{said:?}");
    drop(etcd);
}

#[test]
fn an_etcd_without_a_key_is_an_empty_cluster() {
    if !etcd_takes_part() {
        return;
    }
    let mut etcd = Server::start(Flavor::Etcd);
    etcd.terminate(STOP);
    let said = found(&etcd.data_dir(), &[]);
    assert_eq!((&said["facts"]["keys"], &said["facts"]["index"]), (&0.into(), &3.into()), "{said}");
}

/// A tool of etcd's third version, where only that can do something.
fn etcdctl(etcd: &Server, words: &[&str]) -> String {
    let endpoint = format!("--endpoints=http://{}", etcd.addr());
    let output = std::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg(&endpoint)
        .args(words)
        .output()
        .expect("etcdctl is there");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn learners_and_members_that_left_take_their_indexes() {
    if !etcd_takes_part() {
        return;
    }
    let mut etcd = Server::start(Flavor::Etcd);
    let asker = Asker::of(etcd.addr());
    send(&asker, "PUT", "/v2/keys/a", "value=1");
    let add = |url: &str| {
        let said = etcdctl(&etcd, &["member", "add", "x", "--learner", "--peer-urls", url]);
        said.split_whitespace().nth(1).expect("an id").to_owned()
    };
    let first = add("http://127.0.0.1:1");
    send(&asker, "PUT", "/v2/keys/b", "value=2");
    etcdctl(&etcd, &["member", "remove", &first]);
    etcdctl(&etcd, &["put", "v3", "value"]);
    add("http://127.0.0.1:2");
    send(&asker, "PUT", "/v2/keys/c", "value=3");
    let (index, listing) = asker.listing();
    etcd.terminate(STOP);

    let said = found(&etcd.data_dir(), &[]);
    assert_eq!(said["facts"]["index"].as_u64(), Some(index), "{said}");
    assert!(said["facts"]["members"].to_string().contains("(learner)"), "{said}");
    assert_eq!(said["facts"]["version_3_keys"], 1, "{said}");
    let mut node = Node::named("n1");
    migrate(&node, &etcd.data_dir(), &[]);
    node.serve(&[]);
    assert_eq!(Asker::of(node.addr()).listing().1, listing);
    assert_eq!(node.members().len(), 1, "the learner joins anew");
}
