//! Locks and elections: one holds, others wait, and who gives up is not waited for.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{
    PATIENCE, Stream, await_until, base64, call, grant, insist, number, text, try_call,
};
use crate::support::cluster::{Cluster, Options};
use crate::support::http::{Open, Request};
use crate::support::server::{Flavor, Server};

const START: Flavor = Flavor::Subject;

fn lock_request(lease: i64) -> Request {
    let body = json!({"name": base64("l"), "lease": lease.to_string()});
    Request::new("POST", "/v3/lock/lock").body(body.to_string())
}

/// A call that waits.
struct Waiting(Open);

impl Waiting {
    fn lock(addr: SocketAddr, lease: i64) -> Self {
        Self(Open::send(addr, &lock_request(lease)).expect("the server accepts"))
    }

    fn is_over(&self) -> bool {
        self.0.progress().ended
    }

    fn answer(&self) -> Value {
        assert!(self.0.wait(PATIENCE, |progress| progress.ended), "an answer");
        serde_json::from_slice(&self.0.progress().body).expect("JSON")
    }
}

fn keys(addr: SocketAddr, prefix: &str) -> Vec<String> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix") += 1;
    let found = call(addr, "kv/range", &json!({"key": base64(prefix), "range_end": base64(end)}));
    found["kvs"].as_array().into_iter().flatten().map(|kv| text(&kv["key"])).collect()
}

#[test]
fn a_lock_is_held_by_the_first_and_then_by_the_next_that_still_waits() {
    let server = Server::start_with(START, &[]);
    let addr = server.addr();
    let leases: Vec<_> = (0..4).map(|_| grant(addr, 100)).collect();
    let key = |lease: i64| format!("l/{lease:x}");
    let first = Waiting::lock(addr, leases[0]);
    assert_eq!(text(&first.answer()["key"]), key(leases[0]));
    let waiting: Vec<_> = leases[1..]
        .iter()
        .enumerate()
        .map(|(before, lease)| {
            let waiting = Waiting::lock(addr, *lease);
            await_until("it waits", || keys(addr, "l/").len() == before + 2);
            waiting
        })
        .collect();
    // Who has the lock has it, however often it asks.
    assert_eq!(text(&Waiting::lock(addr, leases[0]).answer()["key"]), key(leases[0]));
    // The next one gives up: its key goes, and the one behind it does not get the lock.
    waiting[0].0.close();
    await_until("its key is gone", || !keys(addr, "l/").contains(&key(leases[1])));
    assert!(!waiting[1].is_over());
    call(addr, "lock/unlock", &json!({"key": base64(key(leases[0]))}));
    assert_eq!(text(&waiting[1].answer()["key"]), key(leases[2]));
    assert!(!waiting[2].is_over());
    // The lease of the one that waits ends: it is told that it never gets the lock.
    call(addr, "lease/revoke", &json!({"ID": leases[3].to_string()}));
    call(addr, "lock/unlock", &json!({"key": base64(key(leases[2]))}));
    assert_eq!(waiting[2].answer()["message"], "mutex: session is expired");
    assert!(keys(addr, "l/").is_empty());
    // Without a lease there is one of a minute.
    let locked = Waiting::lock(addr, 0).answer();
    let lease =
        i64::from_str_radix(text(&locked["key"]).trim_start_matches("l/"), 16).expect("hex");
    let life = call(addr, "lease/timetolive", &json!({"ID": lease.to_string()}));
    assert_eq!(number(&life["grantedTTL"]), 60);
    let unknown = Waiting::lock(addr, 4711).answer();
    assert_eq!(unknown["message"], "etcdserver: requested lease not found");
}

