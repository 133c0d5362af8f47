//! What is refused, and changes nothing.

use serde_json::json;

use crate::client::put;
use crate::copying::{Both, there};
use crate::program::{run, send, set};
use crate::support::server::Flavor;

#[test]
fn wrong_words_are_refused() {
    let both = Both::alone(Flavor::Subject);
    set(&both.source, "/a", "1");
    for (more, code, expected) in [
        (&["--ttl", "short"][..], 2, "it is skip or lease"),
        (&["--differences", "mine"], 2, "it is refuse, source or target"),
        (&["--dry-run", "--follow"], 2, "give one of them"),
        (&["--nonsense"], 2, "is no flag"),
        (&["v3-to-v2"], 2, "name one way: v2-to-v3"),
        (&["--prefix", "/nowhere"], 1, "no key or directory /nowhere"),
        (&["--to-ca-file", "nowhere"], 1, "nowhere"),
    ] {
        both.refused(more, code, &[expected]);
    }
    for (words, code, expected) in [
        (&["copy"][..], 2, "name a way: v2-to-v3"),
        (&["copy", "v3-to-v2"], 2, "the way that there is, is v2-to-v3"),
        (&["copy", "v2-to-v3"], 2, "--from is missing"),
        // Nobody is there: told at once.
        (&["copy", "v2-to-v3", "--from", "http://127.0.0.1:1"], 1, "the source: cannot connect"),
    ] {
        let said = run(words);
        assert!(said.code == Some(code) && said.err.contains(expected), "{expected}: {said:?}");
    }
    let from = format!("http://{}", both.source.addr());
    for (to, expected) in [
        ("http://127.0.0.1:1", "no connection to http://127.0.0.1:1"),
        ("ftp://a", "names no server"),
    ] {
        let said = run(&["copy", "v2-to-v3", "--from", &from, "--to", to]);
        assert!(said.code == Some(1) && said.err.contains(expected), "{expected}: {said:?}");
    }
    assert!(both.keys().is_empty(), "{:?}", both.keys());
}

#[test]
fn what_the_target_has_is_not_touched_unless_that_is_said_and_what_only_it_has_never() {
    for both in Both::each() {
        set(&both.source, "/d/a", "source");
        set(&both.source, "/d/same", "1");
        set(&both.source, "/d/missing", "1");
        put(both.v3(), "/d/a", "target");
        put(both.v3(), "/d/same", "1");
        put(both.v3(), "/d/only/target", "1");
        put(both.v3(), "/e", "elsewhere");
        let before = both.keys();
        let words = [
            "1 keys that the source does not have",
            "1 that it has otherwise",
            "/d/a",
            "/d/only/target",
            "Nothing was written",
            "--differences=source",
        ];
        both.refused(&["--prefix", "/d"], 1, &words);
        both.refused(&["--prefix", "/d", "--follow"], 1, &words);
        assert_eq!(both.keys(), before);
        let dry = both.copied(&["--prefix", "/d", "--dry-run", "--differences", "source"]);
        assert_eq!(
            (&dry["wouldWrite"], &dry["writes"], &dry["targetsOwn"]),
            (&json!(2), &json!(0), &json!(1)),
            "{dry}"
        );
        assert_eq!(both.keys(), before);
        let left = both.copied(&["--prefix", "/d", "--differences", "target", "--verify"]);
        assert_eq!((&left["writes"], &left["takenOver"]), (&json!(1), &json!(1)), "{left}");
        assert_eq!(there(both.v3(), "/d/a").as_deref(), Some("target"));
        let over = both.copied(&["--prefix", "/d", "--differences", "source", "--verify"]);
        assert_eq!(over["writes"], 1, "{over}");
        assert_eq!(there(both.v3(), "/d/a").as_deref(), Some("source"));
        assert_eq!(there(both.v3(), "/d/only/target").as_deref(), Some("1"));
    }
}

#[test]
fn a_value_that_is_too_large_for_a_request_is_named() {
    // Version 2 takes what version 3 does not.
    let both = Both::alone(Flavor::Subject);
    set(&both.source, "/small", "1");
    let form = format!("value={}", "x".repeat(1_600_000));
    let reply = crate::program::tried(both.source.addr(), "PUT", "/large", &form);
    if reply.status() == 413 {
        return;
    }
    both.refused(&[], 1, &["/large", "--max-request-bytes"]);
    send(both.source.addr(), "DELETE", "/large", "");
    both.copied(&["--verify"]);
}
