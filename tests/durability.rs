//! What is acknowledged stays: real processes that are killed, disks that are full, syncs that fail.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::cluster::{Cluster, Options};
use support::disk::{SmallDisk, Strace, is_root, strace_is_there};
use support::http::{self, Client, Open, Request};
use support::rng::Rng;
use support::server::{Flavor, Server};

const WRITERS: usize = 64;

/// Acknowledged writes: the index each took, by key.
type Acknowledged = BTreeMap<String, u64>;

fn put(client: &mut Client, key: &str, value: &str) -> Option<u64> {
    let request = Request::new("PUT", format!("/v2/keys{key}")).form(format!("value={value}"));
    let reply = client.ask(&request).ok().filter(|reply| reply.status() == 201)?;
    reply.index()
}

/// Every key with its `modifiedIndex`, and the store's index.
fn listing(addr: SocketAddr) -> (Acknowledged, u64) {
    let reply = http::ask(addr, &Request::get("/v2/keys/?recursive=true")).expect("an answer");
    let body: Value = serde_json::from_str(&reply.text()).expect("a listing is JSON");
    let mut keys = Acknowledged::new();
    collect(&body["node"], &mut keys);
    (keys, reply.index().expect("a listing has an index"))
}

fn collect(node: &Value, keys: &mut Acknowledged) {
    if let (Some(key), Some(index), Some(_)) =
        (node["key"].as_str(), node["modifiedIndex"].as_u64(), node["value"].as_str())
    {
        keys.insert(key.to_owned(), index);
    }
    for child in node["nodes"].as_array().into_iter().flatten() {
        collect(child, keys);
    }
}

fn assert_kept(acknowledged: &Acknowledged, addr: SocketAddr, story: &str) {
    let (found, store) = listing(addr);
    for (key, index) in acknowledged {
        assert_eq!(found.get(key), Some(index), "{story}: {key} was acknowledged");
        assert!(*index <= store, "{story}: the index went back to {store}");
    }
}

/// Writers on connections of their own, until they are told to stop or the server is gone.
fn write_until(
    addr: SocketAddr,
    round: usize,
    stop: &Arc<AtomicBool>,
) -> Vec<thread::JoinHandle<Acknowledged>> {
    let writer = |id: usize| {
        let stop = Arc::clone(stop);
        thread::spawn(move || {
            let (mut client, mut acknowledged) = (Client::new(addr), Acknowledged::new());
            for n in 0.. {
                let key = format!("/round-{round}/writer-{id}/{n}");
                match put(&mut client, &key, "kept") {
                    Some(index) => acknowledged.insert(key, index),
                    None => break,
                };
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            acknowledged
        })
    };
    (0..WRITERS).map(writer).collect()
}

#[test]
fn sixty_four_writers_lose_nothing_to_kill_9() {
    let rounds =
        std::env::var("DURABILITY_ROUNDS").map_or(4, |text| text.parse().expect("a number"));
    let mut rng = Rng::new(support::rng::seed_from_env("DURABILITY_SEED"));
    // Checkpoints every megabyte, so that some rounds die in one.
    let mut server = Server::start_with(Flavor::Subject, &["--checkpoint-wal-bytes=1048576"]);
    let mut acknowledged = Acknowledged::new();
    for round in 0..rounds {
        let writers = write_until(server.addr(), round, &Arc::default());
        thread::sleep(Duration::from_millis(150 + rng.below(350)));
        server.kill();
        for writer in writers {
            acknowledged.extend(writer.join().expect("writers do not panic"));
        }
        server.restart();
        assert_kept(&acknowledged, server.addr(), &format!("round {round}"));
    }
    eprintln!("{} acknowledged writes kept over {rounds} rounds of kill -9", acknowledged.len());
    assert!(acknowledged.len() > rounds * WRITERS, "the writers hardly wrote");
}

#[test]
fn a_watcher_that_comes_back_after_kill_9_gets_every_event() {
    const EVENTS: u64 = 3000;
    let mut server = Server::start_with(Flavor::Subject, &["--history-events=100000"]);
    let mut client = Client::new(server.addr());
    let first = put(&mut client, "/h/0", "x").expect("the first write");
    for n in 1..EVENTS {
        put(&mut client, &format!("/h/{n}"), "x").expect("a write");
    }
    server.kill();
    server.restart();
    let target = format!("/v2/keys/h?recursive=true&wait=true&stream=true&waitIndex={first}");
    let watch = Open::send(server.addr(), &Request::get(&target)).expect("the server accepts");
    let all =
        |progress: &http::Progress| progress.lines() >= usize::try_from(EVENTS).expect("small");
    assert!(watch.wait(http::PATIENCE, all), "the history is not all there");
    let body = String::from_utf8(watch.progress().body).expect("events are UTF-8");
    let index = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("an event is JSON");
        event["node"]["modifiedIndex"].as_u64().expect("an event has an index")
    };
    assert!(body.lines().map(index).eq(first..first + EVENTS), "each once and in order");
}

