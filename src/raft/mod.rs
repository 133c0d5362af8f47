//! Consensus: where openraft meets us. No floor above writes its name.
//!
//! Owns: the log and the state it leads to. Never knows: HTTP, who may do what, what time it is.

mod checkpoint;
mod encoding;
mod log;
mod machine;
mod peers;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{ClientWriteError, Fatal, InitializeError, LinearizableReadError, RaftError};
use openraft::{ChangeMembers, ReadPolicy, ServerState, SnapshotPolicy};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::disk::{Files, Identity, Tables, TablesError, Wal, WalError, WalObserver, WalOptions};
use crate::model::{ClusterId, DecodeError, LogIndex, LogTime, MemberId, Term, Unavailable};
use crate::store::{Command, HistoryLimits};

use checkpoint::{CheckpointError, Checkpoints};
use log::Log;
use machine::Machine;
use types::{Proposal, Types};

pub use machine::{Observer, View};
pub use types::Answer;

/// Entries kept behind a checkpoint, so that a follower that was away for a moment needs no snapshot.
const ENTRIES_KEPT: u64 = 20_000;

/// Entries that are purged at once.
const PURGE_BATCH: u64 = 1024;

/// Entries in one message to a follower; their bytes are limited as well, see `log`.
const MESSAGE_ENTRIES_MAX: u64 = 4096;

/// A member that has nothing to do for so long writes a checkpoint, so that its restart is quick.
const IDLE: Duration = Duration::from_secs(60);

/// Below this a checkpoint is not worth its writes.
const IDLE_WAL_BYTES_MIN: u64 = 4 << 20;

/// How a member takes part in consensus.
pub struct Options {
    /// This member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Time between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// Least time without a heartbeat after which a follower stands for election; the most is twice that.
    pub election: Duration,
    /// How much history the store keeps.
    pub history: HistoryLimits,
    /// Bytes written to the log after which a checkpoint is written.
    pub checkpoint_wal_bytes: u64,
    /// The file system.
    pub files: Arc<dyn Files>,
    /// Where the log is.
    pub wal_dir: PathBuf,
    /// How the log is kept.
    pub wal: WalOptions,
    /// Where the checkpoint is.
    pub checkpoint: PathBuf,
    /// Is told how the log's disk does.
    pub wal_observer: Arc<dyn WalObserver>,
    /// Is told how long each checkpoint's commit took.
    pub checkpoint_observer: Box<dyn Fn(Duration) + Send + Sync>,
}

/// Why a member cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The checkpoint.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The checkpoint's contents.
    #[error("{0}")]
    Checkpoint(String),
    /// The log's contents.
    #[error("the write-ahead log holds what this version cannot read: {0}")]
    Log(#[from] DecodeError),
    /// Consensus itself.
    #[error("consensus cannot start: {0}")]
    Raft(String),
}

/// What a member is to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It orders the log.
    Leader,
    /// It follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows and has no vote.
    Learner,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// This member's role.
    pub role: Role,
    /// The term.
    pub term: Term,
    /// The leader, if this member knows one.
    pub leader: Option<MemberId>,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who leads.
    pub leadership: Leadership,
    /// The last entry that a majority has.
    pub committed: LogIndex,
    /// The last entry that this member has applied.
    pub applied: LogIndex,
}

/// A member's part in consensus. Clones are handles of the same one.
#[derive(Clone)]
pub struct Raft {
    raft: openraft::Raft<Types, Machine>,
    wal: Wal,
    view: Arc<ArcSwap<View>>,
    leadership: watch::Receiver<Leadership>,
    pace: Arc<Pace>,
    /// Keeps the checkpoint open until consensus has ended.
    _checkpoints: Arc<Checkpoints>,
}

/// When the next checkpoint is due.
#[derive(Default)]
struct Pace {
    wal_bytes: AtomicU64,
    wal_bytes_max: u64,
    due: Notify,
}

/// Counts what the log writes.
struct Counting {
    inner: Arc<dyn WalObserver>,
    pace: Arc<Pace>,
}

impl WalObserver for Counting {
    fn synced(&self, took: Duration, bytes: usize) {
        let before = self.pace.wal_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 >= self.pace.wal_bytes_max {
            self.pace.due.notify_one();
        }
        self.inner.synced(took, bytes);
    }

    fn failed(&self, error: &WalError) {
        self.inner.failed(error);
    }
}

