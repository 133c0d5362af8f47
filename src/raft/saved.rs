//! A member's data without the member: what log and checkpoint in a directory come to, and a directory that begins with a state.
//!
//! Owns: how far a log counts that no member speaks for; the first bytes of a member that goes on from a backup. Never knows:
//! backup files, who a member is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use openraft::EntryPayload;
use thiserror::Error;

use crate::base::lock;
use crate::disk::wal::{self, Inspected};
use crate::disk::{
    DataDir, Done, Files, IoMode, LogOwner, Mark, PrepareSpare, Recovered, Tables, TablesError,
    Wal, WalError, WalObserver, WalOptions,
};
use crate::model::{DecodeError, LogIndex, LogPosition, MemberId};
use crate::raft::StartError;
use crate::raft::adapter::types::{self, LogId, Membership, Proposal, StoredMembership, Vote};
use crate::raft::storage::checkpoint::{Checkpoint, CheckpointError, Checkpoints};
use crate::raft::storage::encoding;
use crate::store::{HistoryLimits, Store};

/// Bytes of entries that are read at once.
const READ_BYTES: usize = 1 << 20;

/// How often a directory is read that a running member is writing to. Between two checkpoints it makes a pause (`storage/pace.rs`); one
/// attempt has to fall into such a pause, or before the log has grown enough for the next checkpoint.
const ATTEMPTS: u32 = 20;

/// Pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// A state, and where in the log it stands.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The key space and all that belongs to it.
    pub store: Store,
    /// The last entry that led to it.
    pub position: LogPosition,
}

/// What is in a member's directory.
pub struct SavedMember {
    /// What it comes to: everything in the log counts, as with `--force-new-cluster`. The log may hold what was acknowledged, and
    /// nobody else is asked.
    pub saved: Saved,
    /// The last entry of the checkpoint; zero when there is none.
    pub checkpoint: LogIndex,
    /// Nodes in the checkpoint.
    pub checkpoint_nodes: u64,
    /// The log.
    pub log: Inspected,
}

/// Why there is no state in a directory.
#[derive(Debug, Error)]
pub enum SavedError {
    /// The log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The checkpoint's file.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The checkpoint's contents.
    #[error("{0}: {1}")]
    Checkpoint(String, DecodeError),
    /// An entry of the log.
    #[error("{path}: entry {index} of the log cannot be read: {source}")]
    Entry {
        /// The log's directory.
        path: String,
        /// Which entry.
        index: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// Checkpoint and log do not belong together.
    #[error(
        "the log in {path} begins with entry {first}, and the checkpoint ends with entry {checkpoint}: entries between them are \
         missing. Take the log of the same moment as the checkpoint, or another backup"
    )]
    Gap {
        /// The log's directory.
        path: String,
        /// The first entry of the log.
        first: u64,
        /// The last entry of the checkpoint.
        checkpoint: u64,
    },
    /// The log is not there.
    #[error(
        "{0} holds no log, and every member has one: take the log of the same moment as the checkpoint, or another backup"
    )]
    NoLog(String),
    /// There is none yet.
    #[error("{0} holds no entries yet: its member was never part of a cluster")]
    Empty(String),
    /// The system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The member writes faster than it is read.
    #[error(
        "{path} changed each of the {ATTEMPTS} times it was read ({last}): a member is writing to it. Ask that member itself, with \
         `cairn backup --endpoint URL FILE`, or stop it first"
    )]
    Restless {
        /// The directory.
        path: String,
        /// What came of the last attempt.
        last: String,
    },
}

/// Reads the data of a member that is stopped and stays so meanwhile. Nothing is changed.
///
/// # Errors
/// See [`SavedError`].
pub fn read(checkpoint: &Path, wal_dir: &Path, owner: LogOwner) -> Result<SavedMember, SavedError> {
    let tables = if checkpoint.exists() { Some(Tables::examine(checkpoint)?) } else { None };
    let start = load(tables, checkpoint)?;
    go_on(start, wal_dir, owner)
}

