//! Requests that cannot be read: every answer says so in words, and nothing is read behind them.

use crate::member::{Answer, send};
use crate::support::http::Request;
use crate::support::server::{Flavor, Server, subject_is_etcd};

const GO_ON: &str = "GET /version HTTP/1.1\r\n";

/// Heads, and what is said of them. An empty text: etcd closes the connection without a word, cairn answers 400.
const HEADS: &[(&str, &str)] = &[
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
    ("GET / HTTP/2.5\r\nHost: a\r\n\r\n", ""),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", ""),
    ("GET HTTP/1.1\r\nHost: a\r\n\r\n", ""),
    ("hello\r\n\r\n", ""),
    ("GET v2/keys HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
    ("GET /v2/keys/\x7f HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
    ("GET /v2/keys/%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
    ("GET /version HTTP/1.1\r\nHost: a\r\nfoo\r\n\r\n", "400 Bad Request"),
    ("GET /version HTTP/1.1\r\nHost: a\r\nf(o: 1\r\n\r\n", "400 Bad Request"),
    ("GET /version HTTP/1.1\r\nHost: a\r\nfoo : 1\r\n\r\n", "400 Bad Request"),
    ("GET /version HTTP/1.1\r\nHost: a\r\nfoo: a\x01b\r\n\r\n", "400 Bad Request"),
    ("GET /version HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400 Bad Request"),
    ("GET /version HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400 Bad Request"),
    ("GET /version HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
    ("GET /version HTTP/1.1\r\nHost: a b\r\n\r\n", "400 Bad Request: malformed Host header"),
    ("GET /version HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 Bad Request: malformed Host header"),
    ("GET /version HTTP/1.0\r\nHost: a@b\r\n\r\n", "400 Bad Request: malformed Host header"),
    ("GET /version HTTP/1.1\r\n\r\n", "400 Bad Request: missing required Host header"),
];

fn assert_worded(answer: &Answer, status: u16, words: &str, request: &str) {
    let shown = format!("{request:?}: {answer:?}");
    assert_eq!(answer.status, status, "{shown}");
    assert!(answer.body.starts_with(words) && !answer.body.is_empty(), "{shown}");
    let head = answer.head.to_ascii_lowercase();
    assert!(head.contains("\r\nconnection: close"), "{shown}");
    assert!(head.contains("\r\ncontent-type: text/plain; charset=utf-8"), "{shown}");
}

#[test]
fn no_refusal_of_a_head_has_an_empty_body() {
    let server = Server::start(Flavor::Subject);
    for listener in [server.addr(), server.peer_addr()] {
        for (head, words) in HEADS {
            // Clients alone have paths that are decoded.
            if listener != server.addr() && head.contains("%zz") {
                continue;
            }
            let answer = send(listener, head.as_bytes());
            if words.is_empty() && subject_is_etcd() {
                assert_eq!(answer.status, 0, "{head:?}: {answer:?}");
                continue;
            }
            assert_worded(&answer, 400, if words.is_empty() { "400" } else { words }, head);
        }
    }
}

#[test]
fn a_head_that_is_too_large_is_refused_in_words() {
    let server = Server::start(Flavor::Subject);
    let large = format!("{GO_ON}Host: a\r\nX: {}\r\n\r\n", "y".repeat(2 << 20));
    let many = format!("{GO_ON}Host: a\r\n{}\r\n", "X: y\r\n".repeat(200));
    for request in [large, many] {
        if subject_is_etcd() && request.len() < 1 << 20 {
            continue;
        }
        // The answer may be lost when the server closes while bytes are still on their way.
        let answer = send(server.addr(), request.as_bytes());
        if answer.status != 0 {
            let words = "431 Request Header Fields Too Large";
            assert_worded(&answer, 431, words, &request[..60]);
        }
    }
}

#[test]
fn a_host_may_be_empty_and_is_not_needed_by_http_1_0() {
    let server = Server::start(Flavor::Subject);
    for head in [
        "GET /version HTTP/1.0\r\n\r\n",
        "GET /version HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
        "GET /version HTTP/1.1\r\nHost: a:b:c\r\nConnection: close\r\n\r\n",
        "GET /version HTTP/1.1\r\nHost: a%20!$&'()*+,;=~_[\r\nConnection: close\r\n\r\n",
    ] {
        let answer = send(server.addr(), head.as_bytes());
        assert_eq!(answer.status, 200, "{head:?}: {answer:?}");
    }
}

/// The first answer is not lost, and its own bytes stay as they are.
#[test]
fn a_refusal_behind_an_answer_has_words_too() {
    let server = Server::start(Flavor::Subject);
    let good = Request::get("/version").head(server.addr());
    let answer = send(server.addr(), &[&good[..], b"G(T / HTTP/1.1\r\n\r\n"].concat());
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with("\r\n\r\n400 Bad Request"), "{answer:?}");
}
