//! What comes over, and in which order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::program::{Mirror, get, pairs, run, send, set, source, tree, tried, url, value};
use crate::support::http::{Request, ask};
use crate::support::node::wait_until;
use crate::support::port::Port;
use crate::support::rng::{Rng, seed_from_env};
use crate::support::server::{Flavor, Server};

/// One request of a program: over few keys, so that directories, conditions and removals meet.
fn step(server: &Server, rng: &mut Rng) {
    let key =
        format!("/{}", rng.pick(&["a", "b", "c/d", "c/e", "c", "f", "g/h/i", "g/h", "%C3%A9 x"]));
    let key = key.replace(' ', "%20");
    let value = rng.below(4);
    let (method, query, body) = match rng.below(14) {
        0 => ("DELETE", "?recursive=true", String::new()),
        1 => ("DELETE", "?prevValue=v1", String::new()),
        2 => ("PUT", "?prevValue=v2", format!("value=v{value}")),
        3 => ("PUT", "?prevExist=false", format!("value=v{value}")),
        4 => ("PUT", "?prevExist=true", format!("value=v{value}&ttl=5000")),
        5 => ("PUT", "", "ttl=6000&refresh=true&prevExist=true".to_owned()),
        6 => ("PUT", "", format!("value=v{value}&ttl={}", 3000 + rng.below(1000))),
        7 => ("POST", "", format!("value=job{value}")),
        8 => ("PUT", "", "dir=true".to_owned()),
        9 => ("PUT", "", "dir=true&ttl=4000".to_owned()),
        10 => ("DELETE", "?dir=true", String::new()),
        _ => ("PUT", "", format!("value=v{value}%26%3D")),
    };
    let reply = tried(server.addr(), method, &format!("{key}{query}"), &body);
    assert!(reply.status() < 500, "{method} {key}{query} {body}: {}", reply.text());
}

#[test]
fn a_random_program_comes_over_before_and_while_it_is_followed() {
    let seed = seed_from_env("MIRROR_SEED");
    for (from, to) in pairs() {
        let mut rng = Rng::new(seed);
        let (source, target) = (Server::start(from), Server::start(to));
        for _ in 0..60 {
            step(&source, &mut rng);
        }
        let mirror = Mirror::follow(&source, &target, &["--verify"]);
        assert_eq!(tree(&target, "/"), tree(&source, "/"), "seed {seed}, {from:?} to {to:?}");
        for _ in 0..150 {
            step(&source, &mut rng);
        }
        // A permanent key that gets a lifetime by a renewal raises no event; that comes with the last listing.
        let values = |server: &Server| {
            let nodes = tree(server, "/").into_iter();
            nodes.map(|(key, value, _)| (key, value)).collect::<Vec<_>>()
        };
        wait_until("everything is there", || values(&target) == values(&source));
        let said = mirror.verified();
        assert!(!said.contains("left to clients"), "seed {seed}, {from:?} to {to:?}: {said}");
        assert_eq!(tree(&target, "/"), tree(&source, "/"), "seed {seed}, {from:?} to {to:?}");
        let marks = get(&target, "/_cairn_mirror?recursive=true");
        assert!(marks["node"]["nodes"].is_null(), "the mark goes with the mirror: {marks}");
    }
}

#[test]
fn changes_come_in_the_order_of_the_source() {
    for (from, to) in pairs() {
        let (source, target) = (Server::start(from), Server::start(to));
        let mirror = Mirror::follow(&source, &target, &[]);
        for number in 0..40 {
            set(&source, &format!("/seen/{}", number % 3), &number.to_string());
        }
        wait_until("the last is there", || value(&target, "/seen/0") == Some("39".to_owned()));
        let mut next = 1;
        for number in 0..40 {
            let target_path = format!("/v2/keys/seen?wait=true&recursive=true&waitIndex={next}");
            let reply = ask(target.addr(), &Request::get(&target_path)).expect("it answers");
            let event: serde_json::Value = serde_json::from_str(&reply.text()).expect("JSON");
            assert_eq!(event["node"]["value"], number.to_string(), "{from:?} to {to:?}: {event}");
            next = event["node"]["modifiedIndex"].as_u64().expect("an index") + 1;
        }
        mirror.end();
    }
}

