//! HTTP/2 on the port of clients: calls of gRPC, and beside them everything that HTTP/1 is asked for.
//!
//! A connection is HTTP/2 if it begins with the preface, in TLS or without; nothing is upgraded. Its requests stand beside each
//! other, so how far each one is cannot be seen from the socket: the connection only knows whether any is under way. One
//! without is idle; a client that takes nothing of what is sent to it is waited for as in HTTP/1.
//!
//! Owns: the limits of HTTP/2, and which of its requests are calls. Never knows: what is asked for.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;
use tracing::debug;

use crate::api::{Body, CALL, ClientAddress, ClientName};
use crate::server::authority::{self, Authorities};
use crate::server::connection::{ClientStream, Phase, Progress, Wait};
use crate::server::guard::{End, Guard};
use crate::server::listen::{Face, Site};
use crate::server::serve::{Terms, tell_who_asks};

/// How every connection that speaks HTTP/2 begins.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of one request that may come before they are read. The longest call is a few of these.
const STREAM_WINDOW: u32 = 256 << 10;

/// Bytes of all requests of a connection that may come before they are read.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Bytes of an answer that are held for a client that is slow to take them.
const SEND_BYTES_MAX: usize = 256 << 10;

/// Does a connection begin as HTTP/2? `read` is what it began with; returned is that and what was read since, or `None` when the
/// connection takes too long. Only what may still become the preface is waited for.
pub(super) async fn begun<S, E>(
    stream: &mut S,
    mut read: Vec<u8>,
    guard: &mut Guard<'_, E>,
) -> Option<(Vec<u8>, bool)>
where
    S: AsyncRead + Unpin,
    E: Future<Output = End>,
{
    loop {
        if read.starts_with(PREFACE) {
            return Some((read, true));
        }
        if !PREFACE.starts_with(&read) {
            return Some((read, false));
        }
        guard.wait_for(Wait::Rest);
        let bytes = poll_fn(|cx| {
            if let Poll::Ready(result) = poll_read_buf(Pin::new(&mut *stream), cx, &mut read) {
                return Poll::Ready(result.ok());
            }
            guard.poll_overdue(cx).map(|()| None)
        });
        if bytes.await? == 0 {
            // HTTP/1 knows what to say to a head that is cut.
            return Some((read, false));
        }
    }
}

/// Serves HTTP/2 to its end. `name` is that in the client's verified certificate.
pub(super) async fn serve<S, E>(
    stream: ClientStream<S>,
    progress: Arc<Progress>,
    mut guard: Guard<'_, E>,
    terms: &Terms,
    name: Option<ClientName>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    E: Future<Output = End>,
{
    let Terms { site, limits, stop, from, .. } = terms;
    let (address, patience) = (from.map(ClientAddress), limits.timeouts.head);
    progress.set(Phase::Quiet);
    let service = service_fn(|mut request| {
        let counted = Counted::new(&progress);
        tell_who_asks(&mut request, name.as_ref(), address, site);
        let site = site.clone();
        async move {
            let response = answer(&site, request, patience).await;
            Ok::<_, Infallible>(response.map(|body| AnswerBody { body, _counted: counted }))
        }
    });
    let header_bytes_max = u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX);
    let http = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_header_list_size(header_bytes_max)
        .max_concurrent_streams(limits.streams_max)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        .serve_connection(TokioIo::new(Authorities::new(stream)), service);
    let mut http = pin!(http);
    let mut stopped = pin!(stop.cancelled());
    let mut leaves = false;
    let outcome = poll_fn(|cx| {
        if guard.poll_end(cx) == Poll::Ready(End::Reset) {
            return Poll::Ready(Ok(()));
        }
        if !leaves && stopped.as_mut().poll(cx).is_ready() {
            leaves = true;
            http.as_mut().graceful_shutdown();
        }
        loop {
            if let Poll::Ready(result) = http.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            guard.follow(&progress);
            ready!(guard.poll_overdue(cx));
            // A client without requests is told that this connection ends, so that its next one comes on another.
            if leaves || guard.waits_for() != Wait::Request {
                return Poll::Ready(Ok(()));
            }
            leaves = true;
            http.as_mut().graceful_shutdown();
            guard.wait_for(Wait::Leave);
        }
    });
    if let Err(error) = outcome.await {
        debug!(target: "etcdhttp", "a connection of HTTP/2 ended: {error}");
    }
}

async fn answer(site: &Site, request: Request<Incoming>, patience: Duration) -> Response<Body> {
    let content_type = request.headers().get(CONTENT_TYPE);
    // Bodies of calls may be open for ever; each call knows how long it waits.
    if content_type.is_some_and(|value| value.as_bytes().starts_with(CALL)) {
        return site.call(request).await;
    }
    let request = as_http1(request).map(|body| PatientBody::new(body, patience));
    site.answer(Face::Clients, request).await
}

/// The host stands in a header and the target is a path, as in HTTP/1: whoever answers knows one form.
fn as_http1(mut request: Request<Incoming>) -> Request<Incoming> {
    let authority = request.uri().authority().map(Authority::as_str);
    // A URL names no host: such a request is refused as one without.
    let authority = authority.filter(|authority| !authority::is_changed(authority));
    let host = authority.and_then(|authority| HeaderValue::from_str(authority).ok());
    if let Some(host) = host
        && !request.headers().contains_key(HOST)
    {
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_11;
    request
}

/// A request that is under way until this is dropped.
struct Counted(Arc<Progress>);

impl Counted {
    fn new(progress: &Arc<Progress>) -> Self {
        progress.request_begins();
        Self(Arc::clone(progress))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.request_ends();
    }
}

/// The body of a request, of which something must come from time to time.
struct PatientBody {
    body: Incoming,
    patience: Duration,
    until: Pin<Box<Sleep>>,
}

impl PatientBody {
    fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, until: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl http_body::Body for PatientBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let until = Instant::now() + self.patience;
            self.until.as_mut().reset(until);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.until.as_mut().poll(cx));
        Poll::Ready(Some(Err("nothing came of the body for too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer; its request is under way until it is sent.
struct AnswerBody {
    body: Body,
    _counted: Counted,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
