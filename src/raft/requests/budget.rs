//! How many bytes of requests may be under way at a time.
//!
//! A write holds its bytes from the moment its body begins to come in until its entry is applied here, also when its client has
//! gone; a leader holds those of the writes that followers hand to it as well. This bounds what waits for the log, for consensus
//! and for the disk, all of which take whatever comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::model::Unavailable;

/// What a write takes beside the bytes of its body: its command, its ticket, its entry.
const OVERHEAD_BYTES: usize = 1024;

/// A request that holds more than this is large.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// Large requests leave this part of the budget, a quarter, to the others: a few clients that send huge values slowly must not
/// keep small writes out.
const KEPT_FOR_SMALL: usize = 4;

/// A member's budget.
#[derive(Debug)]
pub struct ByteBudget {
    used: AtomicUsize,
    refused: AtomicU64,
    bytes_max: usize,
}

/// A part of the budget; given back when it is dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl ByteBudget {
    /// A budget of which nothing is used.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), refused: AtomicU64::new(0), bytes_max })
    }

    /// Takes `bytes` for a request, and what a request takes anyway.
    ///
    /// # Errors
    /// [`Unavailable::Overloaded`] when there is not so much left; then nothing is taken.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reserved, Unavailable> {
        let mut reserved = Reserved { budget: Arc::clone(self), bytes: 0 };
        reserved.grow(bytes.saturating_add(OVERHEAD_BYTES))?;
        Ok(reserved)
    }

    /// Could a request with so many bytes get in now?
    ///
    /// # Errors
    /// [`Unavailable::Overloaded`] when not.
    pub fn check(&self, bytes: usize) -> Result<(), Unavailable> {
        match self.used().checked_add(bytes).filter(|sum| *sum <= self.limit(bytes)) {
            Some(_) => Ok(()),
            None => Err(self.overloaded()),
        }
    }

    fn limit(&self, bytes: usize) -> usize {
        let kept = if bytes > SMALL_BYTES_MAX { self.bytes_max / KEPT_FOR_SMALL } else { 0 };
        self.bytes_max - kept
    }

    fn overloaded(&self) -> Unavailable {
        self.refused.fetch_add(1, Relaxed);
        Unavailable::Overloaded { bytes_max: self.bytes_max }
    }

    /// Bytes that may be in use.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// How many requests were refused for want of it.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Bytes in use. Wire: `cairn_requests_inflight_bytes`.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

impl Reserved {
    /// Takes more.
    ///
    /// # Errors
    /// [`Unavailable::Overloaded`]; then nothing more is taken.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Unavailable> {
        let limit = self.budget.limit(self.bytes.saturating_add(bytes));
        let enough = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        match self.budget.used.fetch_update(Relaxed, Relaxed, enough) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => Err(self.budget.overloaded()),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_and_never_more_than_there_is() {
        let budget = ByteBudget::new(10_000);
        let mut one = budget.reserve(4_000).unwrap();
        assert_eq!(budget.used(), 4_000 + OVERHEAD_BYTES);
        let refused = Unavailable::Overloaded { bytes_max: 10_000 };
        assert_eq!(budget.reserve(4_000).unwrap_err(), refused);
        assert_eq!(one.grow(5_000), Err(refused));
        one.grow(4_000).unwrap();
        assert!(budget.reserve(usize::MAX).is_err());
        drop(one);
        assert_eq!(budget.used(), 0);
        assert!(budget.reserve(10_000 - OVERHEAD_BYTES).is_ok());
    }

    #[test]
    fn large_requests_leave_room_for_small_ones() {
        const MIB: usize = 1 << 20;
        let budget = ByteBudget::new(4 * MIB);
        let large: Vec<_> =
            (0..9).map_while(|_| budget.reserve(MIB - OVERHEAD_BYTES).ok()).collect();
        assert_eq!(large.len(), 3);
        assert!(budget.check(MIB).is_err() && budget.check(SMALL_BYTES_MAX).is_ok());
        let mut small = budget.reserve(SMALL_BYTES_MAX - OVERHEAD_BYTES).unwrap();
        assert!(small.grow(1).is_err(), "it would be large");
    }
}
