//! Bytes of a connection that a fuzzer makes up, and what HTTP makes of them, by the library and on the fast path.

use std::cell::RefCell;
use std::convert::Infallible;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::api::HEADERS_READ;
use crate::fuzz::{Target, pieces};
use crate::server::fast_path::head::Head;
use crate::server::request_line::{RequestLines, must_escape};

pub(crate) const TARGETS: &[Target] = &[Target { name: "http", read: read_connection }];

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
    let head = Head::read(bytes, usize::MAX)?;
    let bytes = bytes.get(..head.request_bytes())?;
    let (head, body) = head.request(&Bytes::copy_from_slice(bytes))?.into_parts();
    let body = body.collect().now_or_never()?.unwrap_or_else(|never| match never {}).to_bytes();
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
