//! What each listener takes, and who always gets in.

use std::net::SocketAddr;

use super::support::http::{self, Connection, Request};
use super::{Member, soon};

/// Endless bodies on every listener: the peer routes had no limit.
#[test]
fn no_route_of_any_listener_takes_an_endless_body() {
    let member = Member::start(&["--max-body-bytes=1048576"]);
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    let (clients, peers) = (member.addr(), member.server.peer_addr());
    for (addr, method, path, content_type) in [
        (clients, "PUT", "/v2/keys/a", form),
        (clients, "POST", "/v2/members", json),
        (clients, "PUT", "/v2/members/1", json),
        (clients, "PUT", "/config/local/log", json),
        (clients, "PUT", "/v2/auth/enable", json),
        (clients, "PUT", "/new", form),
        (clients, "GET", "/health", form),
        (clients, "GET", "/debug/vars", form),
        (clients, "POST", "/nowhere", form),
        (peers, "POST", "/members/1/replace", json),
        (peers, "GET", "/members", json),
        (peers, "GET", "/version", json),
        (peers, "POST", "/nowhere", json),
        (member.metrics.addr(), "GET", "/metrics", form),
        (member.metrics.addr(), "GET", "/health", form),
        (member.metrics.addr(), "POST", "/nowhere", form),
    ] {
        endless(addr, method, path, content_type);
    }
}

fn endless(addr: SocketAddr, method: &str, path: &str, content_type: &str) {
    const BYTES_MAX: usize = 256 << 20;
    let request = Request::new(method, path)
        .header("Transfer-Encoding", "chunked")
        .header("Content-Type", content_type);
    let mut connection = Connection::open(addr).expect("the member accepts");
    connection.send_raw(&request.head(addr)).expect("bytes can be sent");
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    while connection.send_raw(&chunk).is_ok() {
        sent += chunk.len();
        assert!(sent < BYTES_MAX, "{method} {path} takes whatever comes");
    }
}

#[test]
fn a_long_list_of_urls_is_too_large() {
    let member = Member::start(&[]);
    let body = format!(r#"{{"peerURLs":["http://{}:1"]}}"#, "x".repeat(70_000));
    for (addr, path) in
        [(member.addr(), "/v2/members"), (member.server.peer_addr(), "/members/1/replace")]
    {
        let request = Request::new("POST", path).header("Content-Type", "application/json");
        let reply = http::ask(addr, &request.body(body.clone())).expect("an answer");
        assert_eq!(reply.status(), 413, "{path}: {}", reply.text());
        assert!(reply.text().contains("65536"), "{}", reply.text());
    }
}

/// Scrapers shared the connections of the clients, so a member whose clients were too many could not be looked at.
#[test]
fn metrics_health_and_peers_get_in_however_many_clients_there_are() {
    let member = Member::start(&["--max-connections=4"]);
    let mut clients: Vec<_> = (0..4).map(|_| member.connect()).collect();
    for client in &mut clients {
        client.send(&Request::get("/version")).expect("bytes can be sent");
        client.read_reply("GET", soon()).expect("an answer");
    }
    let waiting = member.connect();
    for target in ["/metrics", "/health"] {
        let reply = http::ask(member.metrics.addr(), &Request::get(target)).expect("an answer");
        assert_eq!(reply.status(), 200, "{target}");
    }
    let reply = http::ask(member.server.peer_addr(), &Request::get("/members"));
    assert_eq!(reply.expect("an answer").status(), 200);
    drop((waiting, clients));
}
