//! Answers as bytes: what the HTTP library would write, byte for byte.

use std::io::Write as _;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;

use crate::api::{Body, Success};
use crate::model::json;
use crate::server::fast_path::date;

/// Room for the head of an answer; one of `/v2/keys` takes about 400 bytes with the headers for browsers.
pub(super) const HEAD_BYTES: usize = 480;

/// How the client knows where an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Behind the head: this status has no body.
    None,
    /// After so many bytes.
    Exact(u64),
    /// At an empty chunk.
    Chunked,
}

impl Length {
    /// That of an answer to anything but `HEAD` and `CONNECT`.
    pub(super) fn of(status: StatusCode, body: &Body) -> Self {
        if status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        {
            return Self::None;
        }
        match body.size_hint().exact() {
            Some(bytes) => Self::Exact(bytes),
            None if body.is_end_stream() => Self::Exact(0),
            None => Self::Chunked,
        }
    }
}

/// Writes a head. With `last`, the client is told that no other answer follows.
pub(super) fn head(out: &mut Vec<u8>, parts: &mut Parts, length: Length, last: bool) {
    if last {
        parts.headers.entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
    }
    status_line(out, parts.status);
    fields(out, &parts.headers);
    // The router says it by itself.
    let is_said = matches!(length, Length::Exact(_)) && parts.headers.contains_key(CONTENT_LENGTH);
    end(out, if is_said { Length::None } else { length });
}

/// Writes the head of a success of the key space: as [`head`] would, in one go. `common` are the headers that all of them have.
pub(super) fn success_head(
    out: &mut Vec<u8>,
    success: &Success,
    common: &[u8],
    length: Length,
    last: bool,
) {
    status_line(out, success.status);
    out.extend_from_slice(b"Content-Type: application/json\r\nX-Etcd-Index: ");
    json::number(out, success.index.0);
    out.extend_from_slice(b"\r\nX-Raft-Index: ");
    json::number(out, success.position.index.0);
    out.extend_from_slice(b"\r\nX-Raft-Term: ");
    json::number(out, success.position.term.0);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(common);
    if last {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    end(out, length);
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        let reason = status.canonical_reason().unwrap_or("<none>");
        out.extend_from_slice(reason.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes headers, a line each.
pub(super) fn fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        title(out, name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// What stands last in each head.
fn end(out: &mut Vec<u8>, length: Length) {
    match length {
        Length::None => {}
        Length::Exact(bytes) => {
            out.extend_from_slice(b"Content-Length: ");
            json::number(out, bytes);
            out.extend_from_slice(b"\r\n");
        }
        Length::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"Date: ");
    date::write(out);
    out.extend_from_slice(b"\r\n\r\n");
}

/// What stands before the bytes of a chunk.
pub(super) fn chunk_head(out: &mut Vec<u8>, bytes: usize) {
    write!(out, "{bytes:X}\r\n").expect("a Vec takes what is written");
}

/// What stands behind the bytes of a chunk.
pub(super) const CHUNK_END: &[u8] = b"\r\n";

/// The empty chunk.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The names in most answers, as they are sent.
const TITLES: [(&str, &str); 8] = [
    ("content-type", "Content-Type"),
    ("x-etcd-index", "X-Etcd-Index"),
    ("x-raft-index", "X-Raft-Index"),
    ("x-raft-term", "X-Raft-Term"),
    ("x-etcd-cluster-id", "X-Etcd-Cluster-Id"),
    ("access-control-allow-methods", "Access-Control-Allow-Methods"),
    ("access-control-allow-origin", "Access-Control-Allow-Origin"),
    ("access-control-allow-headers", "Access-Control-Allow-Headers"),
];

/// `x-etcd-index` as `X-Etcd-Index`.
fn title(out: &mut Vec<u8>, name: &HeaderName) {
    let name = name.as_str();
    if let Some((_, title)) = TITLES.iter().find(|(known, _)| *known == name) {
        out.extend_from_slice(title.as_bytes());
        return;
    }
    let mut begins = true;
    out.extend(name.bytes().map(|byte| {
        let shown = if begins { byte.to_ascii_uppercase() } else { byte };
        begins = byte == b'-';
        shown
    }));
}

#[cfg(test)]
mod tests {
    use http::Response;
    use http::header::CONTENT_TYPE;

    use super::*;
    use crate::model::{LogIndex, LogPosition, StoreIndex, Term};

    fn written(status: u16, body: &'static str, last: bool) -> String {
        let mut response = Response::new(Body::whole(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("a/b"));
        let (mut parts, body) = response.into_parts();
        let length = Length::of(parts.status, &body);
        let mut out = Vec::new();
        head(&mut out, &mut parts, length, last);
        let text = String::from_utf8(out).unwrap();
        let at = text.find("Date: ").unwrap();
        assert_eq!(text.len() - at, "Date: Sat, 28 Nov 2026 10:00:00 GMT\r\n\r\n".len());
        text[..at].to_owned()
    }

    #[test]
    fn chunks_say_their_size_in_hexadecimal() {
        let mut out = Vec::new();
        chunk_head(&mut out, 65_546);
        assert_eq!(out, b"1000A\r\n");
    }

    #[test]
    fn names_begin_with_capitals_whether_or_not_they_are_known() {
        let titled = |name: &'static str| {
            let mut out = Vec::new();
            title(&mut out, &HeaderName::from_static(name));
            String::from_utf8(out).unwrap()
        };
        for (name, known) in TITLES {
            assert_eq!(titled(name), known);
            // A name that is not in the table is titled by rule: the same rule.
            let other = format!("{name}-x");
            let mut out = Vec::new();
            title(&mut out, &HeaderName::from_bytes(other.as_bytes()).unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), format!("{known}-X"));
        }
    }

    #[test]
    fn a_success_has_the_head_that_it_has_as_a_response() {
        let mut common = HeaderMap::new();
        common.insert("x-etcd-cluster-id", HeaderValue::from_static("cdf818194e3a8c32"));
        common.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        let mut rendered = Vec::new();
        fields(&mut rendered, &common);
        for (status, index, last) in
            [(StatusCode::OK, 0, false), (StatusCode::CREATED, u64::MAX, true)]
        {
            let position = LogPosition { term: Term(7), index: LogIndex(index / 3) };
            let success =
                || Success { status, body: Body::whole("{}"), index: StoreIndex(index), position };
            for length in [Length::None, Length::Exact(2), Length::Chunked] {
                let (mut parts, _) = success().into_response().into_parts();
                parts.headers.extend(common.clone());
                let (mut expected, mut out) = (Vec::new(), Vec::new());
                head(&mut expected, &mut parts, length, last);
                success_head(&mut out, &success(), &rendered, length, last);
                let text = |bytes: &[u8]| {
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    // A second may pass between the two.
                    text[..text.find("Date: ").unwrap()].to_owned()
                };
                assert_eq!(text(&out), text(&expected));
            }
        }
    }

    #[test]
    fn heads_are_those_of_the_library() {
        let type_ = "Content-Type: a/b\r\n";
        assert_eq!(
            written(200, "ab", false),
            format!("HTTP/1.1 200 OK\r\n{type_}Content-Length: 2\r\n")
        );
        assert_eq!(written(204, "", false), format!("HTTP/1.1 204 No Content\r\n{type_}"));
        assert_eq!(
            written(404, "", true),
            format!("HTTP/1.1 404 Not Found\r\n{type_}Connection: close\r\nContent-Length: 0\r\n")
        );
    }
}
