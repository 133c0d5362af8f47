//! The youngest entries of the log, in memory.
//!
//! Owns: their stored forms, which followers are sent, and, decoded, those that were not yet applied. Never knows: the disk.
//! Holds: there is no gap between the first and the last. An entry that was applied is kept once, as bytes: decoded it would
//! hold on to another copy of its value.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use crate::raft::adapter::types::{Entry, LogId};
use crate::raft::storage::encoding;

/// What an entry takes in memory beside its bytes, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 112;

#[derive(Default)]
pub(super) struct Recent {
    stored: VecDeque<Stored>,
    /// The youngest of them, decoded: those that the state machine has not taken yet.
    fresh: VecDeque<Entry>,
    bytes: usize,
}

struct Stored {
    log_id: LogId,
    payload: Bytes,
}

impl Stored {
    fn weight(&self) -> usize {
        self.payload.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// An entry that was found; it may have to be decoded, which is nothing to do under a lock.
pub(super) enum Found {
    Decoded(Entry),
    Stored(u64, Bytes),
}

impl Found {
    /// # Errors
    /// When it is not what was encoded.
    pub(super) fn decode(self) -> io::Result<Entry> {
        match self {
            Self::Decoded(entry) => Ok(entry),
            Self::Stored(index, payload) => {
                encoding::decode_entry(index, &payload).map_err(io::Error::other)
            }
        }
    }
}

impl Recent {
    /// The index of the first one.
    pub(super) fn first(&self) -> Option<u64> {
        self.stored.front().map(|stored| stored.log_id.index)
    }

    /// What all of them take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the next one, which will be taken soon.
    pub(super) fn push(&mut self, entry: Entry, payload: Bytes) {
        self.push_stored(entry.log_id, payload);
        self.fresh.push_back(entry);
    }

    /// Adds the next one of those that recovery reads, which may never be taken. All before it were added so too.
    pub(super) fn push_stored(&mut self, log_id: LogId, payload: Bytes) {
        let stored = Stored { log_id, payload };
        self.bytes += stored.weight();
        self.stored.push_back(stored);
    }

    /// Has the state machine taken the first one, or will it never?
    pub(super) fn first_is_taken(&self) -> bool {
        let fresh = self.fresh.front().map(|entry| entry.log_id.index);
        self.first().is_some_and(|first| fresh != Some(first))
    }

    pub(super) fn drop_first(&mut self) {
        let Some(dropped) = self.stored.pop_front() else { return };
        self.bytes -= dropped.weight();
        if self.fresh.front().is_some_and(|entry| entry.log_id == dropped.log_id) {
            self.fresh.pop_front();
        }
    }

    /// Drops those from the index `keep` on.
    pub(super) fn truncate(&mut self, keep: u64) {
        while let Some(last) = self.stored.back().filter(|last| last.log_id.index >= keep) {
            self.bytes -= last.weight();
            self.stored.pop_back();
        }
        while self.fresh.back().is_some_and(|last| last.log_id.index >= keep) {
            self.fresh.pop_back();
        }
    }

    /// Entries from `from` up to but not including `to`, for the state machine, which takes each once; they are no longer kept
    /// decoded. `None` when the first of them is older than what is kept.
    pub(super) fn take(&mut self, from: u64, to: u64) -> Option<Vec<Found>> {
        if self.first().is_some_and(|first| from < first) {
            return None;
        }
        let fresh_from = self.fresh.front().map_or(to, |entry| entry.log_id.index);
        let mut found = self.stored(from, to.min(fresh_from), usize::MAX);
        let taken = self.fresh.partition_point(|entry| entry.log_id.index < to);
        let taken = self.fresh.drain(..taken).filter(|entry| entry.log_id.index >= from);
        found.extend(taken.map(Found::Decoded));
        // A larger one that was made for a burst is given back.
        if self.fresh.is_empty() && self.fresh.capacity() > FRESH_CAPACITY_KEPT {
            self.fresh = VecDeque::new();
        }
        Some(found)
    }

    /// Entries from `from` on, which is kept, up to but not including `to`; as many as fit `bytes_max` but at least one.
    pub(super) fn find(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Found> {
        let mut found = self.stored(from, to, bytes_max);
        let fresh_from = self.fresh.front().map_or(u64::MAX, |entry| entry.log_id.index);
        for found in &mut found {
            if let Found::Stored(index, _) = found
                && let Some(place) = index.checked_sub(fresh_from)
                && let Some(entry) = self.fresh.get(usize::try_from(place).unwrap_or(usize::MAX))
            {
                *found = Found::Decoded(entry.clone());
            }
        }
        found
    }

    fn stored(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Found> {
        let mut bytes = 0;
        let within = |(place, stored): &(usize, &Stored)| {
            bytes += stored.payload.len();
            *place == 0 || bytes <= bytes_max
        };
        self.from(from, to)
            .enumerate()
            .take_while(within)
            .map(|(_, stored)| Found::Stored(stored.log_id.index, stored.payload.clone()))
            .collect()
    }

    fn from(&self, from: u64, to: u64) -> impl Iterator<Item = &Stored> {
        let skip = from.saturating_sub(self.first().unwrap_or(from));
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let count = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        self.stored.range(skip.min(self.stored.len())..).take(count)
    }

    /// The stored forms of entries that follow one another, if all of them are kept.
    pub(super) fn payloads(&self, entries: &[Entry]) -> Option<Vec<Bytes>> {
        let first = entries.first()?.log_id.index;
        if first < self.first()? {
            return None;
        }
        let payloads: Vec<_> = self
            .from(first, u64::MAX)
            .zip(entries)
            .take_while(|(stored, entry)| stored.log_id == entry.log_id)
            .map(|(stored, _)| stored.payload.clone())
            .collect();
        (payloads.len() == entries.len()).then_some(payloads)
    }
}

/// Room that stays for entries that come.
const FRESH_CAPACITY_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::EntryPayload;

    fn recent(range: std::ops::Range<u64>) -> Recent {
        let mut recent = Recent::default();
        for index in range {
            let entry = Entry { log_id: encoding::log_id(1, index), payload: EntryPayload::Blank };
            let payload = Bytes::from(encoding::encode_entry(&entry));
            recent.push(entry, payload);
        }
        recent
    }

    fn indexes(found: Vec<Found>) -> Vec<u64> {
        let index = |found: Found| found.decode().expect("it was encoded").log_id.index;
        found.into_iter().map(index).collect()
    }

    fn decoded(found: &[Found]) -> usize {
        found.iter().filter(|found| matches!(found, Found::Decoded(_))).count()
    }

    #[test]
    fn what_was_taken_is_kept_as_bytes_and_can_be_taken_again() {
        let mut recent = recent(5..15);
        assert!(recent.take(4, 8).is_none(), "it is not kept");
        let taken = recent.take(5, 8).expect("it is kept");
        assert_eq!((decoded(&taken), indexes(taken)), (3, vec![5, 6, 7]));
        let found = recent.find(5, 10, usize::MAX);
        assert_eq!((decoded(&found), indexes(found)), (2, vec![5, 6, 7, 8, 9]));
        let taken = recent.take(6, 11).expect("it is kept");
        assert_eq!((decoded(&taken), indexes(taken)), (3, vec![6, 7, 8, 9, 10]));
        let taken = recent.take(13, 99).expect("it is kept");
        assert_eq!((decoded(&taken), indexes(taken)), (2, vec![13, 14]));
        assert!(recent.fresh.is_empty(), "those that were passed over are not waited for");
        assert_eq!(indexes(recent.take(14, 15).expect("it is kept")), [14]);
    }

    #[test]
    fn both_forms_go_at_both_ends() {
        let mut recent = recent(0..10);
        recent.truncate(8);
        recent.drop_first();
        assert_eq!(indexes(recent.find(1, 99, usize::MAX)), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((recent.stored.len(), recent.fresh.len()), (7, 7));
        assert_eq!(recent.find(3, 99, 1).len(), 1, "one comes however large");
        recent.truncate(0);
        assert_eq!((recent.bytes(), recent.first(), recent.fresh.len()), (0, None, 0));
    }
}
