//! Serves one connection from its first byte to its last: HTTP/1, time limits, and the end of the client.
//!
//! HTTP reads from the socket only when it can use what it reads. A client that sends one byte too many behind a request would
//! hide its own end behind that byte, so the end is also looked for beside HTTP: the system tells of it whatever is unread. Only
//! behind more bytes than the system itself takes, about 64 KiB, the end cannot arrive; such a client is gone for keep-alive when
//! its own system has given up sending the rest, after some minutes.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::api::{Api, ClientAddress, ClientName};
use crate::server::connection::{ClientStream, Progress, RawSocket, Timeouts, Wait};
use crate::server::exchange::{RequestBody, exchange};
use crate::server::handshake::{self, Accepted};
use crate::server::keep_alive::KeepAlive;
use crate::server::listen::{Face, Limits};
use crate::server::request_line::RequestLines;
use crate::tls::{self, Tls, common_name};

/// A client that has closed its sending half in the middle of a watch gets the end of the answer if it takes it within this time.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// A client that is still sending when its connection ends is listened to for so long, or until it has sent so much: it would
/// lose an answer that it has not read yet if its bytes came to a closed socket.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 << 20;

/// What a connection is served with.
pub(super) struct Terms {
    pub(super) face: Face,
    pub(super) api: Arc<Api>,
    pub(super) limits: Limits,
    /// Cancelled when the connection is to end behind the request under way.
    pub(super) stop: CancellationToken,
    /// What to speak on it; plain when there is none.
    pub(super) tls: Option<Arc<Tls>>,
    /// The client's address; none of one that comes through a socket in a file.
    pub(super) from: Option<IpAddr>,
}

/// Serves `stream` until its client ends or takes too long, or the member stops.
pub(super) async fn serve_connection(stream: TcpStream, keep_alive: KeepAlive, terms: Terms) {
    let (reading, mut writing) = stream.into_split();
    let progress = Arc::new(Progress::default());
    let lingers = match terms.tls.clone() {
        None => {
            let stream = RawSocket::plain(reading);
            drive(stream, progress, &writing, keep_alive, terms, None).await
        }
        Some(tls) => {
            let raw = RawSocket::below_tls(reading, Arc::clone(&progress));
            let limit = terms.limits.timeouts.head;
            match handshake::accept(&tls, raw, &writing, terms.from, limit).await {
                Accepted::Secure(stream) => {
                    let name = if tls.names_users() { common_name(&stream) } else { None };
                    let name = name.map(|name| ClientName(name.into()));
                    drive(*stream, progress, &writing, keep_alive, terms, name).await
                }
                Accepted::Plain => true,
                Accepted::Failed => false,
            }
        }
    };
    close(&mut writing, lingers).await;
}

/// Closes the connection; a client that `lingers` is listened to first.
pub(super) async fn close(writing: &mut OwnedWriteHalf, lingers: bool) {
    if lingers && writing.shutdown().await.is_ok() {
        let _ = tokio::time::timeout(LINGER_TIMEOUT, discard(writing)).await;
    }
}

/// Runs HTTP to its end. `name` is that in the client's verified certificate. Returns whether the client may still be sending.
pub(super) async fn drive<S>(
    stream: S,
    progress: Arc<Progress>,
    socket: &OwnedWriteHalf,
    keep_alive: KeepAlive,
    terms: Terms,
    name: Option<ClientName>,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Terms { face, api, limits, stop, tls, from } = terms;
    let stream = ClientStream::new(stream, Arc::clone(&progress));
    let patience = limits.timeouts.head;
    let address = from.map(ClientAddress);
    let service = service_fn(|mut request| {
        let (api, progress) = (Arc::clone(&api), Arc::clone(&progress));
        tell_who_asks(&mut request, name.as_ref(), address);
        // Not inside: HTTP looks for the end of the stream before it awaits an answer for the first time.
        let request = RequestBody::track(request, &progress);
        // In a place of its own, which is gone when a long poll begins to wait; HTTP would keep room for it for ever.
        Box::pin(async move {
            Ok::<_, Infallible>(exchange(&api, face, request, progress, patience).await)
        })
    });
    let http = http1::Builder::new()
        .half_close(false)
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes_max)
        .max_headers(limits.headers_max)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(RequestLines::new(stream)), service);
    let mut http = pin!(http);
    let mut end = pin!(client_end(socket));
    let mut stopped = pin!(stop.cancelled());
    let mut clock = pin!(tokio::time::sleep(limits.timeouts.head.min(limits.timeouts.idle)));
    let mut deadline = Deadline::new(limits.timeouts, keep_alive, socket);
    let (mut ended, mut stopping) = (false, false);
    let outcome = poll_fn(|cx| {
        if !ended && let Poll::Ready(end) = end.as_mut().poll(cx) {
            ended = true;
            match end {
                End::Reset => return Poll::Ready(Err(None)),
                End::HalfClosed => progress.end(),
            }
        }
        if !stopping && stopped.as_mut().poll(cx).is_ready() {
            stopping = true;
            http.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = http.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(Some));
        }
        deadline.check(&progress, clock.as_mut(), cx).map(|()| Err(None))
    });
    match outcome.await {
        Ok(()) => progress.lingers(),
        // What follows a head that cannot be read is not read either.
        Err(Some(error)) => {
            debug!(target: "etcdhttp", "a connection ended: {error}");
            if tls.is_none() && progress.begins_with() == Some(tls::FIRST_BYTE) {
                handshake::tell_of_tls_without(from);
            }
            error.is_parse() || progress.lingers()
        }
        Err(None) => false,
    }
}

