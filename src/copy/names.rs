//! What a key of version 2 is called in version 3.
//!
//! Owns: the two prefixes. Never knows: which keys there are.

use bytes::Bytes;

use crate::mirror::wire::is_within;

/// The names on both sides.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The key or directory of version 2; empty for the root.
    pub(super) prefix: String,
    /// What stands in its place.
    pub(super) instead: String,
}

impl Names {
    /// The key for a path below the prefix.
    pub(super) fn key(&self, path: &str) -> Bytes {
        let rest = path.strip_prefix(&self.prefix).unwrap_or(path);
        format!("{}{rest}", self.instead).into()
    }

    /// The path for a key; `None` where no path has such a key.
    pub(super) fn path(&self, key: &[u8]) -> Option<String> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(&self.instead)?;
        is_within(rest, "").then(|| format!("{}{rest}", self.prefix))
    }

    /// Where the keys are: each a first key and where it ends.
    pub(super) fn ranges(&self) -> Vec<(Bytes, Bytes)> {
        let own = |text: String| Bytes::from(text);
        // All that begins with the prefix and a slash, to which a `0` is next.
        let below = (own(format!("{}/", self.instead)), own(format!("{}0", self.instead)));
        match self.instead.is_empty() {
            true => vec![below],
            false => vec![(own(self.instead.clone()), Bytes::new()), below],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prefix: &str, instead: &str) -> Names {
        Names { prefix: prefix.to_owned(), instead: instead.to_owned() }
    }

    #[test]
    fn a_key_has_the_other_prefix_and_the_same_rest_both_ways() {
        for (prefix, instead, path, key) in [
            ("/a", "/a", "/a/b/c", "/a/b/c"),
            ("/a", "/x/y", "/a/b", "/x/y/b"),
            ("/a", "", "/a/b", "/b"),
            ("", "", "/a", "/a"),
            ("", "old", "/a", "old/a"),
            ("/a", "/x", "/a", "/x"),
        ] {
            let names = names(prefix, instead);
            assert_eq!(names.key(path), key.as_bytes(), "{prefix} {instead}");
            assert_eq!(names.path(key.as_bytes()).as_deref(), Some(path), "{prefix} {instead}");
        }
        let names = names("/a", "/x");
        assert_eq!((names.path(b"/xy"), names.path(b"/x/\xff")), (None, None));
    }

    #[test]
    fn ranges_hold_the_prefix_and_what_is_below_it() {
        let within = |instead: &str, key: &str| {
            names("/a", instead).ranges().iter().any(|(first, end)| match end.is_empty() {
                true => first == key.as_bytes(),
                false => first.as_ref() <= key.as_bytes() && key.as_bytes() < end.as_ref(),
            })
        };
        assert!(within("/x", "/x") && within("/x", "/x/a") && within("", "/x"));
        assert!(!within("/x", "/x-") && !within("/x", "/xa") && !within("/x", "/y"));
    }
}
