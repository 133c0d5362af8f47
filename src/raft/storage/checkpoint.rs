//! The durable checkpoint, which is also Raft's snapshot.
//!
//! While a checkpoint is written it holds a clone of the store, which costs nothing at first; what changed since the checkpoint
//! before is written in one transaction, on a thread of its own, while the store moves on.
//!
//! Holds: content, applied entry and membership on disk are those of one state, and a later state never gives way to an earlier
//! one. A checkpoint that is being built and a snapshot that is being installed take turns.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::RaftSnapshotBuilder;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use crate::base::lock;
use crate::disk::{Commit, CommitError, Extent, IoMode, Tables, TablesError};
use crate::model::{DecodeError, LogIndex, StoreIndex};
use crate::mvcc::{self, Revision};
use crate::raft::adapter::types::{self, LogId, StoredMembership, Types};
use crate::raft::storage::blocking::{self, Enough};
use crate::raft::storage::encoding;
use crate::raft::storage::outgoing::Outgoing;
use crate::store::{
    Applied, Changes, Header, HistoryLimits, Loader, NodeLoader, NodeRecords, RecordChange, Store,
};

const HEADER: &str = "header";
const APPLIED: &str = "applied";
const MEMBERSHIP: &str = "membership";

/// The header, before the nodes stood in runs.
const OLD_HEADER: &str = "store";
/// In its place: builds of then take it for a version that they do not know, and not the rest for an empty store.
const NOT_FOR_OLD_BUILDS: u8 = u8::MAX;

/// So many revisions that nobody needs any more are never too many.
const SPARE_REVISIONS: u64 = 10_000;

/// Nodes are handed from the thread that reads them to one that decodes them in pieces of so many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// A state and the log entry that led to it.
#[derive(Clone, Debug)]
pub(in crate::raft) struct Checkpoint {
    pub(in crate::raft) store: Store,
    pub(in crate::raft) applied: Option<LogId>,
    pub(in crate::raft) membership: StoredMembership,
}

/// What came after a state.
#[derive(Debug, Default)]
pub(in crate::raft) struct Difference {
    /// The last entry of that state.
    pub(in crate::raft) from: Option<LogId>,
    pub(in crate::raft) changes: Changes,
    /// The revision of the v3 key space in that state.
    pub(in crate::raft) revision: Revision,
    /// Deletions of its keys: a compaction may take them before they are written, and then the keys would be there again.
    pub(in crate::raft) deletions: Vec<Arc<mvcc::KeyValue>>,
}

impl Difference {
    /// Nothing yet.
    pub(in crate::raft) fn to(state: &Checkpoint) -> Self {
        Self {
            from: state.applied,
            changes: Changes::since(state.store.index()),
            revision: state.store.mvcc().revision(),
            deletions: Vec::new(),
        }
    }

    /// One more thing that came.
    pub(in crate::raft) fn note(&mut self, applied: &Applied) {
        for event in applied.events() {
            self.changes.note(event);
        }
        if let Applied::Mvcc(applied) = applied {
            let was_there = |change: &&mvcc::Change| {
                change.prev.as_ref().is_some_and(|prev| prev.created <= self.revision)
            };
            let gone = applied.changes.iter().filter(|change| change.kv.is_deletion());
            self.deletions.extend(gone.filter(was_there).map(|change| Arc::clone(&change.kv)));
        }
    }
}

/// Why a checkpoint cannot be read or written.
#[derive(Debug, Error)]
pub(in crate::raft) enum CheckpointError {
    #[error(transparent)]
    Tables(#[from] TablesError),
    #[error(
        "the checkpoint is damaged: {0}. Remove this member from the cluster, empty its data directory and add it again, \
         or restore a backup"
    )]
    Decode(#[from] DecodeError),
    #[error(
        "a snapshot up to entry {snapshot} must not replace the checkpoint of entry {checkpoint}"
    )]
    Older { snapshot: LogIndex, checkpoint: LogIndex },
}