/// Decodes every entry of a log, and its marks, also those that the checkpoint has made dispensable.
///
/// # Errors
/// See [`SavedError`].
pub fn decode_all(log: &Inspected, wal_dir: &Path) -> Result<(), SavedError> {
    let fail = |index| {
        let path = wal_dir.display().to_string();
        move |source| SavedError::Entry { path, index, source }
    };
    let Recovered { vote, committed, purged, entries, .. } = &log.recovered;
    let mut next = entries.start;
    let marks = [committed.as_ref(), purged.as_ref().map(|mark| &mark.data)];
    for mark in marks.into_iter().flatten() {
        encoding::decode_log_id(mark).map_err(fail(next))?;
    }
    vote.as_ref().map(|vote| encoding::decode_vote(vote)).transpose().map_err(fail(next))?;
    while next < entries.end {
        for (index, payload) in log.read(next, READ_BYTES)? {
            encoding::decode_entry(index - 1, &payload).map_err(fail(index))?;
            next = index + 1;
        }
    }
    Ok(())
}

/// Reads the data of a member that may be running, into memory by way of a copy of its checkpoint at `scratch`, which is removed
/// afterwards. Nothing of the member's is changed.
///
/// All that was acknowledged before the call is in it: checkpoint first, log behind it.
///
/// # Errors
/// See [`SavedError`].
pub fn read_running(
    dir: &Path,
    wal_dir: &Path,
    owner: LogOwner,
    scratch: &Path,
) -> Result<SavedMember, SavedError> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match attempt(dir, wal_dir, owner, scratch) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => "its checkpoint was just being written".clone_into(&mut last),
            // What is really damaged is damaged each time.
            Err(error) if is_passing(&error) => last = error.to_string(),
            Err(error) => return Err(error),
        }
        thread::sleep(ATTEMPT_PAUSE);
    }
    let same = attempt(dir, wal_dir, owner, scratch);
    match same {
        Ok(Some(found)) => Ok(found),
        Err(error) if error.to_string() == last => Err(error),
        Ok(None) | Err(_) => Err(SavedError::Restless { path: dir.display().to_string(), last }),
    }
}

/// May it be another member's writing that looks like this?
fn is_passing(error: &SavedError) -> bool {
    match error {
        SavedError::Wal(WalError::Corrupt { .. } | WalError::Io { .. })
        | SavedError::Tables(_)
        | SavedError::Gap { .. } => true,
        SavedError::Wal(WalError::Foreign { .. } | WalError::Newer { .. })
        | SavedError::Checkpoint(..)
        | SavedError::Entry { .. }
        | SavedError::NoLog(_)
        | SavedError::Empty(_)
        | SavedError::Io { .. }
        | SavedError::Restless { .. } => false,
    }
}

/// `None` when a checkpoint was written meanwhile.
fn attempt(
    dir: &Path,
    wal_dir: &Path,
    owner: LogOwner,
    scratch: &Path,
) -> Result<Option<SavedMember>, SavedError> {
    let checkpoint = DataDir::checkpoint_of(dir);
    if !checkpoint.exists() {
        return go_on(load(None, &checkpoint)?, wal_dir, owner).map(Some);
    }
    let fail = |source| SavedError::Io {
        action: "copy the checkpoint",
        path: checkpoint.display().to_string(),
        source,
    };
    let copied = Tables::copy(&checkpoint, scratch);
    let found = match copied {
        Ok(true) => Tables::examine(scratch)
            .map_err(SavedError::from)
            .and_then(|tables| load(Some(tables), &checkpoint))
            .and_then(|start| go_on(start, wal_dir, owner))
            .map(Some),
        Ok(false) => Ok(None),
        Err(source) => Err(fail(source)),
    };
    match std::fs::remove_file(scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
        Ok(()) | Err(_) => found,
    }
}

fn load(tables: Option<Tables>, path: &Path) -> Result<Checkpoint, SavedError> {
    let Some(tables) = tables else {
        let membership = StoredMembership::default();
        return Ok(Checkpoint {
            store: Store::new(HistoryLimits::NONE),
            applied: None,
            membership,
        });
    };
    let checkpoints = Checkpoints::new(tables, IoMode::Threaded, Box::new(|_| {}));
    match checkpoints.load(HistoryLimits::NONE) {
        Ok(start) => Ok(start),
        Err(CheckpointError::Tables(error)) => Err(error.into()),
        Err(CheckpointError::Decode(error)) => {
            Err(SavedError::Checkpoint(path.display().to_string(), error))
        }
        Err(CheckpointError::Older { .. }) => unreachable!("nothing is installed here"),
    }
}

