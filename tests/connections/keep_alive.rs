//! Answers that come before the body of their request was read.

use std::time::{Duration, Instant};

use super::support::http::{self, Connection, Reply, Request};
use super::{Member, soon};

const FORM: &str = "application/x-www-form-urlencoded";

/// Requests whose bodies are not needed for their answers, and these answers.
fn early() -> Vec<(Request, u16)> {
    let json = "application/json";
    [
        (Request::new("PUT", "/v2/keys//a"), FORM, 301),
        (Request::new("PUT", "/nowhere"), FORM, 404),
        (Request::new("PATCH", "/v2/keys/a"), FORM, 405),
        (Request::new("PATCH", "/v2/members"), FORM, 405),
        (Request::new("POST", "/v2/members"), FORM, 415),
        (Request::new("PUT", "/v2/members/1"), FORM, 415),
        (Request::new("DELETE", "/v2/members/1"), json, 404),
        (Request::new("POST", "/version"), json, 405),
        (Request::new("PUT", "/v2/keys/other"), json, 200),
        (Request::new("GET", "/v2/keys/a"), FORM, 200),
        (Request::new("GET", "/health"), FORM, 200),
        (Request::new("DELETE", "/v2/keys/none"), FORM, 404),
        (Request::new("OPTIONS", "/v2/keys/a"), FORM, 200),
    ]
    .into_iter()
    .map(|(request, content_type, status)| (request.header("Content-Type", content_type), status))
    .collect()
}

fn chunked(request: Request) -> Request {
    request.header("Transfer-Encoding", "chunked")
}

/// Sends a head and, behind it, a body.
fn send(connection: &mut Connection, request: &Request, member: &Member, body: &[u8]) {
    connection.send_raw(&request.head(member.addr())).expect("bytes can be sent");
    connection.send_raw(body).expect("bytes can be sent");
}

fn as_chunks(bytes: usize) -> Vec<u8> {
    let mut out = format!("{bytes:x}\r\n").into_bytes();
    out.resize(out.len() + bytes, b'x');
    out.extend_from_slice(b"\r\n0\r\n\r\n");
    out
}

fn reply(connection: &mut Connection, request: &Request) -> Reply {
    connection.read_reply(&request.method, soon()).unwrap_or_else(|e| panic!("{request}: {e}"))
}

/// Plain clients with keep-alive failed 1 to 100 times in 200: the connection was closed behind the answer, or the rest of a
/// body was read as the next request.
#[test]
fn an_answer_before_the_body_was_read_leaves_the_connection_usable() {
    let member = Member::start(&[]);
    member.put("/a", "there");
    member.put("/other", "there");
    for bytes in [1, 1000, 100_000, (256 << 10) - 1] {
        let mut connection = member.connect();
        for (request, status) in early() {
            for _ in 0..if bytes > 1000 { 3 } else { 20 } {
                let plain = request.clone().header("Content-Length", &bytes.to_string());
                send(&mut connection, &plain, &member, &vec![b'x'; bytes]);
                let answer = reply(&mut connection, &plain);
                assert_eq!(answer.status(), status, "{plain}: {}", answer.text());
                assert_eq!(answer.get("Connection"), None, "{plain}");
                let in_chunks = chunked(request.clone());
                send(&mut connection, &in_chunks, &member, &as_chunks(bytes));
                assert_eq!(reply(&mut connection, &in_chunks).status(), status, "{in_chunks}");
            }
            let version = Request::get("/version");
            connection.send(&version).expect("it is open");
            assert_eq!(reply(&mut connection, &version).status(), 200, "behind {request}");
        }
    }
}