/// The checkpoint on disk.
pub(in crate::raft) struct Checkpoints {
    tables: Tables,
    io: IoMode,
    /// Held from the look at `durable` until a later one is committed: what a commit has to write depends on what is there, and
    /// of two that looked at the same state the second would put its changes on top of another one.
    writing: Mutex<()>,
    /// The last entry of what is on disk.
    durable: watch::Sender<Option<LogId>>,
    outgoing: Outgoing,
    committed: Box<dyn Fn(Duration) + Send + Sync>,
    changes_bytes: AtomicUsize,
}

/// Why nodes were not read to the end.
enum Unread {
    Failed(TablesError),
    /// Those before could not be used; why is known elsewhere.
    Unwanted,
}

impl From<TablesError> for Unread {
    fn from(error: TablesError) -> Self {
        Self::Failed(error)
    }
}

impl Checkpoints {
    /// `committed` is told how long each commit took.
    pub(in crate::raft) fn new(
        tables: Tables,
        io: IoMode,
        committed: Box<dyn Fn(Duration) + Send + Sync>,
    ) -> Self {
        let (writing, durable, outgoing) =
            (Mutex::default(), watch::Sender::default(), Outgoing::new(io));
        let changes_bytes = AtomicUsize::new(0);
        Self { tables, io, writing, durable, outgoing, committed, changes_bytes }
    }

    /// The last entry of what is on disk; none before the first checkpoint.
    pub(in crate::raft) fn durable(&self) -> Option<LogId> {
        *self.durable.borrow()
    }

    /// What the list of keys that the next one writes takes, as last heard.
    pub(in crate::raft) fn changes_bytes(&self) -> usize {
        self.changes_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the file's pages in memory.
    pub(in crate::raft) fn cached_bytes(&self) -> usize {
        self.tables.cached_bytes()
    }

    /// The next one will write `changes`, or more.
    pub(in crate::raft) fn heard_of(&self, changes: &Changes) {
        self.changes_bytes.store(changes.bytes(), Ordering::Relaxed);
    }

    /// Waits until the entry at `index` and all before it are in a checkpoint on disk.
    pub(in crate::raft) async fn until_durable(&self, index: LogIndex) {
        let reached = |last: &Option<LogId>| {
            last.as_ref().map(types::position).unwrap_or_default().index >= index
        };
        // Its other end is here.
        let _ = self.durable.subscribe().wait_for(reached).await;
    }

    /// What followers are being sent.
    pub(in crate::raft) fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// Does what takes the processor for a while, on a thread that serves nothing else.
    pub(in crate::raft) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        blocking::on(self.io, work).await
    }

