//! A snapshot on its way to a follower that the log no longer reaches: announced, sent in blocks, installed.
//!
//! The sender walks a tree that nobody changes any more, a block at a time; the receiver builds a store aside. Neither
//! holds more than a block beside its stores. When the connection breaks, the receiver keeps what it has, and says so the
//! next time: the rest is sent.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openraft::storage::Snapshot;
use tracing::info;

use crate::model::{DecodeError, KeyPath, MemberId, Reader, StoreIndex, Writer};
use crate::raft::checkpoint::{Checkpoint, Checkpoints};
use crate::raft::types::{self, LogId, SnapshotMeta, Types, Vote};
use crate::raft::wire::{self, SnapshotBegin, snapshot};
use crate::store::{Header, HistoryLimits, Loader, Position, Record, Store};
use crate::transport::{Frame, Link};

/// Records in one frame, roughly.
const BLOCK_BYTES: usize = 256 << 10;

/// The other end must take a block, or answer, within this time.
const PROGRESS: Duration = Duration::from_secs(30);

/// Installing means to write everything to the disk.
const INSTALL: Duration = Duration::from_secs(600);

type OpenraftSnapshot = openraft::type_config::alias::SnapshotOf<Types, Checkpoint>;

const NODE: u8 = 0;
const EVENT: u8 = 1;

/// Sends a snapshot and waits until it is installed; returns the vote of whoever installed it.
pub(super) async fn send(
    link: &mut Link,
    vote: Vote,
    snapshot: OpenraftSnapshot,
    checkpoints: &Checkpoints,
) -> io::Result<Vote> {
    let Snapshot { meta, snapshot: Checkpoint { store, applied, .. } } = snapshot;
    let index = meta.last_log_id.as_ref().map(types::position).unwrap_or_default().index;
    let begin = SnapshotBegin { vote, meta, header: store.header().0 };
    link.outgoing.put(snapshot::BEGIN, &begin.encode());
    within(PROGRESS, link.outgoing.flush()).await?;
    let answer = receive(link, PROGRESS).await?;
    wire::expect(&answer, snapshot::RESUME).map_err(malformed)?;
    let mut after = wire::decode_resume(&answer.payload).map_err(malformed)?;
    let how = if after.is_some() { "the rest of" } else { "all of" };
    info!(target: "rafthttp", "sending {how} snapshot {index} to {}", link.peer);
    loop {
        let (block, last) = block_after(&store, after.as_ref());
        let Some(last) = last else { break };
        link.outgoing.put(snapshot::BLOCK, &block);
        within(PROGRESS, link.outgoing.flush()).await?;
        checkpoints.still_sending();
        after = Some(last);
    }
    link.outgoing.put(snapshot::END, &[]);
    within(PROGRESS, link.outgoing.flush()).await?;
    let answer = receive(link, INSTALL).await?;
    if answer.kind == snapshot::FAILED {
        return Err(io::Error::other(String::from_utf8_lossy(&answer.payload).into_owned()));
    }
    wire::expect(&answer, snapshot::INSTALLED).map_err(malformed)?;
    checkpoints.arrived(applied);
    info!(target: "rafthttp", "snapshot {index} is installed on {}", link.peer);
    wire::decode_one_vote(&answer.payload).map_err(malformed)
}