#[test]
fn a_part_and_what_is_hidden_in_it_if_that_is_named() {
    for (from, to) in pairs() {
        let (source, target) = (Server::start(from), Server::start(to));
        for (key, value) in [
            ("/app/a", "1"),
            ("/app/_h/x", "1"),
            ("/app/_other/x", "1"),
            ("/apple", "1"),
            ("/app/d/_h/y", "1"),
        ] {
            set(&source, key, value);
        }
        set(&target, "/own", "mine");
        let more = ["--prefix", "/app/", "--hidden", "/app/_h,/app/d/_h", "--verify"];
        let mirror = Mirror::follow(&source, &target, &more);
        assert_eq!(value(&target, "/app/_h/x").as_deref(), Some("1"));
        assert_eq!(value(&target, "/app/d/_h/y").as_deref(), Some("1"));
        assert_eq!((value(&target, "/app/_other/x"), value(&target, "/apple")), (None, None));
        set(&source, "/app/_h/z", "2");
        set(&source, "/app/_other/z", "2");
        set(&source, "/apple", "2");
        set(&source, "/app/b", "2");
        wait_until("they are there", || {
            value(&target, "/app/_h/z").is_some() && value(&target, "/app/b").is_some()
        });
        send(source.addr(), "DELETE", "/app/d?recursive=true", "");
        wait_until("what is hidden goes with its directory", || {
            get(&target, "/app/d")["errorCode"] == 100
        });
        send(source.addr(), "DELETE", "/app?recursive=true", "");
        wait_until("the prefix goes", || get(&target, "/app")["errorCode"] == 100);
        set(&source, "/app/new", "3");
        wait_until("and comes back", || value(&target, "/app/new").is_some());
        assert_eq!((value(&target, "/app/_other/z"), value(&target, "/apple")), (None, None));
        assert_eq!(value(&target, "/own").as_deref(), Some("mine"));
        mirror.verified();
    }
}

#[test]
fn once_copies_what_is_there_and_ends() {
    let (source, target) = (source(), Server::start(Flavor::Subject));
    for number in 0..300 {
        set(&source, &format!("/many/{number}"), &number.to_string());
    }
    send(source.addr(), "PUT", "/empty", "dir=true");
    let words =
        ["mirror", "--once", "--verify", "--json", "--from", &url(&source), "--to", &url(&target)];
    let said = run(&words);
    assert_eq!(said.code, Some(0), "{said:?}");
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(
        (&json["verified"]["compared"], &json["keys"]),
        (&302.into(), &302.into()),
        "{json}"
    );
    assert_eq!(tree(&target, "/"), tree(&source, "/"));
    // Again: there is nothing to do but to mark and to unmark.
    let said = run(&words);
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(json["writes"], 0, "{said:?}");
}

#[test]
fn both_sides_are_the_same_after_a_load_and_metrics_tell_the_lag() {
    let seed = seed_from_env("MIRROR_SEED");
    let (source, target) = (source(), Server::start(Flavor::Subject));
    let metrics = Port::reserve().expect("a port").addr();
    let mirror =
        Mirror::follow(&source, &target, &["--verify", "--metrics-addr", &metrics.to_string()]);
    let (writing, begun) = (AtomicBool::new(true), Instant::now());
    let page = thread::scope(|scope| {
        for writer in 0..4 {
            let (source, writing) = (&source, &writing);
            scope.spawn(move || {
                let mut rng = Rng::new(seed + writer);
                while writing.load(Ordering::Relaxed) {
                    let key = format!("/load/{writer}/{}", rng.below(30));
                    match rng.below(10) {
                        0 => drop(tried(source.addr(), "DELETE", &key, "")),
                        1 => drop(send(source.addr(), "PUT", &key, "value=short&ttl=2")),
                        _ => drop(send(
                            source.addr(),
                            "PUT",
                            &key,
                            &format!("value={}", rng.below(9)),
                        )),
                    }
                }
            });
        }
        let page = || ask(metrics, &Request::get("/metrics")).expect("it answers").text();
        wait_until("there are events", || {
            !page().contains("events_total 0\n") && begun.elapsed() > Duration::from_secs(4)
        });
        writing.store(false, Ordering::Relaxed);
        page()
    });
    for line in [
        "cairn_mirror_up{side=\"source\"} 1",
        "cairn_mirror_lag_seconds ",
        "cairn_mirror_applied_index ",
    ] {
        assert!(page.contains(line), "{page}");
    }
    let said = mirror.verified();
    assert!(!said.contains("left to clients"), "seed {seed}: {said}");
}
