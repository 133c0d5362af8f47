//! Watchers: from the past to what happens now, through faults, and many of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{
    NEVER, PATIENCE, Stream, await_until, base64, call, events_of, insist, number, put, text,
};
use crate::support::cluster::{Cluster, Options};
use crate::support::http::{Connection, Request};
use crate::support::server::{Flavor, Server};

const START: Flavor = Flavor::Subject;

#[test]
fn a_watcher_is_told_what_it_asked_for_in_etcds_words() {
    let server = Server::start_with(START, &[]);
    let addr = server.addr();
    put(addr, "a", "1");
    let create = json!({"key": base64("a"), "start_revision": "2", "prev_kv": true});
    let stream = Stream::watch(addr, &create);
    let answers = stream.results(2);
    assert_eq!(answers[0]["header"]["revision"], "2");
    assert!(answers[0].get("watch_id").is_none(), "zero is left out");
    assert_eq!(answers[1]["events"][0]["kv"]["value"], base64("1"));
    assert!(answers[1]["events"][0].get("type").is_none(), "PUT is left out");
    assert!(answers[1]["events"][0].get("prev_kv").is_none());
    call(addr, "kv/deleterange", &json!({"key": base64("a")}));
    let event = &stream.results(3)[2]["events"][0];
    assert_eq!(event["type"], "DELETE");
    assert_eq!(event["kv"], json!({"key": base64("a"), "mod_revision": "3"}));
    assert_eq!(text(&event["prev_kv"]["value"]), "1");
    // One revision comes at once, without what is filtered out.
    let range = json!({"key": base64("b"), "range_end": base64("d"), "filters": ["NODELETE"]});
    let filtered = Stream::watch(addr, &range);
    let op = |key: &str| json!({"request_put": {"key": base64(key), "value": base64("2")}});
    call(addr, "kv/txn", &json!({"success": [op("c"), op("b"), op("d")]}));
    call(addr, "kv/deleterange", &json!({"key": base64("c")}));
    call(addr, "kv/put", &json!({"key": base64("c"), "value": base64("3")}));
    let answers = filtered.results(3);
    assert_eq!(events_of(&answers[1]), ["4 c=2", "4 b=2"]);
    assert_eq!(events_of(&answers[2]), ["6 c=3"]);
}

