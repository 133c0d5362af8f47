//! Sockets: accept, limit, serve, drain.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::api::{Api, Body, ConnectionMeter, Limit, OpenConnection};
use crate::base::{SplitMix, system_random};
use crate::config::Config;
use crate::model::codes;
use crate::proxy::Proxy;
use crate::raft::Raft;
use crate::server::connection::{Progress, RawSocket, Timeouts};
use crate::server::crowd::{Counted, Crowd};
use crate::server::fast_path;
use crate::server::handshake::{self, Accepted, shown};
use crate::server::keep_alive::KeepAlive;
use crate::server::serve::{Terms, close, drive, serve_connection};
use crate::server::socket::Socket;
use crate::tls::Tls;
use crate::transport::{Duplex, PREFACE};

/// Pause after accept failed, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The first bytes between members come at once.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

/// What each connection is held to.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) timeouts: Timeouts,
    pub(super) header_bytes_max: usize,
    pub(super) headers_max: usize,
    /// Requests beside each other on a connection that speaks HTTP/2.
    pub(super) streams_max: u32,
    /// Such a connection on which nothing comes for so long is asked whether it is still there.
    pub(super) ping_interval: Option<Duration>,
    /// And has so long to say so.
    pub(super) ping_timeout: Duration,
}

impl Limits {
    /// As the flags say them.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            timeouts: Timeouts { head: config.header_timeout, idle: config.idle_timeout },
            header_bytes_max: config.header_bytes_max,
            headers_max: config.headers_max,
            streams_max: config.streams_max,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
        }
    }
}

/// Which part of the API a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    Clients,
    Peers,
    Metrics,
}

impl Face {
    /// As metrics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Peers => "peers",
            Self::Metrics => "metrics",
        }
    }

    /// What a service manager calls sockets for it (`FileDescriptorName=`).
    pub(super) fn socket_name(self) -> &'static str {
        match self {
            Self::Clients => "client",
            Self::Peers => "peer",
            Self::Metrics => "metrics",
        }
    }
}

/// Who answers requests.
#[derive(Clone)]
pub(super) enum Site {
    /// This member.
    Member(Arc<Api>),
    /// Members elsewhere. Their answers depend on headers that this program does not know, so all of them are kept.
    Proxy(Arc<Proxy>),
}

impl Site {
    /// Answers a request that came in on a listener of this face.
    pub(super) async fn answer<B>(&self, face: Face, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match (self, face) {
            (Self::Member(api), Face::Clients) => api.serve_client(request).await,
            (Self::Member(api), Face::Peers) => api.serve_peer(request).await,
            (Self::Member(api), Face::Metrics) => api.serve_metrics(request).await,
            (Self::Proxy(proxy), Face::Clients | Face::Peers) => proxy.serve_client(request).await,
            (Self::Proxy(proxy), Face::Metrics) => proxy.serve_metrics(request).await,
        }
    }

    /// Who answers requests of the key space that are read without the HTTP library's types; peers and a proxy have none.
    pub(super) fn keys(&self, face: Face) -> Option<&Api> {
        match self {
            Self::Member(api) if face == Face::Clients => Some(api),
            Self::Member(_) | Self::Proxy(_) => None,
        }
    }

    /// Answers a call of gRPC.
    pub(super) async fn call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self {
            Self::Member(api) => api.serve_call(request).await,
            // Behind a proxy there is version 2 alone.
            Self::Proxy(proxy) => proxy.serve_client(request).await,
        }
    }

    /// Is HTTP/2 served on a listener of this face? It is there for the calls of version 3, which peers do not make and which a
    /// proxy does not pass on.
    pub(super) fn speaks_http2(&self, face: Face) -> bool {
        match self {
            Self::Member(_) => face == Face::Clients,
            Self::Proxy(_) => false,
        }
    }

    pub(super) fn is_proxy(&self) -> bool {
        matches!(self, Self::Proxy(_))
    }
}

/// One socket and what is behind it.
pub(super) struct Listener {
    pub(super) socket: Socket,
    pub(super) face: Face,
    pub(super) site: Site,
    /// For peers; a proxy has none.
    pub(super) raft: Option<Raft>,
    pub(super) limits: Limits,
    /// One for each connection; shared with the other listeners of this face.
    pub(super) permits: Arc<Semaphore>,
    /// Counts connections, for those who watch.
    pub(super) meter: Arc<ConnectionMeter>,
    /// Counts connections by address.
    pub(super) crowd: Arc<Crowd>,
    pub(super) connections: TaskTracker,
    pub(super) stop: CancellationToken,
    /// Spoken on it; plain when there is none.
    pub(super) tls: Option<Arc<Tls>>,
}

