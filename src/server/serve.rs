//! Serves one connection from its first byte to its last: on the fast path while its requests are plain, by the HTTP library from the
//! first one on that is not. HTTP/2 has its own way from the first byte on.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::Request;
use http::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::api::{ClientAddress, ClientName, ConnectionMeter};
use crate::server::connection::{ClientStream, Progress, RawSocket, Timeouts};
use crate::server::exchange::{RequestBody, exchange};
use crate::server::fast_path::{FastPath, Outcome};
use crate::server::guard::{End, Guard, client_end};
use crate::server::handshake::{self, Accepted};
use crate::server::http2;
use crate::server::keep_alive::KeepAlive;
use crate::server::listen::{Face, Limits, Site};
use crate::server::request_line::RequestLines;
use crate::tls::{self, Tls, common_name};

/// A client that is still sending when its connection ends is listened to for so long, or until it has sent so much: it would
/// lose an answer that it has not read yet if its bytes came to a closed socket.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 << 20;

/// What a connection is served with.
pub(super) struct Terms {
    pub(super) face: Face,
    pub(super) site: Site,
    pub(super) limits: Limits,
    /// The headers that all successes of the key space have, as they are sent.
    pub(super) common: Arc<[u8]>,
    /// Cancelled when the connection is to end behind the request under way.
    pub(super) stop: CancellationToken,
    /// What to speak on it; plain when there is none.
    pub(super) tls: Option<Arc<Tls>>,
    /// Is told of handshakes.
    pub(super) meter: Arc<ConnectionMeter>,
    /// The client's address; none of one that comes through a socket in a file.
    pub(super) from: Option<IpAddr>,
}

/// Serves `stream` until its client ends or takes too long, or the member stops.
pub(super) async fn serve_connection(stream: TcpStream, keep_alive: KeepAlive, terms: Terms) {
    let (reading, mut writing) = stream.into_split();
    let lingers = match terms.tls.clone() {
        None => {
            let progress = Arc::new(Progress::default());
            drive(RawSocket::plain(reading), progress, &writing, keep_alive, terms, None).await
        }
        // In a place of its own: a plain connection needs no room for TLS.
        Some(tls) => Box::pin(secure(&tls, reading, &writing, keep_alive, terms)).await,
    };
    close(&mut writing, lingers).await;
}

/// Serves a connection in TLS, from the handshake on. Returns whether the client may still be sending.
async fn secure(
    tls: &Tls,
    reading: OwnedReadHalf,
    writing: &OwnedWriteHalf,
    keep_alive: KeepAlive,
    terms: Terms,
) -> bool {
    let progress = Arc::new(Progress::default());
    let raw = RawSocket::below_tls(reading, Arc::clone(&progress));
    let accepted = handshake::accept(tls, raw, writing, &terms).await;
    terms.meter.handshake(accepted.how());
    match accepted {
        Accepted::Secure(stream) => {
            let name = if tls.names_users() { common_name(&stream) } else { None };
            let name = name.map(|name| ClientName(name.into()));
            drive(*stream, progress, writing, keep_alive, terms, name).await
        }
        Accepted::Plain => true,
        Accepted::Failed => false,
    }
}

/// Closes the connection; a client that `lingers` is listened to first.
pub(super) async fn close(writing: &mut OwnedWriteHalf, lingers: bool) {
    if lingers && writing.shutdown().await.is_ok() {
        let _ = tokio::time::timeout(LINGER_TIMEOUT, discard(writing)).await;
    }
}

