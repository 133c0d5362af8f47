//! Commands of the version 3 API of which several run at once, or that outlive a member.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::server::{Flavor, Server, etcd_is_there};
use crate::tool::{Running, Said, Tool};

/// Asks for something that is to be done.
fn fine(server: &Server, words: &[&str]) -> String {
    let address = server.addr().to_string();
    let variables = [("ETCDCTL_API", "3"), ("ETCDCTL_ENDPOINTS", address.as_str())];
    let Said { out, err, code } = Tool::Ours.run(words, &variables, "");
    assert_eq!(code, Some(0), "{words:?}: {out}{err}");
    out
}

fn start(server: &Server, words: &[&str]) -> Running {
    Running::start_v3(&server.addr().to_string(), words)
}

fn etcd() -> Option<Server> {
    if etcd_is_there() {
        return Some(Server::start(Flavor::Etcd));
    }
    eprintln!("skipped: there is no etcd here");
    None
}

#[test]
fn a_lock_is_held_by_one_and_goes_to_the_next() {
    let Some(server) = etcd() else { return };
    let mut first = start(&server, &["lock", "l"]);
    first.wait("out", "the first holds it", |out| out.starts_with("l/"));
    let mut second = start(&server, &["lock", "l"]);
    // It is in line when its key is there.
    let both = || fine(&server, &["get", "l/", "--prefix", "--keys-only"]).matches("l/").count();
    while both() < 2 {
        std::thread::yield_now();
    }
    assert_eq!(second.read("out"), "");
    first.signal(Signal::TERM);
    assert_eq!(first.end(), Some(0));
    second.wait("out", "the second holds it", |out| out.starts_with("l/"));
    second.signal(Signal::INT);
    assert_eq!(second.end(), Some(0));
    assert_eq!(fine(&server, &["get", "l/", "--prefix"]), "");
    assert_eq!(fine(&server, &["lease", "list"]), "found 0 leases\n");
}

#[test]
fn who_observes_an_election_sees_each_leader() {
    let Some(server) = etcd() else { return };
    let mut observer = start(&server, &["elect", "-l", "e"]);
    let mut one = start(&server, &["elect", "e", "one"]);
    observer.wait("out", "the first leads", |out| out.ends_with("\none\n"));
    let mut two = start(&server, &["elect", "e", "two"]);
    // Who is told to end before it knows that it leads has failed.
    one.wait("out", "it knows", |out| out.ends_with("\none\n"));
    one.signal(Signal::INT);
    assert_eq!(one.end(), Some(0));
    observer.wait("out", "the second leads", |out| out.ends_with("\ntwo\n"));
    two.wait("out", "it knows", |out| out.ends_with("\ntwo\n"));
    two.signal(Signal::INT);
    observer.signal(Signal::INT);
    assert_eq!((two.end(), observer.end()), (Some(0), Some(0)));
}

