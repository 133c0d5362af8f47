//! Which nodes may differ from an earlier state: what the next checkpoint has to write.
//!
//! Owns: the keys that events have named since then. Never knows: the tree, what stands in it now.
//! A list instead of the earlier state, which would keep whatever was overwritten since alive.

use std::collections::BTreeSet;

use crate::model::{KeyPath, StoreIndex};
use crate::store::event::{Event, Removed};

/// What events have changed since a store had a certain index.
///
/// A list of files grows with the log, not with the number of keys: a file that was written before is not noted again, one that
/// is made and removed in turns is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    since: StoreIndex,
    files: Vec<KeyPath>,
    /// A directory keeps its index when it changes, so one cannot tell whether it was noted already.
    dirs: BTreeSet<KeyPath>,
    /// Directories that were removed with all that was in them.
    emptied: BTreeSet<KeyPath>,
}

impl Changes {
    /// None yet, of a store that has this index.
    pub fn since(index: StoreIndex) -> Self {
        Self { since: index, ..Self::default() }
    }

    /// The index from which on events were noted, exclusive.
    pub fn start(&self) -> StoreIndex {
        self.since
    }

    /// Notes an event. They come in the order of their indexes, without a gap.
    pub fn note(&mut self, event: &Event) {
        let before = event.prev.as_ref();
        if event.node.dir || before.is_some_and(|before| before.dir) {
            self.dirs.insert(event.path.clone());
        } else if before.is_none_or(|before| before.modified <= self.since) {
            self.files.push(event.path.clone());
        }
        // What was made since then held nothing then.
        if event.removed != Removed::Nothing
            && before.is_some_and(|before| before.created <= self.since)
        {
            self.emptied.insert(event.path.clone());
        }
    }

    /// All keys in the order of a walk, each once. Directories that were made on the way to one are not among them.
    pub(super) fn keys(&self) -> Vec<&KeyPath> {
        let mut keys: Vec<_> = self.files.iter().chain(&self.dirs).collect();
        keys.sort_unstable_by(|one, other| one.walk_order(other));
        keys.dedup();
        keys
    }

    /// Directories below which nothing is left of what was there, unless one of the keys says so.
    pub(super) fn emptied(&self) -> impl Iterator<Item = &KeyPath> {
        self.emptied.iter()
    }

    /// Bytes that the list takes, roughly: a key may also be an event's, and is counted all the same.
    pub fn bytes(&self) -> usize {
        /// A pointer, a length, and an allocation for a short key.
        const KEY: usize = 16 + 48;
        self.files.len() * KEY + (self.dirs.len() + self.emptied.len()) * KEY * 3 / 2
    }
}
