//! What a listing of the source comes to in a key space without directories.
//!
//! Owns: which keys are copied, and when they go. Never knows: servers, the target.
//! Holds: a key goes with the first of the directories that it is in, so the earliest deadline on the way to it counts.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::mirror::wire::Node;

/// What becomes of keys that have a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ttl {
    /// They are left out.
    Skip,
    /// They are put on a lease.
    Lease,
}

/// All that begins with the path and a slash, to which a `0` is next.
pub(super) fn below(path: &str) -> (Bound<String>, Bound<String>) {
    (Bound::Excluded(format!("{path}/")), Bound::Excluded(format!("{path}0")))
}

/// Deadlines of keys and directories, in milliseconds of the source's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deadlines(BTreeMap<String, i64>);

impl Deadlines {
    /// Returns what it was before.
    pub(super) fn set(&mut self, path: &str, ends_ms: Option<i64>) -> Option<i64> {
        match ends_ms {
            Some(ends_ms) => self.0.insert(path.to_owned(), ends_ms),
            None => self.0.remove(path),
        }
    }

    /// Its own deadline.
    pub(super) fn own(&self, path: &str) -> Option<i64> {
        self.0.get(path).copied()
    }

    /// When it goes: with the first of all directories that it is in.
    pub(super) fn of(&self, path: &str) -> Option<i64> {
        let parents = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
        [path].into_iter().chain(parents).filter_map(|path| self.own(path)).min()
    }

    /// Those at or below a path.
    pub(super) fn within(&self, path: &str) -> Vec<String> {
        let itself = self.0.get_key_value(path).map(|(path, _)| path.clone());
        itself.into_iter().chain(self.0.range(below(path)).map(|(path, _)| path.clone())).collect()
    }
}

/// A key that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) value: String,
    pub(super) ends_ms: Option<i64>,
}

/// What there is to copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) deadlines: Deadlines,
    /// Directories with nothing in them, which have no counterpart.
    pub(super) empty_dirs: usize,
    /// Keys that have a lifetime and are left out for that.
    pub(super) mortal: usize,
}

impl Picture {
    pub(super) fn of(nodes: BTreeMap<String, Node>, ttl: Ttl) -> Self {
        let mut picture = Self::default();
        for (path, node) in &nodes {
            picture.deadlines.set(path, node.ends_ms());
            if node.dir && nodes.range(below(path)).next().is_none() {
                picture.empty_dirs += 1;
            }
        }
        for (path, node) in nodes.into_iter().filter(|(_, node)| !node.dir) {
            let ends_ms = picture.deadlines.of(&path);
            if ends_ms.is_some() && ttl == Ttl::Skip {
                picture.mortal += 1;
            } else {
                picture.keys.insert(path, Key { value: node.value, ends_ms });
            }
        }
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(all: &[(&str, bool, i64)]) -> BTreeMap<String, Node> {
        let node = |(path, dir, second): &(&str, bool, i64)| {
            let expiration = (*second > 0).then(|| format!("1970-01-01T00:00:{second:02}Z"));
            let node = Node { key: (*path).to_owned(), dir: *dir, expiration, ..Node::default() };
            ((*path).to_owned(), node)
        };
        all.iter().map(node).collect()
    }

    #[test]
    fn a_key_goes_with_the_first_of_its_directories() {
        let all = nodes(&[
            ("/d", true, 9),
            ("/d/e", true, 5),
            ("/d/e/a", false, 0),
            ("/d/b", false, 7),
            ("/d/c", false, 20),
            ("/f", false, 0),
        ]);
        let picture = Picture::of(all.clone(), Ttl::Lease);
        let ends = |path: &str| picture.keys[path].ends_ms;
        assert_eq!(
            [ends("/d/e/a"), ends("/d/b"), ends("/d/c"), ends("/f")],
            [Some(5000), Some(7000), Some(9000), None]
        );
        assert_eq!(picture.deadlines.within("/d/e"), ["/d/e"]);
        let picture = Picture::of(all, Ttl::Skip);
        assert_eq!(picture.keys.keys().collect::<Vec<_>>(), ["/f"]);
        assert_eq!(picture.mortal, 3);
    }

    #[test]
    fn directories_that_hold_nothing_are_counted() {
        let all = nodes(&[
            ("/a", true, 0),
            ("/a-b", false, 0),
            ("/c", true, 0),
            ("/c/d", true, 0),
            ("/e", true, 0),
            ("/e/f", false, 0),
        ]);
        let picture = Picture::of(all, Ttl::Skip);
        assert_eq!((picture.empty_dirs, picture.keys.len()), (2, 2));
    }
}
