//! Sockets: accept, limit, serve, drain.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::api::{Api, Body};
use crate::raft::Raft;
use crate::server::connection::{TimedStream, Timeouts, TrackedBody};
use crate::server::request_line::RequestLines;
use crate::server::socket::Socket;
use crate::transport::PREFACE;

/// A dead peer is noticed within a minute or so, also while it waits for an event.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// Pause after accept failed, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The first bytes between members come at once.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

/// What all listeners of a member share.
#[derive(Clone)]
pub(super) struct Limits {
    pub(super) connections: Arc<Semaphore>,
    pub(super) peer_connections: Arc<Semaphore>,
    pub(super) timeouts: Timeouts,
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

impl Limits {
    /// The same, with connections of their own.
    pub(super) fn for_peers(&self) -> Self {
        Self { connections: Arc::clone(&self.peer_connections), ..self.clone() }
    }
}

/// One socket and what is behind it.
pub(super) struct Listener {
    pub(super) socket: Socket,
    pub(super) face: Face,
    pub(super) api: Arc<Api>,
    pub(super) raft: Raft,
    pub(super) limits: Limits,
    pub(super) connections: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Listener {
    /// Accepts and serves until it is to stop; then lets the requests under way finish.
    pub(super) async fn serve(self) {
        loop {
            // Who finds the house full waits in the backlog.
            let permit = tokio::select! {
                permit = Arc::clone(&self.limits.connections).acquire_owned() => permit,
                () = self.stop.cancelled() => return,
            };
            let Ok(permit) = permit else { return };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    warn!(target: "etcdmain", "cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if self.socket.is_tcp()
                && let Err(error) = tune(&stream)
            {
                debug!(target: "etcdmain", "cannot tune a connection: {error}");
            }
            self.spawn(stream, permit);
        }
    }

    fn spawn(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let (api, limits, stop) = (Arc::clone(&self.api), self.limits.clone(), self.stop.clone());
        let face = self.face;
        if face != Face::Peers {
            self.connections.spawn(async move {
                serve_connection(stream, face, api, limits, stop).await;
                drop(permit);
            });
            return;
        }
        // Nobody waits for peers to finish: their connections end with consensus.
        let raft = self.raft.clone();
        tokio::spawn(async move {
            let first = tokio::time::timeout(limits.timeouts.head, is_peer(&stream)).await;
            match first {
                Ok(Ok(true)) => serve_peer(stream, raft).await,
                Ok(Ok(false)) => serve_connection(stream, face, api, limits, stop).await,
                // Nothing came, or nothing whole.
                Ok(Err(_)) | Err(_) => {}
            }
            drop(permit);
        });
    }
}

/// Does a connection begin as those between members do? HTTP begins with a letter.
async fn is_peer(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(first[0] == PREFACE[0])
}

async fn serve_peer(mut stream: TcpStream, raft: Raft) {
    let mut preface = [0; PREFACE.len()];
    let read = tokio::time::timeout(PREFACE_TIMEOUT, stream.read_exact(&mut preface)).await;
    if matches!(read, Ok(Ok(_))) && preface == *PREFACE {
        raft.serve_peer(Box::new(stream)).await;
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
    let (stream, phases) = TimedStream::new(stream, limits.timeouts);
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
        .serve_connection(TokioIo::new(RequestLines::new(stream)), service);
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
