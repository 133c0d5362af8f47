//! Calls as JSON: `POST /v3/...`.
//!
//! Clients parse the bodies chunk by chunk and match on the texts, so the form of each answer is etcd's: no newline behind a
//! message, one behind each message of a stream, and each of those in a chunk of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, stream};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;

use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::intake::{self, Unread};
use crate::api::v3::call::{Answers, Call, Requests};
use crate::api::v3::dispatch::{Came, Ending, Form, Handler, Known};
use crate::api::v3::{leader, message_bytes_max, refused};
use crate::api::{error, json as written};
use crate::raft::Reserved;
use crate::rpc::json::{self, Extent, Unparsed};
use crate::rpc::{Code, Status};

/// What the bodies of 3.3 and 3.4 stand below, and of those before.
const PREFIXES: [&[u8]; 3] = [b"/v3/", b"/v3beta/", b"/v3alpha/"];

/// The gateway of etcd shows that it has asked over gRPC.
const ASKED_BY: HeaderName = HeaderName::from_static("grpc-metadata-content-type");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The path of a call below the prefix of its version.
pub(in crate::api) fn path(path: &[u8]) -> Option<&str> {
    let rest = PREFIXES.iter().find_map(|prefix| path.strip_prefix(*prefix))?;
    // What is no text is no call.
    Some(std::str::from_utf8(rest).unwrap_or_default())
}

/// Answers a call.
pub(in crate::api) async fn serve<B>(
    api: &Arc<Context>,
    path: &str,
    request: Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Some(known) = api.methods.at(path) else {
        return error::text(StatusCode::NOT_FOUND, "Not Found");
    };
    if request.method() != Method::POST {
        return error::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    }
    let (head, body) = request.into_parts();
    let mut ending = Ending::begin(api, known, &head.headers);
    let call = Call::of(&head.headers, None);
    match &known.method.handler {
        Handler::Unary(handler) => {
            let answer = async {
                let (value, bytes, held) = only_value(api, &head.headers, body).await?;
                known.meter.received(bytes);
                let call = Call { held: Some(Arc::new(held)), ..call };
                handler(Arc::clone(api), call, Came::Json(value)).await
            };
            match answer.await {
                Ok(message) => {
                    known.meter.sent(message.len());
                    ending.ended(Code::Ok);
                    answered(message)
                }
                Err(status) => {
                    ending.ended(status.code);
                    failed(&status)
                }
            }
        }
        Handler::Streaming(handler) => {
            let requests = values(api, known, body);
            match handler(Arc::clone(api), call.clone(), requests, Form::Json).await {
                Ok(answers) => {
                    let answers = leader::cut(api, &call, answers);
                    streamed(Results { answers: Some(answers), ending })
                }
                Err(status) => {
                    ending.ended(status.code);
                    failed(&status)
                }
            }
        }
    }
}

/// What may come of a body; JSON takes more room than protobuf.
fn body_bytes_max(api: &Context) -> usize {
    2 * message_bytes_max(api)
}

/// The first value of a body, which is read whole, its bytes, and what they take of the budget.
async fn only_value<B>(
    api: &Context,
    headers: &HeaderMap,
    body: B,
) -> Result<(json::Value, usize, Reserved), Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    let bytes_max = body_bytes_max(api);
    let read = intake::collect(api.replica.budget(), body, headers, bytes_max);
    let (body, held) = read.await.map_err(|unread| unread_body(unread, bytes_max))?;
    Ok((first_value(&body)?, body.len(), held))
}

/// The first value of a body; none counts as a message without fields.
fn first_value(body: &[u8]) -> Result<json::Value, Status> {
    match json::parse(body) {
        Ok((value, _)) => Ok(value),
        Err(Unparsed::Empty) => Ok(json::Value::Null),
        Err(unparsed) => {
            Err(Status::with(Code::InvalidArgument, unparsed.at_the_end().to_string()))
        }
    }
}

