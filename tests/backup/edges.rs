//! Readers that are slow or gone, disks that are full, processes that are killed half-way.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::node::{Node, wait_until};
use crate::program::{
    alone, backup, command, fill, fine, read, refused, restore_alone, run, text, url, value_in,
};
use crate::support::disk::{SmallDisk, is_root};
use crate::support::http::{Connection, PATIENCE, Request};
use crate::support::rng::{Rng, seed_from_env};

/// More than sockets and what is between them hold.
const VALUES: usize = 300;
const VALUE_BYTES: usize = 64 << 10;

fn fill_much(node: &Node) {
    let value = "v".repeat(VALUE_BYTES);
    for number in 0..VALUES {
        node.put(&format!("/large/{number}"), &value);
    }
}

/// Asks for a backup and reads no more than its head.
fn begun(node: &Node) -> (Connection, u16) {
    let mut connection = Connection::open(node.addr()).expect("a connection");
    connection.send(&Request::get("/cairn/backup")).expect("it is sent");
    let head = connection.read_head("GET", Instant::now() + PATIENCE).expect("an answer");
    (connection, head.status)
}

/// The same, as soon as a backup that was given up has made room.
fn begun_when_there_is_room(node: &Node) -> Connection {
    let mut begun_last = None;
    wait_until("room for a backup", || {
        let (connection, status) = begun(node);
        assert!(matches!(status, 200 | 503), "{status}");
        begun_last = Some(connection);
        status == 200
    });
    begun_last.expect("it was begun")
}

#[test]
fn a_slow_reader_holds_up_no_write_and_gets_the_state_it_asked_for() {
    let node = alone("n", &[]);
    fill_much(&node);
    node.put("/mark", "before");
    let (mut connection, status) = begun(&node);
    assert_eq!(status, 200);
    // It reads nothing, and all of these are acknowledged.
    for number in 0..50 {
        node.put("/mark", &number.to_string());
        node.put(&format!("/large/{number}"), "overwritten");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (file, mut bytes) = (dir.path().join("slow"), Vec::new());
    while let Some(piece) = connection.read_piece(Instant::now() + PATIENCE).expect("a piece") {
        bytes.extend_from_slice(&piece);
    }
    fs::write(&file, &bytes).expect("a file");
    let (_, store) = read(&file);
    assert_eq!(value_in(&store, "/mark").as_deref(), Some("before"));
    assert_eq!(value_in(&store, "/large/7").map(|value| value.len()), Some(VALUE_BYTES));
}

#[test]
fn a_reader_that_hangs_up_makes_room_for_others() {
    let node = alone("n", &[]);
    fill_much(&node);
    for round in 0..6 {
        let both = [begun_when_there_is_room(&node), begun_when_there_is_room(&node)];
        // Two are under way, and there is a limit.
        let reply = node.get("/cairn/backup");
        assert_eq!(reply.status(), 503, "round {round}");
        assert!(reply.text().contains("2 backups are under way"), "{}", reply.text());
        drop(both);
    }
    let dir = tempfile::tempdir().expect("a folder");
    wait_until("a backup", || {
        run(&["backup", "--endpoint", &url(&node), text(&dir.path().join("b"))]).code == Some(0)
    });
}

#[test]
fn the_next_member_is_asked_when_one_does_not_answer() {
    let node = alone("n", &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let both = format!("http://127.0.0.1:1,{}", url(&node));
    fine(&["backup", "--endpoints", &both, text(&dir.path().join("b"))]);
    let reply = node.get("/cairn/backup");
    assert_eq!(reply.get("Content-Type").as_deref(), Some("application/octet-stream"));
    assert_eq!(reply.get("X-Etcd-Index").is_some(), reply.get("X-Etcd-Cluster-Id").is_some());
}

#[test]
fn standard_output_is_a_file_too() {
    let node = alone("n", &[]);
    node.put("/a", "1");
    let mut command = command(&["backup", "--endpoint", &url(&node), "-"]);
    let output = command.output().expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("piped");
    fs::write(&file, &output.stdout).expect("a file");
    assert_eq!(value_in(&read(&file).1, "/a").as_deref(), Some("1"));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("backup of cluster "));
}

#[test]
fn a_member_that_dies_meanwhile_leaves_no_file() {
    let mut node = alone("n", &[]);
    fill_much(&node);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("b");
    let mut client = command(&["backup", "--endpoint", &url(&node), "-"])
        .stdout(std::process::Stdio::piped())
        .stderr(fs::File::create(dir.path().join("err")).expect("a file"))
        .spawn()
        .expect("it can be started");
    let mut out = client.stdout.take().expect("it is piped");
    out.read_exact(&mut [0; 4096]).expect("it begins");
    node.kill();
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).expect("the pipe ends");
    let status = client.wait().expect("it ends");
    let said = fs::read_to_string(dir.path().join("err")).expect("it is there");
    assert!(status.code() == Some(1) && said.contains("stopped sending"), "{status}: {said}");
    assert!(!file.exists());
}

