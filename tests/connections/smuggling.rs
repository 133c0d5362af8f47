//! Requests whose end two programs on the path could see at different places. Each is refused, or is read as RFC 9112 demands with
//! an end of the connection behind it; a request hidden inside is never done.

use super::support::http::{self, Request};
use super::{Member, soon};

/// What comes hidden behind or inside each request.
const HIDDEN: &str =
    "PUT /v2/keys/smuggled?value=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// A PUT with these headers and this body.
fn put(headers: &str, body: &str) -> String {
    format!("PUT /v2/keys/plain HTTP/1.1\r\nHost: a\r\n{FORM}{headers}\r\n{body}")
}

#[test]
fn no_request_is_hidden_in_another() {
    let member = Member::start(&[]);
    for (what, request, status) in [
        (
            "a length and chunks",
            put("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            "201",
        ),
        (
            "chunks and a length",
            put("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "7\r\nvalue=1\r\n0\r\n\r\n"),
            "200",
        ),
        ("two lengths", put("Content-Length: 7\r\nContent-Length: 90\r\n", "value=1"), "400"),
        ("a list of lengths", put("Content-Length: 7, 7\r\n", "value=1"), "400"),
        ("a length with a sign", put("Content-Length: +7\r\n", "value=1"), "400"),
        ("a blank before the colon", put("Content-Length : 7\r\n", "value=1"), "400"),
        ("a folded header", put("X-A: a\r\n Content-Length: 7\r\n", ""), "400"),
        ("another coding", put("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), "400"),
        ("a coding behind chunks", put("Transfer-Encoding: chunked, identity\r\n", ""), "400"),
        (
            "two codings",
            put("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", ""),
            "400",
        ),
        (
            "chunks with bare line feeds",
            put("Transfer-Encoding: chunked\r\n", "7\nvalue=1\n0\n\n"),
            "400",
        ),
        ("a zero byte in a header", put("X-A: a\0b\r\n", ""), "400"),
        ("two hosts", put("Host: b\r\n", ""), "400"),
        (
            "chunks in HTTP/1.0",
            put("Transfer-Encoding: chunked\r\n", "0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            "400",
        ),
    ] {
        let mut connection = member.connect();
        connection.send_raw(format!("{request}{HIDDEN}").as_bytes()).expect("it takes bytes");
        let answer = connection.read_to_close(soon()).expect("an answer and an end");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
        let hidden = http::ask(member.addr(), &Request::get("/v2/keys/smuggled"));
        assert_eq!(hidden.expect("an answer").status(), 404, "{what}");
    }
}

#[test]
fn what_is_unusual_and_clear_is_served() {
    let member = Member::start(&[]);
    for (what, request) in [
        ("bare line feeds", "GET /version HTTP/1.1\nHost: a\nConnection: close\n\n".to_owned()),
        (
            "a whole URL",
            "GET http://b/version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        (
            "the same length twice",
            put("Content-Length: 7\r\nContent-Length: 7\r\nConnection: close\r\n", "value=1"),
        ),
        (
            "a chunk with an extension",
            put(
                "Transfer-Encoding: chunked\r\nConnection: close\r\n",
                "7;x=y\r\nvalue=1\r\n0\r\n\r\n",
            ),
        ),
    ] {
        let mut connection = member.connect();
        connection.send_raw(request.as_bytes()).expect("it takes bytes");
        let answer = connection.read_to_close(soon()).expect("an answer and an end");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 20"), "{what}: {answer}");
    }
}
