//! A snapshot on its way to a follower that the log no longer reaches: announced, sent in blocks, installed.
//!
//! The sender walks a tree that does not change any more, a block at a time; the receiver builds a store aside. Neither
//! holds more than a block beside its stores. When the connection breaks, the receiver keeps what it has, and says so the
//! next time: the rest is sent.
//!
//! A block holds at least one record, and a record may be larger than a frame: the event of a write holds two values. So blocks,
//! and the header with all members in it, travel in parts.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use openraft::storage::Snapshot;
use tracing::info;

use crate::base::lock;
use crate::disk::IoMode;
use crate::model::{DecodeError, MemberId};
use crate::raft::adapter::types::{self, LogId, SnapshotMeta, Types, Vote};
use crate::raft::net::messages::{self, SnapshotBegin, snapshot};
use crate::raft::storage::blocking;
use crate::raft::storage::checkpoint::{Checkpoint, Checkpoints};
use crate::store::{Header, HistoryLimits, Loader, Position, Store};
use crate::transport::{Frame, Link};

/// Records in one frame, roughly.
const BLOCK_BYTES: usize = 256 << 10;

/// What is larger than this goes out in several frames.
const PART_BYTES: usize = 1 << 20;

/// The most that is put together again from parts. The largest record is the event of a recursive delete that a build without
/// `Removed::BYTES_MAX` recorded: 100,000 paths of 16 KiB (`--max-key-bytes`) are 1.6 GiB. Memory is taken as the parts come, not
/// ahead of them.
const WHOLE_BYTES_MAX: usize = 2 << 30;

/// Version of the protocol that knows parts.
const PARTS_SINCE: u8 = 2;

/// Pause after each frame, for other work that needs the processor and the network. The other end does not write faster to its
/// disk anyway.
const PART_PAUSE: Duration = Duration::from_millis(2);

/// The other end must take a block, or answer, within this time.
const PROGRESS: Duration = Duration::from_secs(30);

/// Installing means to write everything to the disk.
const INSTALL: Duration = Duration::from_secs(600);

type OpenraftSnapshot = openraft::type_config::alias::SnapshotOf<Types, Checkpoint>;

/// Sends a snapshot and waits until it is installed; returns the vote of the receiver.
pub(in crate::raft) async fn send(
    link: &mut Link,
    vote: Vote,
    snapshot: &OpenraftSnapshot,
    checkpoints: &Checkpoints,
) -> io::Result<Vote> {
    let Snapshot { meta, snapshot: checkpoint } = snapshot;
    let index = meta.last_log_id.as_ref().map(types::position).unwrap_or_default().index;
    let begin = SnapshotBegin { vote, meta: meta.clone(), header: checkpoint.store.header().0 };
    send_whole(link, snapshot::BEGIN, &begin.encode(), || {}).await?;
    let answer = receive(link, PROGRESS).await?;
    messages::expect(&answer, snapshot::RESUME).map_err(malformed)?;
    let mut after = messages::decode_resume(&answer.payload).map_err(malformed)?;
    let how = if after.is_some() { "the rest of" } else { "all of" };
    info!(target: "rafthttp", "sending {how} snapshot {index} to {}", link.peer);
    loop {
        let (store, from) = (checkpoint.store.clone(), after.take());
        let next = checkpoints.work(move || store.block_after(from.as_ref(), BLOCK_BYTES));
        let (block, last) = next.await?;
        let Some(last) = last else { break };
        let sent = || checkpoints.outgoing().got_through(checkpoint);
        send_whole(link, snapshot::BLOCK, &block, sent).await?;
        after = Some(last);
    }
    link.outgoing.put(snapshot::END, &[])?;
    within(PROGRESS, link.outgoing.flush()).await?;
    let answer =
        checkpoints.outgoing().while_it_is_on_its_way(checkpoint, receive(link, INSTALL)).await?;
    if answer.kind == snapshot::FAILED {
        return Err(io::Error::other(String::from_utf8_lossy(&answer.payload).into_owned()));
    }
    messages::expect(&answer, snapshot::INSTALLED).map_err(malformed)?;
    checkpoints.outgoing().arrived(checkpoint.applied);
    info!(target: "rafthttp", "snapshot {index} is installed on {}", link.peer);
    messages::decode_one_vote(&answer.payload).map_err(malformed)
}

