//! The durable checkpoint, which is also Raft's snapshot.
//!
//! A checkpoint holds a clone of the store, which costs nothing, and writes what differs from the checkpoint before in one
//! transaction, on a thread of its own, while the store moves on.
//!
//! Holds: content, applied entry and membership on disk are those of one state, and a later state never gives way to an earlier
//! one. A checkpoint that is being built and a snapshot that is being installed take turns.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::RaftSnapshotBuilder;
use thiserror::Error;
use tokio::time::Instant;
use tracing::info;

use crate::base::lock;
use crate::disk::{Commit, CommitError, IoMode, Tables, TablesError};
use crate::model::{DecodeError, LogIndex, StoreIndex};
use crate::raft::adapter::types::{self, LogId, StoredMembership, Types};
use crate::raft::storage::blocking;
use crate::raft::storage::encoding;
use crate::store::{Header, HistoryLimits, Loader, RecordChange, Store};

const HEADER: &str = "store";
const APPLIED: &str = "applied";
const MEMBERSHIP: &str = "membership";

/// A follower whose connection broke gets the rest of the same checkpoint if it is back within this time.
const RESUME: Duration = Duration::from_secs(20);

/// A state and the log entry that led to it.
#[derive(Clone, Debug)]
pub(in crate::raft) struct Checkpoint {
    pub(in crate::raft) store: Store,
    pub(in crate::raft) applied: Option<LogId>,
    pub(in crate::raft) membership: StoredMembership,
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

/// The checkpoint on disk, and the state it holds.
pub(in crate::raft) struct Checkpoints {
    tables: Tables,
    io: IoMode,
    /// Held from the look at `latest` until its successor is committed and in its place: what a commit has to write depends on
    /// what is there, and of two that looked at the same state the second would put its changes on top of another one.
    writing: Mutex<()>,
    latest: Mutex<Option<Checkpoint>>,
    sending: Mutex<Option<Sending>>,
    committed: Box<dyn Fn(Duration) + Send + Sync>,
}

/// A checkpoint that is on its way to a follower. If the connection breaks, the rest of the same one is sent.
struct Sending {
    checkpoint: Checkpoint,
    until: Instant,
}

impl Checkpoints {
    /// `committed` is told how long each commit took.
    pub(in crate::raft) fn new(
        tables: Tables,
        io: IoMode,
        committed: Box<dyn Fn(Duration) + Send + Sync>,
    ) -> Self {
        let (writing, latest, sending) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { tables, io, writing, latest, sending, committed }
    }

    /// The last one; none before the first.
    pub(in crate::raft) fn latest(&self) -> Option<Checkpoint> {
        lock(&self.latest).clone()
    }

    /// The one to send to a follower: the latest, or the one that was being sent a moment ago.
    pub(in crate::raft) fn to_send(&self) -> Option<Checkpoint> {
        let mut sending = lock(&self.sending);
        if let Some(sending) = sending.as_ref().filter(|sending| sending.until > Instant::now()) {
            return Some(sending.checkpoint.clone());
        }
        let before = sending.take();
        drop(sending);
        self.let_go(before);
        self.latest()
    }

    /// A part of it got through. Until then nothing is lost when the latest is sent instead, and to a follower that is away for
    /// long an old one would be sent for nothing.
    pub(in crate::raft) fn got_through(&self, checkpoint: &Checkpoint) {
        let until = Instant::now() + RESUME;
        let mut sending = lock(&self.sending);
        let before = match &mut *sending {
            Some(sending) if sending.checkpoint.applied == checkpoint.applied => {
                sending.until = until;
                None
            }
            // Another follower gets that one.
            Some(sending) if sending.until > Instant::now() => None,
            sending => sending.replace(Sending { checkpoint: checkpoint.clone(), until }),
        };
        drop(sending);
        self.let_go(before);
    }

    /// Waits for `installed`; until then it is not there.
    pub(in crate::raft) async fn while_it_is_on_its_way<T>(
        &self,
        checkpoint: &Checkpoint,
        installed: impl Future<Output = T>,
    ) -> T {
        let mut installed = pin!(installed);
        loop {
            self.got_through(checkpoint);
            if let Ok(done) = tokio::time::timeout(RESUME / 2, &mut installed).await {
                return done;
            }
        }
    }

    /// Is a follower about to get one?
    pub(in crate::raft) fn is_on_its_way(&self) -> bool {
        lock(&self.sending).as_ref().is_some_and(|sending| sending.until > Instant::now())
    }