#[test]
fn a_full_disk_leaves_nothing_that_looks_like_a_backup() {
    if !is_root() {
        eprintln!("skipped: a small disk needs root");
        return;
    }
    let node = alone("n", &[]);
    fill_much(&node);
    let disk = SmallDisk::mount(8);
    let file = disk.path().join("backup");
    refused(&["backup", "--endpoint", &url(&node), text(&file)], 1, &["No space left"]);
    assert_eq!(fs::read_dir(disk.path()).expect("a folder").count(), 0);
    // Nor does it become a member's directory.
    let dir = tempfile::tempdir().expect("a folder");
    let whole = dir.path().join("backup");
    backup(&node, &whole);
    let data = disk.path().join("data");
    refused(
        &["restore", text(&whole), "--data-dir", text(&data)],
        1,
        &["No space left", "empty it before the next attempt"],
    );
    refused(&["restore", text(&whole), "--data-dir", text(&data)], 1, &["was not finished"]);
    let said = run(&["--data-dir", text(&data)]);
    assert!(said.code == Some(1) && said.err.contains("was not finished"), "{said:?}");
    node.put("/a", "1");
}

/// What a directory is after a restore into it was killed.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Unfinished,
    Whole,
}

fn left(dir: &Path) -> Left {
    let said = run(&["verify", text(dir)]);
    if said.code == Some(0) {
        return Left::Whole;
    }
    match said.out.contains("was not finished") {
        true => Left::Unfinished,
        false => {
            let names = fs::read_dir(dir).into_iter().flatten().flatten();
            let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
            assert!(names.iter().all(|name| name == "lock"), "{names:?}: {said:?}");
            Left::Nothing
        }
    }
}

#[test]
fn a_restore_that_is_killed_is_whole_or_refused() {
    let seed = seed_from_env("RESTORE_SEED");
    let mut rng = Rng::new(seed);
    let node = alone("n", &[]);
    fill(&node);
    fill_much(&node);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("backup");
    backup(&node, &file);
    let took = Instant::now();
    restore_alone(&Node::named("whole"), &file, &[]);
    let took = u64::try_from(took.elapsed().as_micros()).expect("it was quick");
    let mut unfinished = 0;
    for round in 0..12 {
        let to = dir.path().join(format!("to{round}"));
        let words = ["restore", text(&file), "--data-dir", text(&to)];
        let mut child =
            command(&words).stdout(std::process::Stdio::null()).spawn().expect("it can be started");
        thread::sleep(Duration::from_micros(rng.below(took)));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        let left = left(&to);
        unfinished += usize::from(left == Left::Unfinished);
        let again = run(&words);
        match left {
            Left::Nothing => assert_eq!(again.code, Some(0), "{again:?}"),
            Left::Unfinished => {
                assert!(again.err.contains("empty the directory"), "{again:?}");
                let member = run(&["--data-dir", text(&to)]);
                assert!(member.err.contains("was not finished"), "{member:?}");
            }
            Left::Whole => assert!(again.err.contains("is not empty"), "{again:?}"),
        }
    }
    eprintln!("{unfinished} of 12 were unfinished");
}
