//! What was backed up is there again, in a new cluster of one or of three, and goes on.

use std::time::{Duration, Instant};

use crate::node::{Node, agree, json, leader, list, wait_until};
use crate::program::{
    alone, backup, event_at, fill, fine, index, restore, restore_alone, run, seen, text,
};
use crate::support::http::Request;

fn cluster_of(node: &Node) -> String {
    node.get("/v2/members").get("X-Etcd-Cluster-Id").expect("an id")
}

#[test]
fn one_member_has_everything_and_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("backup");
    let mut old = alone("old", &[]);
    fill(&old);
    let (before, at) = (seen(&old), index(&old));
    backup(&old, &file);
    old.put("/after", "the backup");

    let mut new = Node::named("new");
    let said = restore_alone(&new, &file, &[]);
    assert!(said.contains(&format!("at index {at}, the next change takes {}", at + 1)), "{said}");
    assert!(fine(&["verify", text(&new.data_dir())]).contains("all is well"));
    // What `--initial-cluster` says is not looked at any more.
    new.serve(&["--initial-cluster", "new=http://127.0.0.1:1", "--history-events=1000"]);
    assert_eq!(seen(&new), before);
    assert_eq!(new.value("/after"), None);
    let history = [("/dir0", 1), ("/dir1", 1), ("/dir1", at - 30), ("/queue", 10), ("/", at / 2)];
    for (key, from) in history {
        assert_eq!(event_at(&new, key, from), event_at(&old, key, from), "{key} from {from}");
    }
    let ttl = json(&new.get("/v2/keys/session"))["node"]["ttl"].as_u64().expect("a lifetime");
    assert!((800..=900).contains(&ttl), "{ttl}");
    assert_ne!(cluster_of(&new), cluster_of(&old));
    // The index goes on, also after a restart.
    let taken = new.put("/more", "1");
    assert!(taken > at, "{taken} after {at}");
    new.kill();
    new.serve(&[]);
    assert_eq!(new.value("/more").as_deref(), Some("1"));
    assert!(new.put("/more", "2") > taken);
    // Users are those who they were.
    let root = |request: Request| request.header("Authorization", "Basic cm9vdDpzZWNyZXQ=");
    assert_eq!(new.ask(&Request::new("PUT", "/v2/auth/enable")).status(), 200);
    assert_eq!(new.ask(&Request::new("DELETE", "/v2/auth/users/alice")).status(), 401);
    assert_eq!(new.ask(&root(Request::new("DELETE", "/v2/auth/users/alice"))).status(), 200);
    old.kill();
}

#[test]
fn three_members_from_one_file_are_a_cluster() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("backup");
    let mut old = alone("old", &[]);
    fill(&old);
    let (before, at) = (seen(&old), index(&old));
    backup(&old, &file);
    old.kill();

    let mut nodes = ["a", "b", "c"].map(Node::named);
    let founders = list(&nodes.iter().collect::<Vec<_>>());
    for node in &nodes {
        let said = restore(node, &file, &founders, &[]);
        assert!(said.contains("restore the other 2 members"), "{said}");
    }
    nodes.iter_mut().for_each(|node| node.launch(&[], &[]));
    nodes.iter_mut().for_each(Node::wait_until_ready);
    agree(&nodes.each_ref(), &["a", "b", "c"]);
    for node in &nodes {
        assert_eq!(seen(node), before, "{}", node.name);
    }
    let clusters = nodes.each_ref().map(cluster_of);
    assert!(clusters.iter().all(|cluster| *cluster == clusters[0]), "{clusters:?}");
    assert!(nodes[1].put("/more", "1") > at);
    // They are three: one may go, and comes back.
    let led = leader(&nodes);
    nodes[led].kill();
    let other = (led + 1) % 3;
    wait_until("a write without one", || {
        let request = Request::new("PUT", "/v2/keys/more").form("value=2");
        nodes[other].ask(&request).status() == 200
    });
    nodes[led].serve(&[]);
    wait_until("the same everywhere", || {
        nodes.iter().all(|node| node.value("/more").as_deref() == Some("2"))
    });
}

#[test]
fn members_of_different_states_never_form_a_cluster() {
    let dir = tempfile::tempdir().expect("a folder");
    let old = alone("old", &[]);
    let files = ["one", "two"].map(|name| {
        old.put("/value", name);
        let file = dir.path().join(name);
        backup(&old, &file);
        file
    });
    let nodes = ["a", "b"].map(Node::named);
    let founders = list(&nodes.each_ref());
    let ids: Vec<_> = nodes
        .iter()
        .zip(&files)
        .map(|(node, file)| {
            let said = restore(node, file, &founders, &[]);
            let id = said.split(" of the new cluster ").nth(1).expect("the cluster is named");
            id.split(':').next().unwrap_or_default().to_owned()
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_bumped_index_is_never_seen_twice() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("backup");
    let old = alone("old", &[]);
    fill(&old);
    backup(&old, &file);
    let (before, at) = (seen(&old), index(&old));
    // A watcher has seen these, and they are lost.
    for _ in 0..20 {
        old.put("/later", "x");
    }
    let seen_last = index(&old);

    let mut new = Node::named("new");
    restore_alone(&new, &file, &["--bump-index", "1000"]);
    new.serve(&[]);
    assert_eq!(seen(&new), before, "keys keep their indexes");
    assert!(index(&new) >= at + 1000);
    // It is told to read everything anew.
    let reply = new.get(&format!("/v2/keys/later?wait=true&waitIndex={}", seen_last + 1));
    assert_eq!(json(&reply)["errorCode"], 401, "{}", reply.text());
    assert!(new.put("/later", "y") > at + 1000);
}

#[test]
fn a_key_whose_time_ran_out_meanwhile_goes_at_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("backup");
    let mut old = alone("old", &[]);
    for (key, ttl) in [("short", 1), ("long", 500)] {
        let request = Request::new("PUT", format!("/v2/keys/{key}"));
        assert_eq!(old.ask(&request.form(format!("value=1&ttl={ttl}"))).status(), 201);
    }
    let expiration = json(&old.get("/v2/keys/long"))["node"]["expiration"].clone();
    backup(&old, &file);
    wait_until("the end of the short one", || old.value("/short").is_none());
    old.kill();
    let mut new = Node::named("new");
    restore_alone(&new, &file, &[]);
    new.serve(&[]);
    let deadline = Instant::now() + Duration::from_secs(5);
    while new.value("/short").is_some() {
        assert!(Instant::now() < deadline, "it lives again");
    }
    assert_eq!(json(&new.get("/v2/keys/long"))["node"]["expiration"], expiration);
}

#[test]
fn a_directory_of_a_stopped_member_is_restored_like_a_file() {
    let mut old = alone("old", &[]);
    fill(&old);
    let before = seen(&old);
    let new = Node::named("new");
    let (from, to) = (old.data_dir(), new.data_dir());
    let words = ["restore", text(&from), "--data-dir", text(&to), "--name", "new"];
    let said = run(&words);
    assert!(said.code == Some(1) && said.err.contains("in use by another process"), "{said:?}");
    assert!(!to.exists());
    old.kill();
    let mut new = new;
    restore_alone(&new, &from, &[]);
    new.serve(&[]);
    assert_eq!(seen(&new), before);
}
