//! Consensus: where openraft meets us. No floor above writes its name.
//!
//! Owns: the log and the state it leads to, and what members say to each other about them. Never knows: HTTP, who may do
//! what, flags.
//!
//! | room | what is in it |
//! |---|---|
//! | `start.rs` | opens log and checkpoint and puts everything below together |
//! | `alive.rs` | whether consensus and the log's thread go on |
//! | `saved.rs` | a member's data without the member: read for a backup, written for a restore |
//! | `clock.rs` | the log's clock: what entries are stamped with, how long keys live |
//! | `storage/` | openraft's storage over `disk` and `store`: `log` and `recent`, `sole` (is this the only member?), `machine`, `checkpoint`, `pace`, `encoding` |
//! | `net/` | openraft's network over `transport`: calls out (`peers`), calls in (`inbound`), questions to the leader (`ask`), snapshots (`transfer`), their bytes (`messages`), how followers do (`followers`, `lag`) |
//! | `requests/` | a write's way into the log and back (`propose`, `handover`, `tickets`), reads that are not stale (`reads`), what the leader alone knows (`questions`) |
//! | `voters/` | who has a vote (`voting`), who leads (`leadership`), going on when the majority is lost (`alone`) |
//! | `adapter/` | openraft's parameters (`types`) and what it runs on (`runtime`) |

#![doc = include_str!("DESIGN.md")]

mod adapter;
mod alive;
mod clock;
#[cfg(test)]
pub(crate) mod costs;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod net;
mod requests;
pub mod saved;
mod start;
mod storage;
#[cfg(test)]
mod tests;
mod voters;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{Fatal, InitializeError, RaftError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::disk::{IoMode, Wal};
use crate::model::{LogIndex, LogPosition, LogTime, MemberId, Term, Unavailable, codes};
use crate::store::HistoryLimits;
use crate::transport::Transport;

use adapter::types::{self, Types};
use clock::LogClock;
use net::ask::Asker;
use net::fence::Fences;
use net::followers::Followers;
use net::inbound::LastPeerRefusal;
use net::transfer::Arrivals;
use requests::handover::Handover;
use requests::propose::OnWay;
use requests::reads::Readers;
use requests::tickets::Tickets;
use storage::blocking;
use storage::checkpoint::Checkpoints;
use storage::log::Log;
use storage::machine::Machine;
use storage::pace::Pace;
use voters::leadership::Heard;

pub use adapter::runtime::seed_elections;
pub use adapter::types::Answer;
pub use alive::SignsOfLife;
pub use net::followers::{AppendStats, FollowerStats};
pub use net::lag::Latency;
pub use requests::budget::{ByteBudget, Reserved};
pub use requests::questions::Answerer;
pub use start::{Meter, RaftOptions, StartError};
pub use storage::machine::{Observer, View};
pub use storage::pace::LogHealth;
pub use voters::leadership::{Leadership, Role};
pub use voters::voting::{Progress, Voting, VotingChanges};

/// What openraft logs itself: targets, and whether they are worth an operator's time. What it warns of, peers that are away
/// most of all, we say ourselves and with the fix; and to be told that another member leads by now is no error.
pub const LOG_TARGETS: [(&str, bool); 2] =
    [("openraft", true), ("openraft::raft::api::management", false)];

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

/// What a member keeps in memory, part by part, as far as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    /// Files and directories.
    pub nodes: u64,
    /// Keys of version 3.
    pub keys_v3: u64,
    /// What the key space weighs, as `--quota-bytes` counts it: names, values and a constant for each key of both versions.
    pub keys_bytes: u64,
    /// Events in the history.
    pub history_events: usize,
    /// Bytes of them, as `--history-bytes` counts.
    pub history_bytes: usize,
    /// Entries of the log whose places are known.
    pub log_entries: u64,
    /// Bytes of the youngest entries, which are kept to be sent to followers.
    pub log_bytes: usize,
    /// Bytes of the list of keys that the next checkpoint writes, roughly.
    pub changes_bytes: usize,
    /// Bytes of the checkpoint's pages.
    pub checkpoint_cache_bytes: usize,
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
    /// The last entry that this member had when it started.
    held_at_start: LogIndex,
    election: Duration,
    history: HistoryLimits,
    clock: Arc<LogClock>,
    transport: Arc<Transport>,
    tickets: Arc<Tickets>,
    asker: Asker,
    readers: Readers,
    handover: Handover<OnWay>,
    budget: Arc<ByteBudget>,
    followers: Arc<Followers>,
    heard: Arc<Heard>,
    arrivals: Arrivals,
    fences: Arc<Fences>,
    io: IoMode,
    pace: Arc<Pace>,
    log: Log,
    removed: Arc<Notify>,
    last_refusal: LastPeerRefusal,
    /// The floor above, once it is there; it holds this one.
    answerer: OnceLock<Weak<dyn Answerer>>,
    stop: CancellationToken,
    /// Keeps the checkpoint open until consensus has ended.
    checkpoints: Arc<Checkpoints>,
}

