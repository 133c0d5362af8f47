//! Each recorded directory becomes a member that answers as its server did: keys, indexes, past events, users, members.

use serde_json::Value;

use crate::node::{Node, wait_until};
use crate::program::{Recorded, found, migrate};
use crate::state::{Asker, is_hidden, timeless, without_dying_before};
use crate::support::http::Request;

/// Keys of the recordings die within a minute of their making, or after twenty years.
const LONG: &str = "2030";

/// What a member publishes when it starts elsewhere takes one index. The version of a cluster that was 3.5's takes another: it is
/// 3.4 from then on.
fn published(facts: &Value) -> u64 {
    if facts["etcd_version"] == "3.5.0" { 2 } else { 1 }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Starts a member on what a recording comes to, and compares everything.
fn check(name: &'static str) -> Node {
    let recorded = Recorded::of(name);
    let answers = &recorded.answers;
    let mut node = Node::named("m1");
    let said = migrate(&node, &recorded.source, &[]);
    let facts = &said["facts"];
    let published = published(facts);
    let (index, from) = (number(&answers["etcdIndex"]), number(&facts["wait_index_from"]));
    assert_eq!(number(&facts["index"]), index, "{said}");
    assert_eq!(answers["stats"]["watchers"], 0);
    node.serve(&["--history-bytes=1073741824"]);

    let asker = match answers["passwords"]["root"].as_str() {
        Some(password) => Asker::with(node.addr(), "root", password),
        None => Asker::of(node.addr()),
    };
    let (listing, gone) = without_dying_before(&timeless(answers["listing"].clone()), LONG);
    wait_until("keys whose time was over go", || {
        asker.listing().1 == listing || {
            let (index_now, _) = asker.listing();
            index_now >= index + published + gone
        }
    });
    let (index_now, listing_now) = asker.listing();
    assert_eq!(listing_now, listing, "{name}");
    assert_eq!(index_now, index + published + gone, "{name}");
    for (path, wanted) in answers["hidden"].as_object().expect("hidden keys") {
        let found = asker.json(&format!("/v2/keys{path}?recursive=true&quorum=true&sorted=true"));
        assert_eq!(timeless(found), timeless(wanted.clone()), "{name} {path}");
    }
    let events: Vec<_> =
        answers["events"].as_array().expect("events").iter().cloned().map(timeless).collect();
    let wanted: Vec<_> = events
        .into_iter()
        .filter(|event| number(&event["node"]["modifiedIndex"]) >= from)
        .collect();
    // etcd tells past events of hidden keys to those who watch from above, and live ones not; here neither.
    let (hidden, wanted): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_hidden);
    for wanted in hidden {
        let (key, index) =
            (wanted["node"]["key"].as_str().unwrap_or_default(), &wanted["node"]["modifiedIndex"]);
        let found = asker.json(&format!("/v2/keys{key}?wait=true&waitIndex={index}"));
        assert_eq!(timeless(found), wanted, "{name}");
    }
    assert!(!wanted.is_empty() || from > index, "{name}: events from {from}");
    for (place, (found, wanted)) in asker.events(from, index).iter().zip(&wanted).enumerate() {
        assert_eq!(found, wanted, "{name}: event {place}");
    }
    assert_eq!(asker.events(from, index).len(), wanted.len(), "{name}");
    compare_counters(&asker, answers, gone);
    node
}

/// Reads and watchers are each member's own; keys that have died since are counted.
fn compare_counters(asker: &Asker, answers: &Value, gone: u64) {
    let now = asker.json("/v2/stats/store");
    for (name, wanted) in answers["stats"].as_object().expect("counters") {
        let more = if name == "expireCount" { gone } else { 0 };
        if !name.starts_with("gets") && name != "watchers" {
            assert_eq!(number(&now[name]), number(wanted) + more, "{name}");
        }
    }
}

/// The member is the same, of the same cluster; its URLs are those of the flags.
fn is_the_same_member(node: &Node, answers: &Value, id: &str) {
    let reply = node.get("/v2/members");
    assert_eq!(reply.get("X-Etcd-Cluster-Id").as_deref(), answers["clusterId"].as_str());
    let members = node.members();
    assert_eq!(members.len(), 1, "{members:?}");
    assert_eq!((members[0].id.as_str(), members[0].name.as_str()), (id, "m1"));
    assert_eq!(members[0].peer_urls, [node.peer_url()]);
}