#[test]
fn a_clean_stop_and_a_start_keep_everything() {
    let mut server = Server::start_with(Flavor::Subject, &["--checkpoint-wal-bytes=1048576"]);
    let stop = Arc::new(AtomicBool::new(false));
    let writers = write_until(server.addr(), 0, &stop);
    thread::sleep(Duration::from_millis(500));
    let status = server.terminate(Duration::from_secs(5));
    assert!(status.success(), "SIGTERM ends with {status}");
    let mut acknowledged = Acknowledged::new();
    for writer in writers {
        acknowledged.extend(writer.join().expect("writers do not panic"));
    }
    server.restart();
    assert_kept(&acknowledged, server.addr(), "SIGTERM under load");
}

#[test]
fn a_full_disk_stops_the_member_and_takes_nothing_with_it() {
    if !is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return;
    }
    let disk = SmallDisk::mount(150);
    let data_dir = format!("--data-dir={}", disk.path().join("data").display());
    // No checkpoint gets in the way: the log is what fills the disk.
    // And no space is set aside, nor is the disk looked at.
    let flags = [&*data_dir, "--checkpoint-wal-bytes=4000000000", "--reserve-bytes=0"];
    let mut server = Server::start_with(Flavor::Subject, &flags);
    let (mut client, mut acknowledged) = (Client::new(server.addr()), Acknowledged::new());
    let value = "x".repeat(1 << 20);
    for n in 0.. {
        assert!(n < 1000, "the disk is never full");
        let key = format!("/big/{n}");
        match put(&mut client, &key, &value) {
            Some(index) => acknowledged.insert(key, index),
            None => break,
        };
    }
    let status = server.wait_for_end(Duration::from_secs(10));
    assert!(!status.success(), "a member that cannot write ends with an error");
    let log = server.log_tail();
    assert!(log.contains("No space left") || log.contains("space"), "the log says why:\n{log}");
    assert!(acknowledged.len() > 50, "{} writes fit", acknowledged.len());
    disk.grow(600);
    server.restart();
    assert_kept(&acknowledged, server.addr(), "after the disk was full");
    let mut client = Client::new(server.addr());
    assert!(put(&mut client, "/after", "x").is_some(), "and writes go on");
}

#[test]
fn a_sync_that_fails_stops_the_member_and_what_was_safe_stays() {
    if !is_root() {
        eprintln!("skipped: only root can make another process's syncs fail");
        return;
    }
    let mut server = Server::start(Flavor::Subject);
    let strace = Strace::attach(server.pid(), "inject=fdatasync:error=EIO:when=20+");
    let (mut client, mut acknowledged) = (Client::new(server.addr()), Acknowledged::new());
    for n in 0..200 {
        let key = format!("/n/{n}");
        match put(&mut client, &key, "x") {
            Some(index) => acknowledged.insert(key, index),
            None => break,
        };
    }
    let status = server.wait_for_end(Duration::from_secs(10));
    drop(strace);
    assert!(!status.success(), "a member whose disk fails ends with an error");
    assert!(server.log_tail().contains("sync"), "the log says why:\n{}", server.log_tail());
    assert!((1..25).contains(&acknowledged.len()), "{} were acknowledged", acknowledged.len());
    server.restart();
    assert_kept(&acknowledged, server.addr(), "after a failed sync");
}