/// The answer says that the connection ends, and it is not lost while the client is still sending.
#[test]
fn behind_a_long_body_that_nobody_reads_the_connection_ends_in_order() {
    let member = Member::start(&["--max-body-bytes=1048576"]);
    member.put("/a", "there");
    member.put("/other", "there");
    let mut requests = early();
    requests.push((Request::new("PUT", "/v2/keys/large").header("Content-Type", FORM), 413));
    requests.push((
        Request::new("POST", "/v2/members").header("Content-Type", "application/json"),
        413,
    ));
    for (request, status) in requests {
        for bytes in [2 << 20, 12 << 20] {
            for in_chunks in [false, true] {
                let (request, body) = if in_chunks {
                    (chunked(request.clone()), as_chunks(bytes))
                } else {
                    let length = bytes.to_string();
                    (request.clone().header("Content-Length", &length), vec![b'x'; bytes])
                };
                let mut connection = member.connect();
                send(&mut connection, &request, &member, &body);
                let answer = reply(&mut connection, &request);
                assert_eq!(answer.status(), status, "{request}: {}", answer.text());
                assert_eq!(answer.get("Connection").as_deref(), Some("close"), "{request}");
                assert_eq!(connection.read_to_close(soon()).expect("it is closed"), b"");
            }
        }
    }
}

#[test]
fn a_body_that_never_comes_holds_no_answer_up_for_long() {
    let member = Member::start(&["--header-timeout=300"]);
    for request in [
        Request::new("PUT", "/nowhere").header("Content-Length", "100"),
        chunked(Request::new("PUT", "/nowhere")),
        Request::new("PUT", "/nowhere").header("Content-Length", "9000000000"),
    ] {
        let mut connection = member.connect();
        connection.send(&request).expect("bytes can be sent");
        let answer = reply(&mut connection, &request);
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.get("Connection").as_deref(), Some("close"), "{request}");
        let begun = Instant::now();
        connection.read_to_close(soon()).expect("it is closed");
        assert!(begun.elapsed() < Duration::from_secs(10), "{request}: {:?}", begun.elapsed());
    }
}

#[test]
fn an_unknown_expectation_is_refused_as_in_etcd() {
    let member = Member::start(&[]);
    for head in [
        "PUT /v2/keys/z HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\nContent-Length: 3\r\n\r\nabc",
        "GET /v2/keys/ HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nExpect: 100-continued\r\n\r\n",
    ] {
        let mut connection = member.connect();
        connection.send_raw(head.as_bytes()).expect("bytes can be sent");
        let answer = connection.read_reply("GET", soon()).expect("an answer");
        assert_eq!(answer.head.reason, "Expectation Failed", "{head:?}");
        let seen: Vec<_> =
            answer.head.headers.iter().filter(|(name, _)| name != "Date").cloned().collect();
        let expected = [("Connection", "close"), ("Content-Length", "0")];
        assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(connection.read_to_close(soon()).expect("it is closed"), b"");
    }
    let gone = http::ask(member.addr(), &Request::get("/v2/keys/z")).expect("an answer");
    assert_eq!(gone.status(), 404, "nothing was written");
}

/// A client that asks first is told to go on only where its body is read, as in etcd.
#[test]
fn a_body_that_waits_for_continue_is_asked_for_only_where_it_is_needed() {
    let member = Member::start(&[]);
    let head = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\
             Content-Type: {FORM}\r\n\r\n"
        )
    };
    let mut connection = member.connect();
    connection.send_raw(head("PUT", "/v2/keys/z").as_bytes()).expect("bytes can be sent");
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    connection.expect_raw(interim, soon()).expect("it is told to go on");
    connection.send_raw(b"value=1").expect("bytes can be sent");
    let answer = connection.read_reply("PUT", soon()).expect("an answer");
    assert_eq!((answer.status(), answer.get("Connection")), (201, None));
    for (method, path, status) in
        [("PUT", "/nowhere", 404), ("GET", "/v2/keys/z", 200), ("PATCH", "/v2/keys/z", 405)]
    {
        let mut connection = member.connect();
        connection.send_raw(head(method, path).as_bytes()).expect("bytes can be sent");
        let begin = format!("HTTP/1.1 {status} ");
        let seen = connection.read_to_close(soon()).expect("an answer and the end");
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(seen.starts_with(&begin) && seen.contains("\r\nConnection: close\r\n"), "{seen}");
    }
}

#[test]
fn a_body_of_a_hundred_kilobytes_to_an_unknown_path_is_not_found() {
    let member = Member::start(&[]);
    let request = Request::new("PUT", "/v2/nowhere").form("x".repeat(100_000));
    assert_eq!(http::ask(member.addr(), &request).expect("an answer").status(), 404);
}
