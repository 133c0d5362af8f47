//! When leases end: the leader alone knows, in its memory.
//!
//! Owns: the deadlines of leases. Never knows: which keys hang on a lease; the log, but that a lease was granted or is gone.
//! Holds: no lease is ended before its time to live has passed since it was granted, was kept alive last, or a new leader took over,
//! whichever was latest. A lease whose time is over is not kept alive any more, so that its end, once it is on its way through the
//! log, takes nobody by surprise.
//!
//! A new leader does not know when leases were kept alive: each gets its whole life again, and an election's time more, because the
//! leader before may have kept it alive until it noticed that it does not lead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use crate::base::lock;
use crate::model::{Clock, Term};
use crate::mvcc::LeaseId;

/// Deadlines of leases that are gone are looked for once there are so many more than twice those that were left the last time.
const TIDY_AFTER: usize = 1000;

/// The deadlines of a member. They count while it leads.
pub(in crate::replica) struct Lessor {
    deadlines: Mutex<Deadlines>,
    clock: Arc<dyn Clock>,
    /// Changes whenever leases may have ended.
    passes: watch::Sender<()>,
    renewed: AtomicU64,
    expired: AtomicU64,
}

/// What became of the wish to keep a lease alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replica) enum Renewal {
    /// It has its whole life before it again.
    Renewed,
    /// Its time is over; its end is on its way through the log.
    Over,
}

#[derive(Debug, Default)]
struct Deadlines {
    /// The term that this member leads, and whose leases these are.
    term: Option<Term>,
    ends: BTreeMap<LeaseId, Duration>,
    soonest: BTreeSet<(Duration, LeaseId)>,
    /// How many were left when those of leases that are gone were forgotten.
    left: usize,
}

impl std::fmt::Debug for Lessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lessor").field("deadlines", &self.deadlines).finish_non_exhaustive()
    }
}

