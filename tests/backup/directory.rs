//! `etcdctl backup`: a copy of a member's directory, whether the member runs or not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::node::{Node, wait_until};
use crate::program::{alone, fill, fine, run, seen, text};
use crate::refused::contents;
use crate::support::http::{Client, Request};

/// Makes a backup at the place where `to` has its data.
fn back_up(from: &Node, to: &Node) {
    let (data, backup) = (from.data_dir(), to.data_dir());
    let said =
        run(&["etcdctl", "backup", "--data-dir", text(&data), "--backup-dir", text(&backup)]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("Start it with --force-new-cluster"), "{said:?}");
    assert!(fine(&["verify", text(&backup)]).contains("all is well"));
}

#[test]
fn a_stopped_member_is_copied_and_left_as_it_was() {
    let mut old = alone("old", &[]);
    fill(&old);
    let before = seen(&old);
    let cluster = old.get("/v2/members").get("X-Etcd-Cluster-Id");
    let taken = old.put("/last", "one");
    old.kill();
    let files = contents(&old.data_dir());
    let mut new = Node::named("new");
    back_up(&old, &new);
    assert_eq!(contents(&old.data_dir()), files);

    new.serve(&["--force-new-cluster"]);
    assert_eq!(new.value("/last").as_deref(), Some("one"));
    assert_eq!(new.ask(&Request::new("DELETE", "/v2/keys/last")).status(), 200);
    assert_eq!(seen(&new), before);
    assert!(new.put("/last", "two") > taken);
    let members = new.members();
    assert_eq!((members.len(), members[0].name.as_str()), (1, "new"));
    assert_ne!(new.get("/v2/members").get("X-Etcd-Cluster-Id"), cluster);
    // The old one can go on beside it.
    old.serve(&[]);
    assert_eq!(old.value("/last").as_deref(), Some("one"));
}

/// The scope waits for the writer, also when a check has failed.
struct StopWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_member_that_is_writing_is_copied_with_all_that_was_acknowledged() {
    let mut old = Node::named("old");
    let list = format!("old={}", old.peer_url());
    // Checkpoints all the time, and a log that is cut off behind them.
    old.serve(&["--initial-cluster", &list, "--checkpoint-wal-bytes", "1048576"]);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let stopping = StopWhenDropped(&stop);
        scope.spawn(|| {
            let mut client = Client::new(old.addr());
            for number in 1_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let body = format!("value={number:08}{}", "x".repeat(16_000));
                for key in ["first", "second"] {
                    let request = Request::new("PUT", format!("/v2/keys/{key}"));
                    let reply = client.ask(&request.form(body.clone())).expect("an answer");
                    assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
                }
                acknowledged.store(number, Ordering::SeqCst);
            }
        });
        for _ in 0..4 {
            let start = acknowledged.load(Ordering::SeqCst);
            wait_until("progress", || acknowledged.load(Ordering::SeqCst) > start + 50);
            let before = acknowledged.load(Ordering::SeqCst);
            let mut new = Node::named("new");
            back_up(&old, &new);
            new.serve(&["--force-new-cluster"]);
            let number = |key: &str| -> u64 {
                new.value(key).expect("it is there")[..8].parse().expect("a number")
            };
            let (first, second) = (number("/first"), number("/second"));
            assert!(first == second || first == second + 1, "{first}, {second}");
            assert!(second >= before, "{second}, acknowledged {before}");
        }
        drop(stopping);
    });
    // It was not disturbed.
    old.kill();
    old.serve(&[]);
    let last = old.value("/second").expect("it is there");
    assert!(last[..8].parse::<u64>().expect("a number") >= acknowledged.load(Ordering::SeqCst));
}
