//! A node: its facts, and a file's value behind them in one piece of memory.

use std::fmt;
use std::ops::{Bound, Deref};

use triomphe::{Arc, ThinArc};

use crate::model::{KEYS_PREFIX_HIDDEN, LogTime, Name, StoreIndex};
use crate::store::event::Shown;
use crate::store::tree::Dir;

/// A file or a directory, shared: a copy is one more holder of the same.
///
/// One word wide and one allocation: a directory of a million files has a million of them, and a write that copies a part of that
/// directory's map counts one more holder for each.
#[derive(Clone)]
pub struct Node(ThinArc<Facts, u8>);

/// What is known of a node beside its value.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Wire: `createdIndex`.
    pub created: StoreIndex,
    /// Wire: `modifiedIndex`.
    pub modified: StoreIndex,
    /// When it dies.
    pub expires: Option<LogTime>,
    /// What a directory holds; files have none. In a box, because most nodes are files.
    dir: Option<Box<Dir>>,
}

/// A file's value. It keeps the node that it is a part of in memory, and nothing else.
#[derive(Clone)]
pub struct FileValue(Node);

impl Node {
    /// An empty directory.
    pub(in crate::store) fn dir(created: StoreIndex, expires: Option<LogTime>) -> Self {
        Self::dir_modified(created, created, expires)
    }

    /// The same, that says of itself when it was modified.
    pub(crate) fn dir_modified(
        created: StoreIndex,
        modified: StoreIndex,
        expires: Option<LogTime>,
    ) -> Self {
        let facts = Facts { created, modified, expires, dir: Some(Box::default()) };
        Self(ThinArc::from_header_and_slice(facts, &[]))
    }

    /// A file.
    pub(in crate::store) fn file(
        created: StoreIndex,
        expires: Option<LogTime>,
        value: &[u8],
    ) -> Self {
        Self::file_modified(created, created, expires, value)
    }

    /// One that was there before.
    pub(crate) fn file_modified(
        created: StoreIndex,
        modified: StoreIndex,
        expires: Option<LogTime>,
        value: &[u8],
    ) -> Self {
        let facts = Facts { created, modified, expires, dir: None };
        Self(ThinArc::from_header_and_slice(facts, value))
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.dir.is_some()
    }

    /// What a directory holds.
    pub fn as_dir(&self) -> Option<&Dir> {
        self.dir.as_deref()
    }

    /// A file's value.
    pub fn value(&self) -> Option<&[u8]> {
        if self.is_dir() { None } else { Some(&self.0.slice) }
    }

    /// A child, hidden or not.
    pub fn child(&self, name: &[u8]) -> Option<&Self> {
        self.as_dir()?.children().get(name)
    }

    /// Children that listings show, by name in bytewise order: all but the hidden ones. Files have none.
    pub fn visible_children(&self) -> impl Iterator<Item = (&Name, &Self)> {
        self.visible_children_from(Bound::Unbounded)
    }

    /// The same, from a name on.
    pub fn visible_children_from<'a>(
        &'a self,
        from: Bound<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Name, &'a Self)> {
        let children = self.as_dir().map(|dir| dir.children().range_from(from));
        let shown = |name: &Name| name.first() != Some(&KEYS_PREFIX_HIDDEN);
        children.into_iter().flatten().filter(move |(name, _)| shown(name))
    }

    /// As an event shows it.
    pub(in crate::store) fn shown(&self) -> Shown {
        Shown {
            value: (!self.is_dir()).then(|| FileValue(self.clone())),
            dir: self.is_dir(),
            modified: self.modified,
            created: self.created,
            expires: self.expires,
        }
    }

    /// How many nodes are below it, on all levels.
    pub(in crate::store) fn nodes_below(&self) -> u64 {
        self.as_dir().map_or(0, |dir| dir.nodes)
    }

    /// What the nodes below it weigh, on all levels: a constant, name and value of each.
    pub(in crate::store) fn bytes_below(&self) -> u64 {
        self.as_dir().map_or(0, |dir| dir.bytes)
    }

    /// Changes the facts, for this holder alone: if there are others, it gets a node of its own.
    pub(in crate::store) fn change<T>(&mut self, change: impl FnOnce(&mut Facts) -> T) -> T {
        if ThinArc::strong_count(&self.0) != 1 {
            let Facts { created, modified, expires, dir } = &**self;
            let (created, modified, expires, dir) = (*created, *modified, *expires, dir.clone());
            let facts = Facts { created, modified, expires, dir };
            self.0 = ThinArc::from_header_and_slice(facts, &self.0.slice);
        }
        self.0.with_arc_mut(|node| {
            let node = Arc::get_mut(node).expect("only this holder is left");
            change(node.header_mut())
        })
    }

    /// Changes what a directory holds, as [`Node::change`] does.
    ///
    /// # Panics
    /// Of a file.
    pub(super) fn change_dir<T>(&mut self, change: impl FnOnce(&mut Dir) -> T) -> T {
        self.change(|facts| change(facts.dir.as_mut().expect("find has seen no file in the way")))
    }
}

impl Deref for Node {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0.header.header
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&**self).field(&self.value()).finish()
    }
}

impl FileValue {
    /// Bytes in memory beside the value itself.
    pub(in crate::store) const OVERHEAD: usize = size_of::<Facts>() + 2 * size_of::<usize>();
}

/// A value that no tree has.
impl From<&[u8]> for FileValue {
    fn from(value: &[u8]) -> Self {
        Self(Node::file(StoreIndex(0), None, value))
    }
}

impl Deref for FileValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.0.slice
    }
}

impl PartialEq for FileValue {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for FileValue {}

impl fmt::Debug for FileValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_one_word_and_its_facts_leave_room_for_a_value_of_256_bytes() {
        assert_eq!(size_of::<Node>(), size_of::<usize>());
        // The allocator's next class is 320.
        let small = FileValue::OVERHEAD + 256;
        assert!(small <= 320, "{small}");
    }

    #[test]
    fn a_change_is_seen_by_its_holder_alone() {
        let mut one = Node::file(StoreIndex(3), None, b"v");
        let other = one.clone();
        one.change(|facts| facts.expires = Some(LogTime(7)));
        assert_eq!((one.expires, other.expires), (Some(LogTime(7)), None));
        assert_eq!((one.value(), other.value()), (Some(&b"v"[..]), Some(&b"v"[..])));
        let value = one.shown().value.expect("it is a file");
        drop(one);
        assert_eq!(&*value, b"v");
    }
}