impl Raft {
    /// Opens log and checkpoint, and takes part in consensus from where they end.
    ///
    /// # Errors
    /// See [`StartError`]; the texts name file and fix.
    pub async fn start(options: Options, observer: Arc<dyn Observer>) -> Result<Self, StartError> {
        let config = Arc::new(config(&options)?);
        let member = options.member;
        let pace =
            Arc::new(Pace { wal_bytes_max: options.checkpoint_wal_bytes, ..Pace::default() });
        let opening = Arc::clone(&pace);
        let opened = tokio::task::spawn_blocking(move || open(options, opening)).await;
        let Opened { wal, log, checkpoints, start } =
            opened.map_err(|error| StartError::Raft(error.to_string()))??;
        let machine = Machine::new(start, observer, Arc::clone(&checkpoints));
        let view = machine.published();
        let raft = openraft::Raft::new(member.0, config, peers::Peers, log, machine).await;
        let raft = raft.map_err(|error| StartError::Raft(error.to_string()))?;
        let leadership = follow_leadership(&raft);
        let this = Self { raft, wal, view, leadership, pace, _checkpoints: checkpoints };
        this.recover(member).await?;
        tokio::spawn(this.clone().write_checkpoints());
        Ok(this)
    }

    /// A member that is its cluster's only voter need not wait for anybody: it leads at once and applies all it has. So no
    /// read goes back behind what was read before the restart.
    async fn recover(&self, member: MemberId) -> Result<(), StartError> {
        let fail = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
        // Not from the metrics, which may not be there yet.
        let alone = move |state: &openraft::RaftState<Types>| {
            state.membership_state.effective().voter_ids().eq([member.0])
        };
        if self.raft.with_raft_state(alone).await.map_err(|error| fail(&error))? {
            self.raft.trigger().elect(false).await.map_err(|error| fail(&error))?;
            self.raft.wait_for_recovery(None).await.map_err(|error| fail(&error))?;
        }
        Ok(())
    }

    /// Does it belong to a cluster already?
    ///
    /// # Errors
    /// When consensus has ended.
    pub async fn is_initialized(&self) -> Result<bool, Unavailable> {
        self.raft.is_initialized().await.map_err(|_| Unavailable::Stopped)
    }

    /// Founds a cluster. Every founder may say so; a member that belongs to one already stays as it is.
    ///
    /// # Errors
    /// When consensus has ended, or `founders` leaves this member out.
    pub async fn initialize(&self, founders: &[MemberId]) -> Result<(), StartError> {
        let founders: BTreeMap<_, _> = founders.iter().map(|member| (member.0, ())).collect();
        match self.raft.initialize(founders).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(StartError::Raft(error.to_string())),
        }
    }

    /// Puts a command into the log and waits until this member has applied it. There is no deadline here.
    ///
    /// # Errors
    /// [`Unavailable::NotLeader`] when it did not enter the log; otherwise the outcome is unknown.
    pub async fn propose(&self, at: LogTime, command: Command) -> Result<Answer, Unavailable> {
        match self.raft.client_write(Proposal { at, command }).await {
            Ok(response) => Ok(response.data),
            Err(error) => Err(write_error(error)),
        }
    }

    /// Returns once this member has applied everything that was committed before the call (ReadIndex): no entry, no sync.
    ///
    /// # Errors
    /// [`Unavailable::NotLeader`] when this member cannot tell; somebody else may, or it may later.
    pub async fn read_barrier(&self) -> Result<(), Unavailable> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(Unavailable::NotLeader { leader: forward.leader_id.map(MemberId) })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Unavailable::NotLeader { leader: None })
            }
            Err(RaftError::Fatal(_)) => Err(Unavailable::Stopped),
        }
    }

    /// Lets a member follow without a vote.
    ///
    /// # Errors
    /// As [`Raft::propose`].
    pub async fn add_learner(&self, member: MemberId) -> Result<(), Unavailable> {
        self.raft.add_learner(member.0, (), false).await.map(drop).map_err(write_error)
    }

    /// Takes a member out, whatever it is.
    ///
    /// # Errors
    /// As [`Raft::propose`].
    pub async fn remove(&self, member: MemberId) -> Result<(), Unavailable> {
        let gone = BTreeSet::from([member.0]);
        if self.raft.voter_ids().any(|voter| voter == member.0) {
            let change = ChangeMembers::RemoveVoters(gone.clone());
            self.raft.change_membership(change, false).await.map_err(write_error)?;
        } else {
            let change = ChangeMembers::RemoveNodes(gone);
            self.raft.change_membership(change, false).await.map_err(write_error)?;
        }
        Ok(())
    }

    /// The state as of the last applied entry.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Who leads, and how far this member is.
    pub fn status(&self) -> Status {
        let committed = self.raft.metrics().borrow_watched().local_committed;
        Status {
            leadership: *self.leadership.borrow(),
            committed: committed.map(|log_id| types::log_index(log_id.index)).unwrap_or_default(),
            applied: self.view.load().position.index,
        }
    }

    /// Who leads, now and from now on.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Writes a checkpoint soon, if anything changed since the last.
    ///
    /// # Errors
    /// When consensus has ended.
    pub async fn checkpoint(&self) -> Result<(), Unavailable> {
        self.pace.wal_bytes.store(0, Ordering::Relaxed);
        self.raft.trigger().snapshot().await.map_err(|_| Unavailable::Stopped)
    }

    async fn write_checkpoints(self) {
        let mut bytes_before = 0;
        loop {
            let due = tokio::select! {
                () = self.pace.due.notified() => true,
                () = tokio::time::sleep(IDLE) => {
                    let bytes = self.pace.wal_bytes.load(Ordering::Relaxed);
                    let idle = bytes == bytes_before;
                    bytes_before = bytes;
                    idle && bytes >= IDLE_WAL_BYTES_MIN
                }
            };
            let enough = self.pace.wal_bytes.load(Ordering::Relaxed) > 0;
            if due && enough {
                let index = self.view.load().position.index;
                info!(target: "etcdserver", "start to snapshot (applied: {index})");
                if self.checkpoint().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Resolves when consensus has failed for good, and says why. A member must not go on serving then.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            let state = metrics.borrow_watched().running_state.clone();
            match state {
                Err(Fatal::Stopped) => std::future::pending().await,
                Err(error) => return error.to_string(),
                Ok(()) => {}
            }
            if metrics.changed().await.is_err() {
                // The core is gone without a word.
                let state = metrics.borrow_watched().running_state.clone();
                if let Err(error) = state
                    && error != Fatal::Stopped
                {
                    return error.to_string();
                }
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends this member's part, with everything that was acknowledged on disk.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            warn!(target: "raft", "consensus ended badly: {error}");
        }
        let wal = self.wal.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || wal.shutdown()).await {
            warn!(target: "raft", "the log ended badly: {error}");
        }
    }
}

