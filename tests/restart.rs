//! What a restart brings back, and what it costs.

mod support;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use support::cluster::{Cluster, Options};
use support::http::{self, Client, Open, Request};
use support::process::Process;
use support::server::{Flavor, Server};
use support::usage;

/// What the server answers to a listing of everything, with its index.
fn state(server: &Server) -> (Option<u64>, String) {
    let list = Request::get("/v2/keys/?recursive=true&sorted=true");
    let reply = http::ask(server.addr(), &list).expect("the server answers");
    (reply.index(), reply.text())
}

fn put(client: &mut Client, key: &str, value: &str) {
    let request = Request::new("PUT", format!("/v2/keys/{key}?noValueOnSuccess=true"));
    let reply = client.ask(&request.form(format!("value={value}"))).expect("the server answers");
    assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
}

#[test]
fn a_server_that_is_asked_to_end_does_so_with_a_watch_open() {
    let mut server = Server::start(Flavor::Subject);
    put(&mut Client::new(server.addr()), "a", "kept");
    let before = state(&server);
    let watch = Open::send(server.addr(), &Request::get("/v2/keys/a?wait=true"));
    let watch = watch.expect("the server accepts");
    assert!(watch.wait(http::PATIENCE, |p| p.head.is_some()), "headers come at once");
    server.terminate(Duration::from_secs(10));
    assert!(watch.wait(http::PATIENCE, |p| p.ended), "the watch ends with the server");
    server.restart();
    assert_eq!(state(&server), before);
}

/// A port that look-ups of names go to.
const DNS_PORT: u16 = 53;

#[test]
fn a_member_that_waits_for_a_name_server_ends_when_it_is_asked_to() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can show a member another /etc/resolv.conf");
        return;
    }
    // Loopback has addresses enough for a name server of this test's own, that hears and never answers.
    let [high, low] = [8, 0].map(|shift| (std::process::id() >> shift).to_le_bytes()[0]);
    let address = Ipv4Addr::new(127, 53, high, low);
    let name_server = UdpSocket::bind((address, DNS_PORT)).expect("an address of its own");
    name_server.set_read_timeout(Some(http::PATIENCE)).expect("a time-out");
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("resolv.conf");
    std::fs::write(&settings, format!("nameserver {address}\noptions timeout:30 attempts:1\n"))
        .expect("a file");
    let script = format!(
        "mount --bind {} /etc/resolv.conf && exec \"$0\" --name a --data-dir data --listen-client-urls http://127.0.0.1:0 \
         --advertise-client-urls http://127.0.0.1:1 --listen-peer-urls http://127.0.0.1:0 \
         --initial-advertise-peer-urls http://127.0.0.1:1 \
         --initial-cluster a=http://127.0.0.1:1,b=http://b.test:2380,c=http://c.test:2380",
        settings.display()
    );
    let program = Flavor::Subject.program();
    let program = program.to_str().expect("a path of this project is text");
    let words = ["--mount", "sh", "-c", &script, program].map(str::to_owned);
    let mut member = Process::start("unshare", &words);
    let mut query = [0; 512];
    name_server.recv(&mut query).unwrap_or_else(|error| panic!("{error}: {}", member.log()));
    member.line("listening for peers");
    let asked = Instant::now();
    member.terminate();
    let ended = member.end();
    let took = asked.elapsed();
    assert!(ended.success(), "{ended}: {}", member.log());
    assert!(took < Duration::from_secs(8), "the end took {took:?}: {}", member.log());
}

/// Mebibytes that a process holds now, and held at most.
fn memory(pid: u32) -> [u64; 2] {
    [usage::resident_bytes(pid), usage::resident_bytes_max(pid)].map(|bytes| bytes >> 20)
}

/// The log was kept by the number of its entries, and all of them were read into memory: 3,000 writes of 1 MB to a few keys
/// made a restart that needed 3 GB.
#[test]
fn a_long_log_of_large_entries_takes_no_more_memory_at_the_restart_than_before() {
    const WRITERS: usize = 4;
    const WRITES: usize = 150;
    // Most of the memory before is the history's.
    let flags = ["--history-bytes=16777216"];
    let mut server = Server::start_with(Flavor::Subject, &flags);
    let value = "x".repeat(1_000_000);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (addr, value) = (server.addr(), &value);
            scope.spawn(move || {
                let mut client = Client::new(addr);
                for _ in 0..WRITES {
                    put(&mut client, &format!("large/{writer}"), value);
                }
            });
        }
    });
    // What is kept, what was written since, two spare files, and what came while the last checkpoint was being written.
    let (wal, begun) = (server.data_dir().join("wal"), Instant::now());
    while bytes_in(&wal) > 450 << 20 {
        assert!(begun.elapsed() < http::PATIENCE, "{} MiB of log", bytes_in(&wal) >> 20);
        thread::sleep(Duration::from_millis(50));
    }
    let on_disk = bytes_in(&wal);
    let (before, listed) = (memory(server.pid()), state(&server));
    server.kill();
    server.restart();
    assert_eq!(state(&server), listed);
    let after = memory(server.pid());
    eprintln!(
        "MiB now and at most: {before:?} before, {after:?} after; {} MiB of log",
        on_disk >> 20
    );
    assert!(after[1] <= before[1] + 100, "{after:?} MiB after, {before:?} before");
}

