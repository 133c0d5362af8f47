//! Keys as paths.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A component that starts with this byte is hidden from listings and from recursive watches.
pub const KEYS_PREFIX_HIDDEN: u8 = b'_';

/// An absolute, clean key: `/a/b`. The root is the empty path, as on the wire, where its `key` is left out.
///
/// Components are arbitrary bytes; JSON output replaces what is not UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(Arc<[u8]>);

/// How large a key may be. Both are flags.
#[derive(Clone, Copy, Debug)]
pub struct PathLimits {
    /// Bytes of the whole key.
    pub bytes_max: usize,
    /// Components.
    pub depth_max: usize,
}

impl KeyPath {
    /// The directory that holds everything.
    pub fn root() -> Self {
        Self(Arc::from(&b""[..]))
    }

    /// Takes bytes as they come after `/v2/keys`: slashes at the end and doubled ones are dropped.
    pub fn clean(raw: &[u8]) -> Self {
        let is_clean = raw.first() == Some(&b'/')
            && raw.last() != Some(&b'/')
            && !raw.windows(2).any(|pair| pair == b"//");
        if is_clean {
            return Self(Arc::from(raw));
        }
        let mut bytes = Vec::with_capacity(raw.len() + 1);
        for name in raw.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            bytes.push(b'/');
            bytes.extend_from_slice(name);
        }
        Self(Arc::from(bytes))
    }

    /// Takes bytes as they are: a stored key, or a bound for a range of keys.
    pub(crate) fn from_stored(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }

    /// The components, outermost first.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').skip(1)
    }

    /// How many components it has; the root has none.
    pub fn depth(&self) -> usize {
        self.0.iter().filter(|b| **b == b'/').count()
    }

    /// The bytes, `/a/b`; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Is this the root?
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The child called `name`.
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self(Arc::from(bytes))
    }

    /// The directory around it and its own name; `None` for the root.
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        let slash = self.0.iter().rposition(|b| *b == b'/')?;
        Some((Self(Arc::from(&self.0[..slash])), &self.0[slash + 1..]))
    }

    /// The first `depth` components.
    #[must_use]
    pub fn ancestor(&self, depth: usize) -> Self {
        let end = self.0.iter().enumerate().filter(|(_, b)| **b == b'/').nth(depth);
        end.map_or_else(|| self.clone(), |(slash, _)| Self(Arc::from(&self.0[..slash])))
    }

    /// The root, then each directory on the way, then this path itself.
    pub fn way(&self) -> impl Iterator<Item = Self> {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let above = slashes.map(|(slash, _)| Self(Arc::from(&self.0[..slash])));
        above.chain(std::iter::once(self.clone()))
    }

    /// What follows this path in `other`, starting with `/`; `None` unless `other` lies strictly below, by whole components.
    pub fn below<'a>(&self, other: &'a Self) -> Option<&'a [u8]> {
        let rest = other.0.strip_prefix(&*self.0)?;
        (rest.first() == Some(&b'/')).then_some(rest)
    }

    /// Which comes first in a walk through the tree, where all that is below a directory follows it directly.
    pub fn walk_order(&self, other: &Self) -> Ordering {
        walk_order(&self.0, &other.0)
    }

    /// Does one of its components start with `_`?
    pub fn has_hidden(&self) -> bool {
        has_hidden(&self.0)
    }

    /// The first limit that it exceeds, in words for the client.
    pub fn exceeds(&self, limits: PathLimits) -> Option<String> {
        if self.0.len() > limits.bytes_max {
            return Some(format!("key is longer than {} bytes", limits.bytes_max));
        }
        if self.depth() > limits.depth_max {
            return Some(format!("key has more than {} components", limits.depth_max));
        }
        None
    }
}

/// [`KeyPath::walk_order`] of the bytes of two paths: a slash comes before any other byte.
pub(crate) fn walk_order(one: &[u8], other: &[u8]) -> Ordering {
    let place = one.iter().zip(other).position(|(one, other)| one != other);
    let Some(place) = place else { return one.len().cmp(&other.len()) };
    match (one[place], other[place]) {
        (b'/', _) => Ordering::Less,
        (_, b'/') => Ordering::Greater,
        (one, other) => one.cmp(&other),
    }
}

/// Does a component of `path` (or of a tail of one, as [`KeyPath::below`] gives it) start with `_`?
pub(crate) fn has_hidden(path: &[u8]) -> bool {
    path.windows(2).any(|pair| pair == [b'/', KEYS_PREFIX_HIDDEN])
}

