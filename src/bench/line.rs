//! A connection to one of the servers, in clear or in TLS.
//!
//! Owns: sockets, the time an answer may take. Never knows: what is asked.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Sleep;

use crate::bench::answer::{Head, Reader};
use crate::bench::failure::{Failure, Kind};
use crate::bench::plan::Plan;
use crate::config::TlsFlags;
use crate::tls::{ClientStream, Tls, Trust};

/// Connections from one address of this machine to one port of another: the system has about 28,000 ports for them.
const PER_ADDRESS_MAX: usize = 20_000;

/// The servers, and how they are reached.
pub(super) struct Servers {
    all: Vec<Server>,
    /// `None` when every URL is `http://`.
    tls: Option<Arc<Tls>>,
    timeout: Duration,
}

struct Server {
    host: String,
    url: String,
    addresses: Vec<SocketAddr>,
    secure: bool,
}

impl Servers {
    /// Looks their names up and reads the certificates.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) async fn of(plan: &Plan) -> Result<Self, String> {
        let secure = plan.endpoints.iter().any(|url| url.scheme() == "https");
        // What is named must be there, also where it is not used; the system's list need not.
        let tls = if secure || plan.tls != TlsFlags::default() {
            let tls = Tls::load(plan.tls.clone(), Trust::ConfiguredOrPublic, &[]);
            Some(Arc::new(tls.map_err(|error| error.to_string())?))
        } else {
            None
        };
        let mut all = Vec::new();
        for url in &plan.endpoints {
            let host = url.host().to_owned();
            let (_, _, port) = url.place();
            let found = tokio::net::lookup_host((host.as_str(), port)).await;
            let found = found.map(Iterator::collect::<Vec<_>>);
            let addresses = found.map_err(|error| format!("{url} has no address: {error}"))?;
            let secure = url.scheme() == "https";
            all.push(Server { host, url: url.to_string(), addresses, secure });
        }
        Ok(Self { all, tls, timeout: plan.timeout })
    }

    /// What is spoken with servers that speak TLS.
    pub(super) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// What the requests of a connection say as `Host`.
    pub(super) fn host(&self, number: usize) -> &str {
        let url = &self.all[number % self.all.len()].url;
        url.split_once("://").map_or(url, |(_, host)| host)
    }

    /// Opens the connection with this number; they take turns with the servers.
    pub(super) async fn connect(&self, number: usize) -> Result<Line, Failure> {
        let server = &self.all[number % self.all.len()];
        let fail = |error: io::Error| {
            Failure::new(Kind::Connect, format!("cannot connect to {}: {error}", server.url))
        };
        let connected = tokio::time::timeout(self.timeout, async {
            let stream = server.dial(number / PER_ADDRESS_MAX).await?;
            stream.set_nodelay(true)?;
            match self.tls.as_ref().filter(|_| server.secure) {
                None => Ok(Stream::Plain(stream)),
                Some(tls) => Ok(Stream::Secure(Box::new(tls.connect(&server.host, stream).await?))),
            }
        });
        let late = |_| Failure::new(Kind::Connect, format!("no connection to {}", server.url));
        let stream = connected.await.map_err(late)?.map_err(fail)?;
        let timer = Box::pin(tokio::time::sleep(self.timeout));
        Ok(Line { stream, reader: Reader::new(), limit: self.timeout, timer })
    }
}

impl Server {
    /// The first address that takes a connection. `part` is which part of many connections this is one of.
    async fn dial(&self, part: usize) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in &self.addresses {
            let connected = match source(*address, part) {
                Some(source) => {
                    let socket = TcpSocket::new_v4()?;
                    socket.bind(source)?;
                    socket.connect(*address).await
                }
                None => TcpStream::connect(address).await,
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Loopback has sixteen million addresses to connect from.
fn source(to: SocketAddr, part: usize) -> Option<SocketAddr> {
    let last = u8::try_from(part).ok().filter(|part| *part > 0)?;
    let loopback = to.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST);
    loopback.then(|| SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), 0)))
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<ClientStream<TcpStream>>),
}

/// One connection, on which one request is under way at a time.
pub(super) struct Line {
    stream: Stream,
    reader: Reader,
    limit: Duration,
    /// Set anew only when it rings: most answers come long before.
    timer: Pin<Box<Sleep>>,
}

impl Line {
    /// Sends a request, now or at least soon after `begun`, and reads its answer; with `keep`, [`Line::kept`] has the body.
    pub(super) async fn ask(
        &mut self,
        begun: Instant,
        request: &[u8],
        keep: bool,
    ) -> Result<Head, Failure> {
        let Self { stream, reader, limit, timer } = self;
        within(timer, begun, *limit, async {
            stream.send(request).await?;
            let head = stream.head(reader).await?;
            stream.body(reader, &head, keep).await?;
            Ok(head)
        })
        .await
    }

    /// Sends a request and reads the head of its answer.
    pub(super) async fn begin(&mut self, begun: Instant, request: &[u8]) -> Result<Head, Failure> {
        let Self { stream, reader, limit, timer } = self;
        within(timer, begun, *limit, async {
            stream.send(request).await?;
            stream.head(reader).await
        })
        .await
    }

    /// Reads the body behind `head` and keeps it, however long it takes to come.
    pub(super) async fn wait(&mut self, head: &Head) -> Result<&[u8], Failure> {
        self.stream.body(&mut self.reader, head, true).await?;
        Ok(self.reader.kept())
    }

    /// The body of the last answer that was to be kept.
    pub(super) fn kept(&self) -> &[u8] {
        self.reader.kept()
    }
}

/// Ends with a failure when `exchange`, which was begun at `begun`, takes longer than `limit`.
async fn within<T>(
    timer: &mut Pin<Box<Sleep>>,
    begun: Instant,
    limit: Duration,
    exchange: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut exchange = pin!(exchange);
    loop {
        tokio::select! {
            biased;
            done = exchange.as_mut() => return done,
            () = timer.as_mut() => {}
        }
        if begun.elapsed() >= limit {
            return Err(Failure::new(Kind::TimedOut, format!("no answer within {limit:?}")));
        }
        // It was set for an earlier request.
        timer.as_mut().reset((begun + limit).into());
    }
}

impl Stream {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Secure(stream) => match stream.write_all(bytes).await {
                Ok(()) => stream.flush().await,
                Err(error) => Err(error),
            },
        };
        sent.map_err(|error| Failure::io(&error))
    }

    async fn head(&mut self, reader: &mut Reader) -> Result<Head, Failure> {
        match self {
            Self::Plain(stream) => reader.head(stream).await,
            Self::Secure(stream) => reader.head(stream).await,
        }
    }

    async fn body(&mut self, reader: &mut Reader, head: &Head, keep: bool) -> Result<(), Failure> {
        match self {
            Self::Plain(stream) => reader.body(stream, head, keep).await,
            Self::Secure(stream) => reader.body(stream, head, keep).await,
        }
    }
}