/// The records behind `after`, about a block of them, and where the last of them stands; nothing when there are none left.
fn block_after(store: &Store, after: Option<&Position>) -> (Vec<u8>, Option<Position>) {
    let mut out = Writer::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 8);
    let mut last = None;
    let _ = store.records_after(after, &mut |record| {
        last = Some(match record {
            Record::Node(path, bytes) => {
                out.u8(NODE).bytes(path.as_bytes()).bytes(&bytes);
                Position::Node(path)
            }
            Record::Event(index, bytes) => {
                out.u8(EVENT).u64(index.0).bytes(&bytes);
                Position::Event(index)
            }
        });
        if out.length() >= BLOCK_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (out.finish(), last)
}

/// Snapshots that are coming in.
#[derive(Default)]
pub(super) struct Arrivals {
    /// What came before a connection broke.
    unfinished: Mutex<Option<Arrival>>,
}

struct Arrival {
    from: MemberId,
    last_log_id: Option<LogId>,
    header: Vec<u8>,
    loader: Loader,
    after: Option<Position>,
}

/// A snapshot that is here whole.
pub(super) struct Arrived {
    pub(super) vote: Vote,
    pub(super) snapshot: OpenraftSnapshot,
}

impl Arrivals {
    /// Receives one snapshot. Whoever calls installs it and answers.
    pub(super) async fn receive(
        &self,
        link: &mut Link,
        limits: HistoryLimits,
    ) -> io::Result<Arrived> {
        let first = receive(link, PROGRESS).await?;
        wire::expect(&first, snapshot::BEGIN).map_err(malformed)?;
        let begin = SnapshotBegin::decode(&first.payload).map_err(malformed)?;
        let mut arrival = self.resume(link.peer, &begin, limits).map_err(malformed)?;
        let index = begin.meta.last_log_id.as_ref().map(types::position).unwrap_or_default().index;
        let how = if arrival.after.is_some() { "the rest of" } else { "all of" };
        info!(target: "rafthttp", "receiving {how} snapshot {index} from {}", link.peer);
        link.outgoing.put(snapshot::RESUME, &wire::encode_resume(arrival.after.as_ref()));
        within(PROGRESS, link.outgoing.flush()).await?;
        loop {
            let frame = match receive(link, PROGRESS).await {
                Ok(frame) => frame,
                Err(error) => {
                    *self.lock() = Some(arrival);
                    return Err(error);
                }
            };
            match frame.kind {
                snapshot::BLOCK => arrival.take(&frame.payload).map_err(malformed)?,
                snapshot::END => break,
                _ => return Err(malformed(DecodeError::Malformed("order of messages"))),
            }
        }
        let store = arrival.loader.finish().map_err(malformed)?;
        let SnapshotBegin { vote, meta, .. } = begin;
        Ok(Arrived { vote, snapshot: whole(store, meta) })
    }

    /// What is here of the announced snapshot already, or a new beginning.
    fn resume(
        &self,
        from: MemberId,
        begin: &SnapshotBegin,
        limits: HistoryLimits,
    ) -> Result<Arrival, DecodeError> {
        let unfinished = self.lock().take();
        let same = |arrival: &Arrival| {
            arrival.from == from
                && arrival.last_log_id == begin.meta.last_log_id
                && arrival.header == begin.header
        };
        if let Some(arrival) = unfinished.filter(same) {
            return Ok(arrival);
        }
        let header = begin.header.clone();
        let loader = Loader::new(limits, &Header(header.clone()))?;
        let last_log_id = begin.meta.last_log_id;
        Ok(Arrival { from, last_log_id, header, loader, after: None })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arrival>> {
        // It guards one value, which is replaced as a whole.
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    fn take(&mut self, block: &[u8]) -> Result<(), DecodeError> {
        let mut input = Reader::new(block);
        while !input.is_empty() {
            match input.u8("record kind")? {
                NODE => {
                    let (key, record) = (input.bytes("key")?, input.bytes("node")?);
                    self.loader.node(key, record)?;
                    self.after = Some(Position::Node(KeyPath::clean(key)));
                }
                EVENT => {
                    let index = StoreIndex(input.u64("event index")?);
                    self.loader.event(index, input.bytes("event")?)?;
                    self.after = Some(Position::Event(index));
                }
                found => {
                    return Err(DecodeError::Unknown { what: "record kind", found: found.into() });
                }
            }
        }
        Ok(())
    }
}

fn whole(store: Store, meta: SnapshotMeta) -> OpenraftSnapshot {
    let applied = meta.last_log_id;
    let membership = meta.last_membership.clone();
    Snapshot { meta, snapshot: Checkpoint { store, applied, membership } }
}

async fn receive(link: &mut Link, limit: Duration) -> io::Result<Frame> {
    let frame = within(limit, link.incoming.next()).await?;
    frame.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the other end hung up"))
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the other end does not go on");
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

fn malformed(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
