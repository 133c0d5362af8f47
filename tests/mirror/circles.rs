//! Nothing is copied in a circle, or by two at a time.

use crate::program::{Mirror, Said, run, set, url, value};
use crate::support::node::wait_until;
use crate::support::server::{Flavor, Server};

fn refused(from: &Server, to: &Server, more: &[&str], expected: &str) {
    let words = ["mirror", "--once", "--from", &url(from), "--to", &url(to)];
    let said: Said = run(&[&words[..], more].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(expected), "{expected:?}: {said:?}");
}

#[test]
fn a_mirror_back_is_refused_over_any_number_of_clusters() {
    let servers = [(); 3].map(|()| Server::start(Flavor::Subject));
    let [a, b, c] = &servers;
    refused(a, a, &[], "one and the same cluster");
    set(a, "/x/y", "1");
    let first = Mirror::follow(a, b, &[]);
    refused(b, a, &[], "round in a circle");
    let second = Mirror::follow(b, c, &[]);
    refused(c, a, &[], "round in a circle");
    refused(c, a, &["--prefix", "/elsewhere"], "below /elsewhere/");
    set(a, "/x/y", "2");
    wait_until("it goes all the way", || value(c, "/x/y").as_deref() == Some("2"));
    second.end();
    first.end();
    // What does not overlap is no circle.
    let there = Mirror::follow(a, b, &["--prefix", "/x"]);
    let back = Mirror::follow(b, a, &["--prefix", "/y"]);
    set(b, "/y/z", "3");
    wait_until("it comes back", || value(a, "/y/z").as_deref() == Some("3"));
    back.end();
    there.end();
}

#[test]
fn a_second_mirror_of_the_same_is_refused_and_one_that_was_killed_leaves_nothing() {
    let (a, b) = (Server::start(Flavor::Subject), Server::start(Flavor::Subject));
    set(&a, "/x", "1");
    let first = Mirror::follow(&a, &b, &[]);
    refused(&a, &b, &[], "another mirror of the same source");
    // Killed, not asked to end.
    drop(first);
    let said = run(&["mirror", "--once", "--from", &url(&a), "--to", &url(&b)]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("waiting up to"), "{said:?}");
}

#[test]
fn wrong_words_are_refused() {
    let both = ["--from", "http://127.0.0.1:1", "--to", "http://127.0.0.1:2"];
    for (more, expected) in [
        (&["--hidden", "/a"][..], "with a part that begins with an underscore"),
        (&["--prefix", "/a", "--hidden", "/_b"], "below --prefix"),
        (&["--differences", "mine"], "it is refuse, source or target"),
        (&["--prefix", "/_cairn_mirror"], "is not copied"),
        (&["--nonsense"], "is no flag"),
    ] {
        let said = run(&[&["mirror"], &both[..], more].concat());
        assert!(said.code == Some(2) && said.err.contains(expected), "{expected}: {said:?}");
    }
    let said = run(&["mirror", "--to", "http://127.0.0.1:2"]);
    assert!(said.code == Some(2) && said.err.contains("--from is missing"), "{said:?}");
    // Nobody is there: told at once.
    let said = run(&[&["mirror"], &both[..]].concat());
    assert!(said.code == Some(1) && said.err.contains("the source: cannot connect"), "{said:?}");
}
