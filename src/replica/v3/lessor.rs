//! When leases end: the leader alone knows, in its memory; what the log is told of it.
//!
//! Owns: the deadlines of leases, and the choice of those that are recorded. Never knows: which keys hang on a lease; the log, but that
//! a lease was granted or is gone, and what was recorded of its end.
//! Holds: no lease is ended before its time to live has passed since it was granted or was kept alive last. A lease whose time is over
//! is not kept alive any more, so that its end, once it is on its way through the log, takes nobody by surprise.
//!
//! A new leader does not know when leases were kept alive. Where the log says when a lease ends, the lease ends then. The others get
//! their whole life again, and an election's time more, because the leader before may have kept them alive until it noticed that it
//! does not lead. So the end of a lease that is not kept alive for a while is recorded. From then on, until it was kept alive through
//! the log, nothing that its leader says keeps it alive; see `docs/adr/0030-ends-of-leases-are-recorded.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use crate::base::lock;
use crate::model::{Clock, LogTime, Term};
use crate::mvcc::{Deadline, LeaseId};

/// Deadlines of leases that are gone are looked for once there are so many more than twice those that were left the last time.
const TIDY_AFTER: usize = 1000;

/// The end of a lease is recorded when it was not kept alive for so long, and for [`RECORD_AFTER_EACH`] for every lease that there is.
const RECORD_AFTER: Duration = Duration::from_secs(1);

/// Keeping a lease alive whose end is recorded costs an entry in the log. Clients that do it before half of the life is over cause
/// fewer than 1 / `RECORD_AFTER_EACH` such entries a second, however many leases there are.
const RECORD_AFTER_EACH: Duration = Duration::from_millis(10);

/// The end is recorded in any case when one part in so many of the life is over. Clients keep a lease alive every third of its life.
const RECORD_AFTER_PART: u32 = 2;

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
    /// As [`Renewal::Renewed`], once the log says that this end does not stand. Until then the client must not be told.
    Recorded(LogTime),
    /// Its time is over; its end is on its way through the log.
    Over,
}

#[derive(Debug, Default)]
struct Deadlines {
    /// The term that this member leads, and whose leases these are.
    term: Option<Term>,
    leases: BTreeMap<LeaseId, Lease>,
    soonest: BTreeSet<(Duration, LeaseId)>,
    /// When to look whether the end of a lease is to be recorded. A lease that was kept alive meanwhile is looked at again later.
    looks: BTreeSet<(Duration, LeaseId)>,
    /// How many were left when those of leases that are gone were forgotten.
    left: usize,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    end: Duration,
    /// When it was granted or kept alive, or the leader took over.
    since: Duration,
    /// The end that stands in the log or is on its way there.
    recorded: Option<LogTime>,
    /// Its place in [`Deadlines::looks`].
    look: Option<Duration>,
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