fn unread_body(unread: Unread, bytes_max: usize) -> Status {
    match unread {
        Unread::TooLarge => {
            let text = format!("the body is longer than {bytes_max} bytes");
            Status::with(Code::ResourceExhausted, text)
        }
        Unread::Overloaded(why) => refused::unavailable(why),
        Unread::CutOff => Status::new(Code::InvalidArgument, "unexpected EOF"),
    }
}

/// The values of a body, one after the other, as they come.
fn values<B>(api: &Context, known: &Known, body: B) -> Requests<Came>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    let values = Values {
        body: Box::pin(body),
        came: BytesMut::new(),
        bytes_max: body_bytes_max(api),
        is_over: false,
        extent: Extent::default(),
        tried: 0,
    };
    let meter = known.meter.clone();
    Box::pin(stream::unfold((Some(values), meter), |(values, meter)| async {
        let mut values = values?;
        match values.next().await {
            Ok(value) => {
                let (value, bytes) = value?;
                meter.received(bytes);
                Some((Ok(Came::Json(value)), (Some(values), meter)))
            }
            Err(status) => Some((Err(status), (None, meter))),
        }
    }))
}

struct Values<B> {
    body: Pin<Box<B>>,
    came: BytesMut,
    bytes_max: usize,
    is_over: bool,
    extent: Extent,
    /// So many bytes were no value yet.
    tried: usize,
}

impl<B: http_body::Body<Data = Bytes>> Values<B> {
    /// The next value, and how many bytes it took.
    async fn next(&mut self) -> Result<Option<(json::Value, usize)>, Status> {
        loop {
            let has_ended = self.extent.grow(&self.came) || self.is_over;
            // Twice as much may show that it is none; so reading takes as long as the body, however it comes.
            if has_ended || self.came.len() > 2 * self.tried {
                match json::parse(&self.came) {
                    Ok((value, bytes)) if has_ended => {
                        let _ = self.came.split_to(bytes);
                        (self.extent, self.tried) = (Extent::default(), 0);
                        return Ok(Some((value, bytes)));
                    }
                    Err(Unparsed::Empty) if self.is_over => return Ok(None),
                    Err(unparsed @ Unparsed::Cut) if self.is_over => {
                        return Err(Status::with(Code::Unknown, unparsed.at_the_end().to_string()));
                    }
                    // A number may go on.
                    Ok(_) | Err(Unparsed::Empty | Unparsed::Cut) => self.tried = self.came.len(),
                    Err(Unparsed::Wrong(error)) => {
                        return Err(Status::with(Code::Unknown, error.to_string()));
                    }
                }
            }
            match self.body.as_mut().frame().await {
                None => self.is_over = true,
                Some(Err(_)) => return Err(crate::rpc::status::CANCELED),
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    if self.came.len() + bytes.len() > self.bytes_max {
                        return Err(unread_body(Unread::TooLarge, self.bytes_max));
                    }
                    self.came.extend_from_slice(&bytes);
                }
            }
        }
    }
}

fn answered(message: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::whole(message));
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response.headers_mut().insert(ASKED_BY, GRPC);
    response
}

pub(super) fn failed(status: &Status) -> Response<Body> {
    let mut body = b"{\"error\":".to_vec();
    written::string(&mut body, status.text.as_bytes());
    body.extend_from_slice(b",\"message\":");
    written::string(&mut body, status.text.as_bytes());
    body.extend_from_slice(b",\"code\":");
    written::number(&mut body, status.code.number());
    body.push(b'}');
    let mut response = Response::new(Body::whole_in_chunks(body));
    *response.status_mut() = http_status(status);
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response
}

fn http_status(status: &Status) -> StatusCode {
    StatusCode::from_u16(status.code.http()).expect("the table of codes holds statuses")
}

/// Each message in a chunk of its own.
fn streamed(results: Results) -> Response<Body> {
    let mut response = Response::new(Body::stream(results));
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response.headers_mut().insert(ASKED_BY, GRPC);
    response
}

