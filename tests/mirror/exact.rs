//! Why there is no follower that shows another server's state under that server's own indexes: what version 2 does not tell.
//!
//! These are facts about etcd (`docs/adr/0025-no-follower-under-the-sources-indexes.md`). If one of them stops being one, the decision
//! has to be made anew.

use serde_json::Value;

use crate::program::{etcd_takes_part, get, send, set};
use crate::support::http::{Request, ask};
use crate::support::server::{Flavor, Server};

/// The one event that a watch from this index gives, which must be there.
fn event(server: &Server, from: u64) -> Value {
    get(server, &format!("/?wait=true&recursive=true&waitIndex={from}"))
}

fn index(server: &Server) -> u64 {
    let reply = ask(server.addr(), &Request::get("/v2/keys/")).expect("it answers");
    reply.index().expect("an index")
}

fn json(server: &Server, target: &str, body: &str) {
    let request = Request::new("PUT", target.to_owned()).header("Content-Type", "application/json");
    let reply = ask(server.addr(), &request.body(body.to_owned())).expect("it answers");
    assert!(matches!(reply.status(), 200 | 201), "{target}: {}", reply.text());
}

#[test]
fn a_renewal_and_a_new_user_look_the_same_to_a_watcher_and_leave_different_keys() {
    if !etcd_takes_part() {
        return;
    }
    let servers = [Server::start(Flavor::Etcd), Server::start(Flavor::Etcd)];
    let seen = servers.each_ref().map(|server| {
        // The first user takes more than one index.
        json(server, "/v2/auth/users/root", r#"{"user":"root","password":"p"}"#);
        send(server.addr(), "PUT", "/key", "value=1&ttl=1000");
        let listed = index(server);
        match server.addr() == servers[0].addr() {
            true => {
                drop(send(server.addr(), "PUT", "/key?prevExist=true&refresh=true", "ttl=2000"))
            }
            false => json(server, "/v2/auth/users/alice", r#"{"user":"alice","password":"p"}"#),
        }
        assert_eq!(index(server), listed + 1, "it takes an index");
        set(server, "/other", "1");
        let event = event(server, listed + 1);
        let other = (&event["node"]["key"], &event["node"]["modifiedIndex"]);
        assert_eq!(other, (&"/other".into(), &(listed + 2).into()), "and raises no event");
        (event, get(server, "/key")["node"]["modifiedIndex"].as_u64().expect("an index") - listed)
    });
    let [(one, renewed), (other, as_it_was)] = seen;
    assert_eq!(one, other, "all that a follower can see");
    assert_eq!((renewed, as_it_was), (1, 0), "and what it would have to show");
}

#[test]
fn hidden_keys_passwords_and_bytes_that_are_no_text_are_not_told() {
    if !etcd_takes_part() {
        return;
    }
    let server = Server::start(Flavor::Etcd);
    set(&server, "/_hidden/key", "1");
    set(&server, "/bytes", "%FF%FE");
    assert_eq!(get(&server, "/bytes")["node"]["value"], "\u{fffd}\u{fffd}");
    json(&server, "/v2/auth/users/root", r#"{"user":"root","password":"p"}"#);
    let user = ask(server.addr(), &Request::get("/v2/auth/users/root")).expect("it answers");
    assert!(!user.text().contains("$2a$"), "{}", user.text());
    for number in 0..1001 {
        set(&server, "/busy", &number.to_string());
    }
    let listing = get(&server, "/?recursive=true&quorum=true").to_string();
    assert!(!listing.contains("hidden"), "{listing}");
    assert_eq!(event(&server, 1)["errorCode"], 401, "and no history tells its name any more");
    assert_eq!(get(&server, "/_hidden/key")["node"]["value"], "1");
}
