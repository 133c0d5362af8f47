//! A cluster of three etcds becomes one of three cairns: one directory is taken over, the others join with empty ones.

use std::time::Duration;

use crate::fresh::etcd_takes_part;
use crate::gateway::Gateway;
use crate::node::{Node, agree, list, wait_until};
use crate::program::{Recorded, fine, found, migrate, run, text};
use crate::state::Asker;
use crate::support::http::{self, Request};
use crate::support::port::Port;
use crate::support::process::Process;
use crate::support::server::Flavor;

/// A member of etcd; killed when dropped.
struct Etcd {
    client: Port,
    _peer: Port,
    dir: tempfile::TempDir,
    process: Process,
}

fn etcds() -> Vec<Etcd> {
    let port = || Port::reserve().expect("the system has free ports");
    let ports: Vec<_> = (0..3).map(|_| (port(), port())).collect();
    let all: Vec<_> =
        ports.iter().zip(1..).map(|((_, peer), n)| format!("m{n}={}", peer.url())).collect();
    let all = all.join(",");
    let mut members = Vec::new();
    for ((client, peer), n) in ports.into_iter().zip(1..) {
        let dir = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        let (name, data) = (format!("m{n}"), dir.path().join("data"));
        let words =
            ["--name", &name, "--data-dir", text(&data), "--enable-v2", "--snapshot-count=40"];
        let urls = [
            ["--listen-client-urls", &client.url()],
            ["--advertise-client-urls", &client.url()],
            ["--listen-peer-urls", &peer.url()],
            ["--initial-advertise-peer-urls", &peer.url()],
            ["--initial-cluster", &all],
            ["--heartbeat-interval=30", "--election-timeout=300"],
        ]
        .map(|pair| pair.map(str::to_owned));
        let words: Vec<_> =
            words.map(str::to_owned).into_iter().chain(urls.into_iter().flatten()).collect();
        let process = Process::start(text(&Flavor::Etcd.program()), &words);
        members.push(Etcd { client, _peer: peer, dir, process });
    }
    for member in &members {
        wait_until("an etcd serves", || {
            let request = Request::get("/v2/keys/?quorum=true");
            http::ask_within(member.client.addr(), &request, Duration::from_secs(1))
                .is_ok_and(|reply| reply.status() == 200)
        });
    }
    members
}

#[test]
fn three_etcds_become_three_cairns_under_a_watcher() {
    if !etcd_takes_part() {
        return;
    }
    let mut etcds = etcds();
    for n in 0..120 {
        let asker = Asker::of(etcds[n % 3].client.addr());
        let request = Request::new("PUT", format!("/v2/keys/app/{}", n % 10));
        assert!(matches!(asker.ask(request.form(format!("value={n}"))).status(), 200 | 201));
    }
    for n in 0..30 {
        Gateway::of(etcds[n % 3].client.addr()).put(&format!("three/{}", n % 10), &n.to_string());
    }
    let three = Gateway::of(etcds[2].client.addr()).keys(0);
    let asker = Asker::of(etcds[2].client.addr());
    let (index, listing) = asker.listing();
    let cluster = asker.get("/v2/keys/").get("X-Etcd-Cluster-Id");
    // The last one that is stopped has all that was acknowledged.
    for etcd in &mut etcds {
        etcd.process.terminate();
        etcd.process.end();
    }

    let mut first = Node::named("m3");
    let said = migrate(&first, &etcds[2].dir.path().join("data"), &[]);
    assert_eq!(said["facts"]["index"].as_u64(), Some(index), "{said}");
    first.serve(&[]);
    assert_eq!(Asker::of(first.addr()).listing().1, listing);
    let mut nodes = vec![first];
    for name in ["m1", "m2"] {
        let mut node = Node::named(name);
        nodes[0].add(&node.peer_url());
        let all: Vec<_> = nodes.iter().chain([&node]).collect();
        node.serve(&["--initial-cluster", &list(&all), "--initial-cluster-state=existing"]);
        nodes.push(node);
    }
    agree(&nodes.iter().collect::<Vec<_>>(), &["m1", "m2", "m3"]);
    for node in &nodes {
        let asker = Asker::of(node.addr());
        assert_eq!(asker.listing().1, listing, "{}", node.name);
        let gateway = Gateway::of(node.addr());
        assert_eq!((gateway.keys(0), gateway.revision()), (three.clone(), 31), "{}", node.name);
        assert_eq!(gateway.events(20, 31).len(), 12, "{}", node.name);
        assert_eq!(asker.get("/v2/keys/").get("X-Etcd-Cluster-Id"), cluster);
        // The history came along, also to those that joined.
        let event =
            asker.json(&format!("/v2/keys/app?wait=true&recursive=true&waitIndex={}", index - 20));
        assert!(
            event["node"]["modifiedIndex"].as_u64().is_some_and(|at| at >= index - 20),
            "{event}"
        );
    }
    assert!(nodes[1].put("/app/0", "after") > index);
    let watched = format!("/v2/keys/app/0?wait=true&waitIndex={}", index + 1);
    assert_eq!(Asker::of(nodes[2].addr()).json(&watched)["node"]["value"], "after");
}