/// What the API may want to know of a request's client; most requests come without, and take no memory for it.
fn tell_who_asks(
    request: &mut Request<Incoming>,
    name: Option<&ClientName>,
    address: Option<ClientAddress>,
) {
    if let Some(name) = name {
        request.extensions_mut().insert(name.clone());
    }
    if request.headers().contains_key(AUTHORIZATION)
        && let Some(address) = address
    {
        request.extensions_mut().insert(address);
    }
}

/// How a client ends.
enum End {
    /// It says nothing more, and may still listen.
    HalfClosed,
    /// It is gone.
    Reset,
}

/// Waits for the end of the client, also while there are bytes that it sent before and that are not read yet: those never wake
/// this, because it waits for no data, only for urgent ones, which sockets here do not report.
async fn client_end(socket: &OwnedWriteHalf) -> End {
    match socket.ready(Interest::PRIORITY | Interest::ERROR).await {
        Ok(ready) if !ready.is_error() => End::HalfClosed,
        Ok(_) | Err(_) => End::Reset,
    }
}

/// When the client has taken too long for what is waited for.
struct Deadline<'a> {
    socket: &'a TcpStream,
    keep_alive: KeepAlive,
    timeouts: Timeouts,
    wait: Wait,
    /// Moved often, unlike the clock, which only looks at it when it fires.
    at: Option<Instant>,
}

impl<'a> Deadline<'a> {
    fn new(timeouts: Timeouts, keep_alive: KeepAlive, socket: &'a OwnedWriteHalf) -> Self {
        let at = Some(Instant::now() + timeouts.idle);
        Self { socket: socket.as_ref(), keep_alive, timeouts, wait: Wait::Request, at }
    }

    fn limit(&self) -> Option<Duration> {
        match self.wait {
            Wait::Request | Wait::Reader => Some(self.timeouts.idle),
            Wait::Rest => Some(self.timeouts.head),
            Wait::Leave => Some(LEAVE_TIMEOUT),
            // Consensus has its own deadline, and only the client may end a wait for an event.
            Wait::Member => None,
        }
    }

    /// Ready when the time is over.
    fn check(
        &mut self,
        progress: &Progress,
        mut clock: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let (wait, moved) = progress.look();
        if moved || wait != self.wait {
            self.wait = wait;
            self.at = self.limit().map(|limit| Instant::now() + limit);
            if let Some(at) = self.at.filter(|at| *at < clock.deadline()) {
                clock.as_mut().reset(at);
            }
        }
        while clock.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            match self.at {
                Some(at) if at <= now => return Poll::Ready(()),
                Some(at) => clock.as_mut().reset(at),
                None => {
                    // A connection that has ended is noticed elsewhere.
                    let _ = self.keep_alive.draw(self.socket);
                    clock.as_mut().reset(now + self.keep_alive.kept_for());
                }
            }
        }
        Poll::Pending
    }
}

/// Reads what the client still sends, and forgets it.
async fn discard(socket: &OwnedWriteHalf) {
    let socket: &TcpStream = socket.as_ref();
    let mut scratch = vec![0; 16 << 10];
    let mut bytes = 0;
    while bytes < LINGER_BYTES_MAX {
        match socket.try_read(&mut scratch) {
            Ok(0) => return,
            Ok(read) => bytes += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if socket.readable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