    /// The receiver has it. The next follower gets the latest: the log may no longer reach back to this one, and then it would be
    /// sent for ever.
    pub(in crate::raft) fn arrived(&self, applied: Option<LogId>) {
        let sent = lock(&self.sending).take_if(|sending| sending.checkpoint.applied == applied);
        self.let_go(sent);
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

    /// Drops a checkpoint that no follower has asked for lately: it holds on to the memory of an older state.
    fn forget_sent(&self) {
        let sent = lock(&self.sending).take_if(|sending| sending.until <= Instant::now());
        self.let_go(sent);
    }

    /// Reads the checkpoint; an empty store when there is none.
    pub(in crate::raft) fn load(
        &self,
        limits: HistoryLimits,
    ) -> Result<Checkpoint, CheckpointError> {
        let Some(header) = self.tables.meta(HEADER)? else {
            let membership = StoredMembership::default();
            return Ok(Checkpoint { store: Store::new(limits), applied: None, membership });
        };
        let mut loader = Loader::new(limits, &Header(header))?;
        self.tables.nodes(|key, record| loader.node(key, record).map_err(CheckpointError::from))?;
        self.tables.events(|index, record| {
            loader.event(StoreIndex(index), record).map_err(CheckpointError::from)
        })?;
        let store = loader.finish()?;
        let applied = self.tables.meta(APPLIED)?;
        let applied = applied.map(|bytes| encoding::decode_log_id(&bytes)).transpose()?;
        let membership = self.tables.meta(MEMBERSHIP)?.unwrap_or_default();
        let membership = encoding::decode_stored_membership(&membership)?;
        let checkpoint = Checkpoint { store, applied, membership };
        *lock(&self.latest) = Some(checkpoint.clone());
        Ok(checkpoint)
    }

    /// Writes what differs from the latest one. Does nothing when that is not older: a snapshot was installed meanwhile.
    fn advance(&self, to: &Checkpoint) -> Result<(), CheckpointError> {
        self.forget_sent();
        let _writing = lock(&self.writing);
        let from = self.latest();
        if from.as_ref().is_some_and(|from| from.applied >= to.applied) {
            return Ok(());
        }
        self.write(from.as_ref().map(|from| &from.store), to, false)
    }

    /// Puts another state in place of everything.
    pub(in crate::raft) async fn replace(self: Arc<Self>, by: Checkpoint) -> io::Result<()> {
        let written = blocking::on(self.io, move || self.install(&by));
        written.await?.map_err(io::Error::other)
    }

    fn install(&self, by: &Checkpoint) -> Result<(), CheckpointError> {
        let _writing = lock(&self.writing);
        if let Some(latest) = self.latest()
            && latest.applied > by.applied
        {
            // openraft installs only what is beyond all that is committed here.
            let (snapshot, checkpoint) = (by.index(), latest.index());
            return Err(CheckpointError::Older { snapshot, checkpoint });
        }
        self.write(None, by, true)
    }

    fn write(
        &self,
        from: Option<&Store>,
        to: &Checkpoint,
        clear: bool,
    ) -> Result<(), CheckpointError> {
        let begun = Instant::now();
        self.tables.commit(|commit| {
            if clear {
                commit.clear()?;
            }
            write_store(commit, from, &to.store)?;
            commit.put_meta(HEADER, &to.store.header().0)?;
            if let Some(applied) = &to.applied {
                commit.put_meta(APPLIED, &encoding::encode_log_id(applied))?;
            }
            commit.put_meta(MEMBERSHIP, &encoding::encode_stored_membership(&to.membership))
        })?;
        (self.committed)(begun.elapsed());
        let before = lock(&self.latest).replace(to.clone());
        // Not under the lock: a large tree takes its time, and what applies entries asks for the latest.
        drop(before);
        info!(target: "etcdserver", "saved snapshot at index {}", to.index());
        Ok(())
    }
}

impl Checkpoint {
    fn index(&self) -> LogIndex {
        self.applied.as_ref().map(types::position).unwrap_or_default().index
    }
}

/// Writes nodes one by one as the difference is found, so that a large one takes no memory of its own.
fn write_store(
    commit: &mut Commit<'_>,
    from: Option<&Store>,
    to: &Store,
) -> Result<(), CommitError> {
    let mut result = Ok(());
    to.changes_since(from, &mut |change| {
        if result.is_ok() {
            result = match &change {
                RecordChange::PutNode(path, record) => commit.put_node(path.as_bytes(), record),
                RecordChange::DropNode(path) => commit.drop_node(path.as_bytes()),
            };
        }
    });
    result?;
    let mut result = Ok(());
    let known = from.map_or(StoreIndex(0), |from| from.index().next());
    to.events_since(known, &mut |index, record| {
        if result.is_ok() {
            result = commit.put_event(index.0, &record);
        }
    });
    result?;
    commit.drop_events_below(to.history().oldest().0)
}

/// One checkpoint under way.
pub(in crate::raft) struct CheckpointBuilder {
    checkpoints: Arc<Checkpoints>,
    state: Checkpoint,
}

impl CheckpointBuilder {
    pub(in crate::raft) fn new(checkpoints: Arc<Checkpoints>, state: Checkpoint) -> Self {
        Self { checkpoints, state }
    }
}

impl RaftSnapshotBuilder<Types> for CheckpointBuilder {
    type SnapshotData = Checkpoint;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<openraft::type_config::alias::SnapshotOf<Types, Checkpoint>> {
        let (checkpoints, state) = (Arc::clone(&self.checkpoints), self.state.clone());
        let written = blocking::on(checkpoints.io, move || checkpoints.advance(&state));
        written.await?.map_err(io::Error::other)?;
        // What is on disk may be newer by now. openraft then forgets this one, which is older than what it has installed.
        Ok(self.state.clone().into_snapshot())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::disk::RealFiles;
    use crate::model::{KeyPath, LogTime};
    use crate::raft::adapter::types::Membership;
    use crate::store::{Command, Write};

    fn checkpoint(index: u64) -> Checkpoint {
        let limits = HistoryLimits { events_max: 10, bytes_max: 1000 };
        let membership = StoredMembership::default();
        Checkpoint {
            store: Store::new(limits),
            applied: Some(encoding::log_id(1, index)),
            membership,
        }
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
        checkpoints.advance(&state(1)).unwrap();
        let (built_tx, built_rx) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| checkpoints.install(&state(1000)).unwrap());
            installed_rx.recv().unwrap();
            scope.spawn(|| {
                checkpoints.advance(&state(2)).unwrap();
                built_tx.send(()).unwrap();
            });
            // Without turns it is through now; with turns it cannot be.
            let _ = built_rx.recv_timeout(Duration::from_millis(500));
            go_on_tx.send(()).unwrap();
        });
        let latest = checkpoints.latest().unwrap();
        let limits = HistoryLimits { events_max: 10, bytes_max: 1000 };
        for found in [latest, checkpoints.load(limits).unwrap()] {
            assert_eq!(found.store.digest(), state(1000).store.digest());
            assert_eq!(found.applied, state(1000).applied);
            assert_eq!(found.membership, state(1000).membership);
        }
        let refused = checkpoints.install(&state(3)).unwrap_err().to_string();
        assert!(refused.contains("up to entry 4 must not replace"), "{refused}");
    }

