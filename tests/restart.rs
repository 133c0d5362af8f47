//! One member that is killed or asked to end, and started again on its data.

mod support;

use std::time::Duration;

use support::http::{self, Client, Open, Request};
use support::server::{Flavor, Server};

/// What the server answers to a listing of everything, with its index.
fn state(server: &Server) -> (Option<u64>, String) {
    let list = Request::get("/v2/keys/?recursive=true&sorted=true");
    let reply = http::ask(server.addr(), &list).expect("the server answers");
    (reply.index(), reply.text())
}

/// All keys are as before, with their indexes.
///
/// etcd takes an index at each start, when the member publishes itself again; ours may do without.
fn same(before: &(Option<u64>, String), after: &(Option<u64>, String)) {
    assert_eq!(after.1, before.1);
    let moved = after.0.zip(before.0).and_then(|(after, before)| after.checked_sub(before));
    assert!(moved.is_some_and(|moved| moved <= 1), "index {:?}, then {:?}", before.0, after.0);
}

fn put(client: &mut Client, key: &str) {
    let request = Request::new("PUT", format!("/v2/keys/{key}")).form("value=kept");
    assert_eq!(client.ask(&request).expect("the server answers").status(), 201);
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let mut server = Server::start(Flavor::Subject);
    for round in 0..3 {
        let mut client = Client::new(server.addr());
        (0..20).for_each(|n| put(&mut client, &format!("round-{round}/{n}")));
        let before = state(&server);
        server.kill();
        assert!(!server.is_alive());
        server.restart();
        same(&before, &state(&server));
    }
}

#[test]
fn a_server_that_is_asked_to_end_does_so_with_a_watch_open() {
    let mut server = Server::start(Flavor::Subject);
    put(&mut Client::new(server.addr()), "a");
    let before = state(&server);
    let watch = Open::send(server.addr(), &Request::get("/v2/keys/a?wait=true"));
    let watch = watch.expect("the server accepts");
    assert!(watch.wait(http::PATIENCE, |p| p.head.is_some()), "headers come at once");
    server.terminate(Duration::from_secs(10));
    assert!(watch.wait(http::PATIENCE, |p| p.ended), "the watch ends with the server");
    server.restart();
    same(&before, &state(&server));
}