    /// Drops `what`: not under a lock, and not on a thread that serves others.
    pub(in crate::raft) fn let_go<T: Send + 'static>(&self, what: Option<T>) {
        if what.is_some() {
            blocking::let_go(self.io, what);
        }
    }

    /// Reads the checkpoint; an empty store when there is none.
    pub(in crate::raft) fn load(
        &self,
        limits: HistoryLimits,
    ) -> Result<Checkpoint, CheckpointError> {
        let header = self.tables.meta(HEADER)?;
        let Some(header) =
            header.map_or_else(|| self.tables.meta(OLD_HEADER), |it| Ok(Some(it)))?
        else {
            let membership = StoredMembership::default();
            return Ok(Checkpoint { store: Store::new(limits), applied: None, membership });
        };
        let mut loader = Loader::new(limits, &Header(header))?;
        let oldest = loader.oldest_event().0;
        let (mut nodes, mut events, mut revisions) = loader.parts();
        let read_nodes = || self.load_nodes(&mut nodes);
        let read_events = || {
            self.tables.events(oldest, |index, record| {
                events.event(StoreIndex(index), record).map_err(CheckpointError::from)
            })?;
            self.tables
                .revisions(|record| revisions.revision(record).map_err(CheckpointError::from))
        };
        let (nodes, events) = blocking::both(self.io, read_nodes, read_events);
        nodes?;
        events?;
        let store = loader.finish()?;
        let applied = self.tables.meta(APPLIED)?;
        let applied = applied.map(|bytes| encoding::decode_log_id(&bytes)).transpose()?;
        let membership = self.tables.meta(MEMBERSHIP)?.unwrap_or_default();
        let membership = encoding::decode_stored_membership(&membership)?;
        let checkpoint = Checkpoint { store, applied, membership };
        self.durable.send_replace(checkpoint.applied);
        Ok(checkpoint)
    }

    /// Reads nodes on one thread, decodes them on others, and puts them in their places on this one.
    fn load_nodes(&self, nodes: &mut NodeLoader<'_>) -> Result<(), CheckpointError> {
        blocking::in_order(
            self.io,
            |hand_over| {
                let mut records = NodeRecords::default();
                let read = self.tables.nodes(|key, record| {
                    records.push(key, record);
                    if records.bytes() < PIECE_BYTES {
                        return Ok(());
                    }
                    hand_over(std::mem::take(&mut records)).map_err(|Enough| Unread::Unwanted)
                });
                match read.and_then(|()| hand_over(records).map_err(|Enough| Unread::Unwanted)) {
                    Ok(()) | Err(Unread::Unwanted) => Ok(()),
                    Err(Unread::Failed(error)) => Err(error.into()),
                }
            },
            NodeRecords::decode,
            |decoded| Ok(nodes.nodes(decoded?)?),
        )
    }

    /// Writes what differs from what is on disk. Does nothing when that is not older: a snapshot was installed meanwhile.
    fn advance(&self, to: &Checkpoint, difference: &Difference) -> Result<(), CheckpointError> {
        self.outgoing.forget();
        let _writing = lock(&self.writing);
        let durable = self.durable();
        if durable.is_some() && durable >= to.applied {
            return Ok(());
        }
        // To any other state it is no difference.
        self.write((difference.from == durable).then_some(difference), to)
    }

    /// Puts another state in place of everything.
    pub(in crate::raft) async fn replace(self: Arc<Self>, by: Checkpoint) -> io::Result<()> {
        let written = blocking::on(self.io, move || self.install(&by));
        written.await?.map_err(io::Error::other)
    }

    /// Writes the first checkpoint of a member.
    pub(in crate::raft) fn put(&self, first: &Checkpoint) -> Result<(), CheckpointError> {
        self.install(first)
    }

    fn install(&self, by: &Checkpoint) -> Result<(), CheckpointError> {
        let _writing = lock(&self.writing);
        if let Some(durable) = self.durable()
            && Some(durable) > by.applied
        {
            // openraft installs only what is beyond all that is committed here.
            let (snapshot, checkpoint) = (by.index(), types::position(&durable).index);
            return Err(CheckpointError::Older { snapshot, checkpoint });
        }
        self.write(None, by)
    }

    /// Without a difference, everything.
    fn write(
        &self,
        difference: Option<&Difference>,
        to: &Checkpoint,
    ) -> Result<(), CheckpointError> {
        let begun = Instant::now();
        let changes = difference.map(|difference| &difference.changes);
        let write_rest = |commit: &mut Commit<'_>| {
            commit.drop_events_below(to.store.history().oldest().0)?;
            commit.put_meta(HEADER, &to.store.header().0)?;
            commit.put_meta(OLD_HEADER, &[NOT_FOR_OLD_BUILDS])?;
            if let Some(applied) = &to.applied {
                commit.put_meta(APPLIED, &encoding::encode_log_id(applied))?;
            }
            commit.put_meta(MEMBERSHIP, &encoding::encode_stored_membership(&to.membership))
        };
        let extent = if changes.is_some() { self.tables.wants()? } else { Extent::Everything };
        let events = match changes {
            Some(changes) if extent != Extent::Everything => changes.start().next(),
            Some(_) | None => StoreIndex(0),
        };
        // Their chunks stand apart from those of nodes and events.
        let revisions = match difference {
            Some(difference) if !self.is_sparse(&to.store)? => Some(difference),
            Some(_) | None => None,
        };
        self.tables.commit(extent, |commit| {
            match changes {
                Some(changes) if extent == Extent::Changes => {
                    write_changes(commit, changes, &to.store)?;
                }
                Some(_) | None => write_nodes(commit, &to.store)?,
            }
            write_events(commit, &to.store, events)?;
            write_revisions(commit, &to.store, revisions)?;
            write_rest(commit)
        })?;
        (self.committed)(begun.elapsed());
        self.durable.send_replace(to.applied);
        info!(target: "etcdserver", "saved snapshot at index {}", to.index());
        Ok(())
    }
}

