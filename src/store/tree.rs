//! Files and directories.
//!
//! Owns: what is where, and when the next node dies. Never knows: indexes to come, who may read.
//! A write copies only the nodes on its path; everything else is shared with older trees.
//! Holds: each directory knows how many nodes and bytes are below it and which node dies first, so that neither the removal of a
//! subtree nor the search for the next death has to walk through it, and the size of the whole is known at any time.

mod builder;
mod children;
mod node;

use std::iter::Peekable;
use std::ops::{Bound, ControlFlow};

use crate::model::{KeyPath, LogTime, Name, Refusal, StoreIndex};
use crate::store::deaths::{Deaths, First};
use crate::store::event::Removed;
use crate::store::tree::children::Children;

pub(super) use builder::{Builder, Misplaced};
pub use node::{Facts, FileValue, Node};

/// What a directory holds.
#[derive(Clone, Debug, Default)]
pub struct Dir {
    children: Children,
    /// How many nodes are below, on all levels.
    nodes: u64,
    /// What they weigh: [`NODE_BYTES`], name and value of each.
    bytes: u64,
    deaths: Deaths,
}

/// What a node weighs beside its name and its value, roughly as in memory and in a checkpoint.
const NODE_BYTES: u64 = 128;

/// What the directories above a node know of it. Nothing of a node that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trace {
    /// The node and all that is below it.
    nodes: u64,
    /// What these weigh, without the node's own name.
    bytes: u64,
    first: Option<First>,
}

impl Trace {
    fn of(node: &Node) -> Self {
        let own = node.expires.map(|at| First { at, below: false });
        let Some(dir) = node.as_dir() else {
            let bytes = NODE_BYTES + node.value().map_or(0, |value| value.len() as u64);
            return Self { nodes: 1, bytes, first: own };
        };
        let below = dir.deaths.next().map(|(first, _)| First { at: first.at, below: true });
        let first = match (own, below) {
            (Some(own), Some(below)) if below.at < own.at => Some(below),
            (own, below) => own.or(below),
        };
        Self { nodes: 1 + dir.nodes, bytes: NODE_BYTES + dir.bytes, first }
    }

    /// What a directory counts for a child of this name.
    fn weight(&self, name: &Name) -> u64 {
        if self.nodes == 0 { 0 } else { self.bytes + name.len() as u64 }
    }
}

impl Dir {
    /// Children by name, in bytewise order.
    pub fn children(&self) -> &Children {
        &self.children
    }

    /// What is known of the child `name` changed.
    fn settle(&mut self, name: &Name, before: Trace, after: Trace) {
        self.nodes = self.nodes - before.nodes + after.nodes;
        self.bytes = self.bytes - before.weight(name) + after.weight(name);
        self.deaths.moved(name, before.first, after.first);
    }

    /// As [`Dir::settle`], of a child that is still there.
    fn child_changed(&mut self, name: &[u8], before: Trace, after: Trace) {
        // Most writes change nothing that the directories above know.
        if before != after {
            let (name, _) = self.children.get_key_value(name).expect("it was there just now");
            let name = Name::clone(name);
            self.settle(&name, before, after);
        }
    }

    /// Panics unless what is known of the children is true, on all levels.
    fn check(&self) {
        let (mut nodes, mut bytes) = (0, 0);
        let mut deaths = Vec::new();
        for (name, child) in &self.children {
            let trace = Trace::of(child);
            nodes += trace.nodes;
            bytes += trace.weight(name);
            deaths.extend(trace.first.map(|first| (first, name)));
            if let Some(dir) = child.as_dir() {
                dir.check();
            }
        }
        assert_eq!(self.nodes, nodes, "a directory must know how many nodes are below it");
        assert_eq!(self.bytes, bytes, "a directory must know what they weigh");
        deaths.sort_by_key(|(_, name)| Name::clone(name));
        let mut known: Vec<_> = self.deaths.iter().collect();
        assert!(known.is_sorted_by_key(|(first, _)| first.at), "the soonest comes first");
        known.sort_by_key(|(_, name)| Name::clone(name));
        assert_eq!(known, deaths, "the deaths and the tree must agree");
    }
}

/// The root directory and all below it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: Node,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: Node::dir(StoreIndex(0), None) }
    }
}