/// Several clients take turns, through each of the members, while members fall and stand still.
#[test]
fn a_lock_is_held_by_one_at_a_time_through_faults() {
    let mut cluster = Cluster::start(Options::members(3));
    cluster.await_leader();
    let addrs: Vec<_> = cluster.members().iter().map(|member| member.addr()).collect();
    let (held, done) = (Mutex::new(None::<usize>), AtomicBool::new(false));
    let turns = AtomicUsize::new(0);
    thread::scope(|scope| {
        for client in 0..5 {
            let (addrs, held, done, turns) = (&addrs, &held, &done, &turns);
            scope.spawn(move || {
                let mut number = client;
                while !done.load(Ordering::Relaxed) {
                    number += 1;
                    let addr = addrs[number % 3];
                    let granted = try_call(addr, "lease/grant", &json!({"TTL": "600"}));
                    let Some((200, granted)) = granted else { continue };
                    let lease = crate::client::number(&granted["ID"]);
                    let body = json!({"name": base64("l"), "lease": lease.to_string()});
                    if let Some((200, locked)) = try_call(addr, "lock/lock", &body) {
                        let before = held.lock().expect("nobody panics").replace(client);
                        assert_eq!(before, None, "{client} has the lock");
                        thread::sleep(Duration::from_millis(5));
                        *held.lock().expect("nobody panics") = None;
                        turns.fetch_add(1, Ordering::Relaxed);
                        drop(locked);
                    }
                    // Also where it is not known what became of it.
                    for addr in addrs.iter().cycle() {
                        let ended =
                            try_call(*addr, "lease/revoke", &json!({"ID": lease.to_string()}));
                        if matches!(ended, Some((200 | 404, _))) {
                            break;
                        }
                    }
                }
            });
        }
        for _ in 0..3 {
            let begun = turns.load(Ordering::Relaxed);
            let deadline = Instant::now() + PATIENCE;
            while turns.load(Ordering::Relaxed) < begun + 5 {
                assert!(Instant::now() < deadline, "the lock goes round");
                thread::sleep(Duration::from_millis(20));
            }
            let leader = cluster.await_leader();
            cluster.pause(leader);
            thread::sleep(Duration::from_secs(3));
            cluster.go_on(leader);
            let leader = cluster.await_leader();
            cluster.kill(leader);
            thread::sleep(Duration::from_secs(2));
            cluster.start_member(leader);
        }
        done.store(true, Ordering::Relaxed);
    });
    insist(addrs[0], "kv/range", &json!({"key": base64("l/")}));
}

#[test]
fn an_election_has_one_leader_who_is_seen_by_those_who_observe() {
    let server = Server::start_with(START, &[]);
    let addr = server.addr();
    let nobody =
        try_call(addr, "election/leader", &json!({"name": base64("e")})).expect("an answer");
    assert_eq!((nobody.0, &nobody.1["message"]), (500, &json!("election: no leader")));
    let observer = Stream::open(addr, "election/observe", &[json!({"name": base64("e")})]);
    let (one, two) = (grant(addr, 100), grant(addr, 100));
    let campaign = |lease: i64, value: &str| json!({"name": base64("e"), "lease": lease.to_string(), "value": base64(value)});
    let first = call(addr, "election/campaign", &campaign(one, "first"));
    assert_eq!(text(&first["leader"]["key"]), format!("e/{one:x}"));
    assert_eq!(number(&first["leader"]["rev"]), 2);
    let body = campaign(two, "second").to_string();
    let second = Request::new("POST", "/v3/election/campaign").body(body);
    let second = Waiting(Open::send(addr, &second).expect("the server accepts"));
    await_until("it waits", || keys(addr, "e/").len() == 2);
    let says = |leader: &Value, value: &str| json!({"leader": leader, "value": base64(value)});
    call(addr, "election/proclaim", &says(&first["leader"], "still me"));
    // The same again changes nothing but the value.
    call(addr, "election/campaign", &campaign(one, "once more"));
    let leader = call(addr, "election/leader", &json!({"name": base64("e")}));
    assert_eq!(text(&leader["kv"]["value"]), "once more");
    assert!(!second.is_over());
    call(addr, "election/resign", &json!({"leader": first["leader"]}));
    let second = second.answer();
    assert_eq!(text(&second["leader"]["key"]), format!("e/{two:x}"));
    let refused =
        try_call(addr, "election/proclaim", &says(&first["leader"], "x")).expect("an answer");
    assert_eq!((refused.0, &refused.1["message"]), (500, &json!("election: not leader")));
    let missing = try_call(addr, "election/resign", &json!({})).expect("an answer");
    assert_eq!(missing.1["message"], "\"leader\" field must be provided");
    await_until("all is seen", || {
        observer.so_far().iter().any(|answer| text(&answer["kv"]["value"]) == "second")
    });
    let seen: Vec<_> =
        observer.so_far().iter().map(|answer| text(&answer["kv"]["value"])).collect();
    assert_eq!(seen, ["first", "still me", "once more", "second"]);
}
