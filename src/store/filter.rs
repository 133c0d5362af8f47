//! Does this watcher see this event?
//!
//! One rule for live watchers and for the history: what a watcher is told never depends on how quick it was.

use crate::model::KeyPath;
use crate::store::event::Event;

/// What a watcher looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    /// The watched key; it need not exist.
    pub path: KeyPath,
    /// Everything below it too.
    pub recursive: bool,
}

impl Filter {
    /// The rule: the key itself always; below it if recursive, unless a component below the watched one is hidden; and the
    /// removal of a directory that held the watched node.
    pub fn sees(&self, event: &Event) -> bool {
        if event.refresh {
            return false;
        }
        if event.path == self.path {
            return true;
        }
        if let Some(rest) = self.path.below(&event.path) {
            return self.recursive && !crate::model::has_hidden(rest);
        }
        event.action.removes()
            && event.path.below(&self.path).is_some_and(|rest| event.removed.contains(rest))
    }
}
