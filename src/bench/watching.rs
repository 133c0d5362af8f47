//! Connections that wait for events, and the one that makes them.
//!
//! Owns: which event an answer is, how long it took, whether all have come. Never knows: how results are shown.
//!
//! Each value begins with the moment at which it was to be sent, so that every event tells how long it was on its way: nanoseconds of the
//! machine's monotonic clock, which all its processes share. A watcher asks from the index behind its last event, and so misses none,
//! however slowly it asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

use crate::base::lock;
use crate::bench::asks::number_behind;
use crate::bench::crew::Hand;
use crate::bench::failure::{Failure, Kind};
use crate::bench::grpc::Caller;
use crate::bench::line::Servers;
use crate::bench::pace::{Pace, Timer};
use crate::bench::plan::{Load, Plan};
use crate::bench::request::{self, Common};
use crate::bench::tally::{Durations, Tally};

/// Before a watch that was refused is asked for again.
const PAUSE: Duration = Duration::from_millis(100);
pub(super) const DIRECTORY: &str = "watched";
/// PUTs of other programs whose last event is still awaited, at most.
const LASTS_MAX: usize = 1024;

/// What watchers and writer know of each other.
pub(super) struct Fanout {
    /// A moment, and its stamp.
    origin: (Instant, u64),
    watchers: u64,
    /// Watches that servers have taken, each again behind its event.
    taken: Count,
    /// Events that have come.
    events: Count,
    /// When the last event came, as a stamp.
    last: AtomicU64,
    /// Of PUTs that other programs make; `None` where this one makes them.
    lasts: Option<Mutex<Lasts>>,
}

/// How long the last event of each PUT of another program was on its way.
struct Lasts {
    /// By the PUT's stamp; its last event may still come.
    open: BTreeMap<u64, Duration>,
    closed: Durations,
}

impl Lasts {
    fn came(&mut self, sent: u64, took: Duration) {
        let last = self.open.entry(sent).or_default();
        *last = took.max(*last);
        if self.open.len() > LASTS_MAX
            && let Some((_, last)) = self.open.pop_first()
        {
            self.closed.record(last);
        }
    }

    fn all(&self) -> Durations {
        let mut all = self.closed.clone();
        for last in self.open.values() {
            all.record(*last);
        }
        all
    }
}

/// A number that only grows, and somebody who waits until it has grown so far.
#[derive(Default)]
struct Count {
    now: AtomicU64,
    goal: AtomicU64,
    reached: Notify,
}

impl Count {
    fn add_one(&self) {
        let now = self.now.fetch_add(1, Ordering::AcqRel) + 1;
        if now >= self.goal.load(Ordering::Acquire) {
            self.reached.notify_one();
        }
    }

    fn get(&self) -> u64 {
        self.now.load(Ordering::Acquire)
    }

    /// Waits until it is `goal`; `false` when that takes longer than `limit`.
    async fn reach(&self, goal: u64, limit: Duration) -> bool {
        self.goal.store(goal, Ordering::Release);
        let reached = async {
            while self.get() < goal {
                self.reached.notified().await;
            }
        };
        tokio::time::timeout(limit, reached).await.is_ok()
    }
}

impl Fanout {
    pub(super) fn new(plan: &Plan) -> Self {
        let lasts = Lasts { open: BTreeMap::new(), closed: Durations::new() };
        Self {
            origin: (Instant::now(), monotonic_nanoseconds()),
            watchers: plan.connections as u64,
            taken: Count::default(),
            events: Count::default(),
            last: AtomicU64::new(0),
            lasts: (plan.load == Load::WatchAlong).then(|| Mutex::new(lasts)),
        }
    }

    /// Waits until each watcher has had `puts` events.
    pub(super) async fn all_have_seen(&self, puts: u64) {
        self.events.reach(self.expected(puts), Duration::MAX).await;
    }

    /// The events of `puts` PUTs of one key.
    pub(super) fn expected(&self, puts: u64) -> u64 {
        self.watchers.saturating_mul(puts)
    }

    /// From the sending of each PUT of another program to the last of its events here.
    pub(super) fn lasts(&self) -> Option<Durations> {
        self.lasts.as_ref().map(|lasts| lock(lasts).all())
    }

    /// Waits until every watcher has been taken; `false` when that takes too long.
    pub(super) async fn all_wait(&self, limit: Duration) -> bool {
        self.taken.reach(self.watchers, limit).await
    }

    /// A server has taken a watch.
    pub(super) fn is_taken(&self) {
        self.taken.add_one();
    }

    /// How many watches have been taken that have no event yet.
    pub(super) fn waiting(&self) -> u64 {
        self.taken.get().saturating_sub(self.events.get())
    }

    /// How many events have come.
    pub(super) fn events(&self) -> u64 {
        self.events.get()
    }