impl Listener {
    /// Accepts and serves until it is to stop; then lets the requests under way finish.
    pub(super) async fn serve(self) {
        let mut seeds = SplitMix::new(system_random());
        let common = self.site.keys(self.face).map(Api::common_headers).unwrap_or_default();
        let common: Arc<[u8]> = fast_path::rendered(&common).into();
        loop {
            // Beyond the limit connections wait in the backlog.
            if self.permits.available_permits() == 0 {
                self.meter.hit(Limit::Connections);
            }
            let permit = tokio::select! {
                permit = Arc::clone(&self.permits).acquire_owned() => permit,
                () = self.stop.cancelled() => return,
            };
            let Ok(permit) = permit else { return };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(target: "etcdmain", code = codes::ACCEPT_FAILED, "cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(counted) = self.crowd.enter(from) else {
                self.meter.hit(Limit::ConnectionsOfOneAddress);
                warn!(
                    target: "etcdmain",
                    code = codes::ADDRESS_LIMIT,
                    "a connection from {} is closed: that address has as many as --max-connections-per-ip allows",
                    shown(from),
                );
                continue;
            };
            let mut keep_alive = KeepAlive::new(seeds.next());
            if self.socket.is_tcp()
                && let Err(error) = stream.set_nodelay(true).and_then(|()| keep_alive.set(&stream))
            {
                debug!(target: "etcdmain", "cannot tune a connection: {error}");
            }
            let place = (permit, counted, self.meter.accepted());
            self.spawn(stream, from, place, keep_alive, Arc::clone(&common));
        }
    }

    fn spawn(
        &self,
        stream: TcpStream,
        from: Option<IpAddr>,
        place: (OwnedSemaphorePermit, Counted, OpenConnection),
        keep_alive: KeepAlive,
        common: Arc<[u8]>,
    ) {
        let terms = Terms {
            face: self.face,
            site: self.site.clone(),
            limits: self.limits,
            common,
            stop: self.stop.clone(),
            tls: self.tls.clone(),
            meter: Arc::clone(&self.meter),
            from,
        };
        let raft = self.raft.clone().filter(|_| self.face == Face::Peers);
        let Some(raft) = raft else {
            self.connections.spawn(async move {
                serve_connection(stream, keep_alive, terms).await;
                drop(place);
            });
            return;
        };
        // A stop does not wait for peers: their connections end with consensus.
        tokio::spawn(async move {
            match terms.tls.clone() {
                None => serve_plain_peer(stream, raft, keep_alive, terms).await,
                Some(tls) => serve_secure_peer(stream, raft, &tls, keep_alive, terms).await,
            }
            drop(place);
        });
    }
}

async fn serve_plain_peer(stream: TcpStream, raft: Raft, keep_alive: KeepAlive, terms: Terms) {
    let first = tokio::time::timeout(terms.limits.timeouts.head, is_peer(&stream)).await;
    match first {
        Ok(Ok(true)) => serve_peer(stream, raft).await,
        Ok(Ok(false)) => serve_connection(stream, keep_alive, terms).await,
        // Nothing came, or nothing whole.
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn serve_secure_peer(
    stream: TcpStream,
    raft: Raft,
    tls: &Tls,
    keep_alive: KeepAlive,
    terms: Terms,
) {
    let (reading, mut writing) = stream.into_split();
    let progress = Arc::new(Progress::default());
    let raw = RawSocket::below_tls(reading, Arc::clone(&progress));
    let accepted = handshake::accept(tls, raw, &writing, &terms).await;
    terms.meter.handshake(accepted.how());
    let lingers = match accepted {
        Accepted::Secure(stream) => {
            // The stream keeps what was looked at for those who read on.
            let mut stream = BufReader::with_capacity(PREFACE.len(), *stream);
            let first = tokio::time::timeout(terms.limits.timeouts.head, stream.fill_buf()).await;
            let first = first.ok().and_then(Result::ok).and_then(|first| first.first().copied());
            match first {
                Some(first) if first == PREFACE[0] => {
                    serve_peer(stream, raft).await;
                    false
                }
                Some(_) => drive(stream, progress, &writing, keep_alive, terms, None).await,
                None => false,
            }
        }
        Accepted::Plain => true,
        Accepted::Failed => false,
    };
    close(&mut writing, lingers).await;
}

/// Does a connection begin as those between members do? HTTP begins with a letter.
async fn is_peer(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(first[0] == PREFACE[0])
}

async fn serve_peer(mut stream: impl Duplex, raft: Raft) {
    let mut preface = [0; PREFACE.len()];
    let read = tokio::time::timeout(PREFACE_TIMEOUT, stream.read_exact(&mut preface)).await;
    if matches!(read, Ok(Ok(_))) && preface == *PREFACE {
        raft.serve_peer(Box::new(stream)).await;
    }
}
