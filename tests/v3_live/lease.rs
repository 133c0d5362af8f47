//! Leases: they end on time and not before, whoever leads.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{
    PATIENCE, Stream, await_until, base64, call, events_of, get, grant, insist, keep_alive, number,
    put, put_on, text, try_call,
};
use crate::support::cluster::{Cluster, Options};
use crate::support::http::{self, Request};
use crate::support::server::{Flavor, Server};

const START: Flavor = Flavor::Subject;

fn time_to_live(addr: std::net::SocketAddr, lease: i64) -> serde_json::Value {
    call(addr, "lease/timetolive", &json!({"ID": lease.to_string(), "keys": true}))
}

#[test]
fn leases_are_granted_kept_alive_looked_at_and_revoked_in_etcds_words() {
    let server = Server::start_with(START, &[]);
    let addr = server.addr();
    let refused = |path: &str, body| {
        let (status, answer) = try_call(addr, path, &body).expect("an answer");
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    // What is too short is as long as must be.
    let short = call(addr, "lease/grant", &json!({"TTL": "1", "ID": "7"}));
    assert_eq!((&short["ID"], &short["TTL"]), (&json!("7"), &json!("2")));
    let again = refused("lease/grant", json!({"TTL": "60", "ID": "7"}));
    assert_eq!(again, (412, "etcdserver: lease already exists".to_owned()));
    let long = refused("lease/grant", json!({"TTL": "9000000001"}));
    assert_eq!(long, (400, "etcdserver: too large lease TTL".to_owned()));
    let lease = grant(addr, 100);
    assert!(lease > 0);
    put_on(addr, "b", "1", lease);
    put_on(addr, "a", "1", lease);
    let life = time_to_live(addr, lease);
    assert_eq!((number(&life["TTL"]), number(&life["grantedTTL"])), (99, 100));
    let keys: Vec<_> = life["keys"].as_array().into_iter().flatten().map(text).collect();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(keep_alive(addr, lease), 100);
    let all = call(addr, "lease/leases", &json!({}));
    let all: Vec<_> =
        all["leases"].as_array().into_iter().flatten().map(|it| number(&it["ID"])).collect();
    assert!(all.contains(&lease));
    // Its keys go with it, as one.
    let watch = Stream::watch(addr, &json!({"key": base64("a"), "range_end": base64("z")}));
    let revoked = call(addr, "kv/lease/revoke", &json!({"ID": lease.to_string()}));
    assert_eq!(number(&revoked["header"]["revision"]), 4);
    assert_eq!(events_of(&watch.results(2)[1]), ["4 -a", "4 -b"]);
    let unknown = refused("lease/revoke", json!({"ID": lease.to_string()}));
    assert_eq!(unknown, (404, "etcdserver: requested lease not found".to_owned()));
    assert_eq!(keep_alive(addr, lease), 0);
    let life = call(addr, "kv/lease/timetolive", &json!({"ID": lease.to_string()}));
    assert_eq!((&life["TTL"], life.get("grantedTTL")), (&json!("-1"), None));
    // Answers come in the order of the requests, and end with them.
    let other = grant(addr, 50);
    let requests = [other, 9999, other].map(|id| json!({"ID": id.to_string()}));
    let stream = Stream::open(addr, "lease/keepalive", &requests);
    await_until("the stream ends", || stream.is_over());
    let ttls: Vec<_> =
        stream.so_far().iter().map(|it| (number(&it["ID"]), number(&it["TTL"]))).collect();
    assert_eq!(ttls, [(other, 50), (9999, 0), (other, 50)]);
}

#[test]
fn a_lease_that_nobody_keeps_alive_ends_and_its_keys_with_it() {
    let server = Server::start_with(START, &[]);
    let addr = server.addr();
    let (begun, lease) = (Instant::now(), grant(addr, 2));
    let kept = grant(addr, 2);
    for key in ["a", "b", "c"] {
        put_on(addr, key, "1", lease);
    }
    put_on(addr, "kept", "1", kept);
    let watch = Stream::watch(addr, &json!({"key": base64("a"), "range_end": base64("z")}));
    thread::scope(|scope| {
        let keeper = scope.spawn(|| {
            while begun.elapsed() < Duration::from_secs(6) {
                assert_eq!(keep_alive(addr, kept), 2);
                thread::sleep(Duration::from_millis(300));
            }
        });
        let ended = &watch.results(2)[1];
        assert!(begun.elapsed() >= Duration::from_secs(2), "after {:?}", begun.elapsed());
        assert_eq!(events_of(ended), ["6 -a", "6 -b", "6 -c"]);
        assert_eq!(keep_alive(addr, lease), 0);
        keeper.join().expect("it was kept alive");
    });
    assert!(get(addr, "kept").is_some());
    await_until("nobody keeps it alive any more", || get(addr, "kept").is_none());
}

/// A keep-alive that comes when the time is over does not say that the lease lives on, and waits until it does not.
#[test]
fn a_keep_alive_that_comes_too_late_waits_for_the_end() {
    let server = Server::start_with(START, &[]);
    let addr = server.addr();
    for _ in 0..3 {
        let (begun, lease) = (Instant::now(), grant(addr, 2));
        put_on(addr, "k", "1", lease);
        thread::sleep(Duration::from_secs(2).saturating_sub(begun.elapsed()));
        // By now or in a moment it is over.
        while keep_alive(addr, lease) > 0 {
            assert!(begun.elapsed() < Duration::from_secs(3));
            thread::sleep(Duration::from_millis(2100));
        }
        assert!(get(addr, "k").is_none(), "it was said to be over");
    }
}

#[test]
fn every_member_knows_how_long_a_lease_lives() {
    let mut cluster = Cluster::start(Options::members(3));
    let leader = cluster.await_leader();
    let addr = |member: usize| cluster.member(member).addr();
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let lease = grant(addr(one), 60);
    // At once, through each of them, though it has not heard of the lease itself perhaps.
    for member in [other, leader, one] {
        assert_eq!(keep_alive(addr(member), lease), 60);
        put_on(addr(member), &format!("k{member}"), "1", lease);
        let life = time_to_live(addr(member), lease);
        assert_eq!((number(&life["TTL"]), number(&life["grantedTTL"])), (59, 60));
    }
    assert_eq!(time_to_live(addr(other), lease)["keys"].as_array().map(Vec::len), Some(3));
    assert_eq!(keep_alive(addr(other), 12345), 0);
}

/// A leader that is lost takes with it when it kept leases alive last: until their ends are recorded, each lives for its whole time
/// again, and then ends.
#[test]
fn a_change_of_leader_ends_no_lease_early_and_all_in_the_end() {
    let mut cluster = Cluster::start(Options::members(3));
    let leader = cluster.await_leader();
    let addrs: Vec<_> = cluster.members().iter().map(|member| member.addr()).collect();
    let asked = addrs[(leader + 1) % 3];
    let lease = grant(asked, 4);
    put_on(asked, "k", "1", lease);
    let watch = Stream::watch(asked, &json!({"key": base64("k")}));
    thread::sleep(Duration::from_secs(2));
    assert_eq!(keep_alive(asked, lease), 4);
    let kept = Instant::now();
    cluster.kill(leader);
    let ended = &watch.results(2)[1];
    let lived = kept.elapsed();
    assert_eq!(events_of(ended), ["3 -k"]);
    assert!(lived >= Duration::from_secs(4), "{lived:?}");
    assert!(lived < PATIENCE);
}

/// Waits until a member knows by the log when so many leases end.
fn await_recorded(addr: std::net::SocketAddr, leases: usize) {
    let line = format!("cairn_leases_recorded {leases}");
    await_until("their ends are recorded", || {
        let metrics = http::ask_within(addr, &Request::get("/metrics"), PATIENCE);
        metrics.is_ok_and(|reply| reply.text().lines().any(|found| found == line))
    });
}

/// What is left of a lease when a member can tell.
fn left(addr: std::net::SocketAddr, lease: i64) -> i64 {
    number(&insist(addr, "lease/timetolive", &json!({"ID": lease.to_string()}))["TTL"])
}

#[test]
fn a_change_of_leader_extends_no_lease_that_nobody_keeps_alive() {
    let mut cluster = Cluster::start(Options::members(3));
    let leader = cluster.await_leader();
    let addrs: Vec<_> = cluster.members().iter().map(|member| member.addr()).collect();
    let asked = addrs[(leader + 1) % 3];
    let (begun, short, long) = (Instant::now(), grant(asked, 12), grant(asked, 600));
    put_on(asked, "k", "1", short);
    let watch = Stream::watch(asked, &json!({"key": base64("k")}));
    await_recorded(asked, 2);
    cluster.kill(leader);
    let shown = left(asked, long);
    let passed = i64::try_from(begun.elapsed().as_secs()).unwrap();
    // In whole seconds, cut off; the clock of the log stands a message's way behind the leader's.
    assert!((598 - passed..=600 - passed).contains(&shown), "{shown} s after {passed} s");
    let ended = &watch.results(2)[1];
    let lived = begun.elapsed();
    assert_eq!(events_of(ended), ["3 -k"]);
    assert!(lived >= Duration::from_secs(12), "{lived:?}");
    assert!(lived < Duration::from_secs(15), "{lived:?}: it was extended");
}

/// A client that was told that its lease lives on finds that it does, whoever leads next.
#[test]
fn a_lease_whose_end_was_recorded_is_kept_alive_for_every_leader_to_come() {
    let mut cluster = Cluster::start(Options::members(3));
    let leases: Vec<_> = (0..20).map(|_| grant(cluster.member(0).addr(), 600)).collect();
    for round in 0..3 {
        let leader = cluster.await_leader();
        let asked = cluster.member((leader + 1) % 3).addr();
        await_recorded(asked, leases.len());
        let (kept, others) = leases.split_at(10);
        for lease in kept {
            assert_eq!(keep_alive(asked, *lease), 600);
        }
        let begun = Instant::now();
        cluster.kill(leader);
        let shown: Vec<_> = kept.iter().map(|lease| left(asked, *lease)).collect();
        let passed = i64::try_from(begun.elapsed().as_secs()).unwrap();
        assert!(shown.iter().all(|left| *left >= 598 - passed), "{round}: {shown:?}");
        let older: Vec<_> = others.iter().map(|lease| left(asked, *lease)).collect();
        assert!(older.iter().all(|left| left < &shown[0]), "{round}: {older:?} {shown:?}");
        cluster.start_member(leader);
    }
}

/// A leader that stood still believes to lead when it wakes up, and that all leases are over.
#[test]
fn a_leader_that_stood_still_ends_no_lease_and_keeps_none_alive() {
    let mut cluster = Cluster::start(Options::members(3));
    let leader = cluster.await_leader();
    let addrs: Vec<_> = cluster.members().iter().map(|member| member.addr()).collect();
    let (asked, old) = (addrs[(leader + 1) % 3], addrs[leader]);
    let lease = grant(asked, 5);
    put_on(asked, "k", "1", lease);
    cluster.pause(leader);
    let others: Vec<_> = (0..3).filter(|member| *member != leader).collect();
    cluster.wait_until("another leader", |cluster| {
        others.iter().any(|member| cluster.member(*member).leads())
    });
    let paused = Instant::now();
    while paused.elapsed() < Duration::from_secs(8) {
        assert_eq!(keep_alive(asked, lease), 5);
        thread::sleep(Duration::from_millis(500));
    }
    cluster.go_on(leader);
    // It answers in the name of the one that leads, or not at all.
    assert_eq!(keep_alive(old, lease), 5);
    let woken = Instant::now();
    while woken.elapsed() < Duration::from_secs(7) {
        assert_eq!(keep_alive(asked, lease), 5);
        assert!(get(asked, "k").is_some());
        thread::sleep(Duration::from_millis(500));
    }
    await_until("it ends", || {
        insist(asked, "kv/range", &json!({"key": base64("k")})).get("kvs").is_none()
    });
}

#[test]
fn without_a_leader_nobody_knows_how_long_a_lease_lives() {
    let mut cluster = Cluster::start(Options::members(3));
    cluster.await_leader();
    let addrs: Vec<_> = cluster.members().iter().map(|member| member.addr()).collect();
    let lease = grant(addrs[0], 60);
    put(addrs[0], "a", "1");
    cluster.kill(1);
    cluster.kill(2);
    let stream = Stream::open(addrs[0], "lease/keepalive", &[json!({"ID": lease.to_string()})]);
    // One may have been answered before the others were missed.
    await_until("an answer", || !stream.so_far().is_empty());
    // A leader that hears of nobody takes itself for one until an election could have been.
    let mut refused = (200, json!({}));
    await_until("a refusal", || {
        let asked = try_call(addrs[0], "lease/timetolive", &json!({"ID": lease.to_string()}));
        refused = asked.expect("an answer");
        refused.0 != 200
    });
    assert_eq!((refused.0, &refused.1["message"]), (503, &json!("etcdserver: no leader")));
}

#[test]
fn superseded_values_take_no_more_memory_than_said() {
    let server = Server::start_with(START, &["--auto-compaction-bytes=100000"]);
    let addr = server.addr();
    put(addr, "kept", "still here");
    let value = "v".repeat(5_000);
    for _ in 0..40 {
        put(addr, "a", &value);
    }
    let old = json!({"key": base64("a"), "revision": "4"});
    await_until("the oldest are compacted", || {
        let (status, answer) = try_call(addr, "kv/range", &old).expect("an answer");
        status == 400
            && answer["message"] == "etcdserver: mvcc: required revision has been compacted"
    });
    // Half of it stays, and every newest version.
    let young = json!({"key": base64("a"), "revision": "40"});
    assert_eq!(call(addr, "kv/range", &young)["kvs"][0]["version"], "38");
    assert_eq!(get(addr, "a").map(|kv| kv["version"].clone()), Some(json!("40")));
    assert_eq!(get(addr, "kept").map(|kv| text(&kv["value"])).as_deref(), Some("still here"));
}

#[test]
fn what_is_older_than_said_is_compacted_by_itself() {
    let flags = ["--auto-compaction-mode=periodic", "--auto-compaction-retention=2s"];
    let server = Server::start_with(START, &flags);
    let addr = server.addr();
    for value in ["1", "2", "3"] {
        put(addr, "a", value);
    }
    let old = json!({"key": base64("a"), "revision": "2"});
    assert_eq!(text(&call(addr, "kv/range", &old)["kvs"][0]["value"]), "1");
    await_until("it is compacted", || {
        let (status, answer) = try_call(addr, "kv/range", &old).expect("an answer");
        status == 400
            && answer["message"] == "etcdserver: mvcc: required revision has been compacted"
    });
    assert_eq!(get(addr, "a").map(|kv| text(&kv["value"])).as_deref(), Some("3"));
}
