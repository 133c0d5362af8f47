//! Compactions: what was superseded or deleted up to a revision goes.
//!
//! It cannot be read any more at once; its memory is given back little by little, with the commands behind it, so that no command has
//! to wait for all of it.

use std::sync::Arc;

use crate::mvcc::key::{KeyValue, Revision};
use crate::mvcc::request::{Refusal, Reply};
use crate::mvcc::{Mvcc, Place};

/// Changes that are forgotten with one command: a fraction of a millisecond.
const SWEEP_CHANGES: usize = 64;

impl Mvcc {
    pub(super) fn compact(&mut self, revision: Revision) -> Result<Reply, Refusal> {
        if self.compacted.is_some_and(|compacted| revision <= compacted) {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        self.compacted = Some(revision);
        self.swept = 0;
        self.sweep();
        Ok(Reply::Compact)
    }

    /// Bytes of versions that were superseded or deleted and are still kept, as [`KeyValue::bytes`] counts them.
    pub fn past_bytes(&self) -> u64 {
        self.bytes - self.live_bytes
    }

    /// The revision whose compaction leaves about `bytes` of what was superseded; `None` if there is no more than that. Takes a step
    /// for each change that goes.
    pub fn compaction_for(&self, bytes: u64) -> Option<Revision> {
        let mut past = self.past_bytes();
        if past <= bytes {
            return None;
        }
        for change in &self.log {
            // A deletion was counted when its turn was, not again as what a later version superseded.
            let superseded = self.before(change).filter(|before| !before.is_deletion());
            past -= superseded.map_or(0, |superseded| superseded.bytes());
            past -= if change.is_deletion() { change.bytes() } else { 0 };
            if past <= bytes {
                return Some(change.modified);
            }
        }
        Some(self.revision)
    }

    /// Gives a part of the memory back that a compaction has made free. Each command does so; a tick of the v2 key space too.
    pub fn sweep(&mut self) {
        let Some(compacted) = self.compacted else { return };
        for _ in 0..SWEEP_CHANGES {
            let next = self.log.get(self.swept).filter(|next| next.modified <= compacted);
            let Some(next) = next.map(Arc::clone) else { return };
            if let Some(before) = self.before(&next).map(Arc::clone) {
                self.forget(&before);
            }
            // Watches may begin at the compacted revision itself: what stood there after it goes with the next compaction.
            if next.modified == compacted && self.survives_its_revision(&next) {
                self.swept += 1;
                continue;
            }
            if next.is_deletion() {
                self.forget(&next);
            }
            match self.swept {
                0 => drop(self.log.pop_front()),
                swept => drop(self.log.remove(swept)),
            }
        }
    }

    /// The next change takes a revision that is higher by `by` than it would be, and all before is compacted: who watches from one of
    /// these reads everything anew. Keys stay as they are. `None` when there is no such revision.
    pub(crate) fn bumped(mut self, by: u64) -> Option<Self> {
        // There must be room for changes to come.
        let revision =
            self.revision.0.checked_add(by).filter(|revision| *revision < u64::MAX / 2)?;
        self.revision = Revision(revision);
        self.compacted = Some(self.revision);
        self.log.clear();
        self.swept = 0;
        self.past.clear();
        self.bytes = self.live_bytes;
        Some(self)
    }

    fn forget(&mut self, old: &KeyValue) {
        let (revision, sub) = old.place();
        if self.past.remove(&Place { key: &old.key, revision, sub }).is_some() {
            self.bytes -= old.bytes();
        }
    }
}
