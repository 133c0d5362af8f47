//! The first words on a connection: who dials whom, for what, in which version.

use thiserror::Error;

use crate::model::{ClusterId, DecodeError, MemberId, Reader, Writer};
use crate::transport::frame::Frame;

/// What a connection between members starts with. It can be told from HTTP, which shares the port, by its first byte.
pub const PREFACE: &[u8; 8] = b"\0cairn\r\n";

/// The version of the protocol between members that this build speaks.
///
/// | version | what came with it |
/// |---|---|
/// | 1 | the first |
/// | 2 | snapshots in parts; a fence behind a connection that broke with writes under way |
/// | 3 | questions that the leader's upper floors answer, about leases |
/// | 4 | nothing on the wire: entries of the log that record when leases end are understood |
pub const VERSION: u8 = 4;

/// The oldest version that it understands as well. Entries of the log have versions of their own; the changelog says when members
/// of two versions must not run together.
pub const VERSION_OLDEST: u8 = 1;

/// Enough for any introduction.
pub(super) const HELLO_BYTES_MAX: usize = 64 << 10;

pub(super) const HELLO: u8 = 0;
pub(super) const ANSWER: u8 = 1;

/// What a connection is for. Each lane has its own, so that none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Heartbeats: small, and never late.
    Heartbeat,
    /// Votes and the hand-over of leadership.
    Vote,
    /// Log entries.
    Log,
    /// Snapshots.
    Snapshot,
    /// What a follower asks of its leader: writes, and how far the log is.
    Ask,
}

impl Lane {
    const ALL: [(Self, u8); 5] = [
        (Self::Heartbeat, 1),
        (Self::Vote, 2),
        (Self::Log, 3),
        (Self::Snapshot, 4),
        (Self::Ask, 5),
    ];

    fn number(self) -> u8 {
        match self {
            Self::Heartbeat => 1,
            Self::Vote => 2,
            Self::Log => 3,
            Self::Snapshot => 4,
            Self::Ask => 5,
        }
    }
}

/// The introduction of the end that dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version it speaks.
    pub oldest: u8,
    /// The newest.
    pub newest: u8,
    /// What the connection is for.
    pub lane: Lane,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Itself.
    pub from: MemberId,
    /// Whom it expects here.
    pub to: MemberId,
    /// What it is called.
    pub name: String,
    /// Where it is reached.
    pub peer_urls: Vec<String>,
}

/// Why a member is not let in. The texts are for operators.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PeerRefusal {
    /// It belongs to another cluster.
    #[error(
        "cluster ID mismatch: it belongs to cluster {0}. The two were founded with different --initial-cluster or \
         --initial-cluster-token; if this member is to join, empty its data directory, add it with `etcdctl member add` and \
         start it with --initial-cluster-state=existing"
    )]
    OtherCluster(ClusterId),
    /// Another member is at that URL.
    #[error(
        "member {0} is there: two members have the same peer URL, or one moved without `etcdctl member update`"
    )]
    OtherMember(MemberId),
    /// The member was removed from the cluster.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// No common version.
    #[error(
        "it speaks versions {oldest} to {newest} of the protocol between members: upgrade one minor version at a time"
    )]
    Version {
        /// The oldest that would do.
        oldest: u8,
        /// The newest that would do.
        newest: u8,
    },
}

impl Hello {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(self.oldest).u8(self.newest).u8(self.lane.number());
        out.u64(self.cluster.0).u64(self.from.0).u64(self.to.0);
        out.bytes(self.name.as_bytes()).varint(self.peer_urls.len() as u64);
        for url in &self.peer_urls {
            out.bytes(url.as_bytes());
        }
        out.finish()
    }

    pub(super) fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        if frame.kind != HELLO {
            return Err(DecodeError::Unknown { what: "first frame", found: frame.kind.into() });
        }
        let mut input = Reader::new(&frame.payload);
        let (oldest, newest) = (input.u8("oldest version")?, input.u8("newest version")?);
        let number = input.u8("lane")?;
        let lane = Lane::ALL.into_iter().find(|(_, known)| *known == number);
        let (lane, _) = lane.ok_or(DecodeError::Unknown { what: "lane", found: number.into() })?;
        let cluster = ClusterId(input.u64("cluster")?);
        let (from, to) = (MemberId(input.u64("from")?), MemberId(input.u64("to")?));
        let name = input.text("name")?;
        let mut peer_urls = Vec::new();
        for _ in 0..input.varint("url count")? {
            peer_urls.push(input.text("url")?);
        }
        // What a newer version has to add follows here, and is not for us.
        Ok(Self { oldest, newest, lane, cluster, from, to, name, peer_urls })
    }
}

const WELCOME: u8 = 0;
const OTHER_CLUSTER: u8 = 1;
const OTHER_MEMBER: u8 = 2;
const REMOVED: u8 = 3;
const OTHER_VERSION: u8 = 4;

pub(super) fn encode_answer(verdict: &Result<u8, PeerRefusal>) -> Vec<u8> {
    let mut out = Writer::default();
    match verdict {
        Ok(version) => out.u8(WELCOME).u8(*version),
        Err(PeerRefusal::OtherCluster(cluster)) => out.u8(OTHER_CLUSTER).u64(cluster.0),
        Err(PeerRefusal::OtherMember(member)) => out.u8(OTHER_MEMBER).u64(member.0),
        Err(PeerRefusal::Removed) => out.u8(REMOVED),
        Err(PeerRefusal::Version { oldest, newest }) => {
            out.u8(OTHER_VERSION).u8(*oldest).u8(*newest)
        }
    };
    out.finish()
}

pub(super) fn read_answer(frame: &Frame) -> Result<Result<u8, PeerRefusal>, DecodeError> {
    if frame.kind != ANSWER {
        return Err(DecodeError::Unknown { what: "first answer", found: frame.kind.into() });
    }
    let mut input = Reader::new(&frame.payload);
    Ok(match input.u8("answer")? {
        WELCOME => Ok(input.u8("version")?),
        OTHER_CLUSTER => Err(PeerRefusal::OtherCluster(ClusterId(input.u64("cluster")?))),
        OTHER_MEMBER => Err(PeerRefusal::OtherMember(MemberId(input.u64("member")?))),
        REMOVED => Err(PeerRefusal::Removed),
        OTHER_VERSION => {
            let (oldest, newest) = (input.u8("oldest version")?, input.u8("newest version")?);
            Err(PeerRefusal::Version { oldest, newest })
        }
        found => return Err(DecodeError::Unknown { what: "answer", found: found.into() }),
    })
}