struct Results {
    /// Until the stream has ended.
    answers: Option<Answers<Bytes>>,
    ending: Ending,
}

impl Stream for Results {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>> {
        let Some(answers) = &mut self.answers else { return Poll::Ready(None) };
        let result = match ready!(answers.as_mut().poll_next(cx)) {
            Some(Ok(message)) => {
                self.ending.meter().sent(message.len());
                return Poll::Ready(Some(result(&message)));
            }
            Some(Err(status)) => Some(status),
            None => None,
        };
        self.answers = None;
        self.ending.ended(result.as_ref().map_or(Code::Ok, |status| status.code));
        Poll::Ready(result.as_ref().map(last))
    }
}

fn result(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 16);
    out.put_slice(b"{\"result\":");
    out.put_slice(message);
    out.put_slice(b"}\n");
    out.freeze()
}

/// Why a stream has ended.
fn last(status: &Status) -> Bytes {
    let http = http_status(status);
    let mut out = b"{\"error\":{\"grpc_code\":".to_vec();
    written::number(&mut out, status.code.number());
    out.extend_from_slice(b",\"http_code\":");
    written::number(&mut out, http.as_u16());
    out.extend_from_slice(b",\"message\":");
    written::string(&mut out, status.text.as_bytes());
    out.extend_from_slice(b",\"http_status\":");
    written::string(&mut out, http.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"}}\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// All values of a body that comes in pieces of so many bytes, and why there are no more.
    async fn values_of(body: &str, piece: usize) -> (Vec<json::Value>, Option<String>) {
        let pieces = body.as_bytes().chunks(piece).map(|piece| {
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::copy_from_slice(piece)))
        });
        let pieces: Vec<_> = pieces.collect();
        let mut values = Values {
            body: Box::pin(StreamBody::new(stream::iter(pieces))),
            came: BytesMut::new(),
            bytes_max: 1 << 30,
            is_over: false,
            extent: Extent::default(),
            tried: 0,
        };
        let mut all = Vec::new();
        loop {
            match values.next().await {
                Ok(Some((value, _))) => all.push(value),
                Ok(None) => return (all, None),
                Err(status) => return (all, Some(status.text.into_owned())),
            }
        }
    }

    #[tokio::test]
    async fn values_stand_one_behind_the_other_in_pieces_of_any_size() {
        let body = " {\"a\":[1,{\"b\":\"}\"}]}{}12 true\"x\\\"\" 7 ";
        let whole = values_of(body, body.len()).await;
        assert_eq!((whole.0.len(), &whole.1), (6, &None));
        for piece in 1..body.len() {
            assert_eq!(values_of(body, piece).await, whole, "{piece}");
        }
        for (body, count, why) in [
            ("{}{", 1, "unexpected EOF"),
            ("{}}", 1, "invalid character '}' looking for beginning of value"),
            ("{\"a\" 1", 0, "invalid character '1' after object key"),
            ("", 0, ""),
        ] {
            for piece in 1..=body.len().max(1) {
                let (values, found) = values_of(body, piece).await;
                assert_eq!(
                    (values.len(), found.unwrap_or_default().as_str()),
                    (count, why),
                    "{body}"
                );
            }
        }
    }

    /// A client that sends byte by byte, or nests as deep as it can, takes no more time than another.
    #[tokio::test]
    async fn what_strangers_send_takes_as_long_as_it_is() {
        let begun = Instant::now();
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
        assert_eq!(values_of(&long, 1).await.0.len(), 1);
        let digits = format!("{} ", "1".repeat(1 << 20));
        assert_eq!(values_of(&digits, 1).await.0.len(), 1);
        let many = "{}".repeat(1 << 18);
        assert_eq!(values_of(&many, 1 << 20).await.0.len(), 1 << 18);
        let deep = "[".repeat(1 << 20);
        for piece in [1, 1 << 20] {
            assert_eq!(values_of(&deep, piece).await.1.unwrap(), "exceeded max depth");
        }
        // Bytes by the square would take hours.
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
