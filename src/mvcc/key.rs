//! Keys, what stands at them, and intervals of them.

use std::fmt;
use std::ops::Bound;

use crate::model::Value;

/// The number of a change of the v3 key space. A position in v2's history is a [`StoreIndex`](crate::model::StoreIndex), and has
/// nothing to do with it.
///
/// The empty key space has 1. A request that changes something takes exactly one, however many keys it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// That of a key space in which nothing has happened.
    pub const FIRST: Self = Self(1);

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which lease; zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// No lease.
    pub const NONE: Self = Self(0);

    /// Is it none?
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// A key as of one revision: what was put, or that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Any bytes; never empty.
    pub key: Value,
    /// Any bytes; empty for a deletion.
    pub value: Value,
    /// The revision that made the key since it was deleted last; zero for a deletion.
    pub created: Revision,
    /// The revision that this is of.
    pub modified: Revision,
    /// How many puts there were since it was made, this one included; zero for a deletion.
    pub version: u64,
    /// What it hangs on.
    pub lease: LeaseId,
    /// Its place among the changes of its revision, from zero.
    pub sub: u32,
}

impl KeyValue {
    /// Was the key deleted by this revision?
    pub fn is_deletion(&self) -> bool {
        self.version == 0
    }

    /// What it weighs against the quota: key, value, and what comes with them in memory and on disk, roughly.
    pub fn bytes(&self) -> u64 {
        /// The numbers, and what leads to them.
        const OVERHEAD: u64 = 128;
        OVERHEAD + self.key.len() as u64 + self.value.len() as u64
    }

    /// Where it stands among all changes.
    pub(in crate::mvcc) fn place(&self) -> (Revision, u32) {
        (self.modified, self.sub)
    }
}

/// Keys that a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// This key.
    Single(Value),
    /// From the first on, up to and without the second; nothing if that is not greater.
    Between(Value, Value),
    /// From this key on.
    From(Value),
}

impl KeyRange {
    /// From `key` and `range_end` as they are on the wire.
    pub fn new(key: Value, range_end: Value) -> Self {
        match &*range_end {
            [] => Self::Single(key),
            [0] => Self::From(key),
            _ => Self::Between(key, range_end),
        }
    }

    /// Every key.
    pub fn all() -> Self {
        Self::From([0][..].into())
    }

    /// The key that it begins with.
    pub fn start(&self) -> &Value {
        match self {
            Self::Single(key) | Self::Between(key, _) | Self::From(key) => key,
        }
    }

    /// The first key behind it; none where it has no end.
    pub fn end(&self) -> Option<Value> {
        match self {
            Self::Single(key) => {
                let mut end = key.to_vec();
                end.push(0);
                Some(end.into())
            }
            Self::Between(_, end) => Some(end.clone()),
            Self::From(_) => None,
        }
    }

    /// As on the wire: see [`KeyRange::new`].
    pub fn range_end(&self) -> &[u8] {
        match self {
            Self::Single(_) => &[],
            Self::Between(_, end) => end,
            Self::From(_) => &[0],
        }
    }

    /// Can no key be in it?
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Between(start, end) if start >= end)
    }

    /// Is `key` in it?
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Single(single) => **single == *key,
            Self::Between(start, end) => **start <= *key && *key < **end,
            Self::From(start) => **start <= *key,
        }
    }

    /// Its ends, for an ordered map. Not for one that [`KeyRange::is_empty`].
    pub(in crate::mvcc) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            Self::Single(key) => (Bound::Included(key), Bound::Included(key)),
            Self::Between(start, end) => (Bound::Included(start), Bound::Excluded(end)),
            Self::From(start) => (Bound::Included(start), Bound::Unbounded),
        }
    }
}
