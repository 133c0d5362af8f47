//! The head of a request that came whole and that nothing is odd about.
//!
//! Read by the same parser that the HTTP library uses, so that no request means one thing here and another thing there.

use std::ops::Range;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use crate::api::{FORM, HEADERS_READ, Plain};
use crate::server::request_line::must_escape;

/// Requests with more headers go to the library.
const HEADERS_MAX: usize = 24;

/// What a fast request consists of, as places in the bytes that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Head {
    method: Method,
    target: Range<usize>,
    headers: [Option<Range<usize>>; HEADERS_READ.len()],
    /// Bytes of the head; the body begins here.
    bytes: usize,
    body_bytes: usize,
    /// The body is a form with the parameters of a write.
    is_form: bool,
}

impl Head {
    /// Reads the request at the beginning of `read`; `None` if the library has to do it: the head is not whole, or something in it
    /// is rare, wrong, or decides on more than this one request. More headers than `headers_max` are wrong.
    pub(in crate::server) fn read(read: &[u8], headers_max: usize) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers[..headers_max.min(HEADERS_MAX)]);
        let Ok(httparse::Status::Complete(bytes)) = request.parse(read) else { return None };
        let method = match request.method? {
            "GET" => Method::GET,
            "PUT" => Method::PUT,
            "POST" => Method::POST,
            "DELETE" => Method::DELETE,
            _ => return None,
        };
        let target = request.path.filter(|target| is_plain(target.as_bytes()))?;
        if request.version != Some(1) {
            return None;
        }
        let mut head = Self {
            method,
            target: place(read, target.as_bytes()),
            headers: [const { None }; HEADERS_READ.len()],
            bytes,
            body_bytes: 0,
            is_form: false,
        };
        for header in request.headers.iter() {
            head.take(read, header)?;
        }
        Some(head)
    }

    /// Keeps a header that the API looks at; `None` for one that changes how a connection goes on, or that came twice.
    fn take(&mut self, read: &[u8], header: &httparse::Header<'_>) -> Option<()> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            // `connection`
            10 if is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive") => {
                return None;
            }
            2 if is("te") => return None,
            6 if is("expect") => return None,
            7 if is("upgrade") || is("trailer") => return None,
            17 if is("transfer-encoding") => return None,
            14 if is("content-length") => self.body_bytes = length(header.value)?,
            12 if is("content-type") => {
                let begin = header.value.get(..FORM.len());
                self.is_form =
                    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(FORM.as_bytes()));
            }
            _ => {}
        }
        let Some(at) = HEADERS_READ.iter().position(|name| is(name.as_str())) else {
            return Some(());
        };
        self.headers[at].replace(place(read, header.value)).is_none().then_some(())
    }

    /// Bytes of the whole request, with its body.
    pub(in crate::server) fn request_bytes(&self) -> usize {
        self.bytes.saturating_add(self.body_bytes)
    }

    /// Does the answer to this request, at the beginning of `read`, depend on its body? Where it does not, the library answers before
    /// the body has come.
    pub(in crate::server) fn needs_body(&self, read: &[u8]) -> bool {
        let writes = matches!(self.method, Method::PUT | Method::POST);
        writes && self.is_form && read[self.target.clone()].starts_with(b"/v2/keys/")
    }

    /// The places of the request at the beginning of `read`; `None` when it has credentials or an origin.
    pub(in crate::server) fn plain<'a>(&'a self, read: &'a [u8]) -> Option<Plain<'a>> {
        let header = |name| {
            let at = HEADERS_READ.iter().position(|known| known == name)?;
            self.headers[at].clone().map(|place| &read[place])
        };
        if header(&AUTHORIZATION).is_some() || header(&ORIGIN).is_some() {
            return None;
        }
        Some(Plain {
            method: &self.method,
            target: &read[self.target.clone()],
            host: header(&HOST)?,
            content_type: header(&CONTENT_TYPE),
            body: &read[self.bytes..self.request_bytes()],
        })
    }

    /// The request, whose bytes are all in `whole`; `None` when its target is none that can be taken.
    pub(in crate::server) fn request(self, whole: &Bytes) -> Option<Request<Full<Bytes>>> {
        let uri = Uri::from_maybe_shared(whole.slice(self.target)).ok()?;
        let mut request = Request::new(Full::new(whole.slice(self.bytes..)));
        (*request.method_mut(), *request.uri_mut()) = (self.method, uri);
        let headers = request.headers_mut();
        headers.reserve(self.headers.iter().flatten().count());
        for (name, value) in HEADERS_READ.iter().zip(self.headers) {
            let Some(value) = value else { continue };
            let name: HeaderName = name.clone();
            headers.insert(name, HeaderValue::from_maybe_shared(whole.slice(value)).ok()?);
        }
        Some(request)
    }
}

/// A path on this server, in which the library takes every byte as it is.
fn is_plain(target: &[u8]) -> bool {
    target.first() == Some(&b'/') && !target.iter().copied().any(must_escape)
}