impl fmt::Display for KeyPath {
    /// As in error causes: `/` for the root.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str("/");
        }
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&str> for KeyPath {
    fn from(text: &str) -> Self {
        Self::clean(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths() -> impl Strategy<Value = KeyPath> {
        let name = prop::collection::vec(prop_oneof![Just(b'a'), Just(b'_'), Just(0xff)], 1..3);
        prop::collection::vec(name, 0..4)
            .prop_map(|names| names.iter().fold(KeyPath::root(), |path, name| path.child(name)))
    }

    proptest! {
        #[test]
        fn cleaning_twice_is_cleaning_once(raw in "[/ab_.]{0,12}") {
            let path = KeyPath::from(raw.as_str());
            prop_assert_eq!(&KeyPath::clean(path.as_bytes()), &path);
            prop_assert_eq!(path.names().count(), path.depth());
            prop_assert!(path.names().all(|name| !name.is_empty()));
        }

        #[test]
        fn the_order_of_a_walk_is_that_of_the_names(
            one in "(/[a.\u{1}-]{1,2}){0,3}",
            other in "(/[a.\u{1}-]{1,2}){0,3}",
        ) {
            let (one, other) = (KeyPath::from(one.as_str()), KeyPath::from(other.as_str()));
            prop_assert_eq!(one.walk_order(&other), one.names().cmp(other.names()));
        }

        #[test]
        fn a_path_is_its_directory_and_its_name(path in paths()) {
            match path.split_last() {
                None => prop_assert!(path.is_root()),
                Some((dir, name)) => {
                    prop_assert_eq!(&dir.child(name), &path);
                    prop_assert_eq!(&path.ancestor(path.depth() - 1), &dir);
                    prop_assert!(dir < path, "a directory comes before what is in it");
                }
            }
        }

        #[test]
        fn below_agrees_with_the_components(above in paths(), path in paths()) {
            let (outer, inner): (Vec<_>, Vec<_>) = (above.names().collect(), path.names().collect());
            let is_below = inner.len() > outer.len() && inner.starts_with(&outer);
            prop_assert_eq!(above.below(&path).is_some(), is_below);
            if let Some(rest) = above.below(&path) {
                let hidden = inner[outer.len()..].iter().any(|name| name.starts_with(b"_"));
                prop_assert_eq!(has_hidden(rest), hidden);
                prop_assert_eq!([above.as_bytes(), rest].concat(), path.as_bytes());
            }
        }
    }

    #[test]
    fn a_limit_is_the_largest_that_is_allowed() {
        let limits = PathLimits { bytes_max: 6, depth_max: 2 };
        assert_eq!(KeyPath::from("/ab/cd").exceeds(limits), None);
        assert!(KeyPath::from("/ab/cde").exceeds(limits).is_some());
        assert!(KeyPath::from("/a/b/c").exceeds(limits).is_some());
    }

    #[test]
    fn slashes_at_the_end_and_doubled_ones_do_not_count() {
        for raw in ["/a/b", "/a/b/", "//a//b//"] {
            assert_eq!(KeyPath::from(raw).as_bytes(), b"/a/b");
        }
        for raw in ["", "/", "//"] {
            assert!(KeyPath::from(raw).is_root());
        }
    }

    #[test]
    fn below_is_by_whole_components() {
        let d = KeyPath::from("/d");
        assert_eq!(d.below(&KeyPath::from("/d/x")), Some(&b"/x"[..]));
        assert_eq!(d.below(&KeyPath::from("/dx")), None);
        assert_eq!(d.below(&d), None);
        assert_eq!(KeyPath::root().below(&d), Some(&b"/d"[..]));
    }

    #[test]
    fn ancestors_count_components() {
        let path = KeyPath::from("/a/b/c");
        assert_eq!(path.depth(), 3);
        assert!(path.ancestor(0).is_root());
        assert_eq!(path.ancestor(2), KeyPath::from("/a/b"));
        assert_eq!(path.ancestor(3), path);
        assert_eq!(path.ancestor(9), path);
        for path in [path, KeyPath::root()] {
            assert!(path.way().eq((0..=path.depth()).map(|depth| path.ancestor(depth))));
        }
    }

    #[test]
    fn only_a_component_that_starts_with_an_underscore_is_hidden() {
        assert!(KeyPath::from("/a/_b").has_hidden());
        assert!(!KeyPath::from("/a_b/c_").has_hidden());
    }
}
