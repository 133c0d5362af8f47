//! One member at work: the use cases, without HTTP.
//!
//! Owns: deadlines of requests, live watchers, the leader's chores. Never knows: HTTP, flags, sockets.

#![doc = include_str!("DESIGN.md")]

mod chores;
mod consensus;
mod hub;
pub mod identity;
mod membership;
mod read_gate;
mod reconcile;
mod space;
mod stats;
pub mod v3;
mod watch;

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::model::{Clock, ClusterId, LogTime, MemberId, WallTime};
use crate::raft::{Answerer, MemoryUse, Raft, Status, View};
use crate::store::Members;

use read_gate::ReadGate;

pub use chores::Facts;
pub use consensus::request_timeout;
pub use hub::{Hub, Notice};
pub use membership::MemberRefusal;
pub use space::{Shortage, Space};
pub use stats::{Moment, Reads, SelfStats};
pub use watch::Watch;

/// The one handle that the API holds. Cheap to clone.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    reads: Reads,
    stats: SelfStats,
    read_gate: ReadGate,
    space: Space,
    member: LocalMember,
}

/// The member that runs here: what does not change while it does.
#[derive(Clone, Debug)]
pub struct LocalMember {
    /// Its identity.
    pub id: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub name: String,
    /// How long a follower waits for its leader; part of each request's deadline.
    pub election: Duration,
    /// What the key space may weigh.
    pub quota_bytes: u64,
}

impl Replica {
    /// Puts a member together. `hub` must be the observer that `raft` was started with.
    pub fn new(raft: Raft, hub: Arc<Hub>, clock: Arc<dyn Clock>, member: LocalMember) -> Self {
        let stats = SelfStats::new(clock.wall());
        let (reads, read_gate) = (Reads::default(), ReadGate::default());
        let space = Space::new(member.quota_bytes);
        let inner = Inner { raft, hub, clock, reads, stats, read_gate, space, member };
        let inner = Arc::new(inner);
        let answerer = Arc::downgrade(&inner);
        inner.raft.answer_with(answerer as Weak<dyn Answerer>);
        Self { inner }
    }

    /// What this member is and belongs to.
    pub fn member(&self) -> &LocalMember {
        &self.inner.member
    }

    /// The state as of the last applied entry. No lock; stays as it is for as long as it is held.
    pub fn view(&self) -> Arc<View> {
        self.inner.raft.view()
    }

    /// This member's role and how far its log is.
    pub fn status(&self) -> Status {
        self.inner.raft.status()
    }

    /// What this member keeps in memory.
    pub fn memory(&self) -> MemoryUse {
        self.inner.raft.memory()
    }

    /// The log's time, as well as this member can tell. What is left of a lifetime follows from it.
    pub fn now(&self) -> LogTime {
        self.inner.raft.now()
    }

    /// This member's wall clock. Only for what is shown.
    pub fn wall(&self) -> WallTime {
        self.inner.clock.wall()
    }

    /// Counters of reads, which the log does not know.
    pub fn reads(&self) -> &Reads {
        &self.inner.reads
    }

    /// Start time and leader changes.
    pub fn stats(&self) -> &SelfStats {
        &self.inner.stats
    }

    /// The facts of the cluster, now and from now on.
    pub fn members(&self) -> tokio::sync::watch::Receiver<Members> {
        self.inner.hub.members()
    }

    /// What members exchange, in numbers.
    pub fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    /// The live watchers.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.inner.hub
    }
}
