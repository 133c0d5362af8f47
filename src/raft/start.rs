//! How a member's part in consensus begins: log and checkpoint are opened, and everything on this floor is put together.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use openraft::SnapshotPolicy;
use openraft::storage::RaftLogStorage;
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::disk::{Files, LogOwner, Tables, TablesError, Wal, WalError, WalObserver, WalOptions};
use crate::model::{Clock, ClusterId, DecodeError, MemberId, Random};
use crate::mvcc;
use crate::raft::adapter::types::{self, Types};
use crate::raft::clock::LogClock;
use crate::raft::net::ask::Asker;
use crate::raft::net::followers::Followers;
use crate::raft::net::inbound::LastPeerRefusal;
use crate::raft::net::peers::Peers;
use crate::raft::net::transfer::Arrivals;
use crate::raft::requests::budget::ByteBudget;
use crate::raft::requests::handover::Handover;
use crate::raft::requests::reads::Readers;
use crate::raft::requests::tickets::Tickets;
use crate::raft::storage::blocking;
use crate::raft::storage::checkpoint::{Checkpoint, CheckpointError, Checkpoints};
use crate::raft::storage::log::Log;
use crate::raft::storage::machine::{Listeners, Machine, Observer, View};
use crate::raft::storage::pace::{Counting, Pace};
use crate::raft::storage::state::State;
use crate::raft::voters::alone;
use crate::raft::voters::leadership::{Follower, Heard};
use crate::raft::{Raft, Shared};
use crate::store::HistoryLimits;
use crate::transport::Transport;

/// Entries in one message to a follower; their bytes are limited as well, see `log`.
const MESSAGE_ENTRIES_MAX: u64 = 4096;

/// How a member takes part in consensus.
pub struct RaftOptions {
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
    /// Bytes of the checkpoint's pages that are kept in memory, at most.
    pub checkpoint_cache_bytes: usize,
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
    /// Bytes of requests under way.
    pub inflight_bytes_max: usize,
    /// The machine's clocks.
    pub clock: Arc<dyn Clock>,
    /// For numbers that must not come twice.
    pub random: Arc<dyn Random>,
    /// Is told how the log's disk does.
    pub wal_observer: Arc<dyn WalObserver>,
    /// Is told how long things take.
    pub meter: Arc<dyn Meter>,
}

/// Is told how long things take. Called where they happen, so it must be quick.
pub trait Meter: Send + Sync {
    /// The commit of a checkpoint.
    fn checkpoint(&self, _took: Duration) {}
    /// A heartbeat to a member, until it was answered.
    fn round_trip(&self, _member: MemberId, _took: Duration) {}
    /// An entry, from the append to this leader's log until a follower had it on its disk.
    fn replicated(&self, _follower: MemberId, _took: Duration) {}
    /// Some entries that were applied together.
    fn applied(&self, _took: Duration) {}
    /// A command of version 3 that was applied.
    fn changed(&self, _applied: &mvcc::Applied) {}
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

impl Raft {
    /// Opens log and checkpoint, and takes part in consensus from where they end.
    ///
    /// # Errors
    /// See [`StartError`]; the texts name file and fix.
    pub async fn start(
        options: RaftOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        let config = Arc::new(config(&options)?);
        let (member, election, history) = (options.member, options.election, options.history);
        let (alone, heartbeat) = (options.alone, options.heartbeat);
        let inflight_bytes_max = options.inflight_bytes_max;
        let io = options.wal.io;
        let meter = Arc::clone(&options.meter);
        let clock = Arc::new(LogClock::new(Arc::clone(&options.clock)));
        let transport = Arc::clone(&options.transport);
        let tickets = Arc::new(Tickets::new(&*options.random));
        let removed = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let Opened { wal, mut log, checkpoints, start, pace, followers } = open(options).await?;
        if alone {
            alone::go_alone(member, &mut log, &start).await?;
        }
        let in_log =
            log.get_log_state().await.map_err(|error| StartError::Raft(error.to_string()))?;
        let held_at_start = in_log.last_log_id.max(start.applied);
        let held_at_start = held_at_start.as_ref().map(types::position).unwrap_or_default().index;
        let peers = Peers {
            transport: Arc::clone(&transport),
            log: log.clone(),
            checkpoints: Arc::clone(&checkpoints),
            followers: Arc::clone(&followers),
            clock: Arc::clone(&clock),
            patience: election,
            removed: Arc::clone(&removed),
        };
        let listeners = Listeners {
            observer,
            tickets: Arc::clone(&tickets),
            clock: Arc::clone(&clock),
            meter: Arc::clone(&meter),
            facts: facts_learner(member, Arc::clone(&transport), Arc::clone(&removed)),
        };
        let mut state = State::of(start);
        replay(&log, &mut state).await?;
        let machine =
            Machine::new(state, listeners, member, Some(log.clone()), Arc::clone(&checkpoints));
        let view = machine.published();
        let kept_log = log.clone();
        // In a place of its own: it is large, and begins once.
        let raft = Box::pin(openraft::Raft::new(member.0, config, peers, log, machine)).await;
        let raft = raft.map_err(|error| StartError::Raft(error.to_string()))?;
        // Should consensus fail, no caller waits for an answer that cannot come.
        let ending = Arc::clone(&tickets);
        // By then a follower stands for election.
        let heard = Arc::new(Heard::new(election * 7 / 5));
        let follower = Follower {
            member,
            raft: raft.clone(),
            heard: Arc::clone(&heard),
            view: Arc::clone(&view),
            clock: Arc::clone(&clock),
            heartbeat,
        };
        let leadership = follower.follow(move || ending.close());
        let asker = Asker::start(Arc::clone(&transport), Arc::clone(&tickets), stop.clone());
        let (readers, readers_rx) = Readers::new();
        let (handover, bursts) = Handover::new();
        let shared = Arc::new(Shared {
            member,
            held_at_start,
            election,
            history,
            clock,
            transport,
            tickets,
            asker,
            readers,
            handover,
            budget: ByteBudget::new(inflight_bytes_max),
            followers,
            heard,
            arrivals: Arrivals::default(),
            fences: Arc::default(),
            io,
            pace,
            log: kept_log,
            removed,
            last_refusal: LastPeerRefusal::default(),
            answerer: OnceLock::new(),
            stop: stop.clone(),
            checkpoints,
        });
        let this = Self { raft, wal, view, leadership, shared };
        tokio::spawn(
            stop.clone().run_until_cancelled_owned(this.clone().hand_over_proposals(bursts)),
        );
        this.recover(member).await?;
        tokio::spawn(stop.clone().run_until_cancelled_owned(this.clone().write_checkpoints()));
        tokio::spawn(stop.clone().run_until_cancelled_owned(this.clone().cut_log()));
        tokio::spawn(stop.run_until_cancelled_owned(this.clone().serve_readers(readers_rx)));
        Ok(this)
    }

