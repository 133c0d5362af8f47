//! Clients are moved one by one: what they write in version 3 is theirs.

use serde_json::json;

use crate::client::{base64, call, grant, put, put_on};
use crate::copying::{Both, lease, there};
use crate::program::{get, send, set};
use crate::support::node::wait_until;

#[test]
fn a_key_that_a_client_has_written_is_neither_overwritten_nor_removed() {
    for both in Both::each() {
        for key in ["/service/a", "/service/b", "/service/c", "/gone"] {
            set(&both.source, key, "old");
        }
        send(both.source.addr(), "PUT", "/service/leader", "value=one&ttl=2");
        send(both.source.addr(), "PUT", "/service/member", "value=one&ttl=2");
        let mut copy = both.follow(&["--verify"]);
        let addr = both.v3();
        // A client with a lease of its own takes the lock over, with the same value.
        let own = grant(addr, 600);
        put_on(addr, "/service/leader", "one", own);
        put_on(addr, "/service/own", "one", own);
        put(addr, "/service/a", "moved");
        put(addr, "/service/new", "moved");
        call(addr, "kv/deleterange", &json!({"key": base64("/service/c")}));
        set(&both.source, "/service/b", "newer");
        set(&both.source, "/service/a", "too late");
        copy.line("/service/a was written by a client of the target");
        wait_until("others come over", || there(addr, "/service/b").as_deref() == Some("newer"));
        wait_until("the lock ends in the source", || {
            get(&both.source, "/service/leader")["errorCode"] == 100
        });
        copy.line("/service/leader was written by a client of the target");
        wait_until("what nobody took ends", || there(addr, "/service/member").is_none());
        send(both.source.addr(), "DELETE", "/service?recursive=true", "");
        send(both.source.addr(), "DELETE", "/gone", "");
        wait_until("it ends here too", || there(addr, "/gone").is_none());
        for (key, value) in [
            ("/service/leader", Some("one")),
            ("/service/own", Some("one")),
            ("/service/a", Some("moved")),
            ("/service/new", Some("moved")),
            ("/service/b", None),
        ] {
            assert_eq!(there(addr, key).as_deref(), value, "{key}");
        }
        assert_eq!(lease(addr, "/service/leader").map(|(id, _)| id), Some(own));
        let said = copy.verified();
        assert!(said.contains("2 keys were left to clients of the target"), "{said}");
    }
}

/// It was ended in the middle of a move, and goes on: what is on another's lease is a client's, also with the same value.
#[test]
fn a_copy_that_begins_again_knows_what_was_its_own() {
    for both in Both::each() {
        set(&both.source, "/service/config", "1");
        send(both.source.addr(), "PUT", "/service/leader", "value=one&ttl=3");
        send(both.source.addr(), "PUT", "/service/member", "value=one&ttl=1000");
        let copy = both.follow(&[]);
        let own = grant(both.v3(), 600);
        put_on(both.v3(), "/service/leader", "one", own);
        // Killed, not asked to end.
        drop(copy);
        set(&both.source, "/service/config", "2");
        send(both.source.addr(), "DELETE", "/service/member", "");
        let copy = both.follow(&["--differences=target", "--verify"]);
        wait_until("it was the copy's", || there(both.v3(), "/service/member").is_none());
        wait_until("it ends in the source", || {
            get(&both.source, "/service/leader")["errorCode"] == 100
        });
        set(&both.source, "/service/after", "1");
        wait_until("it is followed", || there(both.v3(), "/service/after").is_some());
        assert_eq!(lease(both.v3(), "/service/leader").map(|(id, _)| id), Some(own));
        copy.verified();
    }
}
