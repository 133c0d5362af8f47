//! Whether this member is its cluster's only one, for reads that need no majority then.
//!
//! Owns: how often the log was given what can end that. Never knows: how it is found out.
//!
//! A member without others has applied each write before any client is told that it was done, and nothing is decided without it. That
//! ends with a vote or an entry about members, and before either can have an effect anywhere its log is given it: there it is counted. So what
//! was found out is true as long as the count is what it was before.

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::EntryPayload;

use crate::raft::adapter::types::Entry;

/// What the count cannot be.
const NEVER: u64 = u64::MAX;

/// Is this member its cluster's only one, and its leader? As far as it was found out.
#[derive(Debug)]
pub(in crate::raft) struct Sole {
    /// Votes and entries about members that the log was given.
    turns: AtomicU64,
    /// How many there were when it was found out last.
    found_at: AtomicU64,
}

/// A moment before which nothing was found out.
#[derive(Clone, Copy, Debug)]
pub(in crate::raft) struct Turn(u64);

impl Default for Sole {
    fn default() -> Self {
        Self { turns: AtomicU64::new(0), found_at: AtomicU64::new(NEVER) }
    }
}

impl Sole {
    /// The log was given a vote, or was cut.
    pub(super) fn turned(&self) {
        self.turns.fetch_add(1, Ordering::AcqRel);
    }

    /// The log is given an entry.
    pub(super) fn given(&self, entry: &Entry) {
        if matches!(entry.payload, EntryPayload::Membership(_)) {
            self.turned();
        }
    }

    /// To be taken before it is asked whether this member is the only one.
    pub(in crate::raft) fn turn(&self) -> Turn {
        Turn(self.turns.load(Ordering::Acquire))
    }

    /// This member was the only one at a moment behind `turn`, led, and had applied all that it had ever acknowledged.
    pub(in crate::raft) fn found(&self, turn: Turn) {
        self.found_at.store(turn.0, Ordering::Release);
    }

    /// Is that still so?
    pub(in crate::raft) fn holds(&self) -> bool {
        self.found_at.load(Ordering::Acquire) == self.turns.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_from_when_it_was_found_until_anything_turns() {
        let sole = Sole::default();
        assert!(!sole.holds());
        sole.found(sole.turn());
        assert!(sole.holds());
        sole.turned();
        assert!(!sole.holds());
        // A turn while it was being found out counts.
        let turn = sole.turn();
        sole.turned();
        sole.found(turn);
        assert!(!sole.holds());
        sole.found(sole.turn());
        assert!(sole.holds());
    }
}
