//! A tree from its nodes in order, without a search for the place of each.

use crate::model::Name;
use crate::store::tree::children::Filler;
use crate::store::tree::{Node, Trace, Tree};

/// Takes nodes in order, either one: that of a walk, parents first, or the bytewise order of whole keys, in which `/a-` stands
/// between `/a` and `/a/b`. In both a directory is complete with the first key that it is no beginning of.
#[derive(Debug)]
pub(in crate::store) struct Builder {
    /// Directories that may still get children, each a beginning of the next one's key. The root is first.
    open: Vec<Open>,
    /// The key of the last one, as bytes.
    key: Vec<u8>,
}

/// A directory whose children are coming.
#[derive(Debug)]
struct Open {
    /// Bytes of its key.
    key_bytes: usize,
    /// Without its children.
    node: Node,
    /// Those that are complete.
    children: Filler,
    /// The child that came last, complete or not.
    last: Option<Name>,
    /// Where it belongs: the place of its directory in the stack, and its own name.
    place: (usize, Name),
}

/// A node without its directory, or not in order.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Misplaced;

impl Default for Builder {
    fn default() -> Self {
        let Tree { root } = Tree::default();
        let root = Open {
            key_bytes: 0,
            node: root,
            children: Filler::default(),
            last: None,
            place: (0, Name::from(&[][..])),
        };
        Self { open: vec![root], key: Vec::new() }
    }
}

impl Builder {
    /// Adds the node at `key`.
    ///
    /// # Errors
    /// When it is not in order, or its directory is missing.
    pub(in crate::store) fn push(&mut self, key: &[u8], node: Node) -> Result<(), Misplaced> {
        let slash = key.iter().rposition(|byte| *byte == b'/').ok_or(Misplaced)?;
        let (dir, name) = (&key[..slash], &key[slash + 1..]);
        if name.is_empty() {
            return Err(Misplaced);
        }
        while !key.starts_with(&self.key) {
            self.close();
        }
        // All that are open are beginnings of the key now, so the length tells them apart.
        let place = self.open.iter().rposition(|open| open.key_bytes == dir.len());
        let place = place.ok_or(Misplaced)?;
        let dir = &mut self.open[place];
        if dir.last.as_deref().is_some_and(|last| *last >= *name) {
            return Err(Misplaced);
        }
        let name = Name::from(name);
        dir.last = Some(Name::clone(&name));
        if node.is_dir() {
            let place = (place, name);
            let children = Filler::default();
            self.open.push(Open { key_bytes: key.len(), node, children, last: None, place });
            self.key.clear();
            self.key.extend_from_slice(key);
        } else {
            dir.adopt(name, node);
        }
        Ok(())
    }

    /// Completes the last open directory, which is not the root.
    fn close(&mut self) {
        let closed = self.open.pop().expect("the root's key is a beginning of every key");
        let Open { node, children, place: (dir, name), .. } = closed;
        self.key.truncate(self.open.last().map_or(0, |open| open.key_bytes));
        self.open[dir].adopt(name, complete(node, children));
    }

    /// The tree.
    pub(in crate::store) fn finish(mut self) -> Tree {
        while self.open.len() > 1 {
            self.close();
        }
        let root = self.open.pop().expect("the root is never closed");
        Tree { root: complete(root.node, root.children) }
    }
}

impl Open {
    /// Adds a child that is complete.
    fn adopt(&mut self, name: Name, child: Node) {
        self.node.change_dir(|dir| {
            dir.settle(&name, Trace::default(), Trace::of(&child));
        });
        self.children.push(name, child);
    }
}

/// A directory with its children.
fn complete(mut dir: Node, children: Filler) -> Node {
    dir.change_dir(|dir| dir.children = children.finish());
    dir
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{KeyPath, LogTime, StoreIndex};

    fn node(dir: bool, dies: Option<u64>) -> Node {
        let expires = dies.map(LogTime);
        match dir {
            true => Node::dir(StoreIndex(3), expires),
            false => Node::file(StoreIndex(3), expires, b"v"),
        }
    }

    /// All nodes with their keys, in the order of a walk.
    fn nodes(tree: &Tree) -> Vec<(Vec<u8>, String)> {
        let mut all = Vec::new();
        tree.walk(&mut |path, node| {
            let shown = format!("{:?}", node.shown());
            all.push((path.as_bytes().to_vec(), shown));
        });
        all
    }

    proptest! {
        /// `-` and `.` come before the slash, letters behind it.
        #[test]
        fn a_tree_is_the_same_in_either_order(
            keys in prop::collection::vec(("(/[a.-]{1,3}){1,4}", any::<bool>(), prop::option::of(1u64..5)), 0..40),
        ) {
            let mut tree = Tree::default();
            for (key, dir, dies) in keys {
                // A file may be in the way.
                let _ = tree.put(&KeyPath::from(key.as_str()), node(dir, dies));
            }
            tree.check();
            let mut walked = Vec::new();
            tree.walk(&mut |path, node| walked.push((path.as_bytes().to_vec(), node.clone())));
            let mut sorted = walked.clone();
            sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
            for order in [walked, sorted] {
                let mut builder = Builder::default();
                for (key, mut node) in order {
                    if node.is_dir() {
                        node.change_dir(|dir| *dir = <_>::default());
                    }
                    prop_assert_eq!(builder.push(&key, node), Ok(()));
                }
                let built = builder.finish();
                built.check();
                prop_assert_eq!(nodes(&built), nodes(&tree));
                prop_assert_eq!(built.next_death(), tree.next_death());
            }
        }

        #[test]
        fn any_order_is_taken_or_refused(keys in prop::collection::vec("(/?[a.-]{0,2}){0,4}", 0..20), dirs in any::<u32>()) {
            let mut builder = Builder::default();
            for (place, key) in keys.iter().enumerate() {
                let _ = builder.push(key.as_bytes(), node(dirs >> (place % 32) & 1 == 1, None));
            }
            builder.finish().check();
        }
    }

    #[test]
    fn what_is_not_in_order_is_refused() {
        let mut builder = Builder::default();
        for (key, dir, taken) in [
            ("/b", true, true),
            ("/b/x", false, true),
            ("/b/x/y", false, false),
            ("/b/w", false, false),
            ("/b/x", false, false),
            ("/b/", false, false),
            ("/a", false, false),
            ("/b", true, false),
            ("/c/x", false, false),
            ("", true, false),
            ("c", false, false),
            ("/c", false, true),
            ("/b/y", false, false),
        ] {
            assert_eq!(builder.push(key.as_bytes(), node(dir, None)).is_ok(), taken, "{key}");
        }
        assert_eq!(nodes(&builder.finish()).len(), 3);
    }
}
