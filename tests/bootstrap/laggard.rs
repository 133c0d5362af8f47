//! A member that was away for so long that the log no longer reaches it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::node::{Node, found_with, leader, wait_until};
use crate::support::http::{Client, Request};

const WRITERS: usize = 8;
/// More than the members keep of the log behind a checkpoint.
const WRITES_EACH: usize = 3_500;
/// Small, so that the log is cut while the member is away.
const FLAGS: [&str; 1] = ["--checkpoint-wal-bytes=1048576"];

fn write(node: &Node, writer: usize, n: usize) -> Request {
    let key = format!("/w{writer}/{}", n % 500);
    let value = format!("value={}-{n:0100}", node.name);
    Request::new("PUT", format!("/v2/keys{key}?noValueOnSuccess=true")).form(value)
}

#[test]
fn a_member_that_was_away_gets_a_snapshot_while_writes_go_on() {
    let mut nodes = found_with(["n1", "n2", "n3"], &FLAGS);
    let led = leader(&nodes);
    let away = (led + 1) % 3;
    nodes[led].put("/before", "1");
    wait_until("the first write everywhere", || nodes[away].value("/before").is_some());
    let before = nodes[away].get("/v2/keys/before").index().expect("an index");
    nodes[away].kill();

    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let leader = &nodes[led];
            scope.spawn(move || {
                let mut client = Client::new(leader.addr());
                for n in 0..WRITES_EACH {
                    let reply = client.ask(&write(leader, writer, n)).expect("an answer");
                    assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
                }
            });
        }
    });

    // It comes back while others write.
    let back = AtomicBool::new(false);
    let [low, high] = [led.min(away), led.max(away)];
    let (left, right) = nodes.split_at_mut(high);
    let (one, other) = (&mut left[low], &mut right[0]);
    let (leader, follower) = if low == led { (one, other) } else { (other, one) };
    thread::scope(|scope| {
        let (leader, back) = (&*leader, &back);
        let writing = scope.spawn(move || {
            let mut client = Client::new(leader.addr());
            let mut count = 0;
            while !back.load(Ordering::Relaxed) {
                let reply = client.ask(&write(leader, WRITERS, count)).expect("an answer");
                assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
                count += 1;
            }
            count
        });
        follower.serve(&FLAGS);
        back.store(true, Ordering::Relaxed);
        assert!(writing.join().expect("the writer is well") > 0);
    });
    follower.process().line("receiving all of snapshot");

    // The same keys, and the same past: a watcher that was there before misses nothing.
    let index = leader.put("/after", "1");
    wait_until("the last write", || follower.value("/after").is_some());
    let listing = |node: &Node| node.get("/v2/keys/?recursive=true&sorted=true").text();
    assert!(listing(leader) == listing(follower), "the two differ");
    let written = u64::try_from(WRITERS * WRITES_EACH).expect("a small number");
    assert!(index > before + written);
    for step in 0..20 {
        let wait = before + 1 + step * (index - before) / 20;
        let target = format!("/v2/keys/?recursive=true&wait=true&waitIndex={wait}");
        assert_eq!(leader.get(&target).text(), follower.get(&target).text(), "event {wait}");
    }
}