/// Snapshots that are coming in.
#[derive(Default)]
pub(in crate::raft) struct Arrivals {
    /// What came before a connection broke.
    unfinished: Mutex<Option<Arrival>>,
    /// Those that are whole and being installed.
    installing: AtomicUsize,
}

struct Arrival {
    from: MemberId,
    last_log_id: Option<LogId>,
    header: Vec<u8>,
    loader: Loader,
    after: Option<Position>,
}

/// A snapshot that is here whole.
pub(in crate::raft) struct Arrived {
    pub(in crate::raft) vote: Vote,
    pub(in crate::raft) snapshot: OpenraftSnapshot,
}

/// A snapshot is being installed until this is dropped.
pub(in crate::raft) struct Installing<'a>(&'a AtomicUsize);

impl Drop for Installing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Arrivals {
    /// One is whole, and its installation begins.
    pub(in crate::raft) fn installs(&self) -> Installing<'_> {
        self.installing.fetch_add(1, Ordering::Relaxed);
        Installing(&self.installing)
    }

    /// Is one being installed?
    pub(in crate::raft) fn is_installing(&self) -> bool {
        self.installing.load(Ordering::Relaxed) > 0
    }

    /// Receives one snapshot. The caller installs it and answers.
    pub(in crate::raft) async fn receive(
        &self,
        link: &mut Link,
        limits: HistoryLimits,
        io: IoMode,
    ) -> io::Result<Arrived> {
        let first = receive_whole(link).await?;
        messages::expect(&first, snapshot::BEGIN).map_err(malformed)?;
        let begin = SnapshotBegin::decode(&first.payload).map_err(malformed)?;
        let mut arrival = self.resume(link.peer, &begin, limits).map_err(malformed)?;
        let index = begin.meta.last_log_id.as_ref().map(types::position).unwrap_or_default().index;
        let how = if arrival.after.is_some() { "the rest of" } else { "all of" };
        info!(target: "rafthttp", "receiving {how} snapshot {index} from {}", link.peer);
        link.outgoing.put(snapshot::RESUME, &messages::encode_resume(arrival.after.as_ref()))?;
        within(PROGRESS, link.outgoing.flush()).await?;
        loop {
            let frame = match receive_whole(link).await {
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
        // A large tree takes a few tenths of a second.
        let store = blocking::on(io, move || arrival.loader.finish()).await?.map_err(malformed)?;
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
        lock(&self.unfinished)
    }
}

impl Arrival {
    fn take(&mut self, block: &[u8]) -> Result<(), DecodeError> {
        if let Some(last) = self.loader.block(block)? {
            self.after = Some(last);
        }
        Ok(())
    }
}

fn whole(store: Store, meta: SnapshotMeta) -> OpenraftSnapshot {
    let applied = meta.last_log_id;
    let membership = meta.last_membership.clone();
    Snapshot { meta, snapshot: Checkpoint { store, applied, membership } }
}

/// Sends a message, in parts if it is large and the other end knows them. `sent` is called after each frame.
async fn send_whole(
    link: &mut Link,
    kind: u8,
    payload: &[u8],
    mut sent: impl FnMut(),
) -> io::Result<()> {
    let part_bytes = if link.version >= PARTS_SINCE { PART_BYTES } else { usize::MAX };
    let mut rest = payload;
    loop {
        let (part, more) = rest.split_at(rest.len().min(part_bytes));
        link.outgoing.put(if more.is_empty() { kind } else { snapshot::PART }, part)?;
        within(PROGRESS, link.outgoing.flush()).await?;
        sent();
        tokio::time::sleep(PART_PAUSE).await;
        if more.is_empty() {
            return Ok(());
        }
        rest = more;
    }
}

/// The counterpart of [`send_whole`].
async fn receive_whole(link: &mut Link) -> io::Result<Frame> {
    let mut whole = Vec::new();
    loop {
        let frame = receive(link, PROGRESS).await?;
        let is_last = frame.kind != snapshot::PART;
        if is_last && whole.is_empty() {
            return Ok(frame);
        }
        if whole.len() + frame.payload.len() > WHOLE_BYTES_MAX {
            let text = format!("a record of more than {WHOLE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        whole.extend_from_slice(&frame.payload);
        if is_last {
            return Ok(Frame { kind: frame.kind, payload: whole.into() });
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::BoxFuture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
    use tokio::sync::mpsc;

    use super::*;
    use crate::disk::{RealFiles, Tables};
    use crate::model::{ClusterId, KeyPath, LogTime, StoreIndex};
    use crate::raft::storage::encoding;
    use crate::store::{Command, Write};
    use crate::transport::{
        AddressBook, Dial, FRAME_BYTES_MAX, Gate, Lane, LocalPeer, PREFACE, PeerRefusal, Stream,
        Transport,
    };

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 100_000, bytes_max: 64 << 20 };
    const URL: &str = "http://there:1";

    /// A wire that breaks after so many bytes from the one who dialled.
    struct Wire {
        bytes: u64,
        other_end: mpsc::UnboundedSender<Stream>,
    }

    async fn carry(from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, bytes: u64) {
        let _ = tokio::io::copy(&mut from.take(bytes), &mut to).await;
        let _ = to.shutdown().await;
    }

    impl Dial for Wire {
        fn dial<'a>(&'a self, _url: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
            let (ours, ours_end) = tokio::io::duplex(1 << 16);
            let (theirs_end, theirs) = tokio::io::duplex(1 << 16);
            let (from_us, to_us) = tokio::io::split(ours_end);
            let (from_them, to_them) = tokio::io::split(theirs_end);
            let bytes = self.bytes;
            tokio::spawn(async move {
                // Whichever way ends first, the wire is gone.
                tokio::select! {
                    () = carry(from_us, to_them, bytes) => {}
                    () = carry(from_them, to_us, u64::MAX) => {}
                }
            });
            let sent = self.other_end.send(Box::new(theirs)).map_err(|_| io::ErrorKind::BrokenPipe);
            Box::pin(std::future::ready(
                sent.map(|()| Box::new(ours) as Stream).map_err(Into::into),
            ))
        }
    }

    struct Open;

    impl Gate for Open {
        fn admit(&self, _from: MemberId) -> Result<(), PeerRefusal> {
            Ok(())
        }
    }

    fn transport(member: u64, dial: Arc<dyn Dial>) -> Transport {
        let identity = LocalPeer {
            cluster: ClusterId(1),
            member: MemberId(member),
            name: format!("m{member}"),
            peer_urls: Vec::new(),
        };
        let book = AddressBook::new([(MemberId(2), vec![URL.to_owned()])]);
        Transport::new(identity, dial, Duration::from_secs(5), Arc::new(book))
    }

    /// Both ends of a connection from member 1 to member 2.
    async fn links(bytes: u64) -> (Link, Link) {
        let (other_end, mut streams) = mpsc::unbounded_channel();
        let wire = Arc::new(Wire { bytes, other_end });
        let (here, there) = (transport(1, wire.clone()), transport(2, wire));
        let accept = async {
            let mut stream = streams.recv().await.expect("the sender dials");
            let mut preface = [0; PREFACE.len()];
            stream.read_exact(&mut preface).await.expect("they begin");
            there.accept(stream, &Open).await.expect("it is a member")
        };
        let (ours, theirs) = tokio::join!(here.connect(MemberId(2), Lane::Snapshot), accept);
        (ours.expect("it is let in"), theirs)
    }

    fn checkpoint(writes: u64) -> Checkpoint {
        let mut store = Store::new(LIMITS);
        for n in 0..writes {
            let value = format!("{n:01000}").into_bytes();
            let write = Write { value: value.into(), dir: false, ttl: None, refresh: false };
            let path = KeyPath::from(format!("/{}/{n}", n % 7).as_str());
            store.apply(LogTime(n), &Command::Set { path, write });
        }
        let applied = encoding::log_id(1, writes);
        Checkpoint { store, applied: Some(applied), membership: types::StoredMembership::default() }
    }

    fn checkpoints(dir: &std::path::Path) -> Checkpoints {
        let tables = Tables::open(&RealFiles, &dir.join("checkpoint.redb")).expect("tables");
        Checkpoints::new(tables, IoMode::Threaded, Box::new(|_| {}))
    }

    #[tokio::test]
    async fn the_rest_of_a_snapshot_is_sent_when_the_connection_breaks() {
        let dir = tempfile::tempdir().expect("a folder");
        let (checkpoints, arrivals) = (checkpoints(dir.path()), Arrivals::default());
        let (sent, vote) = (checkpoint(3000).into_snapshot(), Vote::new(1, 1));
        // Blocks are 256 KiB: some get through before the first two connections break.
        for bytes in [1_000_000, 2_000_000] {
            let (mut ours, mut theirs) = links(bytes).await;
            let (out, arrived) = tokio::join!(
                send(&mut ours, vote, &sent, &checkpoints),
                arrivals.receive(&mut theirs, LIMITS, IoMode::Inline)
            );
            assert!(out.is_err() && arrived.is_err(), "it got through {bytes} bytes");
        }
        // Nodes and events come to more than 6 MB: only the rest of them fits.
        let (mut ours, mut theirs) = links(5_000_000).await;
        let receiving = async {
            let arrived = arrivals
                .receive(&mut theirs, LIMITS, IoMode::Inline)
                .await
                .expect("it comes whole");
            let vote = messages::encode_one_vote(&arrived.vote);
            theirs.outgoing.put(snapshot::INSTALLED, &vote).expect("a small message");
            theirs.outgoing.flush().await.expect("the sender waits for it");
            arrived
        };
        let sending = send(&mut ours, vote, &sent, &checkpoints);
        let (out, arrived) = tokio::join!(sending, receiving);
        assert_eq!(out.expect("it is installed"), vote);
        let store = arrived.snapshot.snapshot.store;
        store.check();
        assert_eq!(store.digest(), sent.snapshot.store.digest());
        assert_eq!(store.history().oldest(), StoreIndex(1));
    }

    /// Sends a snapshot over a connection that does not break; returns what arrived.
    async fn transferred(sent: &OpenraftSnapshot, limits: HistoryLimits) -> Store {
        let dir = tempfile::tempdir().expect("a folder");
        let (checkpoints, arrivals) = (checkpoints(dir.path()), Arrivals::default());
        let (mut ours, mut theirs) = links(u64::MAX).await;
        let receiving = async {
            let arrived = arrivals
                .receive(&mut theirs, limits, IoMode::Inline)
                .await
                .expect("it comes whole");
            let vote = messages::encode_one_vote(&arrived.vote);
            theirs.outgoing.put(snapshot::INSTALLED, &vote).expect("a small message");
            theirs.outgoing.flush().await.expect("the sender waits for it");
            arrived
        };
        let sending = send(&mut ours, Vote::new(1, 1), sent, &checkpoints);
        let (out, arrived) = tokio::join!(sending, receiving);
        out.expect("it is installed");
        arrived.snapshot.snapshot.store
    }

    /// The event of a write holds the old value beside the new one. Two values near a raised `--max-body-bytes` made a record that
    /// did not fit a frame, and the leader ended on an assertion when a laggard needed a snapshot; so did the next leader. So did
    /// the list of keys of a recursive delete, which has a limit of its own now.
    #[tokio::test]
    async fn a_record_that_is_larger_than_a_frame_travels_in_parts() {
        let limits = HistoryLimits { events_max: 10, bytes_max: 1 << 30 };
        let mut store = Store::new(limits);
        let path = KeyPath::from("/large");
        for byte in [1, 2, 3] {
            let value = vec![byte; 40 << 20].into();
            let write = Write { value, dir: false, ttl: None, refresh: false };
            store.apply(LogTime(3), &Command::Set { path: path.clone(), write });
        }
        let mut sizes = Vec::new();
        store.events_since(StoreIndex(0), &mut |_, record| sizes.push(record.len()));
        assert!(sizes.iter().filter(|size| **size > FRAME_BYTES_MAX).count() >= 2, "{sizes:?}");
        let applied = Some(encoding::log_id(1, store.index().0));
        let membership = types::StoredMembership::default();
        let sent = Checkpoint { store, applied, membership }.into_snapshot();
        let arrived = transferred(&sent, limits).await;
        assert_eq!(arrived.digest(), sent.snapshot.store.digest());
        let (ours, theirs) = (arrived.history(), sent.snapshot.store.history());
        assert!(ours.slots_from(StoreIndex(0)).eq(theirs.slots_from(StoreIndex(0))));
    }

    /// A client that adds members without checks makes the header as long as it likes.
    #[tokio::test]
    async fn a_header_that_is_larger_than_a_frame_travels_in_parts() {
        let mut store = Store::new(LIMITS);
        for n in 0..1200 {
            let peer_urls = vec![format!("http://{}:{n}", "h".repeat(60 << 10))];
            let command = Command::AddMember { id: MemberId(n + 1), peer_urls, checked: None };
            store.apply(LogTime(1), &command);
        }
        assert!(store.header().0.len() > FRAME_BYTES_MAX);
        let applied = Some(encoding::log_id(1, store.index().0));
        let membership = types::StoredMembership::default();
        let sent = Checkpoint { store, applied, membership }.into_snapshot();
        assert_eq!(transferred(&sent, LIMITS).await.digest(), sent.snapshot.store.digest());
    }

    #[tokio::test]
    async fn a_member_of_the_version_before_is_told_that_a_record_is_too_large() {
        let (mut ours, _theirs) = links(u64::MAX).await;
        ours.version = PARTS_SINCE - 1;
        let record = vec![0; FRAME_BYTES_MAX + 1];
        let refused = send_whole(&mut ours, snapshot::BLOCK, &record, || {}).await;
        let refused = refused.expect_err("it does not fit").to_string();
        assert!(refused.contains("67108864 are the most"), "{refused}");
    }

    #[tokio::test]
    async fn what_came_of_another_snapshot_does_not_count() {
        let dir = tempfile::tempdir().expect("a folder");
        let (checkpoints, arrivals) = (checkpoints(dir.path()), Arrivals::default());
        let (first, vote) = (checkpoint(3000).into_snapshot(), Vote::new(1, 1));
        let (mut ours, mut theirs) = links(1_000_000).await;
        let (out, arrived) = tokio::join!(
            send(&mut ours, vote, &first, &checkpoints),
            arrivals.receive(&mut theirs, LIMITS, IoMode::Inline)
        );
        assert!(out.is_err() && arrived.is_err());
        let other = checkpoint(500).into_snapshot();
        let (mut ours, mut theirs) = links(u64::MAX).await;
        let receiving = async {
            let arrived = arrivals
                .receive(&mut theirs, LIMITS, IoMode::Inline)
                .await
                .expect("it comes whole");
            theirs.outgoing.put(snapshot::FAILED, b"no space").expect("a small message");
            theirs.outgoing.flush().await.expect("the sender waits for it");
            arrived
        };
        let sending = send(&mut ours, vote, &other, &checkpoints);
        let (out, arrived) = tokio::join!(sending, receiving);
        assert_eq!(out.expect_err("it was not installed").to_string(), "no space");
        assert_eq!(arrived.snapshot.snapshot.store.digest(), other.snapshot.store.digest());
    }
}
