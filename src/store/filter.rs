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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LogTime, StoreIndex, WallOffset};
    use crate::store::event::{Action, Removed, Shown};

    fn end_of(key: &str, action: Action, removed: Removed) -> Event {
        let (modified, created) = (StoreIndex(2), StoreIndex(1));
        Event {
            action,
            index: modified,
            at: LogTime(1),
            offset: WallOffset(0),
            path: KeyPath::from(key),
            node: Shown { value: None, dir: true, modified, created, expires: None },
            prev: None,
            refresh: false,
            removed,
        }
    }

    fn sees(watched: &str, recursive: bool, event: &Event) -> bool {
        Filter { path: KeyPath::from(watched), recursive }.sees(event)
    }

    #[test]
    fn when_too_many_went_whoever_watches_below_is_told_but_no_sibling() {
        for action in [Action::Delete, Action::Expire] {
            let event = end_of("/d", action, Removed::Many);
            assert!(sees("/d/a", false, &event));
            assert!(sees("/d/a/b/c", true, &event));
            assert!(sees("/d/_h/x", false, &event));
            assert!(!sees("/dx", false, &event));
            assert!(!sees("/", false, &event));
            assert!(sees("/", true, &event));
        }
    }

    #[test]
    fn the_end_of_a_hidden_directory_is_told_inside_and_not_above() {
        let below: [Box<[u8]>; 1] = [b"/x"[..].into()];
        let event = end_of("/d/_h", Action::Delete, Removed::Paths(below.into()));
        assert!(sees("/d/_h/x", false, &event));
        assert!(sees("/d/_h", false, &event));
        assert!(!sees("/d/_h/y", true, &event));
        assert!(!sees("/d", true, &event));
    }
}
