//! Calls as gRPC: headers, the messages in the body, and how a call ends.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use crate::api::access::ClientName;
use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::v3::call::{Answers, Call, Requests};
use crate::api::v3::dispatch::{Came, Ending, Form, Handler, Known};
use crate::api::v3::{leader, message_bytes_max, refused};
use crate::raft::{ByteBudget, Reserved};
use crate::rpc::{self, Code, Frames, Status, status};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// A client that says nothing in the middle of a request is waited for so long.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);

/// Answers a call.
pub(in crate::api) async fn serve<B>(api: &Arc<Context>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let known = match api.methods.called(head.uri.path()) {
        Ok(known) => known,
        Err(status) => return ended(&status),
    };
    let mut ending = Ending::begin(api, known, &head.headers);
    let call = Call::of(&head.headers, head.extensions.get::<ClientName>().cloned());
    let timeout = match check(api, &head.headers, &call) {
        Ok(timeout) => timeout,
        Err(status) => {
            ending.ended(status.code);
            return ended(&status);
        }
    };
    run(api, known, Call { timeout, ..call }, body, ending).await
}

/// Calls and answers, until the client's deadline.
async fn run<B>(
    api: &Arc<Context>,
    known: &Known,
    call: Call,
    body: B,
    mut ending: Ending,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    let until = call.timeout.map(|timeout| Instant::now() + timeout);
    match &known.method.handler {
        Handler::Unary(handler) => {
            let answer = limited(until, async {
                let (message, held) = one_message(api, body).await?;
                known.meter.received(message.len());
                let call = Call { held: Some(Arc::new(held)), ..call };
                handler(Arc::clone(api), call, Came::Protobuf(message)).await
            });
            match answer.await {
                Ok(message) => {
                    known.meter.sent(message.len() - rpc::HEAD_BYTES);
                    ending.ended(Code::Ok);
                    let mut response = Response::new(Body::call(message, trailers(None)));
                    response.headers_mut().insert(CONTENT_TYPE, GRPC);
                    response
                }
                Err(status) => {
                    ending.ended(status.code);
                    ended(&status)
                }
            }
        }
        Handler::Streaming(handler) => {
            let requests = messages(api, known, body);
            let begun = handler(Arc::clone(api), call.clone(), requests, Form::Framed);
            let answers = match limited(until, begun).await {
                Ok(answers) => leader::cut(api, &call, answers),
                Err(status) => {
                    ending.ended(status.code);
                    return ended(&status);
                }
            };
            let deadline = until.map(|until| Box::pin(sleep_until(until)));
            let answers = Streamed { answers: Some(answers), deadline, ending };
            let mut response = Response::new(Body::calls(answers));
            response.headers_mut().insert(CONTENT_TYPE, GRPC);
            response
        }
    }
}

/// What the headers say of the call as such: how long its client waits.
fn check(api: &Context, headers: &HeaderMap, call: &Call) -> Result<Option<Duration>, Status> {
    let encoding = headers.get(ENCODING).map(HeaderValue::as_bytes);
    if let Some(encoding) = encoding.filter(|encoding| *encoding != b"identity") {
        let encoding = String::from_utf8_lossy(encoding);
        let text = format!("grpc: Decompressor is not installed for grpc-encoding \"{encoding}\"");
        return Err(Status::with(Code::Unimplemented, text));
    }
    if call.needs_leader && !leader::is_there(api) {
        return Err(status::NO_LEADER);
    }
    let Some(timeout) = headers.get(TIMEOUT) else { return Ok(None) };
    match timeout.to_str().ok().and_then(patience) {
        Some(patience) => Ok(Some(patience)),
        None => Err(Status::new(Code::Internal, "malformed grpc-timeout")),
    }
}

/// At most eight digits and a unit.
fn patience(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|d| d.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

async fn limited<T>(
    until: Option<Instant>,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match until {
        None => work.await,
        Some(until) => timeout_at(until, work).await.unwrap_or(Err(status::DEADLINE_EXCEEDED)),
    }
}

/// Reads the only message of a body, and takes what it needs of the budget.
async fn one_message<B>(api: &Context, body: B) -> Result<(Bytes, Reserved), Status>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    let mut incoming = Incoming::new(api, body);
    let read = timeout(REQUEST_PATIENCE, async {
        let message = incoming.next_message().await?;
        // As clients do, it says at once that this was all; whatever else it says does not matter.
        while let Some(Ok(_)) = incoming.body.frame().await {}
        message.ok_or_else(cut_off)
    });
    let message = read.await.unwrap_or_else(|_| Err(cut_off()))?;
    let held = incoming.held.take().ok_or_else(cut_off)?;
    Ok((message, held))
}