impl Checkpoints {
    /// Are most of the revisions on disk such as nobody needs any more? Then it is time to write those anew that are left: it costs
    /// no more than writing the others did.
    fn is_sparse(&self, to: &Store) -> Result<bool, CheckpointError> {
        let left = to.mvcc().versions_count();
        Ok(self.tables.revisions_count()? > left.saturating_mul(2) + SPARE_REVISIONS)
    }
}

impl Checkpoint {
    fn index(&self) -> LogIndex {
        self.applied.as_ref().map(types::position).unwrap_or_default().index
    }
}

fn write_changes(
    commit: &mut Commit<'_>,
    changes: &Changes,
    to: &Store,
) -> Result<(), CommitError> {
    let mut result = Ok(());
    to.changed_records(changes, &mut |change| {
        if result.is_ok() {
            result = match &change {
                RecordChange::PutNode(path, record) => commit.put_node(path.as_bytes(), record),
                RecordChange::DropNode(path) => commit.drop_node(path.as_bytes()),
                RecordChange::DropBelow(dir) => {
                    commit.drop_nodes_below(dir.as_bytes());
                    Ok(())
                }
            };
        }
    });
    result
}

/// Node by node, so that it takes no memory of its own.
fn write_nodes(commit: &mut Commit<'_>, to: &Store) -> Result<(), CommitError> {
    let mut result = Ok(());
    to.nodes(&mut |path, record| {
        if result.is_ok() {
            result = commit.put_node(path.as_bytes(), &record);
        }
    });
    result
}

fn write_events(commit: &mut Commit<'_>, to: &Store, from: StoreIndex) -> Result<(), CommitError> {
    let mut result = Ok(());
    to.events_since(from, &mut |index, record| {
        if result.is_ok() {
            result = commit.put_event(index.0, &record);
        }
    });
    result
}

/// Those of a difference, or all in place of those that are there.
fn write_revisions(
    commit: &mut Commit<'_>,
    to: &Store,
    behind: Option<&Difference>,
) -> Result<(), CommitError> {
    if behind.is_none() {
        commit.drop_revisions()?;
    }
    let mut result = Ok(());
    let mut put = |place, record: Vec<u8>| {
        if result.is_ok() {
            result = commit.put_revision(place, &record);
        }
    };
    match behind {
        Some(Difference { revision, deletions, .. }) => {
            to.revisions_since(*revision, deletions, &mut put);
        }
        None => to.revisions(&mut put),
    }
    result
}

/// One checkpoint under way.
pub(in crate::raft) struct CheckpointBuilder {
    checkpoints: Arc<Checkpoints>,
    /// There until it is dropped.
    state: Option<Checkpoint>,
    difference: Difference,
}

impl CheckpointBuilder {
    /// `difference` led to `state`.
    pub(in crate::raft) fn new(
        checkpoints: Arc<Checkpoints>,
        state: Checkpoint,
        difference: Difference,
    ) -> Self {
        Self { checkpoints, state: Some(state), difference }
    }
}

/// openraft drops the builder last, on a thread that serves. By then the state has often become an old one, and what was
/// overwritten while it was written out hangs on it alone: 300,000 nodes under load, which took a tenth of a second.
impl Drop for CheckpointBuilder {
    fn drop(&mut self) {
        self.checkpoints.let_go(self.state.take());
    }
}

