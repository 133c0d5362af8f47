//! Deadlines, soonest first.
//!
//! Owns: the order in which keys die. Never knows: a clock, the tree, who watches.
//! Holds: every node with a deadline is here exactly once (`Store::check` asserts it).

use imbl::OrdSet;

use crate::model::{KeyPath, LogTime};

/// Nodes that will die, by deadline and then by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines {
    order: OrdSet<(LogTime, KeyPath)>,
}

impl Deadlines {
    /// A node's deadline moved from one moment to another; `None` is "never".
    pub(super) fn moved(&mut self, path: &KeyPath, from: Option<LogTime>, to: Option<LogTime>) {
        if from == to {
            return;
        }
        if let Some(at) = from {
            self.order.remove(&(at, path.clone()));
        }
        if let Some(at) = to {
            self.order.insert((at, path.clone()));
        }
    }

    /// The soonest deadline.
    pub(super) fn next(&self) -> Option<LogTime> {
        self.order.get_min().map(|(at, _)| *at)
    }

    /// The node that dies first, if its time has come by `now`.
    pub(super) fn due(&self, now: LogTime) -> Option<KeyPath> {
        let (at, path) = self.order.get_min()?;
        (*at <= now).then(|| path.clone())
    }

    /// All, soonest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(LogTime, KeyPath)> {
        self.order.iter()
    }
}
