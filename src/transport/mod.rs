//! Connections between members: dialled, introduced to each other, cut into frames.
//!
//! Owns: who is reached where, what was sent and received, the first words on a connection.
//! Never knows: what the frames mean, what a term or an entry is.
//! Holds: nothing is read from a connection before both ends agreed on cluster, members and version. Frames are bounded,
//! and a changed byte is found by its checksum.
//!
//! A connection belongs to the one who dialled it: requests go out on it, answers come back. Each pair of members has a few
//! of them, one for each [`Lane`], so that a large message never waits before a heartbeat.

mod book;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hello;
mod traffic;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tracing::{info, warn};

use crate::model::{Clipped, ClusterId, DecodeError, MemberId, codes};

pub use book::AddressBook;
pub use frame::{FRAME_BYTES_MAX, Frame, FrameReader, FrameWriter};
pub use hello::{Hello, Lane, PREFACE, PeerRefusal, VERSION, VERSION_OLDEST};
pub use traffic::{PeerTraffic, Traffic};

/// A new connection's first words must have been exchanged within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream of bytes in both directions: TCP, later TLS, in tests a pipe.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Duplex for T {}

/// A stream whose kind does not matter any more.
pub type Stream = Box<dyn Duplex>;

/// The way out: opens streams to URLs. Handed down by the floor that owns sockets; a simulated network brings its own.
pub trait Dial: Send + Sync {
    /// Opens a stream to a peer URL. There is no time limit in here.
    fn dial<'a>(&'a self, url: &'a str) -> BoxFuture<'a, io::Result<Stream>>;
}

/// The reading end of a connection.
pub type Incoming = FrameReader<ReadHalf<Stream>>;
/// The writing end of a connection.
pub type Outgoing = FrameWriter<WriteHalf<Stream>>;

/// Who this member is to its peers.
#[derive(Clone, Debug)]
pub struct LocalPeer {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Itself.
    pub member: MemberId,
    /// What it is called; shown in the other's log.
    pub name: String,
    /// Where it is reached, for those who do not know yet.
    pub peer_urls: Vec<String>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No URL of the member is known.
    #[error("no peer URL of member {0} is known")]
    Unknown(MemberId),
    /// No URL answered; the text is of the last one tried.
    #[error("{url}: {source}")]
    Unreachable {
        /// The URL.
        url: String,
        /// What the system said.
        source: io::Error,
    },
    /// The other end knows us and does not want us.
    #[error("{url} refused this member: {refusal}")]
    Refused {
        /// The URL.
        url: String,
        /// Why.
        refusal: PeerRefusal,
    },
}

/// Why a connection that came in is closed again.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// It broke, or spoke another protocol.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It was told why.
    #[error("{from} ({}) was refused: {refusal}", Clipped(name))]
    Refused {
        /// Who it said it was.
        from: MemberId,
        /// What it is called.
        name: String,
        /// Why.
        refusal: PeerRefusal,
    },
}

/// Decides who may connect, beyond cluster and version.
pub trait Gate: Send + Sync {
    /// # Errors
    /// What the stranger is told.
    fn admit(&self, from: MemberId) -> Result<(), PeerRefusal>;
}

/// All connections of one member.
pub struct Transport {
    identity: LocalPeer,
    dial: Arc<dyn Dial>,
    dial_timeout: Duration,
    book: Arc<AddressBook>,
    traffic: Arc<Traffic>,
    /// Connections that were let in.
    accepted: AtomicU64,
}

/// A connection that both ends agreed to.
pub struct Link {
    /// The other end.
    pub peer: MemberId,
    /// What it is for.
    pub lane: Lane,
    /// The version of the protocol that both speak on it.
    pub version: u8,
    /// Its place among the connections that this member let in, from 1 on; zero for one that it dialled. It is taken before the
    /// other end hears that it is let in: of two connections that a member dials one after the other, the second has the larger
    /// number.
    pub accepted: u64,
    /// Frames from the other end.
    pub incoming: Incoming,
    /// Frames to the other end.
    pub outgoing: Outgoing,
    /// Says that the connection is there, for as long as this lives.
    pub open: traffic::Open,
}

impl Transport {
    /// `dial_timeout` limits one attempt to reach one URL, first words included.
    pub fn new(
        identity: LocalPeer,
        dial: Arc<dyn Dial>,
        dial_timeout: Duration,
        book: Arc<AddressBook>,
    ) -> Self {
        let (traffic, accepted) = (Arc::default(), AtomicU64::new(0));
        Self { identity, dial, dial_timeout, book, traffic, accepted }
    }

    /// Who this member is.
    pub fn identity(&self) -> &LocalPeer {
        &self.identity
    }

    /// Who is reached where.
    pub fn book(&self) -> &Arc<AddressBook> {
        &self.book
    }