impl Tree {
    /// The node at `path`.
    ///
    /// # Errors
    /// 100 up to the first missing component, 104 with the file in the way.
    pub(super) fn find(&self, path: &KeyPath) -> Result<&Node, Refusal> {
        let mut node = &self.root;
        for (depth, name) in path.names().enumerate() {
            let Some(dir) = node.as_dir() else {
                return Err(Refusal::NotADirectory { path: path.ancestor(depth) });
            };
            node = dir
                .children
                .get(name)
                .ok_or_else(|| Refusal::KeyNotFound { path: path.ancestor(depth + 1) })?;
        }
        Ok(node)
    }

    /// The node at `path`. Calls `visit` with each directory above it that is there, outermost first and without the root, and
    /// with its depth.
    pub(super) fn find_noting(
        &self,
        path: &KeyPath,
        visit: &mut impl FnMut(usize, &Node),
    ) -> Option<&Node> {
        let mut node = &self.root;
        for (depth, name) in path.names().enumerate() {
            if depth > 0 {
                visit(depth, node);
            }
            node = node.child(name)?;
        }
        Some(node)
    }

    /// Changes the node at `path`; the nodes on the way are copied if they are shared.
    ///
    /// # Panics
    /// When there is none, and for the root: ask [`Tree::find`] first.
    pub(super) fn change<T>(&mut self, path: &KeyPath, change: impl FnOnce(&mut Node) -> T) -> T {
        change_below(&mut self.root, &mut path.names().peekable(), change)
    }

    /// Puts `node` at `path` and makes the directories on the way, marked with the node's index.
    ///
    /// # Errors
    /// 104 with the file in the way; then nothing changed.
    pub(super) fn put(&mut self, path: &KeyPath, node: Node) -> Result<(), Refusal> {
        match self.find(path) {
            Ok(_) => self.change(path, |before| *before = node),
            Err(refusal @ Refusal::NotADirectory { .. }) => return Err(refusal),
            Err(_) => {
                let index = node.created;
                self.edit(path, Some(index), |children, name| {
                    children.insert(Name::clone(name), node);
                });
            }
        }
        Ok(())
    }

    /// Takes the node at `path` out, with whatever is below it.
    ///
    /// # Panics
    /// When there is none, and for the root: ask [`Tree::find`] first.
    pub(super) fn remove(&mut self, path: &KeyPath) -> Node {
        self.edit(path, None, |children, name| {
            children.remove(name).expect("find has seen this child")
        })
    }

    /// When the next node dies.
    pub(super) fn next_death(&self) -> Option<LogTime> {
        Trace::of(&self.root).first.map(|first| first.at)
    }

    /// The node that dies first, if its time has come by `now`. Of two that die at the same moment it is the one whose path
    /// comes first in bytewise order.
    pub(super) fn due(&self, now: LogTime) -> Option<KeyPath> {
        let mut path = Vec::new();
        let mut node = &self.root;
        loop {
            let dir = node.as_dir()?;
            let (first, name) = dir.deaths.next()?;
            if first.at > now {
                return None;
            }
            path.push(b'/');
            path.extend_from_slice(name);
            if !first.below {
                return Some(KeyPath::from_stored(&path));
            }
            node = dir.children.get(name)?;
        }
    }

    /// Panics unless every directory knows what is below it. Walks everything.
    pub(super) fn check(&self) {
        if let Some(dir) = self.root.as_dir() {
            dir.check();
        }
    }

    /// Lets `edit` change one name among the children of the directory above `path`. Directories on the way that are missing are
    /// made with the index `make`.
    fn edit<T>(
        &mut self,
        path: &KeyPath,
        make: Option<StoreIndex>,
        edit: impl FnOnce(&mut Children, &Name) -> T,
    ) -> T {
        let names: Vec<_> = path.names().collect();
        edit_below(&mut self.root, &names, make, edit)
    }

    /// Calls `visit` with every node but the root, parents first, names in bytewise order.
    pub(super) fn walk(&self, visit: &mut impl FnMut(&KeyPath, &Node)) {
        walk_below(&KeyPath::root(), &self.root, visit);
    }

    /// The root, for comparing two trees.
    pub(super) fn root(&self) -> &Node {
        &self.root
    }
}

/// What large removals took out of the tree. To drop it gives back memory node by node, a tenth of a second for each few hundred
/// thousand nodes: not on a thread that has something else to do.
#[derive(Clone, Debug, Default)]
pub struct Remains(Vec<Node>);

impl Remains {
    /// What has fewer nodes is dropped at once.
    const NODES_MIN: u64 = 1000;