    /// The stamp of a moment behind the beginning.
    pub(super) fn nanoseconds(&self, moment: Instant) -> u64 {
        let (origin, stamp) = self.origin;
        let since = moment.saturating_duration_since(origin).as_nanos();
        stamp.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// The moment of a stamp.
    fn moment(&self, stamp: u64) -> Instant {
        let (origin, first) = self.origin;
        origin + Duration::from_nanos(stamp.saturating_sub(first))
    }

    /// An event that was sent at `sent` nanoseconds has come. Its latency goes into `latencies` too.
    pub(super) fn came(&self, sent: u64, now: Instant, latencies: &mut Durations) {
        let came = self.nanoseconds(now);
        let took = Duration::from_nanos(came.saturating_sub(sent));
        latencies.record(took);
        if let Some(lasts) = &self.lasts {
            lock(lasts).came(sent, took);
        }
        self.last.fetch_max(came, Ordering::AcqRel);
        self.events.add_one();
    }
}

/// The machine's clock that never goes back.
fn monotonic_nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000) + u64::try_from(now.tv_nsec).unwrap_or_default()
}

/// What a watcher waits for, and what it shares with the others.
pub(super) struct Watcher {
    pub(super) common: Common,
    pub(super) load: Load,
    pub(super) fanout: Arc<Fanout>,
}

impl Watcher {
    fn request(&self, number: usize, from: Option<u64>) -> Vec<u8> {
        let from = from.map(|index| format!("&waitIndex={index}")).unwrap_or_default();
        if self.load == Load::WatchRecursive {
            let query = format!("?wait=true&recursive=true{from}");
            return self.common.single("GET", &format!("/{DIRECTORY}"), &query);
        }
        let one = matches!(self.load, Load::WatchOne | Load::WatchAlong);
        let key = if one { 0 } else { number as u64 };
        let query = format!("?wait=true{from}");
        self.common.numbered("GET", DIRECTORY, &query, None).of(key).to_vec()
    }