#[test]
fn a_flipped_bit_in_the_log_is_named_and_the_member_does_not_start() {
    let mut server = Server::start(Flavor::Subject);
    let mut client = Client::new(server.addr());
    for n in 0..50 {
        put(&mut client, &format!("/n/{n}"), "x").expect("a write");
    }
    server.kill();
    let segment = server.data_dir().join("wal/0000000000000001.wal");
    let mut bytes = std::fs::read(&segment).expect("the first segment is there");
    // Behind the header of 4096 bytes, well before the end of what was written.
    bytes[4096 + 700] ^= 1;
    std::fs::write(&segment, &bytes).expect("the segment can be written");
    let ended = server.try_restart();
    assert!(!ended.success(), "it must not start");
    let log = server.log_tail();
    assert!(log.contains("damaged") && log.contains("0000000000000001.wal at offset"), "{log}");
}

/// A bit of an old entry flips on a leader's disk. It was read without a look at its checksum, and would have travelled to the
/// followers, or been applied.
#[test]
fn a_bit_that_flips_on_the_leaders_disk_ends_the_leader_and_travels_nowhere() {
    const ENTRIES: usize = 400;
    let value = "x".repeat(100_000);
    let mut options = Options { loopback: true, ..Options::members(3) };
    // All entries stay in the log.
    options.args.push("--checkpoint-wal-bytes=4000000000".to_owned());
    let mut cluster = Cluster::start(options);
    let leader = cluster.await_leader();
    let (away, stays) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(away);
    let mut client = Client::new(cluster.member(leader).addr());
    // More than the leader keeps in memory.
    for n in 0..ENTRIES {
        let request = Request::new("PUT", format!("/v2/keys/n/{n}?noValueOnSuccess=true"));
        let reply = client.ask(&request.form(format!("value={n}-{value}"))).expect("an answer");
        assert_eq!(reply.status(), 201);
    }
    let segment = cluster.member(leader).data_dir().join("wal/0000000000000001.wal");
    let bytes = std::fs::read(&segment).expect("the first segment is there");
    let words = b"3-xxxxxxxx";
    let offset = bytes.windows(words.len()).position(|bytes| bytes == words).expect("it is there");
    let file = std::fs::File::options().write(true).open(&segment).expect("it can be opened");
    std::os::unix::fs::FileExt::write_all_at(&file, b"y", offset as u64 + 5000)
        .expect("it is ours");

    cluster.spawn(away);
    let status = cluster.await_end(leader, support::cluster::PATIENCE);
    assert!(!status.success(), "a member whose log is damaged must not go on");
    let log = cluster.member(leader).log();
    let line =
        log.lines().find(|line| line.contains("is damaged")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("0000000000000001.wal at offset"), "{line}");
    assert!(line.contains("remove this one from the cluster"), "{line}");
    // The others go on without it, and hold what was written.
    cluster.await_serving(away);
    cluster.await_healthy();
    for member in [away, stays] {
        let reply =
            cluster.member(member).try_ask(&Request::get("/v2/keys/n/3")).expect("an answer");
        assert!(reply.text().contains(&format!("\"3-{value}\"")), "it is what was written");
    }
}

/// How long the leader's disk stands still at a time, and in all. An election takes about a second.
const STILL: Duration = Duration::from_secs(3);
const STILL_FOR: Duration = Duration::from_secs(10);