    /// Is there nothing to be dropped?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what is in `others`.
    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub(super) fn bury(&mut self, node: Node) {
        if node.nodes_below() >= Self::NODES_MIN {
            self.0.push(node);
        }
    }
}

/// Changes a node that is there, which leaves the names in the directories on the way as they are: a search for each name does.
fn change_below<'a, T>(
    node: &mut Node,
    names: &mut Peekable<impl Iterator<Item = &'a [u8]>>,
    change: impl FnOnce(&mut Node) -> T,
) -> T {
    let name = names.next().expect("the root is never changed");
    node.change_dir(|dir| {
        let child = dir.children.get_mut(name).expect("find has seen this child");
        let before = Trace::of(child);
        let done = match names.peek() {
            Some(_) => change_below(child, names, change),
            None => change(child),
        };
        let after = Trace::of(child);
        dir.child_changed(name, before, after);
        done
    })
}

fn edit_below<T>(
    node: &mut Node,
    names: &[&[u8]],
    make: Option<StoreIndex>,
    edit: impl FnOnce(&mut Children, &Name) -> T,
) -> T {
    let (name, rest) = names.split_first().expect("the root is never edited");
    node.change_dir(|dir| {
        if !rest.is_empty()
            && let Some(child) = dir.children.get_mut(name)
        {
            let before = Trace::of(child);
            let done = edit_below(child, rest, make, edit);
            let after = Trace::of(child);
            dir.child_changed(name, before, after);
            return done;
        }
        let known = dir.children.get_key_value(name);
        let before = known.map_or_else(Trace::default, |(_, child)| Trace::of(child));
        let name = known.map_or_else(|| Name::from(*name), |(name, _)| Name::clone(name));
        let done = if rest.is_empty() {
            edit(&mut dir.children, &name)
        } else {
            let index = make.expect("find has seen each directory on the way");
            let mut child = Node::dir(index, None);
            let done = edit_below(&mut child, rest, make, edit);
            dir.children.insert(Name::clone(&name), child);
            done
        };
        let after = dir.children.get(&name).map_or_else(Trace::default, Trace::of);
        dir.settle(&name, before, after);
        done
    })
}

/// Calls `visit` with every node below `node`, which stands at `path`; parents first.
pub(super) fn walk_below(path: &KeyPath, node: &Node, visit: &mut impl FnMut(&KeyPath, &Node)) {
    if let Some(dir) = node.as_dir() {
        for (name, child) in &dir.children {
            let child_path = path.child(name);
            visit(&child_path, child);
            walk_below(&child_path, child, visit);
        }
    }
}

/// Calls `visit` with every node below `node`, which stands at `path`, that comes behind the one which `after` leads to,
/// until it breaks. `after` is relative to `path`; with nothing in it all nodes are visited.
pub(super) fn walk_after(
    path: &KeyPath,
    node: &Node,
    after: &[&[u8]],
    visit: &mut impl FnMut(&KeyPath, &Node) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some(dir) = node.as_dir() else { return ControlFlow::Continue(()) };
    let from = match after.split_first() {
        Some((name, rest)) => {
            if let Some(child) = dir.children.get(name) {
                walk_after(&path.child(name), child, rest, visit)?;
            }
            Bound::Excluded(*name)
        }
        None => Bound::Unbounded,
    };
    for (name, child) in dir.children.range_from(from) {
        let child_path = path.child(name);
        visit(&child_path, child)?;
        walk_after(&child_path, child, &[], visit)?;
    }
    ControlFlow::Continue(())
}

/// The paths below a directory that is being removed, relative to it.
pub(super) fn removed_below(dir: &Node) -> Removed {
    let nodes = dir.nodes_below();
    if nodes == 0 {
        return Removed::Nothing;
    }
    if nodes > Removed::PATHS_MAX as u64 {
        return Removed::Many;
    }
    let (mut paths, mut bytes_left) = (Vec::new(), Removed::BYTES_MAX);
    if collect_below(dir, &mut Vec::new(), &mut paths, &mut bytes_left).is_break() {
        return Removed::Many;
    }
    paths.sort_unstable();
    Removed::Paths(paths.into())
}