#[test]
fn a_mirror_has_what_was_there_and_what_comes() {
    let (Some(source), Some(copy)) = (etcd(), etcd()) else { return };
    for key in ["/a/1", "/a/2", "/b/1"] {
        fine(&source, &["put", key, key]);
    }
    let to = copy.addr().to_string();
    let mut mirror =
        start(&source, &["make-mirror", &to, "--prefix", "/a/", "--dest-prefix", "/c/"]);
    let there = |expected: &str| {
        let deadline = std::time::Instant::now() + crate::tool::PATIENCE;
        loop {
            let found = fine(&copy, &["get", "", "--prefix"]);
            if found == expected {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{found}{}", mirror.read("err"));
        }
    };
    there("/c/1\n/a/1\n/c/2\n/a/2\n");
    fine(&source, &["put", "/a/3", "new"]);
    fine(&source, &["put", "/b/3", "new"]);
    fine(&source, &["del", "/a/1"]);
    there("/c/2\n/a/2\n/c/3\nnew\n");
    mirror.signal(Signal::INT);
    assert_eq!(mirror.end(), Some(130));
}

#[test]
fn a_watch_that_outlives_its_member_sees_everything_once() {
    let Some(mut server) = etcd() else { return };
    let mut watch = start(&server, &["watch", "k", "--prefix", "--rev", "1"]);
    fine(&server, &["put", "k1", "1"]);
    watch.wait("out", "the first event", |out| out == "PUT\nk1\n1\n");
    server.kill();
    server.restart();
    fine(&server, &["put", "k2", "2"]);
    fine(&server, &["del", "k1"]);
    let all = "PUT\nk1\n1\nPUT\nk2\n2\nDELETE\nk1\n\n";
    watch.wait("out", "all events", |out| out.len() >= all.len());
    assert_eq!(watch.read("out"), all);
    watch.signal(Signal::INT);
    assert_eq!(watch.end(), Some(130));
}

#[test]
fn a_snapshot_of_etcd_is_saved_and_read() {
    let Some(server) = etcd() else { return };
    fine(&server, &["put", "a", "1"]);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("snap").display().to_string();
    assert_eq!(fine(&server, &["snapshot", "save", &file]), format!("Snapshot saved at {file}\n"));
    for format in ["simple", "json", "fields", "table", "protobuf"] {
        let words = ["snapshot", "status", &file, "-w", format];
        let ask = |tool: Tool| tool.run(&words, &[("ETCDCTL_API", "3")], "");
        assert_eq!(ask(Tool::Ours), ask(Tool::Real), "{format}");
    }
    let words = ["snapshot", "restore", &file, "--data-dir", &format!("{file}.d")];
    let said = Tool::Ours.run(&words, &[("ETCDCTL_API", "3")], "");
    assert!(said.code == Some(1) && said.err.contains("cairn migrate"), "{said:?}");
}

#[test]
fn a_snapshot_and_a_backup_of_cairn_are_told_as_one_of_etcd() {
    let server = Server::start(Flavor::Subject);
    for words in [["put", "a", "1"], ["put", "a", "2"], ["put", "b", "1"]] {
        fine(&server, &words);
    }
    fine(&server, &["del", "b"]);
    fine(&server, &["compaction", "5"]);
    let dir = tempfile::tempdir().expect("a folder");
    let [snapshot, backup] = ["snap", "backup"].map(|name| dir.path().join(name));
    let [snapshot, backup] = [snapshot, backup].map(|path| path.display().to_string());
    fine(&server, &["snapshot", "save", &snapshot]);
    let mut command = Command::new(Flavor::Subject.program());
    command.args(["backup", "--endpoints", &format!("http://{}", server.addr()), &backup]);
    let made = command.output().expect("it starts");
    assert!(made.status.success(), "{made:?}");
    let status = |file: &str, format: &str| {
        let words = ["snapshot", "status", file, "-w", format];
        Tool::Ours.run(&words, &[("ETCDCTL_API", "3")], "")
    };
    let sum = fine(&server, &["endpoint", "hashkv", "-w", "json"]);
    let sum: Value = serde_json::from_str(&sum).expect("JSON");
    let sum = &sum[0]["HashKV"]["hash"];
    for file in [&snapshot, &backup] {
        let bytes = fs::metadata(file).expect("it is there").len();
        let told: Value = serde_json::from_str(&status(file, "json").out).expect("JSON");
        let expected = json!({"hash": sum, "revision": 5, "totalKey": 1, "totalSize": bytes});
        assert_eq!(told, expected);
        assert!(status(file, "table").out.contains("| TOTAL KEYS |"));
    }
    // A bit that flips is found, wherever it is.
    for file in [&snapshot, &backup] {
        let mut bytes = fs::read(file).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).expect("it can be written");
        let said = status(file, "json");
        assert!(said.code == Some(1) && said.err.starts_with("Error: "), "{said:?}");
    }
    fs::write(&backup, "something else").expect("it can be written");
    let said = status(&backup, "json");
    assert!(said.err.contains("neither a snapshot of cairn nor one of etcd"), "{said:?}");
}

#[test]
fn a_snapshot_of_cairn_becomes_a_member() {
    let server = Server::start(Flavor::Subject);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("snap").display().to_string();
    fine(&server, &["put", "a", "1"]);
    fine(&server, &["snapshot", "save", &file]);
    let made = format!("{file}.d");
    let said = Tool::Ours.run(
        &["snapshot", "restore", &file, "--data-dir", &made],
        &[("ETCDCTL_API", "3")],
        "",
    );
    assert!(said.code == Some(0) && said.out.starts_with("restored member "), "{said:?}");
    assert!(said.out.contains(" and 1 keys of version 3 at revision 2, with 0 leases"), "{said:?}");
    let again = Tool::Ours.run(
        &["snapshot", "restore", &file, "--data-dir", &made],
        &[("ETCDCTL_API", "3")],
        "",
    );
    assert_eq!(again.err, format!("Error: data-dir {made:?} exists\n"));
}