impl Raft {
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

    /// Tells the position of the last applied entry, without a lock; may outlive consensus.
    pub fn positions(&self) -> impl Fn() -> LogPosition + Send + Sync + use<> {
        let view = Arc::clone(&self.view);
        move || view.load().position
    }

    /// What this member keeps in memory.
    pub fn memory(&self) -> MemoryUse {
        let view = self.view.load();
        let history = view.store.history();
        MemoryUse {
            nodes: view.store.nodes_count(),
            keys_v3: view.store.mvcc().keys_count(),
            keys_bytes: view.store.bytes(),
            history_events: history.len(),
            history_bytes: history.bytes(),
            log_entries: self.wal.entries(),
            log_bytes: self.shared.log.bytes_in_memory(),
            changes_bytes: self.shared.checkpoints.changes_bytes(),
            checkpoint_cache_bytes: self.shared.checkpoints.cached_bytes(),
        }
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
            // The watch has ended, so no answer will come.
            None if self.leadership.has_changed().is_err() => Err(Unavailable::Stopped),
            None => Err(Unavailable::NotLeader { leader: None }),
        }
    }

    /// What requests that are under way may hold.
    pub fn budget(&self) -> &Arc<ByteBudget> {
        &self.shared.budget
    }

    /// The log's time now, as well as this member can tell: exactly while it leads, else as it last heard it from its leader.
    pub fn now(&self) -> LogTime {
        self.shared.clock.now()
    }

    /// How far the wall clock of each leader there was is ahead of this member's, in nanoseconds, when last heard of.
    pub fn clock_differences(&self) -> Vec<(MemberId, i64)> {
        self.shared.clock.differences()
    }

    /// How much history is kept at most.
    pub fn history_limits(&self) -> HistoryLimits {
        self.shared.history
    }

    /// Is a snapshot of the leader being installed?
    pub fn installs_snapshot(&self) -> bool {
        self.shared.arrivals.is_installing()
    }

    /// The way to the other members.
    pub fn transport(&self) -> &Arc<Transport> {
        &self.shared.transport
    }

    /// How a follower answers this member, while it leads.
    pub fn follower_stats(&self, follower: MemberId) -> FollowerStats {
        self.shared.followers.of(follower)
    }

    /// How far a follower is behind this member; `None` unless this member leads and sends to it.
    pub fn latency(&self, follower: MemberId) -> Option<Latency> {
        let Leadership { role, term, .. } = *self.leadership.borrow();
        if role != Role::Leader {
            return None;
        }
        self.shared.log.lag().of(follower, term.0)
    }

    /// Appends sent to followers.
    pub fn appends_sent(&self) -> AppendStats {
        self.shared.followers.appends_sent()
    }

    /// Appends received from leaders.
    pub fn appends_received(&self) -> AppendStats {
        self.shared.followers.appends_received()
    }

    /// The last entry that this member had when it started; none when it started for the first time.
    pub fn held_at_start(&self) -> LogIndex {
        self.shared.held_at_start
    }

    /// Waits until this member has applied all that it had when it started. It shows nothing that is not on its own disk, so from
    /// then on it shows no less than it ever did. `false` when it stops before.
    pub async fn regained(&self) -> bool {
        self.shared.tickets.reach(self.shared.held_at_start).await
    }

    /// Resolves when this member has learned that it was removed from its cluster.
    pub async fn removed(&self) {
        self.shared.removed.notified().await;
    }

    /// Resolves when consensus or its log has failed for good, and says why. A member must not go on serving then.
    pub async fn failed(&self) -> String {
        tokio::select! {
            biased;
            why = self.shared.pace.log_failed() => why,
            why = self.consensus_failed() => why,
        }
    }

    /// The core says why it ends in its last metrics. Those change with every entry; the others seldom, and they end with it too.
    async fn consensus_failed(&self) -> String {
        let mut seldom = self.raft.server_metrics();
        while seldom.changed().await.is_ok() {}
        let state = self.raft.metrics().borrow_watched().running_state.clone();
        match state {
            Ok(()) | Err(Fatal::Stopped) => std::future::pending().await,
            Err(error) => error.to_string(),
        }
    }

    /// Ends this member's part, with everything that was acknowledged on disk.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        if let Err(error) = self.raft.shutdown().await {
            warn!(target: "raft", code = codes::CONSENSUS_ENDED, "consensus ended badly: {error}");
        }
        self.shared.tickets.close();
        let wal = self.wal.clone();
        if let Err(error) = blocking::on(self.shared.io, move || wal.shutdown()).await {
            warn!(target: "raft", code = codes::LOG_ENDED, "the log ended badly: {error}");
        }
    }
}
