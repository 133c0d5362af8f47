//! What clients may do to a cluster by themselves.

use std::io::Write as _;
use std::net::TcpStream;

use super::beside_others;
use super::support::cluster::{Cluster, Options};
use super::support::http::{self, Request};

const WRITES: usize = 60;

#[test]
fn a_client_that_hangs_up_does_not_cancel_its_write() {
    let _others = beside_others();
    let mut cluster = Cluster::start(Options::members(3));
    cluster.await_leader();
    for n in 0..WRITES {
        let request = Request::new("PUT", format!("/v2/keys/hung-up/{n}")).form("value=kept");
        let addr = cluster.member(n % 3).addr();
        let mut bytes = request.head(addr);
        bytes.extend(request.body.as_deref().unwrap_or_default());
        let mut stream = TcpStream::connect(addr).expect("a member accepts");
        stream.write_all(&bytes).expect("a member reads");
    }
    let question = Request::get("/v2/keys/hung-up?quorum=true");
    cluster.wait_until("all writes", |cluster| {
        let reply = http::ask(cluster.member(0).addr(), &question).expect("an answer");
        reply.text().matches("\"value\":\"kept\"").count() == WRITES
    });
}
