//! When lifetimes are looked at again: renewing one raises no event, so the source has to be asked before they end in the target.
//!
//! Owns: the next look at each key that has one. Never knows: servers.
//! Holds: a key is looked at when half of what was left has passed, then half of that, and so on, and once more when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A look that is closer to the end than this is made at the end.
const CLOSE: Duration = Duration::from_millis(500);
/// A key that has ended in the source is looked at so often, until the source says that it is gone.
const OVERDUE: Duration = Duration::from_secs(1);
/// Looks that are so close together are made at once.
const TOGETHER: Duration = Duration::from_millis(100);

/// The next look at each key.
#[derive(Debug, Default)]
pub(crate) struct Lifetimes {
    by_time: BTreeSet<(Instant, String)>,
    by_path: BTreeMap<String, Instant>,
}

impl Lifetimes {
    /// A key has so much left.
    pub(crate) fn set(&mut self, path: &str, left: Option<Duration>, now: Instant) {
        self.drop(path);
        let after = match left {
            None => OVERDUE,
            Some(left) if left / 2 < CLOSE => left,
            Some(left) => left / 2,
        };
        // No lifetime is so long that it does not fit; if one is, it needs no look.
        if let Some(at) = now.checked_add(after) {
            self.by_time.insert((at, path.to_owned()));
            self.by_path.insert(path.to_owned(), at);
        }
    }

    /// A key has none any more.
    pub(crate) fn drop(&mut self, path: &str) {
        if let Some((path, at)) = self.by_path.remove_entry(path) {
            self.by_time.remove(&(at, path));
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.by_path.len()
    }

    /// When the next look is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The keys that are due, and those that will be in a moment.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<String> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now + TOGETHER) {
            let (_, path) = self.by_time.pop_first().expect("there is a next one");
            self.by_path.remove(&path);
            due.push(path);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_closer_together_and_the_last_is_at_the_end() {
        let (mut lifetimes, begin) = (Lifetimes::default(), Instant::now());
        let (mut now, end, mut looks) = (begin, begin + Duration::from_secs(30), Vec::new());
        while now < end {
            lifetimes.set("/a", Some(end - now), now);
            now = lifetimes.next().unwrap();
            assert_eq!(lifetimes.due(now), ["/a"]);
            looks.push((now - begin).as_secs());
        }
        assert_eq!(looks, [15, 22, 26, 28, 29, 30]);
        lifetimes.set("/a", None, now);
        assert_eq!(lifetimes.next(), Some(end + OVERDUE));
    }

    #[test]
    fn a_key_is_looked_at_once() {
        let (mut lifetimes, now) = (Lifetimes::default(), Instant::now());
        lifetimes.set("/a", Some(Duration::from_secs(8)), now);
        lifetimes.set("/a", Some(Duration::from_secs(20)), now);
        lifetimes.set("/b", Some(Duration::from_secs(20)), now);
        assert_eq!(lifetimes.count(), 2);
        lifetimes.drop("/b");
        assert!(lifetimes.due(now).is_empty());
        assert_eq!(lifetimes.due(now + Duration::from_secs(10)), ["/a"]);
        assert_eq!(lifetimes.next(), None);
    }
}