#[test]
fn a_log_without_a_snapshot() {
    let node = check("basic");
    is_the_same_member(&node, &Recorded::of("basic").answers, "645f0e6d2e6ac981");
    assert!(node.put("/more", "1") > 46);
}

#[test]
fn snapshots_and_a_tail_with_and_without_padding() {
    check("snapshots");
    check("unpadded");
    check("killed");
}

#[test]
fn a_directory_of_3_5() {
    check("three-five");
}

#[test]
fn a_log_of_several_segments() {
    check("segments");
}

#[test]
fn a_backup_of_etcdctl() {
    let node = check("backup");
    let cluster = node.get("/v2/members").get("X-Etcd-Cluster-Id");
    assert_ne!(cluster.as_deref(), Recorded::of("backup").answers["clusterId"].as_str());
    let said = found(&Recorded::of("backup").source, &[]);
    assert!(said["notes"].to_string().contains("etcdctl backup"), "{said}");
}

#[test]
fn version_2_with_version_3_beside_it() {
    check("mixed-v3");
}

#[test]
fn users_log_in_with_their_old_passwords() {
    let node = check("auth");
    let answers = &Recorded::of("auth").answers;
    let root = Asker::with(node.addr(), "root", "rootpw");
    for (name, wanted) in answers["auth"].as_object().expect("answers") {
        let target = match name.split_once(':') {
            Some(("user", user)) => format!("/v2/auth/users/{user}"),
            Some((_, role)) => format!("/v2/auth/roles/{role}"),
            None => format!("/v2/auth/{name}"),
        };
        assert_eq!(root.json(&target), *wanted, "{name}");
    }
    let put = |asker: &Asker, key: &str| {
        asker.ask(Request::new("PUT", format!("/v2/keys{key}")).form("value=x")).status()
    };
    let user = |name: &str, password: &str| Asker::with(node.addr(), name, password);
    assert_eq!(put(&user("bob", "bobpw"), "/dir/a"), 200);
    assert_eq!(put(&user("alice", "alicepw"), "/dir/a"), 401, "a reader writes nothing");
    assert_eq!(user("alice", "alicepw").get("/v2/keys/dir/a").status(), 200);
    assert_eq!(user("alice", "bobpw").get("/v2/keys/dir/a").status(), 401);
    assert_eq!(Asker::of(node.addr()).get("/v2/keys/dir/a").status(), 401, "guests see nothing");
}

#[test]
fn one_member_of_several_becomes_a_cluster_of_one() {
    let node = check("three-m1");
    is_the_same_member(&node, &Recorded::of("three-m1").answers, "1ae0a9499d597008");
    let node = check("three-m4");
    is_the_same_member(&node, &Recorded::of("three-m4").answers, "1251d484ea56b0b2");
}

#[test]
fn the_tail_of_a_member_that_was_cut_off_is_told() {
    // Its recorded commit is 64 of 65, and entry 65 was acknowledged.
    check("three-tail-m1");
    check("three-tail-m2");
    let tail = Recorded::of("three-tail-m3");
    let said = found(&tail.source, &[]);
    assert_eq!(number(&said["facts"]["index"]), number(&tail.answers["etcdIndex"]) + 1, "{said}");
    assert_eq!(number(&said["facts"]["entries_beyond_it"]), 3);
    assert!(said["notes"].to_string().contains("--committed-only"), "{said}");
    let said = found(&tail.source, &["--committed-only"]);
    assert_eq!(said["facts"]["index"], tail.answers["etcdIndex"], "{said}");
    let said = found(&Recorded::of("three-tail-m1").source, &["--committed-only"]);
    assert!(said["notes"].to_string().contains("left out"), "{said}");
}

#[test]
fn a_log_alone_comes_to_the_same_as_with_its_snapshots() {
    for name in ["snapshots", "killed", "mixed-v3", "three-m1"] {
        let recorded = Recorded::of(name);
        let before = found(&recorded.source, &[]);
        for entry in
            std::fs::read_dir(recorded.source.join("member/snap")).expect("a folder").flatten()
        {
            if entry.path().extension().is_some_and(|ending| ending == "snap") {
                std::fs::remove_file(entry.path()).expect("it can be removed");
            }
        }
        if !recorded.file("wal", ".wal", false).ends_with("0000000000000000-0000000000000000.wal") {
            continue;
        }
        let after = found(&recorded.source, &[]);
        for fact in ["index", "keys", "directories", "with_ttl", "events", "wait_index_from"] {
            assert_eq!(after["facts"][fact], before["facts"][fact], "{name}: {fact}");
        }
    }
}
