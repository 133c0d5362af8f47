//! Differences from etcd on purpose that neither the corpus nor the random programs pin: `api-spec/deviations.md`.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::http::{self, Client, Connection, Open, Request};
use support::server::{Flavor, Server};

fn put(client: &mut Client, key: &str, form: &str) -> http::Reply {
    let request = Request::new("PUT", format!("/v2/keys{key}")).form(form.to_owned());
    client.ask(&request).expect("an answer")
}

/// 3: etcd goes silent when a stream's reader falls a hundred events behind.
#[test]
fn a_slow_reader_of_a_stream_gets_every_event() {
    const EVENTS: usize = 400;
    let server = Server::start_with(Flavor::Subject, &["--history-events=100000"]);
    let mut slow = Connection::open(server.addr()).expect("the server accepts");
    slow.send(&Request::get("/v2/keys/s?wait=true&stream=true")).expect("bytes can be sent");
    let deadline = || Instant::now() + http::PATIENCE;
    let head = slow.read_head("GET", deadline()).expect("headers come at once");
    assert_eq!(head.status, 200);
    let mut client = Client::new(server.addr());
    // Much more than fits into the buffers between here and there, while the client does not read.
    let value = "x".repeat(50_000);
    for n in 0..EVENTS {
        assert!(put(&mut client, "/s", &format!("value={n}-{value}")).status() < 300);
    }
    let (mut body, mut lines) = (Vec::new(), 0);
    while lines < EVENTS {
        let piece =
            slow.read_piece(deadline()).expect("the stream goes on").expect("it has no end");
        lines += piece.iter().filter(|byte| **byte == b'\n').count();
        body.extend(piece);
    }
    let body = String::from_utf8(body).expect("events are UTF-8");
    for (n, line) in body.lines().enumerate() {
        assert!(line.contains(&format!("\"value\":\"{n}-x")), "event {n} is {}", &line[..80]);
    }
}

/// 7: etcd drops the connection when the request line is longer than 4096 bytes.
#[test]
fn a_long_request_line_is_served() {
    let server = Server::start(Flavor::Subject);
    let target = format!("/v2/keys/a?unused={}", "x".repeat(20_000));
    let reply = http::ask(server.addr(), &Request::get(&target)).expect("an answer");
    assert_eq!(reply.status(), 404);
}

/// 10: a body of another type stores the empty value, as in etcd; but the log says so.
#[test]
fn a_body_that_is_not_read_is_named_in_the_log() {
    let server = Server::start(Flavor::Subject);
    let request = Request::new("PUT", "/v2/keys/a").header("Content-Type", "text/plain").body("v");
    let reply = http::ask(server.addr(), &request).expect("an answer");
    assert_eq!(reply.status(), 201);
    assert!(reply.text().contains("\"value\":\"\""), "{}", reply.text());
    let log = std::fs::read_to_string(server.log_path()).expect("a log");
    assert!(log.contains("the body is not read"), "{log}");
}

/// 19: a known URL is a conflict, whatever else is the matter.
#[test]
fn a_member_with_a_known_url_is_a_conflict_also_in_an_unhealthy_cluster() {
    let server = Server::start(Flavor::Subject);
    let add = |url: &str| {
        let body = format!("{{\"peerURLs\":[\"{url}\"]}}");
        let request = Request::new("POST", "/v2/members")
            .header("Content-Type", "application/json")
            .body(body);
        http::ask(server.addr(), &request).expect("an answer")
    };
    // A member that never starts makes the cluster unhealthy.
    assert_eq!(add("http://127.0.0.1:1").status(), 201);
    let reply = add("http://127.0.0.1:1");
    assert_eq!(
        (reply.status(), reply.text().as_str()),
        (409, "{\"message\":\"membership: peerURL exists\"}")
    );
    // It has no vote yet, so writes go on.
    assert_eq!(put(&mut Client::new(server.addr()), "/a", "value=1").status(), 201);
}

/// 23: etcd lists in random order unless asked.
#[test]
fn listings_are_in_order_without_being_asked() {
    let server = Server::start(Flavor::Subject);
    let mut client = Client::new(server.addr());
    for name in ["m", "z", "a", "k", "b"] {
        put(&mut client, &format!("/d/{name}"), "value=1");
    }
    let text = http::ask(server.addr(), &Request::get("/v2/keys/d")).expect("an answer").text();
    let places: Vec<_> = ["a", "b", "k", "m", "z"]
        .iter()
        .map(|name| text.find(&format!("/d/{name}\"")).expect("it is listed"))
        .collect();
    assert!(places.is_sorted(), "{text}");
}

/// 24: etcd cuts open watches without a final chunk. The reader here takes a body for ended only when that chunk came.
#[test]
fn a_watch_ends_properly_when_the_member_stops() {
    let mut server = Server::start(Flavor::Subject);
    let watch = Open::send(server.addr(), &Request::get("/v2/keys/a?wait=true")).expect("accepted");
    assert!(watch.wait(http::PATIENCE, |progress| progress.head.is_some()));
    assert!(server.terminate(Duration::from_secs(5)).success());
    assert!(watch.wait(http::PATIENCE, |progress| progress.ended), "no end");
    assert!(watch.progress().error.is_none(), "{:?}", watch.progress().error);
}

/// 28: etcd 3.4 refuses to start.
#[test]
fn a_flag_wins_over_its_variable() {
    let output = Command::new(env!("CARGO_BIN_EXE_cairn"))
        .args(["--name=a,b", "--version=false"])
        .env("ETCD_NAME", "good")
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("a,b"), "the flag's bad name is what counts: {said}");
}

/// etcd looks for dead keys twice a second.
#[test]
fn keys_expire_within_fifty_milliseconds_of_their_time() {
    let server = Server::start(Flavor::Subject);
    let mut client = Client::new(server.addr());
    let mut late = Vec::new();
    for n in 0..5 {
        let key = format!("/t/{n}");
        let made = put(&mut client, &key, "value=1&ttl=1").text();
        let made: serde_json::Value = serde_json::from_str(&made).expect("an answer is JSON");
        let due = made["node"]["expiration"].as_str().and_then(support::time::parse_time);
        let due = due.expect("an expiration");
        let target = format!("/v2/keys{key}?wait=true");
        let watch = Open::send(server.addr(), &Request::get(&target)).expect("accepted");
        assert!(watch.wait(http::PATIENCE, |progress| progress.ended), "it never died");
        late.push(support::time::since_1970().as_secs_f64() - due);
    }
    late.sort_by(f64::total_cmp);
    eprintln!("seconds after the deadline until a watcher knew: {late:?}");
    assert!(late[0] >= -0.002, "it died early");
    // The median: the machine may be busy for a moment.
    assert!(late[2] < 0.05, "{late:?}");
}
