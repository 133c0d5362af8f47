//! How many connections each address has, where that is limited (`--max-connections-per-ip`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::base::lock;

/// The connections of all addresses.
pub(super) struct Crowd {
    each_max: usize,
    /// Of those that have any.
    counts: Mutex<BTreeMap<IpAddr, usize>>,
}

/// One connection in the count, until it is dropped.
pub(super) struct Counted {
    crowd: Arc<Crowd>,
    /// `None` where nothing is counted.
    from: Option<IpAddr>,
}

impl Crowd {
    /// `each_max` of zero sets no limit.
    pub(super) fn new(each_max: usize) -> Arc<Self> {
        Arc::new(Self { each_max, counts: Mutex::default() })
    }

    /// Counts a connection; `None` when its address has as many as it may have. Sockets in files have no address and no limit.
    pub(super) fn enter(self: &Arc<Self>, from: Option<IpAddr>) -> Option<Counted> {
        let from = from.filter(|_| self.each_max > 0);
        if let Some(from) = from {
            let mut counts = lock(&self.counts);
            let count = counts.entry(from).or_default();
            if *count >= self.each_max {
                return None;
            }
            *count += 1;
        }
        Some(Counted { crowd: Arc::clone(self), from })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(from) = self.from else { return };
        let mut counts = lock(&self.crowd.counts);
        if let Some(count) = counts.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_and_none_is_kept_for_nothing() {
        let crowd = Crowd::new(2);
        let address = |text: &str| Some(text.parse().expect("an address"));
        let first = crowd.enter(address("10.0.0.1")).expect("the first");
        let second = crowd.enter(address("10.0.0.1")).expect("the second");
        assert!(crowd.enter(address("10.0.0.1")).is_none());
        let other = crowd.enter(address("10.0.0.2")).expect("another address");
        drop(first);
        let third = crowd.enter(address("10.0.0.1")).expect("there is room again");
        drop((second, other, third));
        assert!(lock(&crowd.counts).is_empty());
        let unlimited = Crowd::new(0);
        let all: Vec<_> = (0..100).filter_map(|_| unlimited.enter(address("10.0.0.1"))).collect();
        assert_eq!((all.len(), lock(&unlimited.counts).len()), (100, 0));
    }
}
