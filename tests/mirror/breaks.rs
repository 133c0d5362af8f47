//! Either side fails, and comes back.

use crate::program::{Mirror, STOP, get, pairs, send, set, tree, value};
use crate::support::node::wait_until;
use crate::support::server::Server;

#[test]
fn both_sides_may_fail_and_nothing_is_missing_after_it() {
    for (from, to) in pairs() {
        let (mut source, mut target) = (Server::start(from), Server::start(to));
        set(&source, "/a", "1");
        let mut mirror = Mirror::follow(&source, &target, &["--verify"]);
        source.kill();
        mirror.line("the source does not answer");
        source.restart();
        set(&source, "/a", "2");
        mirror.line("the source answers again");
        wait_until("it comes over", || value(&target, "/a").as_deref() == Some("2"));
        target.kill();
        set(&source, "/a", "3");
        set(&source, "/b", "1");
        mirror.line("the target does not answer");
        send(source.addr(), "DELETE", "/b", "");
        target.restart();
        mirror.line("the target answers again");
        wait_until("it comes over", || value(&target, "/a").as_deref() == Some("3"));
        wait_until("it goes", || value(&target, "/b").is_none());
        let said = mirror.verified();
        assert!(!said.contains("left to clients"), "{from:?} to {to:?}: {said}");
    }
}

#[test]
fn changes_that_the_source_has_forgotten_come_as_a_difference() {
    for (from, to) in pairs() {
        let (source, mut target) = (Server::start(from), Server::start(to));
        for number in 0..20 {
            set(&source, &format!("/d/{number}"), "old");
        }
        send(source.addr(), "PUT", "/e", "dir=true");
        let mut mirror = Mirror::follow(&source, &target, &["--verify"]);
        set(&target, "/d/1", "a client's");
        set(&target, "/own", "a client's");
        target.terminate(STOP);
        // More than are read ahead and remembered together.
        for number in 0..2200 {
            set(&source, &format!("/d/{}", number % 50), "new");
        }
        send(source.addr(), "DELETE", "/d/7", "");
        send(source.addr(), "DELETE", "/e?dir=true", "");
        set(&source, "/e", "now a file");
        target.restart();
        mirror.line("changes are missing");
        wait_until("the difference is there", || {
            value(&target, "/e").as_deref() == Some("now a file")
        });
        wait_until("it goes", || value(&target, "/d/7").is_none());
        assert_eq!(value(&target, "/d/1").as_deref(), Some("a client's"));
        set(&source, "/after", "1");
        wait_until("it is followed again", || value(&target, "/after").is_some());
        mirror.verified();
        let visible = |server: &Server| {
            let mut tree = tree(server, "/");
            tree.retain(|(key, ..)| key != "/d/1" && key != "/own");
            tree
        };
        assert_eq!(visible(&target), visible(&source), "{from:?} to {to:?}");
    }
}

#[test]
fn an_end_is_not_held_up_by_a_server_that_is_gone() {
    for (from, to) in pairs() {
        let (mut source, target) = (Server::start(from), Server::start(to));
        set(&source, "/a", "1");
        let mut mirror = Mirror::follow(&source, &target, &[]);
        source.kill();
        mirror.line("the source does not answer");
        mirror.terminate();
        let said = mirror.farewell(1);
        assert!(said.contains("ended before everything was copied"), "{said}");
        assert_eq!(get(&target, "/a")["node"]["value"], "1");
    }
}
