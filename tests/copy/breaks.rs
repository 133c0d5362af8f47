//! Either side fails, and comes back.

use crate::copying::{Both, there};
use crate::program::{STOP, pairs, send, set};
use crate::support::node::wait_until;

#[test]
fn both_sides_may_fail_and_nothing_is_missing_after_it() {
    for (from, to) in pairs() {
        let mut both = Both::of(from, to);
        set(&both.source, "/a", "1");
        let mut copy = both.follow(&["--verify"]);
        both.source.kill();
        copy.line("the source does not answer");
        both.source.restart();
        set(&both.source, "/a", "2");
        copy.line("the source answers again");
        wait_until("it comes over", || there(both.v3(), "/a").as_deref() == Some("2"));
        both.target_mut().kill();
        set(&both.source, "/a", "3");
        set(&both.source, "/b", "1");
        send(both.source.addr(), "PUT", "/c", "value=1&ttl=1000");
        copy.line("the target does not answer");
        send(both.source.addr(), "DELETE", "/b", "");
        both.target_mut().restart();
        copy.line("the target answers again");
        wait_until("it comes over", || both.keys() == both.files("/"));
        let said = copy.verified();
        assert!(!said.contains("left to clients"), "{from:?} to {to:?}: {said}");
    }
}

#[test]
fn a_server_that_is_both_sides_may_fail() {
    let mut both = Both::alone(crate::support::server::Flavor::Subject);
    set(&both.source, "/a", "1");
    let mut copy = both.follow(&["--verify"]);
    for round in 0..3 {
        both.source.kill();
        copy.line("the source does not answer");
        both.source.restart();
        set(&both.source, "/a", &format!("round {round}"));
        set(&both.source, &format!("/{round}"), "1");
        wait_until("it comes over", || both.keys() == both.files("/"));
    }
    copy.verified();
}

#[test]
fn changes_that_the_source_has_forgotten_come_as_a_difference() {
    for (from, to) in pairs() {
        let mut both = Both::of(from, to);
        for number in 0..20 {
            set(&both.source, &format!("/d/{number}"), "old");
        }
        let mut copy = both.follow(&["--verify"]);
        crate::client::put(both.v3(), "/d/1", "a client's");
        crate::client::put(both.v3(), "/own", "a client's");
        both.target_mut().terminate(STOP);
        // More than are read ahead and remembered together.
        for number in 0..2200 {
            set(&both.source, &format!("/d/{}", number % 50), &format!("new {number}"));
        }
        send(both.source.addr(), "DELETE", "/d/7", "");
        both.target_mut().restart();
        copy.line("changes are missing");
        wait_until("the difference is there", || there(both.v3(), "/d/49").is_some());
        wait_until("it goes", || there(both.v3(), "/d/7").is_none());
        assert_eq!(there(both.v3(), "/d/1").as_deref(), Some("a client's"));
        set(&both.source, "/after", "1");
        wait_until("it is followed again", || there(both.v3(), "/after").is_some());
        let said = copy.verified();
        assert!(said.contains("1 keys were left to clients"), "{said}");
        let others = |mut keys: Vec<(String, String, bool)>| {
            keys.retain(|(key, ..)| key != "/d/1" && key != "/own");
            keys
        };
        assert_eq!(others(both.keys()), others(both.files("/")), "{from:?} to {to:?}");
    }
}

#[test]
fn an_end_is_not_held_up_by_a_server_that_is_gone_and_says_where_it_stood() {
    for (from, to) in pairs() {
        let mut both = Both::of(from, to);
        set(&both.source, "/a", "1");
        let mut copy = both.follow(&[]);
        both.source.kill();
        copy.line("the source does not answer");
        copy.terminate();
        let said = copy.farewell(1);
        assert!(said.contains("ended before everything was copied"), "{said}");
        assert!(said.contains("copied up to index "), "{said}");
        assert_eq!(there(both.v3(), "/a").as_deref(), Some("1"));
    }
}
