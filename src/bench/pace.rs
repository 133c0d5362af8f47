//! When requests are sent: as soon as the last answer is there, or at fixed times whatever the answers do.
//!
//! Owns: begin and end of a run, the times at which requests are due. Never knows: what is sent.
//!
//! At fixed times a request that cannot be sent when it is due, because every connection still waits for an answer, is sent
//! later and measured from the time it was due: a server that stands still for a second delays all that were due in it, not only
//! those few that were under way.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use crate::bench::plan::Plan;

/// Begin, end and rate of a run; all connections share it.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the first request is due.
    start: Instant,
    /// Requests that are due from then on are counted.
    begin: Instant,
    /// None is sent from then on.
    until: Option<Instant>,
    /// Nor more than this of those that are counted.
    requests: Option<u64>,
    rate: Option<NonZeroU64>,
    /// Requests that have been given out: of those that are due at fixed times all, else those that are counted.
    given: AtomicU64,
    /// Requests that are counted and have been given out.
    counted: AtomicU64,
    stopped: AtomicBool,
}

/// One request's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// From when on it is measured.
    pub(super) due: Instant,
    /// It is not of the warm-up.
    pub(super) counts: bool,
}

impl Pace {
    /// That of a run that starts now.
    pub(super) fn new(plan: &Plan, now: Instant) -> Self {
        let begin = now + plan.warmup;
        Self {
            start: now,
            begin,
            until: plan.duration.map(|duration| begin + duration),
            requests: plan.requests,
            rate: plan.rate,
            given: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn begin(&self) -> Instant {
        self.begin
    }

    /// Ends the run: no connection gets another turn.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Are requests due at fixed times?
    pub(super) fn is_paced(&self) -> bool {
        self.rate.is_some()
    }

    /// The next turn, when it is due; `None` when the run is over.
    pub(super) async fn next(&self, timer: &Timer) -> Option<Turn> {
        match self.rate {
            None => self.at_once(Instant::now()),
            Some(rate) => self.when_due(rate, timer).await,
        }
    }

    fn at_once(&self, now: Instant) -> Option<Turn> {
        if self.stopped.load(Ordering::Relaxed) || self.until.is_some_and(|until| now >= until) {
            return None;
        }
        let counts = now >= self.begin;
        if counts && let Some(requests) = self.requests {
            // Only counted if there is an end to it: the counter would be the one thing that all threads write to.
            if self.given.fetch_add(1, Ordering::Relaxed) >= requests {
                return None;
            }
        }
        Some(Turn { due: now, counts })
    }

    async fn when_due(&self, rate: NonZeroU64, timer: &Timer) -> Option<Turn> {
        // The connection that holds the timer waits for the next request that is due; the others queue behind it, in their order.
        let mut timer = timer.0.lock().await;
        let due = self.start + offset(self.given.fetch_add(1, Ordering::Relaxed), rate);
        let counts = due >= self.begin;
        let past_end = self.until.is_some_and(|until| due >= until || Instant::now() >= until);
        if past_end || self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        if counts
            && let Some(requests) = self.requests
            && self.counted.load(Ordering::Relaxed) >= requests
        {
            return None;
        }
        if Instant::now() < due {
            sleep_until(&mut timer, due).await;
        }
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        if counts
            && self.counted.fetch_add(1, Ordering::Relaxed) >= self.requests.unwrap_or(u64::MAX)
        {
            return None;
        }
        Some(Turn { due, counts })
    }

    /// How many requests were due until `now`, of those that are counted, at fixed times and without regard to a number of
    /// requests.
    pub(super) fn due_by(&self, now: Instant) -> u64 {
        let Some(rate) = self.rate else { return 0 };
        let end = self.until.map_or(now, |until| until.min(now));
        let due = |at: Instant| {
            let nanoseconds = at.saturating_duration_since(self.start).as_nanos();
            let due = (nanoseconds * u128::from(rate.get())).div_ceil(NANOSECONDS);
            u64::try_from(due).unwrap_or(u64::MAX)
        };
        let counted = due(end).saturating_sub(due(self.begin));
        counted.min(self.requests.unwrap_or(u64::MAX))
    }
}

/// Of a second.
const NANOSECONDS: u128 = 1_000_000_000;

/// When request `number` is due, counted from the first.
fn offset(number: u64, rate: NonZeroU64) -> Duration {
    let nanoseconds = u128::from(number) * NANOSECONDS / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// A timer of the system's: the runtime's own knows only whole milliseconds, in which thousands of requests are due.
pub(super) struct Timer(Mutex<AsyncFd<OwnedFd>>);

impl Timer {
    /// One of the thread that runs this runtime.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe code; what that asks for, an open descriptor of its own, an OwnedFd is"
        )]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Self(Mutex::new(timer)))
    }
}

async fn sleep_until(timer: &mut AsyncFd<OwnedFd>, due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        let set = timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once);
        set.expect("a timer takes any time within years");
        let ready = timer.readable_mut().await;
        let mut ready = ready.expect("the runtime goes on while its tasks run");
        // What it says is how often it rang; that it rang is known.
        let rang = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
        if let Ok(rang) = rang {
            rang.expect("a timer can be read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::flags::{self, Asked};

    fn pace(line: &str) -> Pace {
        let words = line.split_whitespace().map(str::to_owned);
        let Ok(Asked::Run(plan)) = flags::read(words) else { panic!("{line}") };
        Pace::new(&plan, Instant::now())
    }

    #[test]
    fn without_a_rate_a_turn_comes_at_once_until_the_end() {
        let pace = pace("put --warmup 1s --duration 2s --requests 2");
        let at = |ms| pace.at_once(pace.start + Duration::from_millis(ms));
        let turn = |ms, counts| Some(Turn { due: pace.start + Duration::from_millis(ms), counts });
        assert_eq!(at(0), turn(0, false));
        assert_eq!(at(999), turn(999, false));
        assert_eq!(at(3000), None);
        assert_eq!(at(1000), turn(1000, true));
        assert_eq!(at(1001), turn(1001, true));
        assert_eq!(at(1002), None, "two requests were asked for");
    }

    #[tokio::test]
    async fn turns_come_at_their_times_and_not_before() {
        let pace = pace("put --rate 200 --requests 20 --warmup 20ms");
        let timer = Timer::new().unwrap();
        let mut turns = Vec::new();
        while let Some(turn) = pace.next(&timer).await {
            assert!(Instant::now() >= turn.due);
            turns.push(turn);
        }
        assert_eq!(turns.iter().filter(|turn| turn.counts).count(), 20);
        for (number, turn) in turns.iter().enumerate() {
            let due = Duration::from_millis(5 * u64::try_from(number).unwrap());
            assert_eq!(turn.due, pace.start + due);
            assert_eq!(turn.counts, number >= 4);
        }
    }

    #[tokio::test]
    async fn what_was_due_while_nobody_could_send_is_measured_from_then() {
        let pace = pace("put --rate 1000 --duration 1s");
        let timer = Timer::new().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let first = pace.next(&timer).await.unwrap();
        assert_eq!(first.due, pace.start);
        let end = pace.start + Duration::from_secs(2);
        assert_eq!(pace.due_by(end), 1000);
        assert_eq!(pace.due_by(pace.start + Duration::from_millis(10)), 10);
        pace.stop();
        assert_eq!(pace.next(&timer).await, None);
    }
}