/// The digest of a directory that is well.
pub(crate) fn verified(dir: &std::path::Path) -> serde_json::Value {
    let said = crate::support::program::fine(&["verify", "--json", text(dir)]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["well"], true, "{said}");
    said["facts"]["digest"].clone()
}

#[test]
fn several_members_from_one_directory_are_a_cluster() {
    let recorded = Recorded::of("snapshots");
    // One of them has the name of the member of etcd, and must not begin with other facts.
    let mut nodes = ["m1", "b", "c"].map(Node::named);
    let all = list(&nodes.each_ref());
    let digests = nodes.each_ref().map(|node| {
        migrate(node, &recorded.source, &["--initial-cluster", &all]);
        verified(&node.data_dir())
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    nodes.iter_mut().for_each(|node| node.launch(&[], &[]));
    nodes.iter_mut().for_each(Node::wait_until_ready);
    agree(&nodes.each_ref(), &["b", "c", "m1"]);
    let cluster = recorded.answers["clusterId"].as_str();
    let (_, listing) = Asker::of(nodes[0].addr()).listing();
    for node in &nodes {
        assert_eq!(node.get("/v2/keys/").get("X-Etcd-Cluster-Id").as_deref(), cluster);
        assert_eq!(Asker::of(node.addr()).listing().1, listing);
    }
    assert!(nodes[2].put("/more", "1") > 251);
    // Members of different states have other ids, and never form a cluster.
    let ids = ["snapshots", "killed"].map(|name| {
        let recorded = Recorded::of(name);
        let node = Node::named("a");
        let all = format!("a={},b=http://127.0.0.1:1", node.peer_url());
        let (dir, peer) = (node.data_dir(), node.peer_url());
        let words = ["--from", text(&recorded.source), "--data-dir", text(&dir), "--name", "a"];
        let said = fine(
            &[&words[..], &["--initial-cluster", &all, "--initial-advertise-peer-urls", &peer]]
                .concat(),
        );
        let id = said.split("taken over: member ").nth(1).expect("the member is named");
        id.split(' ').next().unwrap_or_default().to_owned()
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn name_and_urls_are_those_of_etcd_unless_others_are_given() {
    let recorded = Recorded::of("basic");
    let dir = tempfile::tempdir().expect("a folder");
    let target = dir.path().join("new");
    let said = fine(&["--from", text(&recorded.source), "--data-dir", text(&target)]);
    assert!(said.contains("member 645f0e6d2e6ac981 (m1) of cluster 877ca190f094f4f0"), "{said}");
    assert!(said.contains("index                    46"), "{said}");
    let member = std::fs::read_to_string(target.join("member.json")).expect("a member");
    assert!(member.contains("http://127.0.0.1:34101"), "{member}");
    verified(&target);
    let again = run(&["--from", text(&recorded.source), "--data-dir", text(&target)]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("not overwritten"), "{again:?}");
}

#[test]
fn the_log_may_be_elsewhere_on_both_sides() {
    let recorded = Recorded::of("snapshots");
    let dir = tempfile::tempdir().expect("a folder");
    let (old, new) = (dir.path().join("old-wal"), dir.path().join("new-wal"));
    std::fs::rename(recorded.source.join("member/wal"), &old).expect("it can be moved");
    crate::program::refused(&recorded.source, &[], &["holds no log", "--from-wal-dir"]);
    let facts = found(&recorded.source, &["--from-wal-dir", text(&old)]);
    assert_eq!(facts["facts"]["index"], 251);
    let mut node = Node::named("m1");
    migrate(&node, &recorded.source, &["--from-wal-dir", text(&old), "--wal-dir", text(&new)]);
    assert!(!node.data_dir().join("wal").exists() && new.exists());
    node.serve(&["--wal-dir", text(&new)]);
    assert!(node.put("/more", "1") > 251);
}
