//! What an answer says about the outcome of its call.

use crate::support::history::{Action, Outcome, Seen};
use crate::support::http::{Head, Reply};
use crate::support::load::wire::outcome;

fn reply(status: u16, index: u64, body: &str) -> Reply {
    let headers = vec![("X-Etcd-Index".to_owned(), index.to_string())];
    let head = Head { status, headers, ..Head::default() };
    Reply { head, body: body.as_bytes().to_vec() }
}

fn set() -> Action {
    Action::Set { value: "v".to_owned() }
}

#[test]
fn only_an_answer_that_says_so_means_that_nothing_happened() {
    const CAUSES: &[(&str, Outcome)] = &[
        ("etcdserver: request timed out", Outcome::Unknown),
        ("etcdserver: request timed out; the write may still take effect", Outcome::Unknown),
        (
            "etcdserver: request timed out, possibly due to connection lost; the write may still \
             take effect",
            Outcome::Unknown,
        ),
        ("etcdserver: server stopped; the write may still take effect", Outcome::Unknown),
        ("something else", Outcome::Unknown),
        ("", Outcome::Unknown),
        ("etcdserver: request timed out; nothing was written", Outcome::Nothing),
        ("etcdserver: not leader", Outcome::Nothing),
        ("etcdserver: server stopped", Outcome::Nothing),
    ];
    for (cause, expected) in CAUSES {
        let body = format!(
            r#"{{"errorCode":300,"message":"Raft Internal Error","cause":"{cause}","index":0}}"#
        );
        let found = outcome(&set(), &reply(500, 0, &body));
        assert_eq!(found.as_ref(), Ok(expected), "{cause}");
    }
}

#[test]
fn the_store_says_yes_or_no() {
    let node = r#"{"key":"/a","value":"v","modifiedIndex":7,"createdIndex":7}"#;
    let prev = r#"{"key":"/a","value":"u","modifiedIndex":6,"createdIndex":5}"#;
    let body = format!(r#"{{"action":"set","node":{node},"prevNode":{prev}}}"#);
    let seen =
        |value: &str, modified, created| Some(Seen { value: value.to_owned(), modified, created });
    let done =
        Outcome::Done { node: seen("v", 7, 7), prev: seen("u", 6, 5), modified: 7, index: 7 };
    assert_eq!(outcome(&set(), &reply(200, 7, &body)), Ok(done));

    let gone = r#"{"key":"/a","modifiedIndex":8,"createdIndex":7}"#;
    let body = format!(r#"{{"action":"delete","node":{gone},"prevNode":{node}}}"#);
    let done = Outcome::Done { node: None, prev: seen("v", 7, 7), modified: 8, index: 8 };
    assert_eq!(outcome(&Action::Delete, &reply(200, 8, &body)), Ok(done));

    let body = r#"{"errorCode":101,"message":"Compare failed","cause":"[a != b]","index":9}"#;
    assert_eq!(outcome(&set(), &reply(412, 9, body)), Ok(Outcome::Refused { code: 101, index: 9 }));
}

#[test]
fn an_answer_that_no_such_call_may_get_is_told() {
    let wrong = |status, body: &str| outcome(&set(), &reply(status, 9, body)).is_err();
    assert!(wrong(200, "not JSON"));
    assert!(wrong(200, r#"{"action":"get","node":{"key":"/a"}}"#), "another action");
    assert!(wrong(400, r#"{"errorCode":209,"message":"Invalid field","index":0}"#));
    assert!(wrong(412, r#"{"errorCode":101,"message":"Compare failed","index":8}"#), "two indexes");
    let no_index = Reply::default();
    assert!(outcome(&set(), &no_index).is_err());
}
