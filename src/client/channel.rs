//! One connection that speaks HTTP/2, and how it ends.
//!
//! Owns: hyper's side of gRPC. Never knows: which endpoint is next.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::body::Body;
use tower::Service;

use crate::client::{Endpoint, Settings};
use crate::rpc::{Code, Message, Status};

/// What is under way on a stream, and on the whole connection: a listing of many keys is not to wait for each window.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Servers close connections that ask more often whether they are there.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(10);

/// A connection, with what requests are made out to. Clones share it.
#[derive(Clone)]
pub(in crate::client) struct Channel {
    sender: SendRequest<Body>,
    origin: Uri,
}

/// It was not sent: the connection had ended before.
#[derive(Debug, Error)]
#[error("{0}")]
struct Unsent(hyper::Error);

impl Channel {
    pub(in crate::client) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(in crate::client) fn origin(&self) -> &Uri {
        &self.origin
    }
}

/// In the words of Go's library, by which logs are searched; `unsent` is kept as the cause.
fn closing(error: hyper::Error, unsent: bool) -> tonic::Status {
    let mut status = tonic::Status::unavailable("transport is closing");
    if unsent || error.is_canceled() {
        status.set_source(std::sync::Arc::new(Unsent(error)));
    }
    status
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = tonic::Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx).map_err(|error| closing(error, true))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.sender.send_request(request);
        Box::pin(async move { answer.await.map_err(|error| closing(error, false)) })
    }
}

/// Connects within the time for it.
///
/// # Errors
/// What is wrong, in the words of Go's library.
pub(in crate::client) async fn connect(
    endpoint: &Endpoint,
    settings: &Settings,
) -> Result<Channel, Status> {
    let fail = |text: String| Status::with(Code::Unavailable, text);
    let connected = timeout(settings.dial, dial(endpoint, settings)).await;
    let sender = match connected {
        Ok(sender) => sender.map_err(fail)?,
        Err(_) => return Err(fail("i/o timeout".to_owned())),
    };
    Ok(Channel { sender, origin: endpoint.origin() })
}

async fn dial(endpoint: &Endpoint, settings: &Settings) -> Result<SendRequest<Body>, String> {
    let stream = TcpStream::connect((endpoint.name(), endpoint.port)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    if !endpoint.tls {
        return handshake(stream, settings.keep_alive).await;
    }
    let tls = settings.tls.as_ref().ok_or("there is nothing to speak TLS with")?;
    let name = settings.certified_name.as_deref().unwrap_or(endpoint.name());
    let stream = tls.connect_http2(name, stream).await.map_err(|error| error.to_string())?;
    handshake(stream, settings.keep_alive).await
}

async fn handshake<S>(
    stream: S,
    (interval, limit): (Duration, Duration),
) -> Result<SendRequest<Body>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval((!interval.is_zero()).then(|| interval.max(KEEP_ALIVE_MIN)))
        .keep_alive_timeout(limit);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends when the last clone of the sender is gone, or the server closes it; why is told to whoever waits for an answer.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Has no server seen it?
pub(in crate::client) fn is_unsent(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<Unsent>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// In our own words.
pub(in crate::client) fn status(status: &tonic::Status) -> Status {
    Status::with(Code::of_number(i32::from(status.code())), status.message().to_owned())
}

/// The answers of a stream, one after the other. The stream ends with it.
pub struct Answers<A> {
    answers: tonic::Streaming<A>,
}

impl<A: Message> Answers<A> {
    pub(in crate::client) fn new(answers: tonic::Streaming<A>) -> Self {
        Self { answers }
    }

    /// The next; `None` behind the last.
    ///
    /// # Errors
    /// Why the stream has broken off.
    pub async fn next(&mut self) -> Result<Option<A>, Status> {
        self.answers.message().await.map_err(|error| status(&error))
    }
}