    /// Waits for one event after the other; never ends.
    pub(super) async fn work(self, mut hand: Hand) {
        let tally = Arc::clone(&hand.tally);
        let (mut from, mut counted) = (None, false);
        loop {
            let poll = self.poll(&mut hand, &mut from, &mut counted).await;
            let now = Instant::now();
            let failure = match poll {
                // A server may end a watch that has waited for long; then nothing has happened.
                Ok(Poll::Ended) => continue,
                Ok(Poll::Refused(status)) => {
                    let mut tally = lock(&tally);
                    tally.sent += 1;
                    tally.answer(status, false, now, now);
                    None
                }
                Err(failure) => Some(failure),
            };
            if let Some(failure) = failure {
                hand.hang_up();
                let mut tally = lock(&tally);
                tally.sent += 1;
                tally.fail(failure, now);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn poll(
        &self,
        hand: &mut Hand,
        from: &mut Option<u64>,
        counted: &mut bool,
    ) -> Result<Poll, Failure> {
        let request = self.request(hand.number, *from);
        let line = hand.line().await?;
        let head = line.begin(Instant::now(), &request).await?;
        if head.status == 200 {
            if !*counted {
                self.fanout.is_taken();
                *counted = true;
            }
            from.get_or_insert(head.etcd_index + 1);
        }
        let body = line.wait(&head).await?;
        let now = Instant::now();
        let poll = match head.status {
            200 if body.is_empty() => Poll::Ended,
            200 => {
                let event = (stamp(body), number_behind(body, b"\"modifiedIndex\":"));
                let (Some(sent), Some(index)) = event else {
                    return Err(Failure::new(Kind::Broken, "an event without value or index"));
                };
                *from = Some(index + 1);
                *counted = false;
                self.fanout.came(sent, now, &mut lock(&hand.tally).latencies);
                Poll::Ended
            }
            status => Poll::Refused(status),
        };
        if head.closes {
            hand.hang_up();
        }
        Ok(poll)
    }
}

/// How a watch ended.
enum Poll {
    /// With an event, or without one.
    Ended,
    Refused(u16),
}

/// The moment that a value begins with.
fn stamp(event: &[u8]) -> Option<u64> {
    let word = b"\"value\":\"";
    let at = memchr::memmem::find(event, word)? + word.len();
    crate::bench::answer::number(event.get(at..at + request::STAMP_DIGITS)?)
}

/// The one that writes what others wait for.
pub(super) struct Writer {
    pub(super) servers: Arc<Servers>,
    /// Writes over gRPC, if the load does.
    pub(super) caller: Option<Caller>,
    pub(super) fanout: Arc<Fanout>,
    pub(super) common: Common,
    pub(super) plan: Plan,
}

/// What came of the writing.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// The PUTs.
    pub(super) tally: Tally,
    /// From the sending of a PUT to the last of its events.
    pub(super) after_sending: Durations,
    /// From its answer to the last of its events; nothing when that came first.
    pub(super) after_answer: Durations,
    /// Events that should have come.
    pub(super) expected: u64,
}

impl Written {
    pub(super) fn new() -> Self {
        let (after_sending, after_answer) = (Durations::new(), Durations::new());
        Self { tally: Tally::new(), after_sending, after_answer, expected: 0 }
    }
}

impl Writer {
    /// Writes until the run is over and the events have come; what came of it is in `written` at any time.
    pub(super) async fn work(
        &self,
        pace: &Pace,
        written: &std::sync::Mutex<Written>,
    ) -> Result<(), String> {
        let timer = Timer::new().map_err(|error| format!("cannot make a timer: {error}"))?;
        let form = request::stamped(self.plan.value_bytes);
        let mut put = self.common.numbered("PUT", DIRECTORY, "", Some(&form));
        let (fanout, limit) = (&self.fanout, self.plan.timeout);
        let load = self.plan.load;
        let is_many = matches!(load, Load::WatchMany | Load::WatchManyV3);
        let each = if is_many { 1 } else { fanout.watchers };
        let keys = if is_many {
            fanout.watchers
        } else if load == Load::WatchRecursive {
            self.plan.keys
        } else {
            1
        };
        let (mut line, mut number, mut expected) = (None, 0, 0);
        let client = self.caller.as_ref().map(|caller| caller.client(0));
        while let Some(turn) = pace.next(&timer).await {
            let sent = Instant::now();
            lock(written).tally.sent += 1;
            let due = fanout.nanoseconds(turn.due);
            let request = put.stamped(number % keys, due, form.len());
            let answer = if let Some((caller, client)) = self.caller.as_ref().zip(client.as_ref()) {
                caller.put_stamped(client, number % keys, due).await
            } else {
                let connected = match line.take() {
                    Some(line) => Ok(line),
                    None => self.servers.connect(0).await,
                };
                match connected {
                    Ok(mut open) => {
                        let answer = open.ask(sent, request, false).await;
                        let goes_on = answer.as_ref().is_ok_and(|head| !head.closes);
                        line = Some(open).filter(|_| goes_on);
                        answer.map(|head| head.status)
                    }
                    Err(failure) => {
                        tokio::time::sleep(PAUSE).await;
                        Err(failure)
                    }
                }
            };
            number += 1;
            let answered = Instant::now();
            {
                let mut written = lock(written);
                match answer {
                    Ok(status) => {
                        let good = self.plan.load.expects(status);
                        expected += if good { each } else { 0 };
                        written.expected = expected;
                        written.tally.answer(status, good, turn.due, answered);
                    }
                    Err(failure) => written.tally.fail(failure, answered),
                }
            }
            if pace.is_paced() {
                continue;
            }
            if !fanout.events.reach(expected, limit).await {
                // Those that are missing are counted once, at the end.
                break;
            }
            let last = fanout.moment(fanout.last.load(Ordering::Acquire));
            {
                let mut written = lock(written);
                written.after_sending.record(last.saturating_duration_since(sent));
                written.after_answer.record(last.saturating_duration_since(answered));
            }
            // The next event finds all of them waiting.
            fanout.taken.reach(fanout.watchers + expected, limit).await;
        }
        fanout.events.reach(expected, limit).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_when_it_was_sent() {
        let event = br#"{"action":"set","node":{"key":"/b","value":"00000000000000000042xx","modifiedIndex":7}}"#;
        assert_eq!(stamp(event), Some(42));
        for other in [&br#"{"node":{"value":"1"}}"#[..], br#"{"action":"delete"}"#] {
            assert_eq!(stamp(other), None);
        }
    }

    #[test]
    fn the_last_event_of_each_put_is_told_apart() {
        let ms = Duration::from_millis;
        let mut lasts = Lasts { open: BTreeMap::new(), closed: Durations::new() };
        for (sent, took) in [(1, 5), (1, 9), (2, 3), (1, 7), (2, 30)] {
            lasts.came(sent, ms(took));
        }
        let all = lasts.all();
        assert_eq!(all.count(), 2);
        assert!((all.quantile_ms(0.5) - 9.0).abs() < 0.1 && (all.max_ms() - 30.0).abs() < 0.1);
        // The oldest are closed when there are too many.
        for sent in 3..3 + 2 * LASTS_MAX as u64 {
            lasts.came(sent, ms(1));
        }
        assert_eq!(lasts.open.len(), LASTS_MAX);
        assert_eq!(lasts.all().count(), 2 + 2 * LASTS_MAX as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_is_waited_for_and_not_for_ever() {
        let count = Arc::new(Count::default());
        let other = Arc::clone(&count);
        let waiting = tokio::spawn(async move { other.reach(2, Duration::from_secs(1)).await });
        tokio::task::yield_now().await;
        count.add_one();
        count.add_one();
        assert!(waiting.await.unwrap());
        assert!(!count.reach(3, Duration::from_secs(1)).await);
    }
}
