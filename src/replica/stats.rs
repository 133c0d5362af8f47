//! Numbers that only this member knows.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

use crate::model::{MemberId, WallTime};

/// Reads of the key space on this member, since it started.
#[derive(Debug, Default)]
pub struct Reads {
    success: AtomicU64,
    fail: AtomicU64,
    /// Reads of one level, failed ones too.
    pub plain: AtomicU64,
    /// Reads of a whole subtree, failed ones too.
    pub recursive: AtomicU64,
}

impl Reads {
    /// Counts one read and how it ended. Wire: `getsSuccess`, `getsFail`.
    pub fn count(&self, recursive: bool, found: bool) {
        if recursive { &self.recursive } else { &self.plain }.fetch_add(1, Relaxed);
        if found { &self.success } else { &self.fail }.fetch_add(1, Relaxed);
    }

    /// Counts the look-up whether authentication is on, which etcd makes for each request in the same store; it finds something
    /// once users or roles were changed.
    pub fn count_auth_lookup(&self, found: bool) {
        if found { &self.success } else { &self.fail }.fetch_add(1, Relaxed);
    }

    /// `getsSuccess` and `getsFail`.
    pub fn totals(&self) -> (u64, u64) {
        (self.success.load(Relaxed), self.fail.load(Relaxed))
    }
}

/// When something happened: to be shown, and to be measured from.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the wall clock of then.
    pub wall: WallTime,
    /// By the clock that never jumps.
    pub instant: Instant,
}

impl Moment {
    fn now(wall: WallTime) -> Self {
        Self { wall, instant: Instant::now() }
    }
}

/// This member's own life: start, leaders seen, proposals.
#[derive(Debug)]
pub struct SelfStats {
    started: Moment,
    leader: Mutex<Option<(MemberId, Moment)>>,
    leader_changes: AtomicU64,
    pending: AtomicI64,
    failed: AtomicU64,
    barriers: AtomicU64,
    failed_barriers: AtomicU64,
    promotions: AtomicU64,
    late_heartbeats: AtomicU64,
    clock_jumps: AtomicU64,
}

impl SelfStats {
    pub(super) fn new(wall: WallTime) -> Self {
        Self {
            started: Moment::now(wall),
            leader: Mutex::new(None),
            leader_changes: AtomicU64::new(0),
            pending: AtomicI64::new(0),
            failed: AtomicU64::new(0),
            barriers: AtomicU64::new(0),
            failed_barriers: AtomicU64::new(0),
            promotions: AtomicU64::new(0),
            late_heartbeats: AtomicU64::new(0),
            clock_jumps: AtomicU64::new(0),
        }
    }

    /// When the member started.
    pub fn started(&self) -> Moment {
        self.started
    }

    /// The leader it last saw, and since when.
    pub fn leader(&self) -> Option<(MemberId, Moment)> {
        *self.leader.lock().expect("nothing panics while it holds this lock")
    }

    pub(super) fn leader_since(&self) -> Option<Instant> {
        self.leader().map(|(_, since)| since.instant)
    }

    /// Notes who leads now; returns who led before if that changed.
    pub(super) fn saw_leader(
        &self,
        leader: Option<MemberId>,
        wall: WallTime,
    ) -> Option<Option<MemberId>> {
        let mut known = self.leader.lock().expect("nothing panics while it holds this lock");
        let before = known.map(|(leader, _)| leader);
        if before == leader {
            return None;
        }
        *known = leader.map(|leader| (leader, Moment::now(wall)));
        if leader.is_some() {
            self.leader_changes.fetch_add(1, Relaxed);
        }
        Some(before)
    }

    /// How often it saw a new leader. Wire: `etcd_server_leader_changes_seen_total`.
    pub fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Relaxed)
    }

    pub(super) fn pending(&self) -> Pending<'_> {
        self.pending.fetch_add(1, Relaxed);
        Pending(&self.pending)
    }

    /// Writes that wait for consensus. Wire: `etcd_server_proposals_pending`.
    pub fn proposals_pending(&self) -> i64 {
        self.pending.load(Relaxed)
    }

    pub(super) fn count_failed_proposal(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Writes and quorum reads without an answer. Wire: `etcd_server_proposals_failed_total`.
    pub fn proposals_failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    pub(super) fn count_late_heartbeat(&self) {
        self.late_heartbeats.fetch_add(1, Relaxed);
    }

    /// How often heartbeats could not leave in time. Wire: `etcd_server_heartbeat_send_failures_total`.
    pub fn late_heartbeats(&self) -> u64 {
        self.late_heartbeats.load(Relaxed)
    }

    pub(super) fn count_clock_jump(&self) {
        self.clock_jumps.fetch_add(1, Relaxed);
    }

    /// How often this member's wall clock jumped. Wire: `cairn_wall_clock_jumps_total`.
    pub fn clock_jumps(&self) -> u64 {
        self.clock_jumps.load(Relaxed)
    }

    pub(super) fn count_barrier(&self, served: bool) {
        if served { &self.barriers } else { &self.failed_barriers }.fetch_add(1, Relaxed);
    }

    /// Quorum reads without an answer in time. Wire: `etcd_server_read_indexes_failed_total`.
    pub fn failed_barriers(&self) -> u64 {
        self.failed_barriers.load(Relaxed)
    }

    pub(super) fn count_promotion(&self) {
        self.promotions.fetch_add(1, Relaxed);
    }

    /// Members that this one has given a vote. Wire: `etcd_server_learner_promote_successes`.
    pub fn promotions(&self) -> u64 {
        self.promotions.load(Relaxed)
    }

    /// Quorum reads served. In etcd each is a proposal and is counted among them.
    pub fn barriers(&self) -> u64 {
        self.barriers.load(Relaxed)
    }
}

/// One waiting write; counts itself out however it ends.
pub(super) struct Pending<'a>(&'a AtomicI64);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
