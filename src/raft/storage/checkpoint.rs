//! The durable checkpoint, which is also Raft's snapshot.
//!
//! A checkpoint holds a clone of the store, which costs nothing, and writes what differs from the checkpoint before in one
//! transaction, on a thread of its own, while the store moves on.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::RaftSnapshotBuilder;
use thiserror::Error;
use tokio::time::Instant;
use tracing::info;

use crate::base::lock;
use crate::disk::{Commit, IoMode, Tables, TablesError};
use crate::model::{DecodeError, StoreIndex};
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
}

/// The checkpoint on disk, and the state it holds.
pub(in crate::raft) struct Checkpoints {
    tables: Tables,
    io: IoMode,
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
        Self { tables, io, latest: Mutex::new(None), sending: Mutex::new(None), committed }
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

    /// It is there. Whoever asks next gets the latest: the log may no longer reach back to this one, and then it would be sent
    /// for ever.
    pub(in crate::raft) fn arrived(&self, applied: Option<LogId>) {
        let sent = lock(&self.sending).take_if(|sending| sending.checkpoint.applied == applied);
        self.let_go(sent);
    }

    /// Does what takes the processor for a while, where nobody else waits for it.
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

    /// Lets go of what nobody asks for any more: it holds on to the memory of an older state.
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

    /// Writes what differs from the latest one.
    fn advance(&self, to: &Checkpoint) -> Result<(), CheckpointError> {
        self.forget_sent();
        let from = self.latest();
        self.write(from.as_ref().map(|from| &from.store), to, false)
    }

    /// Puts another state in place of everything.
    pub(in crate::raft) async fn replace(self: Arc<Self>, by: Checkpoint) -> io::Result<()> {
        let written = blocking::on(self.io, move || self.write(None, &by, true));
        written.await?.map_err(io::Error::other)
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
        let position = to.applied.as_ref().map(types::position).unwrap_or_default();
        info!(target: "etcdserver", "saved snapshot at index {}", position.index);
        Ok(())
    }
}

/// Writes nodes one by one as the difference is found, so that a large one takes no memory of its own.
fn write_store(
    commit: &mut Commit<'_>,
    from: Option<&Store>,
    to: &Store,
) -> Result<(), redb::StorageError> {
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
        Ok(self.state.clone().into_snapshot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealFiles;

    fn checkpoint(index: u64) -> Checkpoint {
        let limits = HistoryLimits { events_max: 10, bytes_max: 1000 };
        let membership = StoredMembership::default();
        Checkpoint {
            store: Store::new(limits),
            applied: Some(encoding::log_id(1, index)),
            membership,
        }
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
        checkpoints.to_send().expect("the first attempt; nobody is there");
        checkpoints.advance(&checkpoint(2)).unwrap();
        assert_eq!(checkpoints.to_send().unwrap().applied, checkpoint(2).applied);
    }
}