/// Applies what is in the log behind the checkpoint.
fn go_on(start: Checkpoint, wal_dir: &Path, owner: LogOwner) -> Result<SavedMember, SavedError> {
    let path = || wal_dir.display().to_string();
    let log = wal::inspect(wal_dir, Some(owner))?;
    if log.segments.is_empty() {
        return Err(SavedError::NoLog(path()));
    }
    let checkpoint = start.applied.as_ref().map(types::position).unwrap_or_default();
    let checkpoint_nodes = start.store.nodes_count();
    // The log on disk counts from 1, as positions do.
    let mut next = checkpoint.index.0 + 1;
    let entries = &log.recovered.entries;
    let purged = log.recovered.purged.as_ref().map_or(0, |mark| mark.index);
    let first = if entries.is_empty() { purged + 1 } else { entries.start };
    if first > next {
        let checkpoint = checkpoint.index.0;
        return Err(SavedError::Gap { path: path(), first, checkpoint });
    }
    let Checkpoint { mut store, mut applied, .. } = start;
    while next < entries.end {
        for (index, payload) in log.read(next, READ_BYTES)? {
            let entry = encoding::decode_entry(index - 1, &payload)
                .map_err(|source| SavedError::Entry { path: path(), index, source })?;
            if let EntryPayload::Normal(Proposal { stamp, command, .. }) = &entry.payload {
                store.apply(*stamp, command);
            }
            applied = Some(entry.log_id);
            next = index + 1;
        }
    }
    let Some(applied) = applied else { return Err(SavedError::Empty(path())) };
    let saved = Saved { store, position: types::position(&applied) };
    Ok(SavedMember { saved, checkpoint: checkpoint.index, checkpoint_nodes, log })
}

/// Writes a checkpoint, and in the directory `wal_dir` a log that begins behind it, for `owner`, in a cluster in which `voters` vote.
/// Everything is durable when it returns.
///
/// # Errors
/// When the disk fails.
pub fn write(
    files: &Arc<dyn Files>,
    (checkpoint, wal_dir): (&Path, &Path),
    owner: LogOwner,
    saved: &Saved,
    voters: &[MemberId],
) -> Result<(), StartError> {
    let applied = log_id(saved.position);
    let ids: BTreeSet<_> = voters.iter().map(|id| id.0).collect();
    let nodes: BTreeMap<_, _> = ids.iter().map(|id| (*id, ())).collect();
    let membership =
        Membership::new(vec![ids], nodes).map_err(|error| StartError::Raft(error.to_string()))?;
    let membership = StoredMembership::new(Some(applied), membership);
    let tables = Tables::open(&**files, checkpoint)?;
    let checkpoints = Checkpoints::new(tables, IoMode::Inline, Box::new(|_| {}));
    let state = Checkpoint { store: saved.store.clone(), applied: Some(applied), membership };
    checkpoints.put(&state).map_err(|error| match error {
        CheckpointError::Tables(error) => StartError::Tables(error),
        error @ (CheckpointError::Decode(_) | CheckpointError::Older { .. }) => {
            StartError::Checkpoint(error.to_string())
        }
    })?;
    let options =
        WalOptions { io: IoMode::Inline, prepare: PrepareSpare::Never, ..WalOptions::default() };
    let (wal, _) = Wal::open(Arc::clone(files), wal_dir, owner, options, Arc::new(Unobserved))?;
    // Nobody was elected in this term, and nobody ever will be: each member has voted for itself.
    let vote = Vote::new(applied.leader_id.term + 1, owner.member);
    let failure = Arc::new(Mutex::new(None));
    let done = || -> Done {
        let failure = Arc::clone(&failure);
        Box::new(move |result| {
            if let Err(error) = result {
                *lock(&failure) = Some(error);
            }
        })
    };
    wal.save_vote(encoding::encode_vote(&vote), done());
    wal.save_committed(encoding::encode_log_id(&applied));
    let data = encoding::encode_log_id(&applied);
    wal.purge(Mark { index: saved.position.index.0, data }, done());
    wal.shutdown();
    let failed = lock(&failure).take();
    match failed {
        Some(error) => Err(StartError::Raft(format!("{}: {error}", wal_dir.display()))),
        None => Ok(()),
    }
}

fn log_id(position: LogPosition) -> LogId {
    encoding::log_id(position.term.0, position.index.0.saturating_sub(1))
}

struct Unobserved;

impl WalObserver for Unobserved {
    fn written(&self, _bytes: usize) {}
    fn synced(&self, _took: Duration) {}
    fn failed(&self, _error: &WalError) {}
}
