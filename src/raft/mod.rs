//! Consensus: where openraft meets us. No floor above writes its name.
//!
//! Owns: the log and the state it leads to, and what members say to each other about them. Never knows: HTTP, who may do
//! what, flags.
//!
//! | file | what |
//! |---|---|
//! | `log`, `machine`, `checkpoint` | openraft's storage over `disk` and `store` |
//! | `peers`, `inbound`, `wire`, `transfer` | openraft's network over `transport`: calls out, calls in, their bytes, snapshots |
//! | `propose`, `answers`, `ask` | a write's way into the log, here or on the leader, and back |
//! | `reads` | reads that are not stale |
//! | `voting`, `alone` | who has a vote, and who leads next; going on when the majority is lost |

mod alone;
mod answers;
mod ask;
mod checkpoint;
mod encoding;
mod followers;
mod inbound;
mod leadership;
mod log;
mod machine;
mod pace;
mod peers;
mod propose;
mod reads;
mod runtime;
#[cfg(test)]
mod tests;
mod transfer;
mod types;
mod voting;
mod waiting;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use openraft::SnapshotPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{Fatal, InitializeError, RaftError};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::disk::{
    Files, Identity, Tables, TablesError, Waiting, Wal, WalError, WalObserver, WalOptions,
};
use crate::model::{Clock, ClusterId, DecodeError, LogIndex, MemberId, Random, Term, Unavailable};
use crate::store::HistoryLimits;
use crate::transport::Transport;

use answers::Answers;
use ask::Asker;
use checkpoint::{CheckpointError, Checkpoints};
use followers::Followers;
use inbound::LastRefusal;
use leadership::Heard;
use log::Log;
use machine::Machine;
use pace::Pace;
use peers::Peers;
use reads::Readers;
use transfer::Arrivals;
use types::Types;

pub use followers::{AppendStats, FollowerStats};
pub use leadership::{Leadership, Role};
pub use machine::{Observer, View};
pub use runtime::seed_elections;
pub use types::Answer;
pub use voting::{Progress, Voting, VotingChanges};

/// What openraft logs itself: targets, and whether they are worth an operator's time. What it warns of, peers that are away
/// most of all, we say ourselves and with the fix; and to be told that somebody else leads by now is no error.
pub const LOG_TARGETS: [(&str, bool); 2] =
    [("openraft", true), ("openraft::raft::api::management", false)];

/// Entries kept behind a checkpoint, so that a follower that was away for a moment needs no snapshot.
const ENTRIES_KEPT: u64 = 20_000;

/// Entries that are purged at once.
const PURGE_BATCH: u64 = 1024;

/// Entries in one message to a follower; their bytes are limited as well, see `log`.
const MESSAGE_ENTRIES_MAX: u64 = 4096;

/// How a member takes part in consensus.
pub struct Options {
    /// This member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Leave the others behind, for good: they are lost.
    pub alone: bool,
    /// Time between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// Time without a heartbeat after which a follower stands for election, roughly.
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
    /// The way to the other members.
    pub transport: Arc<Transport>,
    /// Stamps what this member puts into the log while it leads.
    pub clock: Arc<dyn Clock>,
    /// For numbers that must not come twice.
    pub random: Arc<dyn Random>,
    /// Is told how the log's disk does.
    pub wal_observer: Arc<dyn WalObserver>,
    /// Is told how long each checkpoint's commit took.
    pub checkpoint_observer: Box<dyn Fn(Duration) + Send + Sync>,
    /// Is told how long a heartbeat to a member took to be answered.
    pub round_trip_observer: Box<dyn Fn(MemberId, Duration) + Send + Sync>,
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
    shared: Arc<Shared>,
}

/// What all handles share.
struct Shared {
    member: MemberId,
    election: Duration,
    history: HistoryLimits,
    clock: Arc<dyn Clock>,
    transport: Arc<Transport>,
    answers: Arc<Answers>,
    asker: Asker,
    readers: Readers,
    followers: Arc<Followers>,
    heard: Arc<Heard>,
    arrivals: Arrivals,
    waiting: Waiting,
    pace: Arc<Pace>,
    removed: Arc<Notify>,
    last_refusal: LastRefusal,
    stop: CancellationToken,
    /// Keeps the checkpoint open until consensus has ended.
    checkpoints: Arc<Checkpoints>,
}