/// The log's queue was bounded, and openraft's core waited for room in it: with a few megabytes under way a leader whose disk
/// stood still sent no heartbeats, and lost its office.
#[test]
fn a_leader_whose_disk_stands_still_under_load_goes_on_leading() {
    if !strace_is_there() {
        eprintln!("skipped: strace, as root, is what makes a disk stand still here");
        return;
    }
    let mut cluster = Cluster::start(Options { loopback: true, ..Options::members(3) });
    let leader = cluster.await_leader();
    let term = |cluster: &Cluster, member: usize| {
        let reply = cluster.member(member).try_ask(&Request::get("/v2/keys/")).expect("an answer");
        reply.get("X-Raft-Term").expect("it is told")
    };
    let before = term(&cluster, leader);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = |n: usize| {
        let (addr, stop) = (cluster.member(n % 3).addr(), Arc::clone(&stop));
        thread::spawn(move || {
            let request = Request::new("PUT", format!("/v2/keys/load/{n}?noValueOnSuccess=true"));
            let request = request.form(format!("value={}", "x".repeat(20_000)));
            let (mut client, mut count) = (Client::new(addr), 0);
            while !stop.load(Ordering::Relaxed) {
                count += usize::from(client.ask(&request).is_ok_and(|reply| reply.status() < 300));
            }
            count
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    let inject = format!("inject=fdatasync:delay_enter={}", STILL.as_micros());
    let strace = Strace::attach(cluster.member(leader).pid(), &inject);
    let begun = Instant::now();
    while begun.elapsed() < STILL_FOR {
        for follower in [(leader + 1) % 3, (leader + 2) % 3] {
            let asked = Request::get("/v2/stats/self");
            let stats = cluster.member(follower).try_ask(&asked).expect("an answer").text();
            let led = "\"state\":\"StateFollower\"";
            assert!(
                stats.contains(led),
                "it stands for election after {:?}: {stats}",
                begun.elapsed()
            );
        }
        assert_eq!(cluster.leader(), Some(leader), "after {:?}", begun.elapsed());
        thread::sleep(Duration::from_millis(50));
    }
    drop(strace);
    stop.store(true, Ordering::Relaxed);
    let written: usize = writers.into_iter().map(|w| w.join().expect("a writer is well")).sum();
    eprintln!("{written} writes while the leader's disk stood still");
    assert_eq!(term(&cluster, leader), before, "no follower stood for election");
    assert_eq!(cluster.await_leader(), leader);
    cluster.await_healthy();
}

/// Writes so many values of 1 MB to a few keys.
fn write_large(addr: SocketAddr, count: usize) {
    let value = "x".repeat(1_000_000);
    let mut client = Client::new(addr);
    for n in 0..count {
        let target = format!("/v2/keys/large/{}?noValueOnSuccess=true", n % 4);
        let reply = client.ask(&Request::new("PUT", target).form(format!("value={value}")));
        let reply = reply.expect("an answer");
        assert!(reply.status() < 300, "{} {}", reply.status(), reply.text());
    }
}

/// The index of the last entry that a member has applied.
fn raft_index(cluster: &Cluster, member: usize) -> u64 {
    let reply = cluster.member(member).try_ask(&Request::get("/v2/keys/")).expect("an answer");
    reply.get("x-raft-index").and_then(|text| text.parse().ok()).expect("an index")
}

/// Up to where a member has cut its log; zero before the first time.
fn compacted_at(cluster: &Cluster, member: usize) -> u64 {
    let log = cluster.member(member).log();
    // The last line may be half written.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let last = whole.rsplit_once("compacted raft log at ").map(|(_, rest)| rest);
    let index = last.and_then(|rest| rest.split_whitespace().next()).map(str::parse);
    index.map_or(0, |index| index.expect("a number"))
}

/// The log is cut by bytes behind a checkpoint. A follower that was away for less than is kept goes on from the log; one that
/// was away for longer gets one checkpoint, also while large values are written all the time.
#[test]
fn a_follower_a_little_behind_needs_no_snapshot_and_one_far_behind_needs_one() {
    let mut options = Options { loopback: true, ..Options::members(3) };
    options.args.push("--checkpoint-wal-bytes=16777216".to_owned());
    let mut cluster = Cluster::start(options);
    let leader = cluster.await_leader();
    let (addr, away) = (cluster.member(leader).addr(), (leader + 1) % 3);
    let received =
        |cluster: &Cluster| cluster.member(away).log().matches("receiving all of snapshot").count();
    cluster.kill(away);
    write_large(addr, 40);
    cluster.start_member(away);
    cluster.await_healthy();
    if received(&cluster) > 0 {
        let logs = [leader, away].map(|member| cluster.member(member).log());
        panic!("40 MB are still in the log, but a snapshot was sent:\n{}", logs.join("\n---\n"));
    }

    cluster.kill(away);
    // The log is cut when a checkpoint is written, and how long that takes depends on the disk.
    let last = raft_index(&cluster, leader);
    write_large(addr, 200);
    while compacted_at(&cluster, leader) <= last {
        write_large(addr, 5);
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                write_large(addr, 5);
            }
        });
        cluster.start_member(away);
        stop.store(true, Ordering::Relaxed);
    });
    cluster.await_healthy();
    let received = received(&cluster);
    assert!((1..=2).contains(&received), "{received} snapshots");
}