#[test]
fn watchers_that_cannot_be_are_refused_in_etcds_words_and_the_stream_goes_on() {
    let server = Server::start_with(START, &[]);
    let addr = server.addr();
    for value in ["1", "2", "3"] {
        put(addr, "a", value);
    }
    call(addr, "kv/compaction", &json!({"revision": "4"}));
    let create = |create: Value| json!({"create_request": create});
    let requests = [
        create(json!({"key": base64("a"), "watch_id": "7"})),
        create(json!({"key": base64("a"), "watch_id": "7"})),
        create(json!({"key": base64("b"), "range_end": base64("a")})),
        json!({}),
        create(json!({"key": base64("a"), "start_revision": "2"})),
        json!({"cancel_request": {"watch_id": "99"}}),
        json!({"cancel_request": {"watch_id": "7"}}),
        create(json!({"key": base64("a"), "start_revision": "4"})),
        json!({"progress_request": {}}),
    ];
    let stream = Stream::open(addr, "watch", &requests);
    let answers = stream.results(9);
    let of =
        |id: &str| -> Vec<_> { answers.iter().filter(|answer| answer["watch_id"] == id).collect() };
    assert_eq!(of("7")[0]["created"], true);
    assert_eq!((&of("7")[1]["canceled"], of("7").len()), (&json!(true), 2));
    let refused: Vec<_> = of("-1");
    let reason = |answer: &Value| {
        assert_eq!((&answer["created"], &answer["canceled"]), (&json!(true), &json!(true)));
        answer["cancel_reason"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(reason(refused[0]), "mvcc: duplicate watch ID provided on the WatchStream");
    assert_eq!(reason(refused[1]), "mvcc: watcher range is empty");
    assert_eq!(refused[2]["header"]["revision"], "4", "progress: {refused:?}");
    // The first watcher that the stream could name itself wanted what is gone, the second one did not.
    let first: Vec<_> = answers.iter().filter(|answer| answer.get("watch_id").is_none()).collect();
    assert_eq!((&first[0]["created"], first.len()), (&json!(true), 2));
    assert_eq!(first[1]["compact_revision"], "4");
    assert!(
        first[1]["header"].get("revision").is_none() && first[1].get("cancel_reason").is_none()
    );
    assert_eq!(events_of(of("1")[1]), ["4 a=3"]);
    // The end of the body is not the end of the watch.
    put(addr, "a", "4");
    assert_eq!(events_of(&stream.results(10)[9]), ["5 a=4"]);
    assert!(!stream.is_over());
}

/// Watchers begin anywhere in the past while another client writes, and miss nothing.
#[test]
fn watchers_from_the_past_see_everything_once() {
    let server = Server::start_with(START, &[]);
    let addr = server.addr();
    let watchers: Vec<_> = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..600 {
                put(addr, &format!("k{}", number % 3), &number.to_string());
            }
            put(addr, "k1", "last");
        });
        let mut watchers = Vec::new();
        while !writer.is_finished() && watchers.len() < 60 {
            let from = 2 + watchers.len() % 50;
            let all = json!({"key": base64("k"), "range_end": base64("l"), "start_revision": from.to_string()});
            let one = json!({"key": base64("k1"), "start_revision": from.to_string()});
            watchers.push((from, false, Stream::watch(addr, &all)));
            watchers.push((from, true, Stream::watch(addr, &one)));
        }
        watchers
    });
    for (from, one, stream) in watchers {
        let events = stream.events_to("k1=last");
        let value =
            |number: usize| if number == 600 { "last".to_owned() } else { number.to_string() };
        let key = |number: usize| if number == 600 { 1 } else { number % 3 };
        let expected: Vec<_> = (from - 2..=600)
            .filter(|number| !one || key(*number) == 1)
            .map(|number| format!("{} k{}={}", number + 2, key(number), value(number)))
            .collect();
        assert_eq!(events, expected, "from {from}");
    }
}

#[test]
fn a_watch_on_each_member_sees_what_was_acknowledged_through_changes_of_leader() {
    let mut cluster = Cluster::start(Options::members(3));
    let addrs: Vec<_> = cluster.members().iter().map(|member| member.addr()).collect();
    let mut leader = cluster.await_leader();
    let watched: Vec<_> = (0..3).filter(|member| *member != leader).collect();
    let create = json!({"key": base64("k"), "start_revision": "1"});
    let streams: Vec<_> =
        watched.iter().map(|member| (*member, Stream::watch(addrs[*member], &create))).collect();
    let done = AtomicBool::new(false);
    let acknowledged = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut acknowledged = Vec::new();
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                let body = json!({"key": base64("k"), "value": base64(number.to_string())});
                let answer = crate::client::try_call(addrs[watched[0]], "kv/put", &body);
                if let Some((200, _)) = answer {
                    acknowledged.push(number.to_string());
                }
                number += 1;
            }
            acknowledged
        });
        for _ in 0..2 {
            // Only the one that nobody watches falls; the others lead in turn.
            let others = watched.clone();
            cluster.kill(leader);
            let led_by = |cluster: &Cluster| others.iter().any(|one| cluster.member(*one).leads());
            cluster.wait_until("another leader", led_by);
            let fallen = leader;
            cluster.start_member(fallen);
            thread::sleep(NEVER);
            leader = cluster.await_leader();
            if watched.contains(&leader) {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        writer.join().expect("the writer goes on")
    });
    insist(addrs[watched[0]], "kv/put", &json!({"key": base64("k"), "value": base64("last")}));
    for (member, stream) in streams {
        let events = stream.events_to("k=last");
        let revision = |event: &String| -> u64 {
            event.split(' ').next().and_then(|revision| revision.parse().ok()).expect("a revision")
        };
        assert!(events.is_sorted_by(|one, other| revision(one) < revision(other)), "{member}");
        let seen: Vec<_> = events.iter().filter_map(|event| event.split('=').nth(1)).collect();
        let missed: Vec<_> =
            acknowledged.iter().filter(|value| !seen.contains(&value.as_str())).collect();
        assert!(missed.is_empty(), "member {member} of {leader}: {missed:?}");
    }
}