fn bytes_in(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("it is there").flatten();
    // It may be renamed or removed meanwhile.
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// A directory as version 0.1.0 left it when it was killed, with a checkpoint and a log behind it.
#[test]
fn a_data_directory_of_version_0_1_0_is_opened() {
    let mut server = Server::start(Flavor::Subject);
    server.kill();
    std::fs::remove_dir_all(server.data_dir()).expect("it can be removed");
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data-dir-0.1.0.tar.gz");
    let folder = server.data_dir().parent().expect("it has one").to_owned();
    let unpacked = Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(&folder).status();
    assert!(unpacked.expect("tar is there").success());
    std::fs::rename(folder.join("data-dir"), server.data_dir()).expect("it can be renamed");
    server.restart();
    let (index, listing) = state(&server);
    // One index each for this server's own name and client URLs.
    assert!(index.is_some_and(|index| (79..=81).contains(&index)), "{index:?}");
    for node in [
        r#"{"key":"/big","value":"small","modifiedIndex":76,"createdIndex":76}"#,
        r#"{"key":"/old/1","value":"vvvvvvvvvv","modifiedIndex":16,"createdIndex":16}"#,
        r#"{"key":"/queue/00000000000000000078","value":"first","modifiedIndex":78,"createdIndex":78}"#,
        r#""key":"/ttl","value":"mortal""#,
    ] {
        assert!(listing.contains(node), "{node} is not in {listing}");
    }
    assert!(!listing.contains(r#""/old/7""#), "it was deleted: {listing}");
    let watch = Request::get("/v2/keys/old/7?wait=true&waitIndex=79");
    let event = http::ask(server.addr(), &watch).expect("the history is kept").text();
    assert!(event.starts_with(r#"{"action":"delete""#), "{event}");
}

fn applied(metrics: SocketAddr) -> Option<u64> {
    let page = http::ask_within(metrics, &Request::get("/metrics"), Duration::from_secs(1)).ok()?;
    let text = page.text();
    let line = text.lines().find_map(|l| l.strip_prefix("etcd_server_proposals_applied_total "))?;
    line.parse().ok()
}

/// How far the log is committed was written only beside something else. A member that had nothing to write for a while did not
/// know after a kill that its last entries count.
#[test]
fn an_idle_member_that_was_killed_knows_what_is_committed_before_it_hears_of_a_leader() {
    let mut options = Options { loopback: true, ..Options::members(3) };
    options.args.push("--listen-metrics-urls=http://127.0.0.1:0".to_owned());
    let mut cluster = Cluster::start(options);
    let leader = cluster.await_leader();
    let mut client = Client::new(cluster.member(leader).addr());
    (0..5).for_each(|n| put(&mut client, &format!("n/{n}"), "kept"));
    cluster.await_healthy();
    // Longer than a mark waits for company.
    thread::sleep(Duration::from_millis(1500));
    let reply = cluster.member(leader).try_ask(&Request::get("/v2/keys/n")).expect("an answer");
    let index = reply.get("X-Raft-Index").and_then(|index| index.parse::<u64>().ok());
    (0..3).for_each(|member| cluster.kill(member));
    let alone = (leader + 1) % 3;
    let said = cluster.member(alone).log().len();
    cluster.spawn(alone);
    let mut metrics = None;
    cluster.wait_until("it serves metrics", |cluster| {
        let log = cluster.member(alone).log();
        let line = log[said..].lines().find_map(|l| l.split_once("listening for metrics on "));
        metrics = line.and_then(|(_, addr)| addr.parse::<SocketAddr>().ok());
        metrics.is_some_and(|addr| applied(addr).is_some())
    });
    assert_eq!(metrics.and_then(applied), index, "no other member is there to tell");
    assert!(index > Some(5));
    // That is all that this member can have shown, so plain reads need no leader.
    let mut kept = None;
    cluster.wait_until("it answers plain reads", |cluster| {
        let read = Request::get("/v2/keys/n/4");
        kept = http::ask_within(cluster.member(alone).addr(), &read, Duration::from_secs(1)).ok();
        kept.is_some()
    });
    let kept = kept.expect("an answer");
    assert!(kept.status() == 200 && kept.text().contains("kept"), "{}", kept.text());
}
