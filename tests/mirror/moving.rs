//! Clients are moved one by one: what they write in the target is theirs.

use crate::program::{Mirror, run, send, set, source, url, value};
use crate::support::node::wait_until;
use crate::support::server::{Flavor, Server};

#[test]
fn a_key_that_a_client_of_the_target_has_written_is_neither_overwritten_nor_removed() {
    let (source, target) = (source(), Server::start(Flavor::Subject));
    for key in ["/service/a", "/service/b", "/service/c", "/gone"] {
        set(&source, key, "old");
    }
    send(source.addr(), "PUT", "/service/beat", "value=old&ttl=2");
    let mut mirror = Mirror::follow(&source, &target, &["--verify"]);
    // The clients of `a` and of the heartbeat are moved, and a new one comes.
    set(&target, "/service/a", "moved");
    send(target.addr(), "PUT", "/service/beat", "value=old&ttl=1000");
    set(&target, "/service/new", "moved");
    set(&source, "/service/b", "newer");
    set(&source, "/service/a", "too late");
    mirror.line("/service/a was written by a client of the target");
    wait_until("others come over", || value(&target, "/service/b").as_deref() == Some("newer"));
    wait_until("the heartbeat ends in the source", || value(&source, "/service/beat").is_none());
    mirror.line("/service/beat was written by a client of the target");
    // The rest of the service ends in the source.
    send(source.addr(), "DELETE", "/service?recursive=true", "");
    send(source.addr(), "DELETE", "/gone", "");
    wait_until("it ends here too", || value(&target, "/gone").is_none());
    for (key, there) in [
        ("/service/a", Some("moved")),
        ("/service/new", Some("moved")),
        ("/service/beat", Some("old")),
        ("/service/b", None),
        ("/service/c", None),
    ] {
        assert_eq!(value(&target, key).as_deref(), there, "{key}");
    }
    let said = mirror.verified();
    assert!(said.contains("left to clients of the target: 2 keys"), "{said}");
    assert!(said.contains("that are the target's own"), "{said}");
}

#[test]
fn whose_the_keys_are_that_the_target_had_before_has_to_be_said() {
    let (source, target) = (source(), Server::start(Flavor::Subject));
    set(&source, "/a", "source");
    set(&source, "/same", "1");
    set(&target, "/a", "target");
    set(&target, "/same", "1");
    set(&target, "/only/target", "1");
    let once = |differences: &str| {
        run(&[
            "mirror",
            "--once",
            "--verify",
            "--from",
            &url(&source),
            "--to",
            &url(&target),
            "--differences",
            differences,
        ])
    };
    let said = once("refuse");
    assert_eq!(said.code, Some(1), "{said:?}");
    for words in [
        "has 3 keys or directories",
        "/a",
        "/only/target",
        "Nothing was written",
        "--differences=source",
    ] {
        assert!(said.err.contains(words), "{words}: {said:?}");
    }
    let said = once("target");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(value(&target, "/a").as_deref(), Some("target"));
    assert_eq!(value(&target, "/only/target").as_deref(), Some("1"));
    let said = once("source");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(value(&target, "/a").as_deref(), Some("source"));
    assert_eq!(value(&target, "/only/target"), None);
}