    /// What was sent and received.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Connects to a member, trying its URLs in turn.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, to: MemberId, lane: Lane) -> Result<Link, ConnectError> {
        let peer = self.traffic.of(to);
        let result = self.try_connect(to, lane).await;
        // Once for each change, not for each attempt: a peer that is down for a day must not fill the log.
        match &result {
            Ok(_) => {
                if peer.reached() {
                    info!(target: "rafthttp", "peer {to} became active");
                }
            }
            Err(error) => {
                peer.count_sent_failure();
                if peer.lost(&error.to_string()) {
                    warn!(target: "rafthttp", code = codes::PEER_UNREACHABLE, "peer {to} cannot be reached: {error}");
                }
            }
        }
        result
    }

    async fn try_connect(&self, to: MemberId, lane: Lane) -> Result<Link, ConnectError> {
        let mut last = ConnectError::Unknown(to);
        for url in self.book.urls(to) {
            let attempt = async {
                let stream = self.dial.dial(&url).await?;
                self.introduce(stream, to, lane).await
            };
            let result = tokio::time::timeout(self.dial_timeout, attempt).await;
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
            match result.unwrap_or_else(|_| Err(late())) {
                Ok(Ok(link)) => {
                    self.book.found(to, &url);
                    return Ok(link);
                }
                // The member that answers at this URL is another one, or refuses this one; another URL may be better.
                Ok(Err(refusal)) => last = ConnectError::Refused { url, refusal },
                Err(source) => last = ConnectError::Unreachable { url, source },
            }
        }
        Err(last)
    }

    async fn introduce(
        &self,
        stream: Stream,
        to: MemberId,
        lane: Lane,
    ) -> io::Result<Result<Link, PeerRefusal>> {
        let (read, write) = tokio::io::split(stream);
        let peer = self.traffic.of(to);
        let mut outgoing = FrameWriter::new(write, Arc::clone(&peer));
        let hello = Hello {
            oldest: VERSION_OLDEST,
            newest: VERSION,
            lane,
            cluster: self.identity.cluster,
            from: self.identity.member,
            to,
            name: self.identity.name.clone(),
            peer_urls: self.identity.peer_urls.clone(),
        };
        outgoing.raw(PREFACE);
        outgoing.put(hello::HELLO, &hello.encode())?;
        outgoing.flush().await?;
        let mut incoming = FrameReader::new(read, Arc::clone(&peer));
        let answer = incoming.next().await?.ok_or_else(cut_off)?;
        let version = match hello::read_answer(&answer).map_err(malformed)? {
            Ok(version @ VERSION_OLDEST..=VERSION) => version,
            Ok(found) => {
                let found = found.into();
                return Err(malformed(DecodeError::Unknown { what: "version", found }));
            }
            Err(refusal) => return Ok(Err(refusal)),
        };
        let open = peer.open(version);
        Ok(Ok(Link { peer: to, lane, version, accepted: 0, incoming, outgoing, open }))
    }

    /// Reads the first words of a stream that came in; [`PREFACE`] is already read off it.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn accept(&self, stream: Stream, gate: &dyn Gate) -> Result<Link, AcceptError> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no introduction in time");
        tokio::time::timeout(HELLO_TIMEOUT, self.be_introduced(stream, gate))
            .await
            .unwrap_or_else(|_| Err(late().into()))
    }

    async fn be_introduced(&self, stream: Stream, gate: &dyn Gate) -> Result<Link, AcceptError> {
        let (read, write) = tokio::io::split(stream);
        let unknown = Arc::new(PeerTraffic::default());
        let mut incoming = FrameReader::new(read, Arc::clone(&unknown));
        incoming.limit(hello::HELLO_BYTES_MAX);
        let first = incoming.next().await?.ok_or_else(cut_off)?;
        let hello = Hello::decode(&first).map_err(malformed)?;
        let mut outgoing = FrameWriter::new(write, unknown);
        let verdict = self.judge(&hello).and_then(|version| {
            gate.admit(hello.from)?;
            Ok(version)
        });
        let accepted = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        outgoing.put(hello::ANSWER, &hello::encode_answer(&verdict))?;
        outgoing.flush().await?;
        let version = match verdict {
            Ok(version) => version,
            Err(refusal) => {
                return Err(AcceptError::Refused { from: hello.from, name: hello.name, refusal });
            }
        };
        // Only now is the number of peers that are kept account of bounded by the cluster's size.
        let peer = self.traffic.of(hello.from);
        self.book.learn(hello.from, &hello.peer_urls);
        incoming.limit(FRAME_BYTES_MAX);
        incoming.count_for(Arc::clone(&peer));
        outgoing.count_for(Arc::clone(&peer));
        let open = peer.open(version);
        let (peer, lane) = (hello.from, hello.lane);
        Ok(Link { peer, lane, version, accepted, incoming, outgoing, open })
    }

    fn judge(&self, hello: &Hello) -> Result<u8, PeerRefusal> {
        let identity = &self.identity;
        if hello.cluster != identity.cluster {
            return Err(PeerRefusal::OtherCluster(identity.cluster));
        }
        if hello.to != identity.member || hello.from == identity.member {
            return Err(PeerRefusal::OtherMember(identity.member));
        }
        let version = hello.newest.min(VERSION);
        if version < hello.oldest.max(VERSION_OLDEST) {
            return Err(PeerRefusal::Version { oldest: VERSION_OLDEST, newest: VERSION });
        }
        Ok(version)
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the other end closed during the introduction")
}

fn malformed(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