impl RaftSnapshotBuilder<Types> for CheckpointBuilder {
    type SnapshotData = Checkpoint;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<openraft::type_config::alias::SnapshotOf<Types, Checkpoint>> {
        let state = self.state.clone().expect("it is there until the end");
        let (checkpoints, snapshot) = (Arc::clone(&self.checkpoints), state.clone());
        let difference = std::mem::take(&mut self.difference);
        let written =
            blocking::on(checkpoints.io, move || checkpoints.advance(&state, &difference));
        written.await?.map_err(io::Error::other)?;
        // What is on disk may be newer by now. openraft then forgets this one, which is older than what it has installed.
        Ok(snapshot.into_snapshot())
    }
}

#[cfg(test)]
pub(in crate::raft) mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::disk::RealFiles;
    use crate::model::{KeyPath, LogTime};
    use crate::raft::adapter::types::Membership;
    use crate::store::{Command, Write};

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 10, bytes_max: 1000 };

    pub(in crate::raft) fn checkpoint(index: u64) -> Checkpoint {
        let membership = StoredMembership::default();
        Checkpoint {
            store: Store::new(LIMITS),
            applied: Some(encoding::log_id(1, index)),
            membership,
        }
    }

    /// The difference leads from another state than the one on disk, so everything is written.
    fn advance(checkpoints: &Checkpoints, to: &Checkpoint) {
        let difference = Difference { from: Some(encoding::log_id(9, 9)), ..Difference::default() };
        checkpoints.advance(to, &difference).unwrap();
    }

    /// A state of its own kind for each index: one key that no other has, and a membership of the same entry.
    fn state(index: u64) -> Checkpoint {
        let mut state = checkpoint(index);
        let write = Write { value: vec![7].into(), dir: false, ttl: None, refresh: false };
        let path = KeyPath::from(format!("/{index}").as_str());
        state.store.apply(LogTime(index), &Command::Set { path, write });
        let log_id = encoding::log_id(1, index);
        state.membership = StoredMembership::new(Some(log_id), Membership::default());
        state
    }

    /// A laggard that was building a checkpoint while it installed a snapshot wrote the difference to its own last checkpoint on
    /// top of the leader's state, under the older entry: after a restart it had keys that no other member had.
    #[test]
    fn a_checkpoint_that_is_built_while_a_snapshot_is_installed_does_not_mix_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(&RealFiles, &dir.path().join("checkpoint")).unwrap();
        let (installed_tx, installed_rx) = mpsc::channel();
        let (go_on_tx, go_on_rx) = mpsc::channel();
        let (installs, go_on_rx) = (AtomicUsize::new(0), Mutex::new(go_on_rx));
        // The second commit is that of the snapshot. It is on disk and not yet in its place when it stops here.
        let observer = move |_| {
            if installs.fetch_add(1, Ordering::Relaxed) == 1 {
                installed_tx.send(()).unwrap();
                go_on_rx.lock().unwrap().recv().unwrap();
            }
        };
        let checkpoints = Checkpoints::new(tables, IoMode::Inline, Box::new(observer));
        advance(&checkpoints, &state(1));
        let (built_tx, built_rx) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| checkpoints.install(&state(1000)).unwrap());
            installed_rx.recv().unwrap();
            scope.spawn(|| {
                advance(&checkpoints, &state(2));
                built_tx.send(()).unwrap();
            });
            // Without turns it is through now; with turns it cannot be.
            let _ = built_rx.recv_timeout(Duration::from_millis(500));
            go_on_tx.send(()).unwrap();
        });
        assert_eq!(checkpoints.durable(), state(1000).applied);
        let found = checkpoints.load(LIMITS).unwrap();
        assert_eq!(found.store.digest(), state(1000).store.digest());
        assert_eq!(found.applied, state(1000).applied);
        assert_eq!(found.membership, state(1000).membership);
        let refused = checkpoints.install(&state(3)).unwrap_err().to_string();
        assert!(refused.contains("up to entry 4 must not replace"), "{refused}");
    }

    #[test]
    fn a_checkpoint_of_what_changed_is_one_of_everything() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(&RealFiles, &dir.path().join("checkpoint")).unwrap();
        let checkpoints = Checkpoints::new(tables, IoMode::Inline, Box::new(|_| {}));
        let mut state = checkpoint(1);
        let mut difference = Difference::default();
        let set = |key: &str| {
            let write = Write { value: vec![7].into(), dir: false, ttl: None, refresh: false };
            Command::Set { path: KeyPath::from(key), write }
        };
        let delete =
            |key: &str| Command::Delete { path: KeyPath::from(key), dir: true, recursive: true };
        // Names that sort right before and right behind what is below `/d`.
        let rounds = [
            vec![set("/d/x/1"), set("/d/x/2"), set("/d/y"), set("/d-"), set("/d0"), set("/e")],
            vec![delete("/d/x"), set("/d/x/3"), set("/f/g"), delete("/f"), delete("/never")],
            vec![delete("/d"), set("/d/x"), set("/e")],
            vec![delete("/d"), set("/d"), delete("/e"), set("/e/1/2"), delete("/e/1")],
        ];
        for (round, commands) in rounds.iter().enumerate() {
            for command in commands {
                let applied = state.store.apply(LogTime(1), command);
                applied.events().iter().for_each(|event| difference.changes.note(event));
            }
            state.applied = Some(encoding::log_id(1, round as u64));
            let before = checkpoints.durable();
            assert_eq!(difference.from, before, "it is a difference to what is there");
            checkpoints.advance(&state, &difference).unwrap();
            difference = Difference::to(&state);
            let found = checkpoints.load(LIMITS).unwrap();
            found.store.check();
            assert_eq!(found.store.digest(), state.store.digest(), "round {round}");
        }
    }

    #[test]
    fn a_checkpoint_of_new_revisions_is_one_of_all_and_compacted_ones_go_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(&RealFiles, &dir.path().join("checkpoint")).unwrap();
        let checkpoints = Checkpoints::new(tables, IoMode::Inline, Box::new(|_| {}));
        let mut state = checkpoint(1);
        let mut difference = Difference::default();
        let mut most = 0;
        for round in 0..12_u64 {
            let mut apply = |state: &mut Checkpoint, request| {
                let command = Command::Mvcc(mvcc::Command::internal(request));
                let applied = state.store.apply(LogTime(1), &command);
                difference.note(&applied);
                let Applied::Mvcc(applied) = applied else { panic!("it is one of version 3") };
                applied.reply.unwrap();
            };
            apply(
                &mut state,
                mvcc::Request::LeaseGrant { id: mvcc::LeaseId(round.cast_signed() + 1), ttl_s: 9 },
            );
            for number in 0..3000_u64 {
                let key = (round * 7 + number % 500).to_be_bytes();
                let lease =
                    mvcc::LeaseId(if number % 5 == 0 { round.cast_signed() + 1 } else { 0 });
                let put = mvcc::Put::new(&key[..], &number.to_be_bytes()[..]);
                apply(&mut state, mvcc::Request::Put(mvcc::Put { lease, ..put }));
            }
            if round % 3 == 2 {
                apply(&mut state, mvcc::Request::LeaseRevoke(mvcc::LeaseId(round.cast_signed())));
                let revision = state.store.mvcc().revision();
                apply(&mut state, mvcc::Request::Compact(Revision(revision.0 - round % 2 * 900)));
                // A part of what that frees is given back before the checkpoint, a part behind it.
                for number in 0..50 {
                    let put = mvcc::Put::new(&b"k"[..], &[number][..]);
                    apply(&mut state, mvcc::Request::Put(put));
                }
            }
            state.applied = Some(encoding::log_id(1, round));
            assert_eq!(
                difference.from,
                checkpoints.durable(),
                "it is a difference to what is there"
            );
            checkpoints.advance(&state, &difference).unwrap();
            difference = Difference::to(&state);
            most = most.max(checkpoints.tables.revisions_count().unwrap());
            let found = checkpoints.load(LIMITS).unwrap();
            found.store.check();
            assert_eq!(found.store.digest(), state.store.digest(), "round {round}");
            let all = mvcc::RangeQuery::of(mvcc::KeyRange::all());
            let first = state.store.mvcc().compacted().unwrap_or(Revision::FIRST);
            for at in (first.0..state.store.mvcc().revision().0).step_by(1117) {
                let all = mvcc::RangeQuery { revision: Revision(at), ..all.clone() };
                assert_eq!(found.store.mvcc().range(&all), state.store.mvcc().range(&all));
            }
            let hash = |store: &Store| store.mvcc().hash(Revision(0));
            assert_eq!(hash(&found.store), hash(&state.store), "round {round}");
        }
        assert!((10_000..30_000).contains(&most), "of 36,000 there were once {most}");
    }

    /// A deletion that was compacted before a checkpoint could write it left the key on disk: it was there again after a restart; one
    /// that had hung on a lease kept the member from starting.
    #[test]
    fn what_was_deleted_and_compacted_between_two_checkpoints_is_gone() {
        for compacts_to_the_deletion in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let tables = Tables::open(&RealFiles, &dir.path().join("checkpoint")).unwrap();
            let checkpoints = Checkpoints::new(tables, IoMode::Inline, Box::new(|_| {}));
            let (mut store, mut difference) = (Store::new(LIMITS), Difference::default());
            let mut saved = 0;
            let mut save = |store: &Store, difference: &mut Difference| {
                saved += 1;
                let state = Checkpoint { store: store.clone(), ..checkpoint(saved) };
                assert_eq!(difference.from, checkpoints.durable());
                checkpoints.advance(&state, difference).unwrap();
                *difference = Difference::to(&state);
                let found = checkpoints.load(LIMITS).unwrap();
                found.store.check();
                assert_eq!(found.store.digest(), store.digest());
                let hash = |store: &Store| store.mvcc().hash(Revision(0));
                assert_eq!(hash(&found.store), hash(store));
            };
            let apply = |store: &mut Store, difference: &mut Difference, request| {
                let command = Command::Mvcc(mvcc::Command::internal(request));
                let applied = store.apply(LogTime(1), &command);
                difference.note(&applied);
                let Applied::Mvcc(mvcc::Applied { revision, reply, .. }) = applied else {
                    panic!("it is one of version 3")
                };
                reply.unwrap();
                revision
            };
            let lease = mvcc::LeaseId(7);
            let put = |key: &str| mvcc::Put::new(key.as_bytes(), &b"v"[..]);
            let delete = mvcc::DeleteRange { range: mvcc::KeyRange::all(), prev_kv: false };
            for request in [
                mvcc::Request::LeaseGrant { id: lease, ttl_s: 9 },
                mvcc::Request::Put(mvcc::Put { lease, ..put("a") }),
                mvcc::Request::Put(put("b")),
            ] {
                apply(&mut store, &mut difference, request);
            }
            save(&store, &mut difference);
            apply(&mut store, &mut difference, mvcc::Request::LeaseRevoke(lease));
            let deleted = apply(&mut store, &mut difference, mvcc::Request::DeleteRange(delete));
            let behind = apply(&mut store, &mut difference, mvcc::Request::Put(put("c")));
            let to = if compacts_to_the_deletion { deleted } else { behind };
            apply(&mut store, &mut difference, mvcc::Request::Compact(to));
            // Room is given back with the commands behind it.
            for _ in 0..3 {
                apply(&mut store, &mut difference, mvcc::Request::Put(put("d")));
            }
            save(&store, &mut difference);
            save(&store, &mut difference);
        }
    }
}