    /// This member leads `term`, at the log's time `at`: unless it is known to, what is recorded of its leases counts, and the others
    /// begin anew, and live for `grace` longer this time. None ends within `least`: its client had nobody to keep it alive meanwhile.
    ///
    /// `leases` are those of a state in which everything is that earlier leaders put into the log.
    pub(in crate::replica) fn lead(
        &self,
        term: Term,
        at: LogTime,
        [least, grace]: [Duration; 2],
        leases: impl Iterator<Item = (LeaseId, Duration, Deadline)>,
    ) {
        let now = self.clock.monotonic();
        let mut deadlines = self.lock();
        if deadlines.term == Some(term) {
            return;
        }
        *deadlines = Deadlines { term: Some(term), ..Deadlines::default() };
        for (lease, ttl, deadline) in leases {
            match deadline {
                Deadline::Recorded(end) => {
                    let left = end.since(at).max(least.min(ttl));
                    deadlines.set(lease, now, now + left, Some(end));
                }
                Deadline::Lifted(_) => deadlines.set(lease, now, now + grace + ttl, None),
            }
        }
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
            deadlines.set(lease, now, now + ttl, None);
        }
    }

    /// Leases whose end is to be recorded now, at the log's time `at`, and at most so many. They are named again, later, until they
    /// [are recorded](Lessor::recorded). From now on it takes the log to keep them alive.
    pub(in crate::replica) fn next_to_record(
        &self,
        at: LogTime,
        most: usize,
    ) -> Vec<(LeaseId, LogTime)> {
        let now = self.clock.monotonic();
        self.lock().next_to_record(now, at, most)
    }

    /// The log says that these leases end then.
    pub(in crate::replica) fn recorded(&self, ends: &[(LeaseId, LogTime)]) {
        let mut deadlines = self.lock();
        for (lease, end) in ends {
            deadlines.recorded(*lease, *end);
        }
    }

    /// The log says that this end of a lease does not stand: it was [kept alive](Renewal::Recorded).
    pub(in crate::replica) fn lifted(&self, lease: LeaseId, end: LogTime) {
        self.lock().lifted(lease, end);
    }

    /// Keeps a lease alive that is there and lives so long.
    pub(in crate::replica) fn renew(&self, lease: LeaseId, ttl: Duration) -> Renewal {
        let now = self.clock.monotonic();
        let renewal = self.lock().renew(lease, ttl, now);
        if renewal != Renewal::Over {
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
        if deadlines.leases.len() > 2 * deadlines.left + TIDY_AFTER {
            deadlines.keep(is_there);
            deadlines.left = deadlines.leases.len();
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
    fn set(&mut self, lease: LeaseId, since: Duration, end: Duration, recorded: Option<LogTime>) {
        self.remove(lease);
        self.soonest.insert((end, lease));
        self.leases.insert(lease, Lease { end, since, recorded, look: None });
        if recorded.is_none() {
            self.look_again(lease);
        }
    }

    fn remove(&mut self, lease: LeaseId) {
        if let Some(Lease { end, look, .. }) = self.leases.remove(&lease) {
            self.soonest.remove(&(end, lease));
            look.map(|look| self.looks.remove(&(look, lease)));
        }
    }

    /// How long a lease is not kept alive before its end is recorded.
    fn patience(&self, lease: &Lease) -> Duration {
        let leases = u32::try_from(self.leases.len()).unwrap_or(u32::MAX);
        let by_number = RECORD_AFTER_EACH.saturating_mul(leases) + RECORD_AFTER;
        by_number.min((lease.end - lease.since) / RECORD_AFTER_PART)
    }

    /// The lease is looked at when its end will have to be recorded, unless it is looked at sooner.
    fn look_again(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get(&id).filter(|lease| lease.look.is_none()) else { return };
        let look = lease.since + self.patience(lease);
        self.look_at(id, look);
    }

    fn look_at(&mut self, id: LeaseId, look: Duration) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.look = Some(look);
            self.looks.insert((look, id));
        }
    }

    fn next_to_record(
        &mut self,
        now: Duration,
        at: LogTime,
        most: usize,
    ) -> Vec<(LeaseId, LogTime)> {
        let mut ends = Vec::new();
        while ends.len() < most
            && let Some((_, id)) = self.looks.first().copied().filter(|(look, _)| *look <= now)
        {
            self.looks.pop_first();
            let Some(mut lease) = self.leases.get(&id).copied() else { continue };
            lease.look = None;
            let due = lease.since + self.patience(&lease);
            let is_over = lease.end <= now;
            if !is_over && (due <= now || lease.recorded.is_some()) {
                let end = lease.recorded.unwrap_or_else(|| at.plus(lease.end - now));
                lease.recorded = Some(end);
                ends.push((id, end));
            }
            self.leases.insert(id, lease);
            if !is_over {
                self.look_at(id, if due > now { due } else { now + RECORD_AFTER });
            }
        }
        ends
    }

    fn recorded(&mut self, id: LeaseId, end: LogTime) {
        if let Some(lease) = self.leases.get_mut(&id)
            && lease.recorded == Some(end)
            && let Some(look) = lease.look.take()
        {
            self.looks.remove(&(look, id));
        }
    }

    fn lifted(&mut self, id: LeaseId, end: LogTime) {
        if let Some(lease) = self.leases.get_mut(&id)
            && lease.recorded == Some(end)
        {
            lease.recorded = None;
            self.look_again(id);
        }
    }

    /// Of a lease that was not heard of it begins now.
    fn end(&mut self, lease: LeaseId, ttl: Duration, now: Duration) -> Duration {
        if let Some(known) = self.leases.get(&lease) {
            return known.end;
        }
        self.set(lease, now, now + ttl, None);
        now + ttl
    }

    fn renew(&mut self, id: LeaseId, ttl: Duration, now: Duration) -> Renewal {
        if self.end(id, ttl, now) <= now {
            return Renewal::Over;
        }
        let Some(lease) = self.leases.get_mut(&id) else { return Renewal::Over };
        self.soonest.remove(&(lease.end, id));
        (lease.since, lease.end) = (now, now + ttl);
        self.soonest.insert((lease.end, id));
        lease.recorded.map_or(Renewal::Renewed, Renewal::Recorded)
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
        let gone: Vec<_> = self.leases.keys().copied().filter(|lease| !is_there(*lease)).collect();
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

        /// The log is an hour ahead of the member's own clock.
        fn at(&self) -> LogTime {
            LogTime(3_600_000_000_000).plus(self.hand.monotonic())
        }

        fn lead(&self, term: u64, leases: impl Iterator<Item = (LeaseId, Duration, Deadline)>) {
            self.lessor.lead(Term(term), self.at(), [s(2), s(1)], leases);
        }

        fn next_to_record(&self) -> Vec<(LeaseId, LogTime)> {
            self.lessor.next_to_record(self.at(), 100)
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

    /// Leases of whose ends nothing is recorded.
    fn leases(leases: &[(LeaseId, u64)]) -> impl Iterator<Item = (LeaseId, Duration, Deadline)> {
        leases.iter().map(|(lease, ttl)| (*lease, s(*ttl), Deadline::Lifted(LogTime(0))))
    }

    #[test]
    fn a_lease_ends_when_its_time_is_over() {
        let world = World::new();
        world.lead(1, leases(&[]));
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
        world.lead(1, leases(&[]));
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
        world.lead(3, leases(&[(A, 2), (B, 20)]));
        world.pass(2_999);
        world.lead(3, leases(&[(A, 2), (B, 20)]));
        assert!(world.over().is_empty());
        world.pass(1);
        assert_eq!(world.over(), [1]);
        // It lost the lead and has it again, in a later term.
        world.pass(17_000);
        world.lead(5, leases(&[(A, 2), (B, 20)]));
        assert!(world.over().is_empty());
        world.lessor.follow();
        world.pass(60_000);
        assert!(world.over().is_empty());
    }

    /// A lease that is revoked and granted under the same name is another one.
    #[test]
    fn a_lease_that_is_granted_again_begins_anew() {
        let world = World::new();
        world.lead(1, leases(&[]));
        world.lessor.granted(A, s(10));
        world.pass(9_000);
        world.lessor.granted(A, s(10));
        world.pass(9_000);
        assert!(world.over().is_empty());
        world.pass(1_000);
        assert_eq!(world.over(), [1]);
    }

    #[test]
    fn an_end_is_recorded_when_the_lease_is_not_kept_alive_for_a_while() {
        let world = World::new();
        world.lead(1, leases(&[]));
        world.lessor.granted(A, s(60));
        world.lessor.granted(B, s(1));
        world.pass(509);
        assert_eq!(
            world.next_to_record(),
            [(B, world.at().plus(Duration::from_millis(491)))],
            "half"
        );
        world.pass(510);
        assert!(world.next_to_record().is_empty(), "a second and 10 ms for each of two");
        assert_eq!(world.lessor.renew(A, s(60)), Renewal::Renewed);
        world.pass(1_019);
        assert!(world.next_to_record().is_empty(), "it was kept alive");
        world.pass(1);
        let end = world.at().plus(Duration::from_millis(60_000 - 1_020));
        assert_eq!(world.next_to_record(), [(A, end)]);
        assert!(world.next_to_record().is_empty(), "it is on its way");
        world.pass(1_000);
        assert_eq!(world.next_to_record(), [(A, end)], "nobody said that it got there");
        world.lessor.recorded(&[(A, end)]);
        world.pass(20_000);
        assert!(world.next_to_record().is_empty());
        // It takes the log to keep it alive, each time until the log has it.
        for _ in 0..2 {
            assert_eq!(world.lessor.renew(A, s(60)), Renewal::Recorded(end));
        }
        assert_eq!(world.lessor.left(A, s(60)), s(60));
        world.lessor.lifted(A, end);
        assert_eq!(world.lessor.renew(A, s(60)), Renewal::Renewed);
        world.pass(1_020);
        let later = world.next_to_record();
        assert_eq!(later, [(A, world.at().plus(Duration::from_millis(60_000 - 1_020)))]);
        world.lessor.lifted(A, end);
        let renewal = world.lessor.renew(A, s(60));
        assert_eq!(renewal, Renewal::Recorded(later[0].1), "an older end is another one");
        world.pass(60_000);
        assert_eq!(world.over(), [2, 1], "what is recorded ends as all do");
        assert!(world.next_to_record().is_empty());
    }

    #[test]
    fn many_leases_are_recorded_later_but_at_half_of_their_lives() {
        let world = World::new();
        world.lead(1, leases(&[]));
        for number in 1..=1_000 {
            world.lessor.granted(LeaseId(number), s(if number % 2 == 0 { 60 } else { 10 }));
        }
        world.pass(4_999);
        assert!(world.next_to_record().is_empty());
        world.pass(1);
        let mut recorded = 0;
        for _ in 0..5 {
            let ends = world.next_to_record();
            recorded += ends.len();
            assert!(ends.iter().all(|(lease, _)| lease.0 % 2 == 1));
            world.lessor.recorded(&ends);
        }
        assert_eq!((recorded, world.next_to_record().len()), (500, 0));
        world.pass(5_999);
        assert!(world.next_to_record().is_empty());
        world.pass(1);
        assert_eq!(world.next_to_record().len(), 100);
    }

    #[test]
    fn a_new_leader_goes_by_what_is_recorded() {
        let world = World::new();
        let ends = |ms| Deadline::Recorded(world.at().plus(Duration::from_millis(ms)));
        let found = [
            (A, s(60), ends(25_000)),
            (B, s(60), ends(500)),
            (LeaseId(3), s(1), Deadline::Recorded(LogTime(7))),
            (LeaseId(4), s(60), Deadline::Lifted(world.at())),
        ];
        let of_a = world.at().plus(s(25));
        world.lead(2, found.into_iter());
        assert_eq!(world.lessor.left(A, s(60)), s(25));
        assert_eq!(world.lessor.left(B, s(60)), s(2), "time to keep it alive");
        assert_eq!(world.lessor.left(LeaseId(3), s(1)), s(1), "a whole life");
        assert_eq!(world.lessor.left(LeaseId(4), s(60)), s(61));
        assert_eq!(world.lessor.renew(A, s(60)), Renewal::Recorded(of_a));
        assert_eq!(world.lessor.renew(LeaseId(4), s(60)), Renewal::Renewed);
        world.pass(24_999);
        assert_eq!(world.over(), [3, 2]);
        world.pass(35_001);
        assert_eq!(world.over(), [3, 2, 1, 4]);
    }

    #[test]
    fn leases_that_are_gone_are_forgotten() {
        let world = World::new();
        world.lead(1, leases(&[]));
        for number in 1..=2_000 {
            world.lessor.granted(LeaseId(number), s(1_000_000));
        }
        let is_there = |lease: LeaseId| lease.0 > 1_990;
        world.lessor.tidy(is_there);
        assert_eq!(lock(&world.lessor.deadlines).leases.len(), 10);
        assert_eq!(lock(&world.lessor.deadlines).soonest.len(), 10);
        assert_eq!(lock(&world.lessor.deadlines).looks.len(), 10);
        world.pass(2_000_000_000);
        let over = world.lessor.over(100, |lease| lease.0 == 2_000);
        assert_eq!(over, [LeaseId(2_000)]);
        assert_eq!(lock(&world.lessor.deadlines).leases.len(), 1);
    }

    #[test]
    fn only_so_many_end_at_a_time_the_oldest_first() {
        let world = World::new();
        world.lead(1, leases(&[]));
        for number in 1..=10 {
            world.lessor.granted(LeaseId(number), s(20 - number.unsigned_abs()));
        }
        world.pass(60_000);
        let named = |most| world.lessor.over(most, |_| true);
        assert_eq!(named(3), [LeaseId(10), LeaseId(9), LeaseId(8)]);
        assert_eq!(named(100).len(), 10);
    }
}