fn write_error(error: RaftError<Types, ClientWriteError<Types>>) -> Unavailable {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            Unavailable::NotLeader { leader: forward.leader_id.map(MemberId) }
        }
        // It was in the log and is no more; another leader may have it all the same.
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
            Unavailable::TimedOutLeaderFailed
        }
        // Another change of membership is under way.
        RaftError::APIError(
            ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_),
        ) => Unavailable::TimedOut,
        RaftError::Fatal(_) => Unavailable::Stopped,
    }
}

struct Opened {
    wal: Wal,
    log: Log,
    checkpoints: Arc<Checkpoints>,
    start: checkpoint::Checkpoint,
}

fn open(options: Options, pace: Arc<Pace>) -> Result<Opened, StartError> {
    let tables = Tables::open(&*options.files, &options.checkpoint)?;
    let checkpoints = Arc::new(Checkpoints::new(tables, options.checkpoint_observer));
    let start = match checkpoints.load(options.history) {
        Ok(start) => start,
        Err(CheckpointError::Tables(error)) => return Err(error.into()),
        Err(CheckpointError::Decode(error)) => {
            let path = options.checkpoint.display();
            return Err(StartError::Checkpoint(format!(
                "{path}: {}",
                CheckpointError::from(error)
            )));
        }
    };
    let identity = Identity { cluster: options.cluster.0, member: options.member.0 };
    let observer = Arc::new(Counting { inner: options.wal_observer, pace });
    let (wal, recovered) =
        Wal::open(options.files, &options.wal_dir, identity, options.wal, observer)?;
    if recovered.torn_bytes > 0 {
        info!(
            target: "wal",
            "cut {} bytes that were being written when the member ended; nobody was told they were safe",
            recovered.torn_bytes
        );
    }
    let log = Log::new(wal.clone(), &recovered)?;
    Ok(Opened { wal, log, checkpoints, start })
}

fn config(options: &Options) -> Result<openraft::Config, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let election = millis(options.election);
    let config = openraft::Config {
        cluster_name: options.cluster.to_string(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: election,
        election_timeout_max: 2 * election,
        // A member that was cut off must not depose the leader when it comes back.
        enable_pre_vote: Some(true),
        // A leader that hears no majority steps down; else it could block elections in a partial partition.
        // openraft wants at least the lease and the longest election timeout, which are two elections each.
        quorum_loss_probe_interval: Some(5 * election),
        // A restarted leader stands for election like everybody else.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        // We know better when a checkpoint is due: see `Pace`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        purge_batch_size: PURGE_BATCH,
        max_payload_entries: MESSAGE_ENTRIES_MAX,
        ..openraft::Config::default()
    };
    config.validate().map_err(|error| {
        StartError::Raft(format!("{error}; check --heartbeat-interval and --election-timeout"))
    })
}

/// openraft's view of who leads, in our words, updated for as long as it runs.
fn follow_leadership(raft: &openraft::Raft<Types, Machine>) -> watch::Receiver<Leadership> {
    let mut metrics = raft.server_metrics();
    let read = |metrics: &openraft::type_config::alias::WatchReceiverOf<
        Types,
        openraft::metrics::RaftServerMetrics<Types>,
    >| {
        let metrics = metrics.borrow_watched();
        let role = match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Follower | ServerState::Shutdown => Role::Follower,
        };
        let leader = metrics.current_leader.map(MemberId);
        Leadership { role, term: Term(metrics.vote.leader_id.term), leader }
    };
    let (leadership_tx, leadership_rx) = watch::channel(read(&metrics));
    tokio::spawn(async move {
        while metrics.changed().await.is_ok() {
            let now = read(&metrics);
            leadership_tx.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    });
    leadership_rx
}