/// The messages of a body, one after the other.
fn messages<B>(api: &Context, known: &Known, body: B) -> Requests<Came>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    let meter = known.meter.clone();
    let incoming = Some(Incoming::new(api, body));
    Box::pin(stream::unfold((incoming, meter), |(incoming, meter)| async {
        let mut incoming = incoming?;
        match incoming.next_message().await {
            Ok(message) => {
                let message = message?;
                meter.received(message.len());
                // The next one takes its own part of the budget.
                incoming.held = None;
                Some((Ok(Came::Protobuf(message)), (Some(incoming), meter)))
            }
            Err(status) => Some((Err(status), (None, meter))),
        }
    }))
}

fn cut_off() -> Status {
    Status::new(Code::Internal, "the call ended before its request")
}

/// The body of a call as it comes in.
struct Incoming<B> {
    body: B,
    frames: Frames,
    budget: Arc<ByteBudget>,
    /// What has come of the present message.
    held: Option<Reserved>,
}

impl<B> Incoming<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    fn new(api: &Context, body: B) -> Self {
        let frames = Frames::new(message_bytes_max(api));
        Self { body, frames, budget: Arc::clone(api.replica.budget()), held: None }
    }

    /// The next message; `None` when the client has no more to say.
    async fn next_message(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.frames.next_message()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                return if self.frames.is_empty() { Ok(None) } else { Err(cut_off()) };
            };
            // Its client has reset the call, or is gone: nobody hears the answer.
            let Ok(frame) = frame else { return Err(status::CANCELED) };
            let Ok(bytes) = frame.into_data() else { continue };
            let held = match self.held.take() {
                None => self.budget.reserve(bytes.len()).map_err(refused::unavailable)?,
                Some(mut held) => {
                    held.grow(bytes.len()).map_err(refused::unavailable)?;
                    held
                }
            };
            self.held = Some(held);
            self.frames.push(&bytes);
        }
    }
}

/// An answer that is only how the call ended.
fn ended(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.headers_mut() = trailers(Some(status));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// How a call ended; `None` is well.
fn trailers(status: Option<&Status>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    let Some(status) = status else {
        trailers.insert(STATUS, HeaderValue::from_static("0"));
        return trailers;
    };
    trailers.insert(STATUS, HeaderValue::from(status.code.number()));
    if let Ok(text) = HeaderValue::try_from(percent_encoded(&status.text)) {
        trailers.insert(MESSAGE, text);
    }
    trailers
}

/// What is not visible ASCII, and the sign itself, stands as two digits behind a `%`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The answers of a stream on their way out.
struct Streamed {
    /// Until the stream has ended.
    answers: Option<Answers<Bytes>>,
    deadline: Option<Pin<Box<Sleep>>>,
    ending: Ending,
}

impl Stream for Streamed {
    type Item = Frame<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Frame<Bytes>>> {
        let this = &mut *self;
        let Some(answers) = &mut this.answers else { return Poll::Ready(None) };
        let result = match answers.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => {
                this.ending.meter().sent(message.len() - rpc::HEAD_BYTES);
                return Poll::Ready(Some(Frame::data(message)));
            }
            Poll::Ready(Some(Err(status))) => Err(status),
            Poll::Ready(None) => Ok(()),
            Poll::Pending => {
                let deadline = this.deadline.as_mut();
                match deadline.map(|deadline| deadline.as_mut().poll(cx)) {
                    Some(Poll::Ready(())) => Err(status::DEADLINE_EXCEEDED),
                    Some(Poll::Pending) | None => return Poll::Pending,
                }
            }
        };
        this.answers = None;
        this.ending.ended(result.as_ref().map_or_else(|status| status.code, |()| Code::Ok));
        Poll::Ready(Some(Frame::trailers(trailers(result.as_ref().err()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_say_how_long_they_wait() {
        for (text, wanted) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("0S", Some(Duration::ZERO)),
            ("4998391u", Some(Duration::from_micros(4_998_391))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("100m", Some(Duration::from_millis(100))),
            ("999999999S", None),
            ("5", None),
            ("S", None),
            ("", None),
            ("+5S", None),
            ("5 S", None),
            ("5\u{b5}", None),
        ] {
            assert_eq!(patience(text), wanted, "{text}");
        }
    }

    #[test]
    fn texts_travel_in_ascii() {
        assert_eq!(percent_encoded("a b%c\nd\u{e9}\""), "a b%25c%0Ad%C3%A9\"");
    }
}
