//! Who dies next, directory by directory.
//!
//! Each directory knows the first death in each of its children, soonest first. So the next death of all is found by going
//! down from the root, and what leaves the tree takes its deadlines along, however many they are.
//! Owns: the order in which keys die: by deadline, then by path. Never knows: a clock, who watches.

use std::cmp::Ordering;

use imbl::OrdSet;

use crate::model::{LogTime, Name};

/// The first death in a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    /// When.
    pub(super) at: LogTime,
    /// Something below the child dies, not the child itself.
    pub(super) below: bool,
}

/// The first death in the child `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Death {
    first: First,
    name: Name,
}

impl Ord for Death {
    /// As the whole paths of the nodes that die compare: a name goes on with `/` where something below it dies.
    fn cmp(&self, other: &Self) -> Ordering {
        fn rest(death: &Death) -> impl Iterator<Item = &u8> {
            death.name.iter().chain(death.first.below.then_some(&b'/'))
        }
        self.first.at.cmp(&other.first.at).then_with(|| rest(self).cmp(rest(other)))
    }
}

impl PartialOrd for Death {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The first death in each child of a directory in which something dies at all.
#[derive(Clone, Debug, Default)]
pub(super) struct Deaths {
    order: OrdSet<Death>,
}

impl Deaths {
    /// The first death in the child `name` changed; `None` is "never".
    pub(super) fn moved(&mut self, name: &Name, from: Option<First>, to: Option<First>) {
        if from == to {
            return;
        }
        if let Some(first) = from {
            self.order.remove(&Death { first, name: Name::clone(name) });
        }
        if let Some(first) = to {
            self.order.insert(Death { first, name: Name::clone(name) });
        }
    }

    /// The first of all, and the child that it happens in.
    pub(super) fn next(&self) -> Option<(First, &Name)> {
        self.order.get_min().map(|death| (death.first, &death.name))
    }

    /// All, soonest first. For [`crate::store::Store::check`].
    pub(super) fn iter(&self) -> impl Iterator<Item = (First, &Name)> {
        self.order.iter().map(|death| (death.first, &death.name))
    }
}