/// Serves HTTP to its end. `name` is that in the client's verified certificate. Returns whether the client may still be sending.
pub(super) async fn drive<S>(
    mut stream: S,
    progress: Arc<Progress>,
    socket: &OwnedWriteHalf,
    keep_alive: KeepAlive,
    terms: Terms,
    name: Option<ClientName>,
) -> bool
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Timeouts { head, idle } = terms.limits.timeouts;
    let end = pin!(client_end(socket));
    let clock = pin!(tokio::time::sleep(head.min(idle)));
    let mut guard = Guard::new(terms.limits.timeouts, keep_alive, socket, end, clock);
    let address = terms.from.map(ClientAddress);
    // The fast path keeps only the headers that a member reads.
    let outcome = if terms.site.is_proxy() {
        Outcome::Next(Vec::new())
    } else {
        let fast = FastPath {
            stream: &mut stream,
            guard: &mut guard,
            progress: &progress,
            stop: pin!(terms.stop.cancelled()),
            headers_max: terms.limits.headers_max,
            common: &terms.common,
            watches: false,
        };
        // Where the connection says who asks, each request has to.
        let api = terms.site.keys(terms.face).filter(|_| name.is_none());
        let answered = fast.serve(
            |plain| api.and_then(|api| Some((api, api.read_keys(plain)?))),
            |(api, asked)| api.answer_keys(asked),
            |mut request| {
                tell_who_asks(&mut request, name.as_ref(), address, &terms.site);
                terms.site.answer(terms.face, request)
            },
        );
        answered.await
    };
    match outcome {
        Outcome::Over => {
            // The end of TLS is said if there is room for it.
            let shutdown = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_shutdown(cx)));
            let _ = shutdown.await;
            false
        }
        // In places of their own: few connections need them.
        Outcome::First(read) if terms.site.speaks_http2(terms.face) => {
            match http2::begun(&mut stream, read, &mut guard).await {
                Some((read, true)) => {
                    let stream = ClientStream::new(stream, read, Arc::clone(&progress));
                    Box::pin(http2::serve(stream, progress, guard, &terms, name)).await;
                    false
                }
                Some((read, false)) => {
                    let stream = ClientStream::new(stream, read, Arc::clone(&progress));
                    Box::pin(by_library(stream, progress, guard, &terms, name)).await
                }
                None => false,
            }
        }
        Outcome::First(read) | Outcome::Next(read) => {
            let stream = ClientStream::new(stream, read, Arc::clone(&progress));
            Box::pin(by_library(stream, progress, guard, &terms, name)).await
        }
    }
}

/// Runs the HTTP library to its end. Returns whether the client may still be sending.
async fn by_library<S, E>(
    stream: ClientStream<S>,
    progress: Arc<Progress>,
    mut guard: Guard<'_, E>,
    terms: &Terms,
    name: Option<ClientName>,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
    E: Future<Output = End>,
{
    let Terms { face, site, limits, stop, tls, from, .. } = terms;
    let (face, from, patience) = (*face, *from, limits.timeouts.head);
    let address = from.map(ClientAddress);
    let service = service_fn(|mut request| {
        let (site, progress) = (site.clone(), Arc::clone(&progress));
        tell_who_asks(&mut request, name.as_ref(), address, &site);
        // Not inside: HTTP looks for the end of the stream before it awaits an answer for the first time.
        let request = RequestBody::track(request, &progress);
        // In a place of its own, which is gone when a long poll begins to wait; HTTP would keep room for it for ever.
        Box::pin(async move {
            Ok::<_, Infallible>(exchange(&site, face, request, progress, patience).await)
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
    let mut stopped = pin!(stop.cancelled());
    let mut stopping = false;
    if guard.ended() {
        progress.end();
    }
    let outcome = poll_fn(|cx| {
        match guard.poll_end(cx) {
            Poll::Ready(End::Reset) => return Poll::Ready(Err(None)),
            Poll::Ready(End::HalfClosed) => progress.end(),
            Poll::Pending => {}
        }
        if !stopping && stopped.as_mut().poll(cx).is_ready() {
            stopping = true;
            http.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = http.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(Some));
        }
        guard.follow(&progress);
        guard.poll_overdue(cx).map(|()| Err(None))
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

/// What is to be known of a request's client; most requests to a member come without, and take no memory for it.
pub(super) fn tell_who_asks<B>(
    request: &mut Request<B>,
    name: Option<&ClientName>,
    address: Option<ClientAddress>,
    site: &Site,
) {
    if let Some(name) = name {
        request.extensions_mut().insert(name.clone());
    }
    if (request.headers().contains_key(AUTHORIZATION) || site.is_proxy())
        && let Some(address) = address
    {
        request.extensions_mut().insert(address);
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