/// Where `part` stands in `whole`, of which it is a part.
fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let begin = part.as_ptr().addr() - whole.as_ptr().addr();
    begin..begin + part.len()
}

/// The number of bytes in a body; `None` for what only the library can judge.
fn length(value: &[u8]) -> Option<usize> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_TYPE, HOST};
    use http_body_util::BodyExt as _;

    use super::*;

    fn read(text: &str) -> Option<Head> {
        Head::read(text.as_bytes(), usize::MAX)
    }

    #[tokio::test]
    async fn a_request_is_taken_apart_and_only_its_own_bytes_belong_to_it() {
        let first = "PUT /v2/keys/a?dir=false HTTP/1.1\r\nHost: h:1\r\nAccept: */*\r\nContent-Type: x/y\r\n\
                     Connection: Keep-Alive\r\nContent-Length: 7\r\n\r\nvalue=1";
        let text = format!("{first}GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = read(&text).unwrap();
        assert_eq!(head.request_bytes(), first.len());
        let request = head.request(&Bytes::copy_from_slice(first.as_bytes())).unwrap();
        assert_eq!((request.method(), request.uri().path()), (&Method::PUT, "/v2/keys/a"));
        assert_eq!(request.uri().query(), Some("dir=false"));
        assert_eq!(request.headers()[HOST], "h:1");
        assert_eq!(request.headers()[CONTENT_TYPE], "x/y");
        assert_eq!(request.headers().len(), 3, "the API looks at no other");
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "value=1");
    }

    #[test]
    fn a_request_that_shows_nothing_needs_no_more_than_its_places() {
        let begin = "PUT /v2/keys/a?ttl=5 HTTP/1.1\r\nContent-Type: x/y\r\nContent-Length: 7\r\n";
        let text = format!("{begin}Host: h:1\r\n\r\nvalue=1GET / HTTP/1.1");
        let head = read(&text).unwrap();
        let plain = head.plain(text.as_bytes()).unwrap();
        assert_eq!((plain.method, plain.target), (&Method::PUT, &b"/v2/keys/a?ttl=5"[..]));
        assert_eq!((plain.host, plain.content_type), (&b"h:1"[..], Some(&b"x/y"[..])));
        assert_eq!(plain.body, b"value=1");
        for headers in
            ["", "Host: h\r\nAuthorization: Basic YTpi\r\n", "Host: h\r\nOrigin: http://p\r\n"]
        {
            let text = format!("{begin}{headers}\r\nvalue=1");
            assert!(read(&text).unwrap().plain(text.as_bytes()).is_none(), "{headers}");
        }
    }

    #[test]
    fn only_forms_are_waited_for() {
        let form = "Content-Type: application/x-www-form-urlencoded; charset=utf-8";
        for (line, type_, wanted) in [
            ("PUT /v2/keys/a", form, true),
            ("POST /v2/keys/a", form, true),
            ("GET /v2/keys/a", form, false),
            ("PUT /v2/members", form, false),
            ("PUT /v2/keys/a", "Content-Type: text/plain", false),
            ("PUT /v2/keys/a", "Accept: */*", false),
        ] {
            let text = format!("{line} HTTP/1.1\r\n{type_}\r\nContent-Length: 9\r\n\r\n");
            assert_eq!(read(&text).unwrap().needs_body(text.as_bytes()), wanted, "{line} {type_}");
        }
    }

    #[test]
    fn what_is_rare_or_wrong_is_left_to_the_library() {
        assert!(read("GET / HTTP/1.1\r\nHost: h\r\n\r\n").is_some());
        for line in [
            "GET / HTTP/1.0",
            "HEAD / HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "GET http://h/ HTTP/1.1",
            "CONNECT h:1 HTTP/1.1",
            "GET /\" HTTP/1.1",
            "GET /# HTTP/1.1",
            "GET /é HTTP/1.1",
            "GET  / HTTP/1.1",
            "get / HTTP/1.1",
            "GET /",
        ] {
            assert_eq!(read(&format!("{line}\r\nHost: h\r\n\r\n")), None, "{line}");
        }
        for headers in [
            "Host: h\r\nHost: h",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: +1",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Connection: close",
            "Connection: upgrade",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "TE: trailers",
            "X: a\r\n b",
            "X : a",
            "no header",
        ] {
            assert_eq!(read(&format!("GET / HTTP/1.1\r\n{headers}\r\n\r\n")), None, "{headers}");
        }
        let many = "X: 1\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(read(&format!("GET / HTTP/1.1\r\n{many}\r\n")), None);
        let two = b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n";
        assert!(Head::read(two, 2).is_some());
        assert_eq!(Head::read(two, 1), None);
        assert_eq!(read("GET / HTTP/1.1\r\nHost: h\r\n"), None, "not whole");
        assert_eq!(read("\x16\x03\x01"), None);
    }
}
