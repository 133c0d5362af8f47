//! After a wrong password, the next attempt for the same user from the same address has to wait.
//!
//! Never knows: names and passwords; a user is a number here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::lock;

/// The pause after the first wrong password; each further one doubles it.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// An attempt whose turn is later than this is refused instead.
const PATIENCE: Duration = Duration::from_secs(10);
/// Wrong passwords are forgotten when no other one came for so long.
const KEPT: Duration = Duration::from_secs(60);
/// Users and addresses that are kept. Each has cost its client a comparison, so they come slowly.
const WHO_MAX: usize = 4096;

/// A user's name, hashed, and where the attempt comes from.
pub(super) type Who = ([u8; 32], Option<IpAddr>);

/// Wrong passwords of late.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<BTreeMap<Who, Entry>>);

#[derive(Debug)]
struct Entry {
    count: u32,
    last: Instant,
    /// When the next attempt may be made.
    turn: Instant,
}

impl Failures {
    /// When an attempt may be made, which takes that turn; `None` when there are too many before it.
    pub(super) fn turn(&self, who: &Who, now: Instant) -> Option<Instant> {
        let mut entries = lock(&self.0);
        let Some(entry) = entries.get_mut(who) else { return Some(now) };
        if now.saturating_duration_since(entry.last) > KEPT {
            entries.remove(who);
            return Some(now);
        }
        let turn = entry.turn.max(now);
        if turn - now > PATIENCE {
            return None;
        }
        entry.turn = turn + pause(entry.count);
        Some(turn)
    }

    /// The password was wrong.
    pub(super) fn failed(&self, who: Who, now: Instant) {
        let mut entries = lock(&self.0);
        if entries.len() >= WHO_MAX && !entries.contains_key(&who) {
            entries.retain(|_, entry| now.saturating_duration_since(entry.last) <= KEPT);
        }
        if entries.len() >= WHO_MAX && !entries.contains_key(&who) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.last).map(|(who, _)| *who);
            oldest.and_then(|oldest| entries.remove(&oldest));
        }
        let entry = entries.entry(who).or_insert(Entry { count: 0, last: now, turn: now });
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
        entry.turn = entry.turn.max(now + pause(entry.count));
    }

    /// The password was right.
    pub(super) fn forget(&self, who: &Who) {
        lock(&self.0).remove(who);
    }
}

fn pause(count: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(16);
    (PAUSE_FIRST * (1 << doublings)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Who = ([1; 32], None);

    #[test]
    fn a_guesser_gets_a_few_attempts_and_then_one_in_five_seconds() {
        let (failures, begun) = (Failures::default(), Instant::now());
        let mut now = begun;
        let mut attempts = 0;
        while now < begun + Duration::from_secs(600) {
            now = failures.turn(&WHO, now).expect("one at a time is never refused");
            failures.failed(WHO, now);
            attempts += 1;
        }
        assert!((118..=130).contains(&attempts), "{attempts}");
    }

    #[test]
    fn attempts_at_the_same_time_queue_up_to_a_limit() {
        let (failures, now) = (Failures::default(), Instant::now());
        for _ in 0..7 {
            failures.failed(WHO, now);
        }
        let turns: Vec<_> = (0..10).map(|_| failures.turn(&WHO, now)).collect();
        let seconds: Vec<_> = turns.iter().flatten().map(|turn| (*turn - now).as_secs()).collect();
        assert_eq!(seconds, [5, 10]);
        assert_eq!(failures.turn(&([1; 32], Some([10, 0, 0, 1].into())), now), Some(now));
        assert_eq!(failures.turn(&([2; 32], None), now), Some(now), "another user");
    }

    #[test]
    fn a_right_password_and_a_quiet_minute_forget() {
        let (failures, now) = (Failures::default(), Instant::now());
        failures.failed(WHO, now);
        let later = now + KEPT + Duration::from_secs(1);
        assert!(failures.turn(&WHO, now).is_some_and(|turn| turn > now));
        assert_eq!(failures.turn(&WHO, later), Some(later));
        failures.failed(WHO, now);
        failures.forget(&WHO);
        assert_eq!(failures.turn(&WHO, now), Some(now));
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        let (failures, now) = (Failures::default(), Instant::now());
        for n in 0..WHO_MAX + 10 {
            let mut who = WHO;
            who.0[..8].copy_from_slice(&n.to_le_bytes());
            failures.failed(who, now + Duration::from_millis(n as u64));
        }
        assert_eq!(lock(&failures.0).len(), WHO_MAX);
    }
}