/// It does not read while much is written; the writer does not notice, and when it reads, all is there.
#[test]
fn a_slow_reader_loses_nothing_and_holds_nobody_up() {
    let server = Server::start_with(START, &[]);
    let addr = server.addr();
    let create = json!({"create_request": {"key": base64("k")}});
    let mut slow = Connection::open(addr).expect("the server accepts");
    slow.send(&Request::new("POST", "/v3/watch").body(create.to_string())).expect("it is sent");
    let deadline = || Instant::now() + PATIENCE;
    slow.read_head("POST", deadline()).expect("an answer");
    let first = slow.read_piece(deadline()).expect("an answer").expect("it goes on");
    assert!(String::from_utf8_lossy(&first).contains("created"));
    let value = "x".repeat(200_000);
    for number in 0..150 {
        put(addr, "k", &format!("{number} {value}"));
    }
    let mut number = 0;
    while number < 150 {
        // Each message is a chunk of its own, which may come in pieces. Of what was missed several come at once.
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.extend(slow.read_piece(deadline()).expect("an answer").expect("it goes on"));
        }
        let answer: Value = serde_json::from_slice(&line).expect("a line is JSON");
        for event in answer["result"]["events"].as_array().expect("an answer has events") {
            let kv = &event["kv"];
            assert_eq!(number_of(&text(&kv["value"])), number);
            assert_eq!(crate::client::number(&kv["mod_revision"]), number + 2);
            number += 1;
        }
    }
}

fn number_of(value: &str) -> i64 {
    value.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn ten_thousand_watchers_of_one_key_share_a_stream() {
    const WATCHERS: usize = 10_000;
    let server = Server::start_with(START, &[]);
    let addr = server.addr();
    let create = json!({"create_request": {"key": base64("k")}});
    let stream = Stream::open(addr, "watch", &vec![create; WATCHERS]);
    stream.results(WATCHERS);
    put(addr, "k", "1");
    put(addr, "k", "2");
    let answers = stream.results(3 * WATCHERS);
    let mut seen = vec![Vec::new(); WATCHERS];
    for answer in &answers[WATCHERS..] {
        let id = usize::try_from(number(&answer["watch_id"])).expect("an id");
        seen[id].extend(events_of(answer));
    }
    assert!(seen.iter().all(|events| *events == ["2 k=1", "3 k=2"]));
    // They go with their stream.
    stream.close();
    await_until("no watcher is left", || {
        let other = json!({"create_request": {"key": base64("k")}});
        let again = Stream::open(addr, "watch", &[other]);
        again.results(1)[0]["created"] == true
    });
}

#[test]
fn quiet_watchers_hear_that_there_is_nothing() {
    let flags = ["--experimental-watch-progress-notify-interval=150ms"];
    let server = Server::start_with(START, &flags);
    let addr = server.addr();
    put(addr, "other", "1");
    let quiet = Stream::watch(addr, &json!({"key": base64("a"), "progress_notify": true}));
    let silent = Stream::watch(addr, &json!({"key": base64("a")}));
    for answer in &quiet.results(4)[1..] {
        assert_eq!(answer["header"]["revision"], "2");
        assert!(answer.get("events").is_none() && answer.get("created").is_none(), "{answer}");
    }
    assert!(!silent.exceeds(1));
}

#[test]
fn a_member_that_stops_says_so_on_its_streams() {
    let mut cluster = Cluster::start(Options::members(1));
    let addr = cluster.member(0).addr();
    let stream = Stream::watch(addr, &json!({"key": base64("a")}));
    cluster.stop(0);
    await_until("the stream ends", || stream.is_over());
    let last = stream.so_far().pop().expect("an answer");
    assert_eq!(last["error"]["message"], "etcdserver: server stopped", "{last}");
}
