//! What requests under way may hold: bytes, not only requests, are bounded.

mod support;

use std::time::Instant;

use support::http::{self, Client, Connection, Request};
use support::server::{Flavor, Server};

const MIB: usize = 1 << 20;

fn put(client: &mut Client, key: &str, value: &str) -> http::Reply {
    let request = Request::new("PUT", format!("/v2/keys{key}")).form(format!("value={value}"));
    client.ask(&request).expect("an answer")
}

fn head(key: &str, body_bytes: usize) -> Vec<u8> {
    format!(
        "PUT /v2/keys{key} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {body_bytes}\r\n\r\n"
    )
    .into_bytes()
}

fn inflight_bytes(server: &Server) -> u64 {
    let page = http::ask(server.addr(), &Request::get("/metrics")).expect("an answer").text();
    let name = "cairn_requests_inflight_bytes ";
    let line = page.lines().find_map(|line| line.strip_prefix(name)).expect("it is counted");
    line.parse().expect("a number")
}

/// Bodies were bounded one by one, and by the number of connections: a hundred thousand times ten megabytes.
#[test]
fn bodies_under_way_have_a_budget_and_an_answer_and_small_writes_go_on() {
    let flags = ["--max-body-bytes=1048576", "--max-inflight-bytes=2097152"];
    let server = Server::start_with(Flavor::Subject, &flags);
    let deadline = || Instant::now() + http::PATIENCE;
    let body = format!("value={}", "x".repeat(MIB - 6));
    let mut slow = Connection::open(server.addr()).expect("the server accepts");
    slow.send_raw(&head("/slow", body.len())).expect("bytes can be sent");
    slow.send_raw(&body.as_bytes()[..body.len() - 1]).expect("bytes can be sent");
    while inflight_bytes(&server) < (MIB - 1) as u64 {
        assert!(Instant::now() < deadline(), "it comes in");
    }
    // A second one of that size is too much; it is told before it has sent anything, or on its way.
    let mut refused = Connection::open(server.addr()).expect("the server accepts");
    refused.send_raw(&head("/refused", body.len())).expect("bytes can be sent");
    let reply = refused.read_reply("PUT", deadline()).expect("an answer");
    assert_eq!(reply.status(), 503);
    let text = reply.text();
    assert!(text.starts_with(
        r#"{"errorCode":300,"message":"Raft Internal Error","cause":"too many bytes"#
    ));
    assert!(text.contains("nothing was written"), "{text}");
    let mut chunked = Connection::open(server.addr()).expect("the server accepts");
    let begin = "PUT /v2/keys/chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\n\r\n";
    chunked.send_raw(begin.as_bytes()).expect("bytes can be sent");
    let chunk = format!("{:x}\r\n{}\r\n", 64 << 10, "x".repeat(64 << 10));
    // It may answer, and close, before all is sent.
    let _ = (0..15).try_for_each(|_| chunked.send_raw(chunk.as_bytes()));
    assert_eq!(chunked.read_reply("PUT", deadline()).expect("an answer").status(), 503);
    let mut client = Client::new(server.addr());
    for n in 0..20 {
        assert!(put(&mut client, "/small", &n.to_string()).status() < 300, "small writes go on");
    }
    slow.send_raw(b"x").expect("bytes can be sent");
    assert_eq!(slow.read_reply("PUT", deadline()).expect("an answer").status(), 201);
    assert!(put(&mut client, "/large", &body[6..]).status() < 300, "there is room again");
    for key in ["/refused", "/chunked"] {
        let reply = client.ask(&Request::get(&format!("/v2/keys{key}"))).expect("an answer");
        assert_eq!(reply.status(), 404, "{key}: nothing was written");
    }
    while inflight_bytes(&server) > 0 {
        assert!(Instant::now() < deadline(), "all is given back");
    }
}

#[test]
fn a_client_that_hangs_up_gives_its_bytes_back() {
    let flags = ["--max-body-bytes=1048576", "--max-inflight-bytes=2097152"];
    let server = Server::start_with(Flavor::Subject, &flags);
    let body = format!("value={}", "x".repeat(MIB - 6));
    for n in 0..20 {
        let mut client = Connection::open(server.addr()).expect("the server accepts");
        client.send_raw(&head("/a", body.len())).expect("bytes can be sent");
        // Half of them in the middle of the body, half of them before the answer.
        let bytes = if n % 2 == 0 { &body.as_bytes()[..body.len() / 2] } else { body.as_bytes() };
        // The one before may still be under way, and then this one is refused.
        let _ = client.send_raw(bytes);
    }
    let until = Instant::now() + http::PATIENCE;
    // The server may have yet to read what the last of them sent; until then a large write may be refused.
    while put(&mut Client::new(server.addr()), "/a", &body[6..]).status() >= 300 {
        assert!(Instant::now() < until, "there is room again");
    }
    while inflight_bytes(&server) > 0 {
        assert!(Instant::now() < until, "all is given back");
    }
}