/// Breaks when there are more bytes than may be.
fn collect_below(
    node: &Node,
    rest: &mut Vec<u8>,
    paths: &mut Vec<Box<[u8]>>,
    bytes_left: &mut usize,
) -> ControlFlow<()> {
    let Some(dir) = node.as_dir() else { return ControlFlow::Continue(()) };
    for (name, child) in &dir.children {
        let length = rest.len();
        rest.push(b'/');
        rest.extend_from_slice(name);
        let Some(left) = bytes_left.checked_sub(rest.len()) else { return ControlFlow::Break(()) };
        *bytes_left = left;
        paths.push(Box::from(&rest[..]));
        collect_below(child, rest, paths, bytes_left)?;
        rest.truncate(length);
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_with(count: usize) -> Node {
        let leaf = || Node::file(StoreIndex(1), None, b"");
        let mut tree = Tree::default();
        for n in 0..count {
            tree.put(&KeyPath::from(format!("/{n:06}").as_str()), leaf())
                .expect("nothing is there");
        }
        tree.check();
        Node::clone(&tree.root)
    }

    #[test]
    fn removed_nodes_are_listed_up_to_the_limit_and_many_beyond_it() {
        let Removed::Paths(paths) = removed_below(&dir_with(Removed::PATHS_MAX)) else {
            panic!("as many as may be listed");
        };
        assert_eq!(paths.len(), Removed::PATHS_MAX);
        assert!(paths.is_sorted());
        assert_eq!(removed_below(&dir_with(Removed::PATHS_MAX + 1)), Removed::Many);
        assert_eq!(removed_below(&dir_with(0)), Removed::Nothing);
    }

    #[test]
    fn the_limit_of_removed_nodes_counts_all_levels() {
        let mut tree = Tree { root: dir_with(1) };
        tree.put(&KeyPath::from("/inner"), dir_with(Removed::PATHS_MAX - 1)).expect("it is free");
        assert_eq!(removed_below(&tree.root), Removed::Many);
        tree.remove(&KeyPath::from("/000000"));
        let removed = removed_below(&tree.root);
        assert!(matches!(removed, Removed::Paths(_)));
        assert!(removed.contains(b"/inner") && removed.contains(b"/inner/000007"));
        assert!(!removed.contains(b"/000000") && !removed.contains(b"/inner/"));
    }

    #[test]
    fn the_limit_of_removed_nodes_counts_the_bytes_of_long_paths() {
        let mut tree = Tree::default();
        let deep = "/directory-with-a-long-name".repeat(500);
        let put = |tree: &mut Tree, n: u64| {
            let path = KeyPath::from(format!("/d{deep}/{n}").as_str());
            let node = Node::file(StoreIndex(1), None, b"");
            tree.put(&path, node).expect("nothing is in the way");
        };
        put(&mut tree, 0);
        let dir = KeyPath::from("/d");
        let Removed::Paths(paths) = removed_below(tree.find(&dir).expect("it is there")) else {
            panic!("the chain of directories is short enough");
        };
        let chain: usize = paths.iter().map(|path| path.len()).sum();
        let room = (Removed::BYTES_MAX - chain) / deep.len();
        for n in 0..=room as u64 + 1 {
            put(&mut tree, n);
        }
        let removed = removed_below(tree.find(&dir).expect("it is there"));
        assert!(removed == Removed::Many, "they take more bytes than may be listed");
    }

    #[test]
    fn of_two_that_die_at_once_the_path_decides_byte_by_byte() {
        let mut tree = Tree::default();
        let keys = ["/a.b", "/a/x", "/a", "/a0", "/b/y/z", "/b/y"];
        for key in keys.iter().filter(|key| **key != "/a" && **key != "/b/y") {
            let node = Node::file(StoreIndex(1), Some(LogTime(5)), b"");
            tree.put(&KeyPath::from(*key), node).expect("nothing is in the way");
        }
        for dir in ["/a", "/b/y"] {
            tree.change(&KeyPath::from(dir), |node| {
                node.change(|facts| facts.expires = Some(LogTime(5)));
            });
        }
        tree.check();
        assert_eq!((tree.next_death(), tree.due(LogTime(4))), (Some(LogTime(5)), None));
        let mut died = Vec::new();
        while let Some(path) = tree.due(LogTime(5)) {
            // Only the node itself: what is below it dies on its own here.
            if tree.find(&path).is_ok_and(Node::is_dir) {
                tree.change(&path, |node| node.change(|facts| facts.expires = None));
            } else {
                tree.remove(&path);
            }
            tree.check();
            died.push(path);
        }
        let mut sorted = keys.map(KeyPath::from);
        sorted.sort();
        assert_eq!(died, sorted);
    }
}
