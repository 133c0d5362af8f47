//! Events kept for `waitIndex`.
//!
//! Holds: one slot for each store index from the oldest kept to the newest, without a gap. Facts of the cluster take a slot
//! that nobody sees.

use std::sync::Arc;

use imbl::Vector;

use crate::model::{Refusal, StoreIndex};
use crate::store::event::Event;
use crate::store::filter::Filter;

/// How much is kept: whatever is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Slots, at least one. etcd keeps 1000.
    pub events_max: usize,
    /// Bytes, as [`Event::weight`] counts them. The newest slot stays, however large.
    pub bytes_max: usize,
}

/// The recent changes, oldest first.
#[derive(Clone, Debug)]
pub struct History {
    slots: Vector<Option<Arc<Event>>>,
    /// The index of the first slot; of the next event while there is none.
    oldest: StoreIndex,
    bytes: usize,
    limits: HistoryLimits,
}

/// What a search of the history came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This one is next.
    Event(Arc<Event>),
    /// None so far; go on from this index.
    NoneBefore(StoreIndex),
}

/// Where a search starts and what it looks for.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The first index of interest.
    pub from: StoreIndex,
    /// Who asks.
    pub filter: &'a Filter,
}

impl History {
    pub(super) fn new(limits: HistoryLimits) -> Self {
        Self { slots: Vector::new(), oldest: StoreIndex(1), bytes: 0, limits }
    }

    /// The oldest index still kept.
    pub fn oldest(&self) -> StoreIndex {
        self.oldest
    }

    /// The index that the next change will take.
    pub fn next(&self) -> StoreIndex {
        StoreIndex(self.oldest.0 + self.slots.len() as u64)
    }

    /// How many slots are in use.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Is nothing kept?
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the change that took the next index.
    pub(super) fn push(&mut self, event: Arc<Event>) {
        assert_eq!(event.index, self.next(), "events come in the order of their indexes");
        self.bytes += event.weight();
        self.slots.push_back(Some(event));
        self.trim();
    }

    /// A fact of the cluster took the next index.
    pub(super) fn push_silent(&mut self) {
        self.slots.push_back(None);
        self.trim();
    }

    /// Forgets everything and goes on from `oldest`.
    pub(super) fn restart(&mut self, oldest: StoreIndex) {
        *self = Self { oldest, ..Self::new(self.limits) };
    }

    fn trim(&mut self) {
        while self.slots.len() > self.limits.events_max.max(1)
            || (self.bytes > self.limits.bytes_max && self.slots.len() > 1)
        {
            let slot = self.slots.pop_front().expect("it is longer than one");
            self.bytes -= slot.map_or(0, |event| event.weight());
            self.oldest = self.oldest.next();
        }
    }

    /// The first event from `scan.from` on that the watcher sees.
    ///
    /// # Errors
    /// [`Refusal::HistoryCleared`] when `from` is older than the oldest kept one.
    pub fn find(&self, scan: Scan<'_>) -> Result<Found, Refusal> {
        if scan.from < self.oldest {
            return Err(Refusal::HistoryCleared { oldest: self.oldest, asked: scan.from });
        }
        let from = usize::try_from(scan.from.0 - self.oldest.0).unwrap_or(usize::MAX);
        if from >= self.slots.len() {
            return Ok(Found::NoneBefore(scan.from));
        }
        let found = self
            .slots
            .focus()
            .narrow(from..self.slots.len())
            .into_iter()
            .flatten()
            .find(|event| scan.filter.sees(event));
        Ok(found.map_or_else(
            || Found::NoneBefore(self.next()),
            |event| Found::Event(Arc::clone(event)),
        ))
    }

    /// The slots from `from` on with their indexes; `None` is a fact of the cluster.
    pub fn slots_from(
        &self,
        from: StoreIndex,
    ) -> impl Iterator<Item = (StoreIndex, Option<&Arc<Event>>)> {
        let from = from.max(self.oldest).min(self.next());
        let skip = usize::try_from(from.0 - self.oldest.0).unwrap_or(usize::MAX);
        let slots = self.slots.focus().narrow(skip..self.slots.len());
        (from.0..).map(StoreIndex).zip(slots.into_iter().map(Option::as_ref))
    }
}
