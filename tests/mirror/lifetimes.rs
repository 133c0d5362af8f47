//! Keys with a lifetime: they live as long as in the source, and end with it.

use std::thread;
use std::time::{Duration, Instant};

use crate::program::{Mirror, get, pairs, send, set, value};
use crate::support::node::wait_until;
use crate::support::server::Server;

#[test]
fn a_key_that_is_renewed_without_an_event_lives_on_and_ends_when_it_ends_in_the_source() {
    for (from, to) in pairs() {
        let (source, target) = (Server::start(from), Server::start(to));
        send(source.addr(), "PUT", "/leader", "value=a&ttl=3");
        send(source.addr(), "PUT", "/dir", "dir=true&ttl=3");
        set(&source, "/dir/in", "1");
        let mirror = Mirror::follow(&source, &target, &["--verify"]);
        let begun = Instant::now();
        // More than twice as long as it has at first.
        while begun.elapsed() < Duration::from_secs(9) {
            send(source.addr(), "PUT", "/leader?prevExist=true&refresh=true", "ttl=3");
            send(source.addr(), "PUT", "/dir?prevExist=true&refresh=true&dir=true", "ttl=3");
            let next = Instant::now() + Duration::from_millis(500);
            while Instant::now() < next {
                let there = get(&target, "/leader");
                assert_eq!(there["node"]["value"], "a", "{from:?} to {to:?}: {there}");
                assert!(there["node"]["ttl"].as_i64().is_some_and(|ttl| ttl <= 6), "{there}");
                assert_eq!(value(&target, "/dir/in").as_deref(), Some("1"));
                thread::sleep(Duration::from_millis(50));
            }
        }
        wait_until("it ends in the source", || value(&source, "/leader").is_none());
        wait_until("it ends in the target", || value(&target, "/leader").is_none());
        wait_until("the directory ends", || get(&target, "/dir")["errorCode"] == 100);
        mirror.verified();
    }
}

#[test]
fn what_is_left_is_given_and_a_key_becomes_permanent_and_the_other_way_round() {
    for (from, to) in pairs() {
        let (source, target) = (Server::start(from), Server::start(to));
        send(source.addr(), "PUT", "/long", "value=1&ttl=1000");
        send(source.addr(), "PUT", "/stays", "value=1&ttl=1000");
        set(&source, "/goes", "1");
        let mirror = Mirror::follow(&source, &target, &["--verify"]);
        let ttl = |key: &str| get(&target, key)["node"]["ttl"].as_i64();
        let left = ttl("/long").expect("a lifetime");
        assert!((990..=1003).contains(&left), "{from:?} to {to:?}: {left}");
        set(&source, "/stays", "2");
        send(source.addr(), "PUT", "/goes", "value=2&ttl=500");
        send(source.addr(), "PUT", "/long", "value=2&ttl=100");
        wait_until("they have the other", || {
            ttl("/stays").is_none() && ttl("/goes").is_some() && ttl("/long") <= Some(103)
        });
        mirror.verified();
    }
}
