//! What a member that was away for half a million writes costs the others when it comes back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::super::alone;
use super::super::support::cluster::{Cluster, Options};
use super::super::support::http::{Client, Request};
use super::super::support::usage;

/// Writes that the member misses.
const MISSED: u64 = 500_000;
const LOADERS: u64 = 64;
const KEYS: u64 = 50_000;
/// Small, so that the log does not reach back to where the member was.
const FLAGS: &str = "--checkpoint-wal-bytes=33554432";

/// No write takes longer because of the snapshot.
const SLOWEST_MAX: Duration = Duration::from_millis(100);
/// The leader needs no more memory for it.
const GROWTH_MAX: u64 = 64 << 20;
/// Long enough to see what writes take without a snapshot.
const BEFORE: Duration = Duration::from_secs(3);

fn put(client: &mut Client, key: &str, value: &str) -> Duration {
    let target = format!("/v2/keys/{key}?noValueOnSuccess=true");
    let request = Request::new("PUT", target).form(format!("value={value}"));
    let begun = Instant::now();
    let reply = client.ask(&request).expect("an answer");
    assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
    begun.elapsed()
}

fn write_what_is_missed(addr: SocketAddr) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..LOADERS {
            scope.spawn(|| {
                let mut client = Client::new(addr);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= MISSED {
                        return;
                    }
                    put(&mut client, &format!("load/{}", n % KEYS), &format!("{n:0100}"));
                }
            });
        }
    });
}

/// The slowest write of two clients at each of `members`, while `event` happens.
fn slowest(members: &[SocketAddr], event: impl FnOnce()) -> (Duration, usize) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = members.iter().chain(members).enumerate();
        let writers: Vec<_> = clients
            .map(|(name, addr)| {
                let over = &over;
                scope.spawn(move || {
                    let mut client = Client::new(*addr);
                    let (mut slowest, mut count) = (Duration::ZERO, 0);
                    while !over.load(Ordering::Relaxed) {
                        let took = put(&mut client, &format!("writer-{name}"), &count.to_string());
                        (slowest, count) = (slowest.max(took), count + 1);
                    }
                    (slowest, count)
                })
            })
            .collect();
        event();
        over.store(true, Ordering::Relaxed);
        let all = writers.into_iter().map(|writer| writer.join().expect("a writer is well"));
        all.reduce(|(one, n), (other, m)| (one.max(other), n + m)).expect("there are writers")
    })
}

#[test]
fn a_snapshot_to_a_laggard_holds_up_no_write() {
    let _alone = alone();
    let mut options = Options::members(3);
    options.args.push(FLAGS.to_owned());
    let mut cluster = Cluster::start(options);
    let leader = cluster.await_leader();
    let (away, stays) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(away);
    write_what_is_missed(cluster.member(leader).addr());

    let members = [leader, stays].map(|member| cluster.member(member).addr());
    let (usual, _) = slowest(&members, || thread::sleep(BEFORE));
    let pid = cluster.member(leader).pid();
    let before = usage::resident_bytes(pid);
    let (sampling, largest) = (AtomicBool::new(true), AtomicU64::new(before));
    let mut back = Duration::ZERO;
    let (slowest, count) = thread::scope(|scope| {
        scope.spawn(|| {
            while sampling.load(Ordering::Relaxed) {
                largest.fetch_max(usage::resident_bytes(pid), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let measured = slowest(&members, || {
            let begun = Instant::now();
            cluster.start_member(away);
            back = begun.elapsed();
        });
        sampling.store(false, Ordering::Relaxed);
        measured
    });
    let growth = largest.into_inner() - before;
    eprintln!(
        "back after {back:?}; slowest of {count} writes {slowest:?}, {usual:?} before; the leader grew by {} MiB",
        growth >> 20
    );
    assert_eq!(cluster.await_leader(), leader, "it led all the time");
    assert!(cluster.member(away).log().contains("receiving all of snapshot"));
    assert!(slowest <= SLOWEST_MAX, "{slowest:?}; {usual:?} without the snapshot");
    assert!(growth <= GROWTH_MAX, "{growth} bytes");
}
