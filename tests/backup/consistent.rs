//! A backup under load is of one index, and holds what was acknowledged before it was asked for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::node::{Node, found, leader};
use crate::program::{backup, fine, read, text, value_in};
use crate::support::http::{Client, Request};

const WRITERS: usize = 4;

fn put(client: &mut Client, key: &str, value: u64) {
    let request = Request::new("PUT", format!("/v2/keys{key}")).form(format!("value={value}"));
    let reply = client.ask(&request).expect("an answer");
    assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
}

/// Each writer counts in two keys, one after the other, so that at every index the first is the second, or one more.
fn count(node: &Node, writer: usize, stop: &AtomicBool, acknowledged: &AtomicU64) {
    let mut client = Client::new(node.addr());
    for number in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        put(&mut client, &format!("/count/{writer}/first"), number);
        put(&mut client, &format!("/count/{writer}/second"), number);
        acknowledged.store(number, Ordering::SeqCst);
    }
}

#[test]
fn a_backup_under_load_is_of_one_index_whichever_member_is_asked() {
    let nodes = found(["n1", "n2", "n3"]);
    let dir = tempfile::tempdir().expect("a folder");
    let (stop, counts) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; WRITERS]);
    let led = leader(&nodes);
    thread::scope(|scope| {
        for (writer, acknowledged) in counts.iter().enumerate() {
            let (node, stop) = (&nodes[writer % 3], &stop);
            scope.spawn(move || count(node, writer, stop, acknowledged));
        }
        let mut last = 0;
        for round in 0..9 {
            // Everybody has written something new.
            let before = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
            crate::node::wait_until("progress", || {
                counts.iter().zip(before).all(|(now, then)| now.load(Ordering::SeqCst) > then)
            });
            let before = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
            let file = dir.path().join(format!("b{round}"));
            backup(&nodes[(led + round) % 3], &file);
            let (head, store) = read(&file);
            assert!(head.index.0 > last, "index {} after {last}", head.index.0);
            last = head.index.0;
            for (writer, acknowledged) in before.iter().enumerate() {
                let number = |key: &str| -> u64 {
                    let value = value_in(&store, &format!("/count/{writer}/{key}"));
                    value.map_or(0, |value| value.parse().expect("a number"))
                };
                let (first, second) = (number("first"), number("second"));
                assert!(first == second || first == second + 1, "{writer}: {first}, {second}");
                assert!(second >= *acknowledged, "{writer}: {second}, acknowledged {acknowledged}");
            }
            assert!(fine(&["verify", text(&file)]).contains("all is well"));
        }
        stop.store(true, Ordering::Relaxed);
    });
}
