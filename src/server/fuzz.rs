//! Bytes of a connection that a fuzzer makes up, and what HTTP makes of them, by the library and on the fast path; and the same of
//! HTTP/2.

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::api::HEADERS_READ;
use crate::base::lock;
use crate::fuzz::{Target, pieces};
use crate::server::authority::Frames;
use crate::server::fast_path::head::Head;
use crate::server::http2::PREFACE;
use crate::server::request_line::{RequestLines, must_escape};

pub(crate) const TARGETS: &[Target] =
    &[Target { name: "http", read: read_connection }, Target { name: "http2", read: read_frames }];

/// Room on the way in and on the way out. No input is longer.
const PIPE_BYTES: usize = 1 << 20;

/// After so many turns all that has come is answered: an input has fewer requests.
const ROUNDS_TO_ANSWER: usize = 100;

/// A request as the library saw it. A body that broke off has no end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    method: Method,
    uri: Uri,
    /// The values of each header that the API looks at.
    headers: Vec<Vec<HeaderValue>>,
    body: Vec<u8>,
    whole: bool,
}

/// The first two bytes cut the others into pieces. The same requests are seen in pieces as in one, and only targets are escaped:
/// the bodies are those of the same bytes with letters in place of all that is ever escaped.
fn read_connection(input: &[u8]) {
    if input.len() > PIPE_BYTES {
        return;
    }
    let (sizes, bytes) = input.split_at(input.len().min(2));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let letter = |byte: &u8| if must_escape(*byte) { b'x' } else { *byte };
    let letters = |bytes: &[u8]| bytes.iter().map(letter).collect::<Vec<_>>();
    let lettered = letters(bytes);
    let whole = runtime.block_on(requests_of(&[bytes]));
    let in_pieces = runtime.block_on(requests_of(&pieces(bytes, sizes)));
    assert_eq!(in_pieces, whole);
    let plain = runtime.block_on(requests_of(&[&lettered]));
    for (seen, plain) in whole.iter().zip(&plain) {
        assert_eq!(letters(&seen.body), plain.body, "the body of {} {}", seen.method, seen.uri);
    }
    if lettered == bytes {
        assert_eq!(plain, whole);
    }
    if let Some(fast) = fast_request(bytes) {
        assert_eq!(Some(&fast), whole.first());
    }
}

/// The first request, if it is one for the fast path.
fn fast_request(bytes: &[u8]) -> Option<Seen> {
    let fast = Head::read(bytes, usize::MAX)?;
    let bytes = bytes.get(..fast.request_bytes())?;
    let Some(request) = fast.clone().request(&Bytes::copy_from_slice(bytes)) else {
        assert!(fast.plain(bytes).is_none(), "taken, though the library would not");
        return None;
    };
    let (head, body) = request.into_parts();
    let body = body.collect().now_or_never()?.unwrap_or_else(|never| match never {}).to_bytes();
    if let Some(plain) = fast.plain(bytes) {
        let value = |name| head.headers.get(name).map(HeaderValue::as_bytes);
        assert_eq!((plain.method, plain.target), (&head.method, head.uri.to_string().as_bytes()));
        assert_eq!((Some(plain.host), plain.content_type), (value(HOST), value(CONTENT_TYPE)));
        assert_eq!((value(AUTHORIZATION), value(ORIGIN)), (None, None));
        assert_eq!(plain.body, body);
    }
    Some(Seen::new(head, body.to_vec(), true))
}

impl Seen {
    fn new(head: Parts, body: Vec<u8>, whole: bool) -> Self {
        let values = |name| head.headers.get_all(name).iter().cloned().collect();
        let headers = HEADERS_READ.iter().map(values).collect();
        Self { method: head.method, uri: head.uri, headers, body, whole }
    }
}

/// The requests that a connection brings on which `pieces` come, one read each.
async fn requests_of(pieces: &[&[u8]]) -> Vec<Seen> {
    let (near, mut far) = tokio::io::duplex(PIPE_BYTES);
    let requests = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| {
        let requests = &requests;
        async move {
            let (head, mut body) = request.into_parts();
            let (mut read, mut whole) = (Vec::new(), true);
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => read.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                    Err(_) => {
                        whole = false;
                        break;
                    }
                }
            }
            requests.borrow_mut().push(Seen::new(head, read, whole));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let stream = TokioIo::new(RequestLines::new(near));
    let serve = http1::Builder::new().half_close(false).serve_connection(stream, service);
    let client = async {
        for piece in pieces {
            // The other end may have closed.
            if far.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        // A client that closes its half early may go without answers to what it sent ahead.
        for _ in 0..ROUNDS_TO_ANSWER {
            tokio::task::yield_now().await;
        }
        let _ = far.shutdown().await;
        let mut answers = Vec::new();
        let _ = far.read_to_end(&mut answers).await;
        answers
    };
    let (_, answers) = tokio::join!(serve, client);
    assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "an answer");
    requests.into_inner()
}

/// Frames behind the preface. The first two bytes cut the others into pieces. In pieces they become what they become in one, and every
/// request that the library reads without the change of authorities it reads with it.
fn read_frames(input: &[u8]) {
    if input.len() > PIPE_BYTES / 2 {
        return;
    }
    let (sizes, bytes) = input.split_at(input.len().min(2));
    let raw = [PREFACE, bytes].concat();
    let mut whole = raw.clone();
    Frames::default().follow(&mut whole);
    let mut frames = Frames::default();
    let mut in_pieces = Vec::new();
    for piece in pieces(&raw, sizes) {
        let mut piece = piece.to_vec();
        frames.follow(&mut piece);
        in_pieces.extend_from_slice(&piece);
    }
    assert_eq!(in_pieces, whole);
    if whole == raw {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let before = runtime.block_on(heads_of(&raw));
    let mut after = runtime.block_on(heads_of(&whole)).into_iter();
    for head in before {
        assert!(after.any(|other| other == head), "{head:?}");
    }
}

/// Method, target and headers of the requests that a connection of HTTP/2 brings.
async fn heads_of(bytes: &[u8]) -> Vec<(Method, Uri, HeaderMap)> {
    let (near, mut far) = tokio::io::duplex(PIPE_BYTES);
    let heads = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let head = request.into_parts().0;
        lock(&heads).push((head.method, head.uri, head.headers));
        async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
    });
    let serve =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(near), service);
    let client = async {
        // The other end may have closed.
        let _ = far.write_all(bytes).await;
        // Requests that have come are not looked at once the client has closed its half.
        for _ in 0..ROUNDS_TO_ANSWER {
            tokio::task::yield_now().await;
        }
        let _ = far.shutdown().await;
        let _ = far.read_to_end(&mut Vec::new()).await;
    };
    let _ = tokio::join!(serve, client);
    std::mem::take(&mut *lock(&heads))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many requests the library reads of a seed, as it is and changed.
    fn requests(seed: &str) -> [usize; 2] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/http2/");
        let input = std::fs::read(format!("{folder}{seed}")).expect("a seed");
        let raw = [PREFACE, &input[2..]].concat();
        let mut changed = raw.clone();
        Frames::default().follow(&mut changed);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        [raw, changed].map(|bytes| runtime.block_on(heads_of(&bytes)).len())
    }

    /// The first request of each says its authority, later ones name the entry of that one in the table.
    #[test]
    fn requests_with_a_url_for_an_authority_are_read() {
        for (seed, counts) in
            [("one_member", [0, 2]), ("initially", [0, 2]), ("pieces", [0, 2]), ("kinds", [3, 4])]
        {
            assert_eq!(requests(seed), counts, "{seed}");
        }
    }
}
