//! The members, and which of them is asked next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::base::{SplitMix, system_random};

/// A member, at one of its client URLs.
#[derive(Debug)]
pub(super) struct Endpoint {
    url: String,
    /// Milliseconds after `epoch` until which it is left alone.
    rests_until: AtomicU64,
    epoch: Instant,
    failure_wait: Duration,
}

impl Endpoint {
    /// Without a slash at its end.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// It has not answered.
    pub(super) fn fail(&self) {
        let until = millis(self.epoch.elapsed() + self.failure_wait);
        self.rests_until.store(until, Ordering::Relaxed);
    }

    fn rests(&self) -> bool {
        millis(self.epoch.elapsed()) < self.rests_until.load(Ordering::Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// All that are known.
#[derive(Debug)]
pub(super) struct Endpoints {
    all: ArcSwap<Vec<Arc<Endpoint>>>,
    epoch: Instant,
    failure_wait: Duration,
}

impl Endpoints {
    pub(super) fn new(failure_wait: Duration) -> Self {
        Self { all: ArcSwap::default(), epoch: Instant::now(), failure_wait }
    }

    /// These and no others, in random order: many proxies should not all ask the same member.
    pub(super) fn set(&self, urls: &[String]) {
        let known = self.all.load_full();
        let mut all: Vec<Arc<Endpoint>> = Vec::new();
        for url in urls {
            let url = url.trim_end_matches('/');
            if all.iter().any(|endpoint| endpoint.url == url) {
                continue;
            }
            let kept = known.iter().find(|endpoint| endpoint.url == url).cloned();
            all.push(kept.unwrap_or_else(|| {
                Arc::new(Endpoint {
                    url: url.to_owned(),
                    rests_until: AtomicU64::new(0),
                    epoch: self.epoch,
                    failure_wait: self.failure_wait,
                })
            }));
        }
        let mut random = SplitMix::new(system_random());
        for place in (1..all.len()).rev() {
            let other = usize::try_from(random.next() % (place as u64 + 1)).unwrap_or(0);
            all.swap(place, other);
        }
        self.all.store(Arc::new(all));
    }

    /// Those that do not rest, in their order, and then those that do: better a late answer than none.
    pub(super) fn in_turn(&self) -> Vec<Arc<Endpoint>> {
        let (awake, resting) = self.apart();
        [awake, resting].concat()
    }

    /// Where those are that do not rest; all of them when all rest.
    pub(super) fn urls(&self) -> Vec<String> {
        let (awake, resting) = self.apart();
        let shown = if awake.is_empty() { resting } else { awake };
        shown.iter().map(|endpoint| endpoint.url.clone()).collect()
    }

    fn apart(&self) -> (Vec<Arc<Endpoint>>, Vec<Arc<Endpoint>>) {
        self.all.load_full().iter().cloned().partition(|endpoint| !endpoint.rests())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("http://10.0.0.{n}:2379")).collect()
    }

    #[test]
    fn one_that_failed_rests_and_is_known_again() {
        let endpoints = Endpoints::new(Duration::from_secs(60));
        assert!(endpoints.in_turn().is_empty());
        endpoints.set(&urls(3));
        let first = endpoints.in_turn().remove(0);
        first.fail();
        assert_eq!(endpoints.in_turn().last().map(|last| last.url()), Some(first.url()));
        assert!(!endpoints.urls().contains(&first.url().to_owned()));
        endpoints.set(&urls(3));
        assert_eq!(endpoints.urls().len(), 2, "the list was read again, and it still rests");
        for endpoint in endpoints.in_turn() {
            endpoint.fail();
        }
        assert_eq!(endpoints.in_turn().len(), 3, "all are asked when all have failed");
        endpoints.set(&urls(1));
        assert_eq!(endpoints.urls(), urls(1));
    }

    #[test]
    fn a_rest_ends() {
        let endpoints = Endpoints::new(Duration::ZERO);
        endpoints.set(&["http://a:1/".to_owned(), "http://a:1".to_owned()]);
        let only = endpoints.in_turn();
        assert_eq!(only.len(), 1, "one member is asked once");
        only[0].fail();
        assert!(!only[0].rests());
    }

    #[test]
    fn the_order_is_not_that_of_the_list() {
        let endpoints = Endpoints::new(Duration::ZERO);
        let list = urls(20);
        let other = (0..10).any(|_| {
            endpoints.set(&list);
            endpoints.urls() != list
        });
        assert!(other);
        let mut sorted = endpoints.urls();
        sorted.sort();
        let mut all = list;
        all.sort();
        assert_eq!(sorted, all);
    }
}