impl Lessor {
    pub(in crate::replica) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            deadlines: Mutex::default(),
            clock,
            passes: watch::Sender::new(()),
            renewed: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }
    }

    /// This member leads `term`: unless it is known to, each lease begins anew, and lives for `grace` longer this time.
    pub(in crate::replica) fn lead(
        &self,
        term: Term,
        grace: Duration,
        leases: impl Iterator<Item = (LeaseId, Duration)>,
    ) {
        let now = self.clock.monotonic();
        self.lock().lead(term, now + grace, leases);
    }

    /// This member does not lead.
    pub(in crate::replica) fn follow(&self) {
        *self.lock() = Deadlines::default();
    }

    /// A lease was granted.
    pub(in crate::replica) fn granted(&self, lease: LeaseId, ttl: Duration) {
        let now = self.clock.monotonic();
        let mut deadlines = self.lock();
        if deadlines.term.is_some() {
            deadlines.set(lease, now + ttl);
        }
    }

    /// Keeps a lease alive that is there and lives so long.
    pub(in crate::replica) fn renew(&self, lease: LeaseId, ttl: Duration) -> Renewal {
        let now = self.clock.monotonic();
        let renewal = self.lock().renew(lease, ttl, now);
        if renewal == Renewal::Renewed {
            self.renewed.fetch_add(1, Ordering::Relaxed);
        }
        renewal
    }

    /// How often this member has kept a lease alive. Wire: `etcd_debugging_lease_renewed_total`.
    pub(in crate::replica) fn renewed(&self) -> u64 {
        self.renewed.load(Ordering::Relaxed)
    }

    /// A lease whose time was over is gone.
    pub(in crate::replica) fn expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
        self.passed();
    }

    /// How many leases this member has ended. Wire: `etcd_debugging_server_lease_expired_total`.
    pub(in crate::replica) fn expired_count(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// What is left of the life of a lease that is there and lives so long.
    pub(in crate::replica) fn left(&self, lease: LeaseId, ttl: Duration) -> Duration {
        let now = self.clock.monotonic();
        self.lock().end(lease, ttl, now).saturating_sub(now)
    }

    /// Leases whose time is over, the first ones first and at most so many; until they are gone they are named again. `is_there`
    /// says of a lease whether it is.
    pub(in crate::replica) fn over(
        &self,
        most: usize,
        is_there: impl Fn(LeaseId) -> bool,
    ) -> Vec<LeaseId> {
        let now = self.clock.monotonic();
        self.lock().over(now, most, is_there)
    }

    /// Now and then forgets the deadlines of leases that are gone.
    pub(in crate::replica) fn tidy(&self, is_there: impl Fn(LeaseId) -> bool) {
        let mut deadlines = self.lock();
        if deadlines.ends.len() > 2 * deadlines.left + TIDY_AFTER {
            deadlines.keep(is_there);
            deadlines.left = deadlines.ends.len();
        }
    }

    /// Changes whenever leases may have ended.
    pub(in crate::replica) fn passes(&self) -> watch::Receiver<()> {
        self.passes.subscribe()
    }

    pub(in crate::replica) fn passed(&self) {
        self.passes.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Deadlines> {
        // Nothing below panics half-way.
        lock(&self.deadlines)
    }
}

impl Deadlines {
    fn lead(
        &mut self,
        term: Term,
        from: Duration,
        leases: impl Iterator<Item = (LeaseId, Duration)>,
    ) {
        if self.term == Some(term) {
            return;
        }
        *self = Self { term: Some(term), ..Self::default() };
        for (lease, ttl) in leases {
            self.set(lease, from + ttl);
        }
    }

    fn set(&mut self, lease: LeaseId, end: Duration) {
        if let Some(before) = self.ends.insert(lease, end) {
            self.soonest.remove(&(before, lease));
        }
        self.soonest.insert((end, lease));
    }

    fn remove(&mut self, lease: LeaseId) {
        if let Some(end) = self.ends.remove(&lease) {
            self.soonest.remove(&(end, lease));
        }
    }

    /// Of a lease that was not heard of it begins now.
    fn end(&mut self, lease: LeaseId, ttl: Duration, now: Duration) -> Duration {
        if let Some(end) = self.ends.get(&lease) {
            return *end;
        }
        self.set(lease, now + ttl);
        now + ttl
    }

    fn renew(&mut self, lease: LeaseId, ttl: Duration, now: Duration) -> Renewal {
        if self.end(lease, ttl, now) <= now {
            return Renewal::Over;
        }
        self.set(lease, now + ttl);
        Renewal::Renewed
    }

    fn over(
        &mut self,
        now: Duration,
        most: usize,
        is_there: impl Fn(LeaseId) -> bool,
    ) -> Vec<LeaseId> {
        let over = self.soonest.iter().take_while(|(end, _)| *end <= now).take(most);
        let (over, gone): (Vec<_>, Vec<_>) =
            over.map(|(_, lease)| *lease).partition(|lease| is_there(*lease));
        for lease in gone {
            self.remove(lease);
        }
        over
    }

    fn keep(&mut self, is_there: impl Fn(LeaseId) -> bool) {
        let gone: Vec<_> = self.ends.keys().copied().filter(|lease| !is_there(*lease)).collect();
        for lease in gone {
            self.remove(lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;
    use crate::model::WallTime;

    /// A clock that goes on when it is told to.
    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn wall(&self) -> WallTime {
            WallTime(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Relaxed))
        }
    }

    struct World {
        hand: Arc<Hand>,
        lessor: Lessor,
    }

    impl World {
        fn new() -> Self {
            let hand = Arc::new(Hand::default());
            Self { lessor: Lessor::new(Arc::clone(&hand) as Arc<dyn Clock>), hand }
        }

        fn pass(&self, ms: u64) {
            self.hand.0.fetch_add(ms, Relaxed);
        }

        fn over(&self) -> Vec<i64> {
            self.lessor.over(100, |_| true).into_iter().map(|lease| lease.0).collect()
        }
    }

    const A: LeaseId = LeaseId(1);
    const B: LeaseId = LeaseId(2);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn leases(leases: &[(LeaseId, u64)]) -> impl Iterator<Item = (LeaseId, Duration)> {
        leases.iter().map(|(lease, ttl)| (*lease, s(*ttl)))
    }

    #[test]
    fn a_lease_ends_when_its_time_is_over() {
        let world = World::new();
        world.lessor.lead(Term(1), s(1), leases(&[]));
        world.lessor.granted(A, s(10));
        world.lessor.granted(B, s(5));
        world.pass(4_999);
        assert!(world.over().is_empty());
        world.pass(1);
        assert_eq!(world.over(), [2]);
        assert_eq!(world.lessor.renew(B, s(5)), Renewal::Over, "its end is on its way");
        assert_eq!(world.over(), [2], "it did not get through");
        world.pass(5_000);
        assert_eq!(world.over(), [2, 1]);
        assert_eq!(world.lessor.over(100, |lease| lease == A), [A]);
        assert_eq!(world.over(), [1], "the other one is gone");
    }

    #[test]
    fn who_keeps_it_alive_has_the_whole_time_again() {
        let world = World::new();
        world.lessor.lead(Term(1), s(1), leases(&[]));
        world.lessor.granted(A, s(10));
        for _ in 0..5 {
            world.pass(9_999);
            assert_eq!(world.lessor.left(A, s(10)), Duration::from_millis(1));
            assert_eq!(world.lessor.renew(A, s(10)), Renewal::Renewed);
            assert_eq!(world.lessor.left(A, s(10)), s(10));
            assert!(world.over().is_empty());
        }
        world.pass(10_000);
        assert_eq!(world.lessor.left(A, s(10)), Duration::ZERO);
        assert_eq!(world.over(), [1]);
    }

    #[test]
    fn a_new_leader_lets_each_live_anew_and_an_old_one_knows_nothing() {
        let world = World::new();
        world.lessor.granted(A, s(2));
        world.pass(60_000);
        assert!(world.over().is_empty(), "it does not lead");
        world.lessor.lead(Term(3), s(1), leases(&[(A, 2), (B, 20)]));
        world.pass(2_999);
        world.lessor.lead(Term(3), s(1), leases(&[(A, 2), (B, 20)]));
        assert!(world.over().is_empty());
        world.pass(1);
        assert_eq!(world.over(), [1]);
        // It lost the lead and has it again, in a later term.
        world.pass(17_000);
        world.lessor.lead(Term(5), s(1), leases(&[(A, 2), (B, 20)]));
        assert!(world.over().is_empty());
        world.lessor.follow();
        world.pass(60_000);
        assert!(world.over().is_empty());
    }

    /// A lease that is revoked and granted under the same name is another one.
    #[test]
    fn a_lease_that_is_granted_again_begins_anew() {
        let world = World::new();
        world.lessor.lead(Term(1), s(1), leases(&[]));
        world.lessor.granted(A, s(10));
        world.pass(9_000);
        world.lessor.granted(A, s(10));
        world.pass(9_000);
        assert!(world.over().is_empty());
        world.pass(1_000);
        assert_eq!(world.over(), [1]);
    }

    #[test]
    fn leases_that_are_gone_are_forgotten() {
        let world = World::new();
        world.lessor.lead(Term(1), s(1), leases(&[]));
        for number in 1..=2_000 {
            world.lessor.granted(LeaseId(number), s(1_000_000));
        }
        let is_there = |lease: LeaseId| lease.0 > 1_990;
        world.lessor.tidy(is_there);
        assert_eq!(lock(&world.lessor.deadlines).ends.len(), 10);
        assert_eq!(lock(&world.lessor.deadlines).soonest.len(), 10);
        world.pass(2_000_000_000);
        let over = world.lessor.over(100, |lease| lease.0 == 2_000);
        assert_eq!(over, [LeaseId(2_000)]);
        assert_eq!(lock(&world.lessor.deadlines).ends.len(), 1);
    }

    #[test]
    fn only_so_many_end_at_a_time_the_oldest_first() {
        let world = World::new();
        world.lessor.lead(Term(1), s(1), leases(&[]));
        for number in 1..=10 {
            world.lessor.granted(LeaseId(number), s(20 - number.unsigned_abs()));
        }
        world.pass(60_000);
        let named = |most| world.lessor.over(most, |_| true);
        assert_eq!(named(3), [LeaseId(10), LeaseId(9), LeaseId(8)]);
        assert_eq!(named(100).len(), 10);
    }
}