    /// A member joined while the log was long. The leader sent its checkpoint, wrote the next one and purged the log behind
    /// that; the member needed a checkpoint again, and got the first one again, for as long as it asked.
    #[test]
    fn what_has_arrived_is_not_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(&RealFiles, &dir.path().join("checkpoint")).unwrap();
        let checkpoints = Checkpoints::new(tables, IoMode::Inline, Box::new(|_| {}));
        let index = |sent: Option<Checkpoint>| sent.unwrap().applied.unwrap().index;
        checkpoints.advance(&checkpoint(1)).unwrap();
        checkpoints.got_through(&checkpoints.to_send().unwrap());
        checkpoints.advance(&checkpoint(2)).unwrap();
        assert_eq!(index(checkpoints.to_send()), 1, "its connection broke, and the rest is sent");
        checkpoints.got_through(&checkpoint(2));
        assert_eq!(index(checkpoints.to_send()), 1, "another follower gets that one");
        checkpoints.arrived(checkpoint(1).applied);
        assert_eq!(index(checkpoints.to_send()), 2);
        checkpoints.got_through(&checkpoint(2));
        checkpoints.arrived(checkpoint(1).applied);
        checkpoints.advance(&checkpoint(3)).unwrap();
        assert_eq!(index(checkpoints.to_send()), 2, "that was another one");
    }

    /// A member that was away for long was sent the checkpoint that the leader had at the first attempt, installed it, and then
    /// needed the latest one all the same.
    #[test]
    fn a_follower_that_is_away_gets_the_latest() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(&RealFiles, &dir.path().join("checkpoint")).unwrap();
        let checkpoints = Checkpoints::new(tables, IoMode::Inline, Box::new(|_| {}));
        checkpoints.advance(&checkpoint(1)).unwrap();
        checkpoints.to_send().expect("the first attempt, which reaches no follower");
        checkpoints.advance(&checkpoint(2)).unwrap();
        assert_eq!(checkpoints.to_send().unwrap().applied, checkpoint(2).applied);
    }
}