    /// A member that is its cluster's only voter need not wait for a vote: it leads at once and applies all it has. So no
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
}

/// Applies what is known to be committed, in pieces of bounded size. openraft would do so too, with so many entries at a time
/// however large they are.
async fn replay(log: &Log, state: &mut State) -> Result<(), StartError> {
    let fail = |error: std::io::Error| match error.downcast::<WalError>() {
        Ok(error) => StartError::Wal(error),
        Err(error) => StartError::Raft(error.to_string()),
    };
    let from = state.applied().map_or(0, |applied| applied.index + 1);
    let Some(committed) = log.committed().filter(|committed| committed.index >= from) else {
        return Ok(());
    };
    state.replay(log.stream(from, committed.index + 1).boxed()).await.map_err(fail)?;
    // What a member shows it holds after a restart.
    log.until_safe(committed.index).await.map_err(fail)?;
    let (first, last) = (types::log_index(from), types::log_index(committed.index));
    info!(target: "etcdserver", "applied entries {first} to {last} of the log");
    Ok(())
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
    start: Checkpoint,
    pace: Arc<Pace>,
    followers: Arc<Followers>,
}

async fn open(options: RaftOptions) -> Result<Opened, StartError> {
    let opened = blocking::on(options.wal.io, move || open_files(options)).await;
    opened.map_err(|error| StartError::Raft(error.to_string()))?
}

fn open_files(options: RaftOptions) -> Result<Opened, StartError> {
    let io = options.wal.io;
    let cache_bytes = options.checkpoint_cache_bytes;
    let pace = Arc::new(Pace::new(options.checkpoint_wal_bytes));
    let tables =
        Tables::open_with(&*options.files, &options.checkpoint, cache_bytes, pace.times())?;
    let meter = Arc::clone(&options.meter);
    let commits = Box::new(move |took| meter.checkpoint(took));
    let checkpoints = Arc::new(Checkpoints::new(tables, io, commits));
    let path = options.checkpoint.display();
    let load = || match checkpoints.load(options.history) {
        Ok(start) => Ok(start),
        Err(CheckpointError::Tables(error)) => Err(error.into()),
        Err(error @ (CheckpointError::Decode(_) | CheckpointError::Older { .. })) => {
            Err(StartError::Checkpoint(format!("{path}: {error}")))
        }
    };
    let identity = LogOwner { cluster: options.cluster.0, member: options.member.0 };
    let observer = Arc::new(Counting::new(options.wal_observer, Arc::clone(&pace)));
    let recover = || -> Result<_, StartError> {
        let (wal, recovered) =
            Wal::open(options.files, &options.wal_dir, identity, options.wal, observer)?;
        if recovered.torn_bytes > 0 {
            info!(
                target: "wal",
                "cut {} bytes that were being written when the member ended; no client was told that they were safe",
                recovered.torn_bytes
            );
        }
        let log = Log::new(wal.clone(), io, &recovered)?;
        Ok((wal, log))
    };
    // Both read much: side by side, where there may be threads.
    let (start, log) = blocking::both(io, load, recover);
    let (start, (wal, log)) = (start?, log?);
    if let Some(applied) = &start.applied {
        let index = types::log_index(applied.index);
        info!(target: "etcdserver", "recovered store from snapshot at index {index}");
    }
    // A member that is killed again and again before the next checkpoint is due would have more to read each time.
    pace.count(log.bytes_behind(start.applied.map(|applied| applied.index)));
    let followers = Arc::new(Followers::new(options.meter));
    Ok(Opened { wal, log, checkpoints, start, pace, followers })
}

fn config(options: &RaftOptions) -> Result<openraft::Config, StartError> {
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
        // A restarted leader stands for election like every other member.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        // We know better when a checkpoint is due: see `Pace`.
        snapshot_policy: SnapshotPolicy::Never,
        // And how much of the log it makes dispensable.
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: MESSAGE_ENTRIES_MAX,
        ..openraft::Config::default()
    };
    config.validate().map_err(|error| {
        StartError::Raft(format!("{error}; check --heartbeat-interval and --election-timeout"))
    })
}
