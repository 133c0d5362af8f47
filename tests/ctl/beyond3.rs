//! What the tool for version 3 does beside what is printed.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::support::server::{Flavor, Server};
use crate::tool::{Running, Tool};

fn run(server: &Server, words: &[&str]) -> String {
    let at = format!("http://{}", server.addr());
    let variables = [("ETCDCTL_API", "3"), ("ETCDCTL_ENDPOINTS", at.as_str())];
    let said = Tool::Ours.run(words, &variables, "");
    assert_eq!(said.code, Some(0), "{words:?}: {said:?}");
    said.out
}

/// A program that reads all it can get would take the lines that say what to watch next.
#[test]
fn what_is_run_for_an_event_reads_nothing_of_our_input() {
    let server = Server::start(Flavor::Subject);
    let mut watch = Running::start_v3_with(
        &format!("http://{}", server.addr()),
        &["watch", "-i"],
        Stdio::piped(),
    );
    let mut input = watch.input();
    writeln!(input, "watch a --rev 1 -- sh -c 'cat; echo read'").expect("it reads");
    run(&server, &["put", "a", "1"]);
    watch.wait("out", "the program ends", |out| out.contains("read\n"));
    writeln!(input, "watch b --rev 1").expect("it reads");
    run(&server, &["put", "b", "2"]);
    watch.wait("out", "the second watch", |out| out.ends_with("PUT\nb\n2\n"));
}

#[test]
fn a_snapshot_can_be_read_by_its_owner_alone() {
    let server = Server::start(Flavor::Subject);
    run(&server, &["put", "secret", "1"]);
    let dir = tempfile::tempdir().expect("a folder");
    let (file, part) = (dir.path().join("snapshot"), dir.path().join("snapshot.part"));
    // What an attempt before has left behind may be open to all.
    std::fs::write(&part, "half").expect("a file");
    std::fs::set_permissions(&part, Permissions::from_mode(0o666)).expect("it is ours");
    run(&server, &["snapshot", "save", file.to_str().expect("a name")]);
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!part.exists());
}
