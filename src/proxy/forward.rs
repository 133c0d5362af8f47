//! The way to the members: connections that are kept, with a limit of time for each step.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tower::Service;

use crate::discovery::tune;
use crate::proxy::Settings;
use crate::tls::{ClientStream, Tls};

/// Connections to a member that nothing is asked on, at a time.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// How long such a one is kept: shorter than a member does.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a member has not answered.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing of the request has reached it.
    NotSent(String),
    /// Some of it may have.
    Sent(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) | Self::Sent(why) => f.write_str(why),
        }
    }
}

/// Asks members.
#[derive(Clone)]
pub(super) struct Members {
    client: Client<Dial, Full<Bytes>>,
    write_timeout: Duration,
    read_timeout: Option<Duration>,
}

impl Members {
    pub(super) fn new(settings: &Settings, tls: Arc<Tls>) -> Self {
        let Settings { dial_timeout: timeout, write_timeout, .. } = *settings;
        let dial = Dial { tls, timeout, write_timeout };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_timer(TokioTimer::new())
            .http1_title_case_headers(true)
            .build(dial);
        Self { client, write_timeout: settings.write_timeout, read_timeout: settings.read_timeout }
    }

    /// Asks the member at `url`; the answer's body is yet to come.
    pub(super) async fn ask(
        &self,
        url: &str,
        method: &Method,
        target: &PathAndQuery,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let uri = at(url, target).map_err(|why| Failure::NotSent(format!("{url}: {why}")))?;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method.clone();
        *request.headers_mut() = headers.clone();
        if !headers.contains_key(HOST)
            && let Some(authority) = uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(HOST, host);
        }
        *request.uri_mut() = uri;
        let asked = self.client.request(request);
        // To send and to wait cannot be told apart from here, so one limit holds for both.
        let limit = self.read_timeout.map(|limit| limit + self.write_timeout);
        let answer = match limit {
            None => asked.await,
            Some(limit) => match tokio::time::timeout(limit, asked).await {
                Ok(answer) => answer,
                Err(_) => return Err(Failure::Sent(format!("no answer within {limit:?}"))),
            },
        };
        answer.map_err(|error| {
            let why = whole(&error);
            if error.is_connect() { Failure::NotSent(why) } else { Failure::Sent(why) }
        })
    }
}

/// An error with those that it comes from: what a server refuses stands at the end.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The member's URL with what the client asks for, byte by byte: `*` is a target too.
fn at(url: &str, target: &PathAndQuery) -> Result<Uri, http::Error> {
    let mut parts = url.parse::<Uri>()?.into_parts();
    parts.path_and_query = Some(target.clone());
    Ok(Uri::from_parts(parts)?)
}

/// Makes connections to members.
#[derive(Clone)]
struct Dial {
    tls: Arc<Tls>,
    timeout: Duration,
    write_timeout: Duration,
}

impl Dial {
    async fn connect(self, uri: Uri) -> io::Result<Link> {
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let connected = async {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            tune(&stream)?;
            // What a member does not take within this time it never takes: it is gone, or stands still.
            SockRef::from(&stream).set_tcp_user_timeout(Some(self.write_timeout))?;
            if !secure {
                return Ok(Link::Plain(TokioIo::new(stream)));
            }
            let stream = self.tls.connect(&host, stream).await?;
            Ok(Link::Secure(Box::new(TokioIo::new(stream))))
        };
        tokio::time::timeout(self.timeout, connected).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "no connection within --proxy-dial-timeout")
        })?
    }
}

impl Service<Uri> for Dial {
    type Response = Link;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection to a member.
enum Link {
    Plain(TokioIo<TcpStream>),
    Secure(Box<TokioIo<ClientStream<TcpStream>>>),
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The body of a member's answer; it breaks off when nothing comes for `limit`.
pub(super) fn limited(body: Incoming, limit: Option<Duration>) -> axum::body::Body {
    match limit {
        None => axum::body::Body::new(body),
        Some(limit) => {
            let clock = Box::pin(tokio::time::sleep(limit));
            axum::body::Body::new(LimitedBody { body, limit, clock })
        }
    }
}

struct LimitedBody {
    body: Incoming,
    limit: Duration,
    clock: Pin<Box<Sleep>>,
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let until = tokio::time::Instant::now() + self.limit;
            self.clock.as_mut().reset(until);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.clock
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err("nothing came within --proxy-read-timeout".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