impl Raft {
    /// Opens log and checkpoint, and takes part in consensus from where they end.
    ///
    /// # Errors
    /// See [`StartError`]; the texts name file and fix.
    pub async fn start(options: Options, observer: Arc<dyn Observer>) -> Result<Self, StartError> {
        let config = Arc::new(config(&options)?);
        let (member, election, history) = (options.member, options.election, options.history);
        let (alone, heartbeat) = (options.alone, options.heartbeat);
        let disk_waiting = options.wal.waiting;
        let (clock, transport) = (Arc::clone(&options.clock), Arc::clone(&options.transport));
        let answers = Arc::new(Answers::new(&*options.random));
        let removed = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let Opened { wal, mut log, checkpoints, start, pace, followers } = open(options).await?;
        if alone {
            alone::go_alone(member, &mut log, &start).await?;
        }
        let peers = Peers {
            transport: Arc::clone(&transport),
            log: log.clone(),
            checkpoints: Arc::clone(&checkpoints),
            followers: Arc::clone(&followers),
            patience: election,
            removed: Arc::clone(&removed),
        };
        let machine = Machine::new(
            start,
            observer,
            Arc::clone(&answers),
            facts_learner(member, Arc::clone(&transport), Arc::clone(&removed)),
            member,
            Arc::clone(&checkpoints),
        );
        let view = machine.published();
        let raft = openraft::Raft::new(member.0, config, peers, log, machine).await;
        let raft = raft.map_err(|error| StartError::Raft(error.to_string()))?;
        // Should consensus fail, nobody waits for an answer that cannot come.
        let ending = Arc::clone(&answers);
        // By then a follower stands for election.
        let heard = Arc::new(Heard::new(election * 7 / 5));
        let follower = leadership::Follower {
            member,
            raft: raft.clone(),
            heard: Arc::clone(&heard),
            heartbeat,
        };
        let leadership = follower.follow(move || ending.close());
        let asker = Asker::start(Arc::clone(&transport), Arc::clone(&answers), stop.clone());
        let (readers, readers_rx) = Readers::new();
        let shared = Arc::new(Shared {
            member,
            election,
            history,
            clock,
            transport,
            answers,
            asker,
            readers,
            followers,
            heard,
            arrivals: Arrivals::default(),
            waiting: disk_waiting,
            pace,
            removed,
            last_refusal: LastRefusal::default(),
            stop: stop.clone(),
            checkpoints,
        });
        let this = Self { raft, wal, view, leadership, shared };
        this.recover(member).await?;
        tokio::spawn(stop.clone().run_until_cancelled_owned(this.clone().write_checkpoints()));
        tokio::spawn(stop.run_until_cancelled_owned(this.clone().serve_readers(readers_rx)));
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

    /// Whom to ask, and in which term.
    fn leader(&self) -> Result<(MemberId, Term), Unavailable> {
        let now = *self.leadership.borrow();
        match now.leader {
            Some(leader) => Ok((leader, now.term)),
            // Nobody looks any more, so nobody will come.
            None if self.leadership.has_changed().is_err() => Err(Unavailable::Stopped),
            None => Err(Unavailable::NotLeader { leader: None }),
        }
    }

    /// The way to the other members.
    pub fn transport(&self) -> &Arc<Transport> {
        &self.shared.transport
    }

    /// How a follower answers this member, while it leads.
    pub fn follower_stats(&self, follower: MemberId) -> FollowerStats {
        self.shared.followers.of(follower)
    }

    /// Appends sent to followers.
    pub fn appends_sent(&self) -> AppendStats {
        self.shared.followers.appends_sent()
    }

    /// Appends received from leaders.
    pub fn appends_received(&self) -> AppendStats {
        self.shared.followers.appends_received()
    }

    /// Resolves when this member has learned that it was removed from its cluster.
    pub async fn removed(&self) {
        self.shared.removed.notified().await;
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
        self.shared.stop.cancel();
        if let Err(error) = self.raft.shutdown().await {
            warn!(target: "raft", "consensus ended badly: {error}");
        }
        self.shared.answers.close();
        let wal = self.wal.clone();
        if let Err(error) = waiting::on(self.shared.waiting, move || wal.shutdown()).await {
            warn!(target: "raft", "the log ended badly: {error}");
        }
    }
}

/// What is to be done when facts of the cluster may have changed.
fn facts_learner(
    member: MemberId,
    transport: Arc<Transport>,
    removed: Arc<Notify>,
) -> Box<dyn Fn(&View) + Send + Sync> {
    Box::new(move |view| {
        let members = view.store.members();
        let urls = members.iter().map(|(id, record)| (id, &record.peer_urls[..]));
        transport.book().record(urls);
        if members.was_removed(member) {
            removed.notify_one();
        }
    })
}

struct Opened {
    wal: Wal,
    log: Log,
    checkpoints: Arc<Checkpoints>,
    start: checkpoint::Checkpoint,
    pace: Arc<Pace>,
    followers: Arc<Followers>,
}

async fn open(options: Options) -> Result<Opened, StartError> {
    let opened = waiting::on(options.wal.waiting, move || open_files(options)).await;
    opened.map_err(|error| StartError::Raft(error.to_string()))?
}

fn open_files(options: Options) -> Result<Opened, StartError> {
    let tables = Tables::open(&*options.files, &options.checkpoint)?;
    let checkpoints =
        Arc::new(Checkpoints::new(tables, options.wal.waiting, options.checkpoint_observer));
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
    let waiting = options.wal.waiting;
    let identity = Identity { cluster: options.cluster.0, member: options.member.0 };
    let pace = Arc::new(Pace::new(options.checkpoint_wal_bytes));
    let observer = Arc::new(pace::Counting::new(options.wal_observer, Arc::clone(&pace)));
    let (wal, recovered) =
        Wal::open(options.files, &options.wal_dir, identity, options.wal, observer)?;
    if recovered.torn_bytes > 0 {
        info!(
            target: "wal",
            "cut {} bytes that were being written when the member ended; nobody was told they were safe",
            recovered.torn_bytes
        );
    }
    let log = Log::new(wal.clone(), waiting, &recovered)?;
    let followers = Arc::new(Followers::new(options.round_trip_observer));
    Ok(Opened { wal, log, checkpoints, start, pace, followers })
}

fn config(options: &Options) -> Result<openraft::Config, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let election = millis(options.election);
    let config = openraft::Config {
        cluster_name: options.cluster.to_string(),
        heartbeat_interval: millis(options.heartbeat),
        // A follower waits for the lease, which is as long as the longest of these, and then for a time drawn between the
        // two. That makes 1.1 to 1.4 elections from the last heartbeat to the candidate.
        election_timeout_min: election * 2 / 5,
        election_timeout_max: election * 7 / 10,
        // A member that was cut off must not depose the leader when it comes back.
        enable_pre_vote: Some(true),
        // A leader that hears no majority falls silent, else it could block elections in a partial partition. openraft
        // wants at least the lease and the longest time-out.
        quorum_loss_probe_interval: Some(2 * election),
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
