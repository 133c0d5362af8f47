//! Sockets: accept, limit, serve, drain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::api::{Api, Body};
use crate::server::connection::{Patience, PatientStream, TrackedBody};

/// Connections that the system accepts for us while we are busy.
const BACKLOG: i32 = 1024;

/// A dead peer is noticed within a minute or so, also while it waits for an event.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// Pause after accept failed, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all listeners of a member share.
#[derive(Clone)]
pub(super) struct Limits {
    pub(super) connections: Arc<Semaphore>,
    pub(super) patience: Patience,
    pub(super) header_bytes_max: usize,
    pub(super) headers_max: usize,
}

/// Which part of the API a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    Clients,
    Peers,
    Metrics,
}

/// Takes an address.
///
/// # Errors
/// When it is taken already, or not of this machine.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts and serves until `stop`; then lets the requests under way finish.
pub(super) async fn serve(
    listener: TcpListener,
    face: Face,
    api: Arc<Api>,
    limits: Limits,
    connections: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        // Who finds the house full waits in the backlog.
        let permit = tokio::select! {
            permit = Arc::clone(&limits.connections).acquire_owned() => permit,
            () = stop.cancelled() => return,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(target: "etcdmain", "cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = tune(&stream) {
            debug!(target: "etcdmain", "cannot tune a connection: {error}");
        }
        let (api, limits, stop) = (Arc::clone(&api), limits.clone(), stop.clone());
        connections.spawn(async move {
            serve_connection(stream, face, api, limits, stop).await;
            drop(permit);
        });
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn serve_connection(
    stream: TcpStream,
    face: Face,
    api: Arc<Api>,
    limits: Limits,
    stop: CancellationToken,
) {
    let (stream, phases) = PatientStream::new(stream, limits.patience);
    let service = service_fn(move |request| {
        let (api, phases) = (Arc::clone(&api), Arc::clone(&phases));
        // Not inside: HTTP looks for the end of the stream before it awaits an answer for the first time.
        let request = request.map(|body| phases.request(body));
        async move {
            let response = answer(&api, face, request).await;
            phases.answered(response.body().streams_on());
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .half_close(false)
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes_max)
        .max_headers(limits.headers_max)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // The client's business: cut off, timed out, or no HTTP at all.
        debug!(target: "etcdhttp", "a connection ended: {error}");
    }
}

async fn answer(api: &Api, face: Face, request: Request<TrackedBody>) -> http::Response<Body> {
    match face {
        Face::Clients => api.serve_client(request).await,
        Face::Peers => api.serve_peer(request).await,
        Face::Metrics => api.serve_metrics(request).await,
    }
}
