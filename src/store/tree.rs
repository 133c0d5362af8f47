//! Files and directories.
//!
//! Owns: what is where. Never knows: deadlines' order, indexes to come, who may read.
//! A write copies only the nodes on its path; everything else is shared with older trees.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use imbl::OrdMap;

use crate::model::{KEYS_PREFIX_HIDDEN, KeyPath, LogTime, Name, Refusal, StoreIndex, Value};
use crate::store::event::{Removed, Shown};

/// A file or a directory.
#[derive(Clone, Debug)]
pub struct Node {
    /// Wire: `createdIndex`.
    pub created: StoreIndex,
    /// Wire: `modifiedIndex`.
    pub modified: StoreIndex,
    /// When it dies.
    pub expires: Option<LogTime>,
    /// What it holds.
    pub content: Content,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// A value.
    File(Value),
    /// Children by name, in bytewise order.
    Dir(OrdMap<Name, Link>),
}

/// A shared node. Two links are equal when they are the same node, which makes comparing two trees cheap.
#[derive(Clone, Debug)]
pub struct Link(Arc<Node>);

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::ops::Deref for Link {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.0
    }
}

impl Node {
    /// An empty directory.
    pub(super) fn dir(created: StoreIndex, expires: Option<LogTime>) -> Self {
        Self { created, modified: created, expires, content: Content::Dir(OrdMap::new()) }
    }

    /// A file.
    pub(super) fn file(created: StoreIndex, expires: Option<LogTime>, value: Value) -> Self {
        Self { created, modified: created, expires, content: Content::File(value) }
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        matches!(self.content, Content::Dir(_))
    }

    /// A file's value.
    pub fn value(&self) -> Option<&Value> {
        match &self.content {
            Content::File(value) => Some(value),
            Content::Dir(_) => None,
        }
    }

    /// A child, hidden or not.
    pub fn child(&self, name: &[u8]) -> Option<&Self> {
        match &self.content {
            Content::Dir(children) => children.get(name).map(|link| &**link),
            Content::File(_) => None,
        }
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
        let children = match &self.content {
            Content::Dir(children) => Some(children.range::<_, [u8]>((from, Bound::Unbounded))),
            Content::File(_) => None,
        };
        let shown = |name: &Name| name.first() != Some(&KEYS_PREFIX_HIDDEN);
        children
            .into_iter()
            .flatten()
            .filter(move |(name, _)| shown(name))
            .map(|(name, link)| (name, &**link))
    }

    /// As an event shows it.
    pub(super) fn shown(&self) -> Shown {
        Shown {
            value: self.value().cloned(),
            dir: self.is_dir(),
            modified: self.modified,
            created: self.created,
            expires: self.expires,
        }
    }

    fn children_mut(&mut self) -> Option<&mut OrdMap<Name, Link>> {
        match &mut self.content {
            Content::Dir(children) => Some(children),
            Content::File(_) => None,
        }
    }
}

/// The root directory and all below it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: Link,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: Link(Arc::new(Node::dir(StoreIndex(0), None))) }
    }
}

impl Tree {
    /// The node at `path`.
    ///
    /// # Errors
    /// 100 up to the first missing component, 104 with the file in the way.
    pub(super) fn find(&self, path: &KeyPath) -> Result<&Node, Refusal> {
        let mut node = &*self.root;
        for (depth, name) in path.names().enumerate() {
            let Content::Dir(children) = &node.content else {
                return Err(Refusal::NotADirectory { path: path.ancestor(depth) });
            };
            node = children
                .get(name)
                .ok_or_else(|| Refusal::KeyNotFound { path: path.ancestor(depth + 1) })?;
        }
        Ok(node)
    }

    /// The node at `path`, to be changed; the nodes on the way are copied if they are shared.
    ///
    /// # Panics
    /// When there is none: ask [`Tree::find`] first.
    pub(super) fn find_mut(&mut self, path: &KeyPath) -> &mut Node {
        let mut node = Arc::make_mut(&mut self.root.0);
        for name in path.names() {
            let children = node.children_mut().expect("find has seen directories all the way");
            let link = children.get_mut(name).expect("find has seen this child");
            node = Arc::make_mut(&mut link.0);
        }
        node
    }

    /// Puts `node` at `path` and makes the directories on the way, marked with the node's index.
    ///
    /// # Errors
    /// 104 with the file in the way; then nothing changed.
    pub(super) fn put(&mut self, path: &KeyPath, node: Node) -> Result<(), Refusal> {
        if let Err(refusal @ Refusal::NotADirectory { .. }) = self.find(path) {
            return Err(refusal);
        }
        let (dir, name) = path.split_last().expect("the root is never put");
        let index = node.created;
        let mut at = Arc::make_mut(&mut self.root.0);
        for name in dir.names() {
            let children = at.children_mut().expect("find has seen no file in the way");
            if !children.contains_key(name) {
                children.insert(Name::from(name), Link(Arc::new(Node::dir(index, None))));
            }
            let link = children.get_mut(name).expect("it is there or was just put there");
            at = Arc::make_mut(&mut link.0);
        }
        let children = at.children_mut().expect("find has seen no file in the way");
        match children.get_mut(name) {
            Some(link) => *link = Link(Arc::new(node)),
            None => {
                children.insert(Name::from(name), Link(Arc::new(node)));
            }
        }
        Ok(())
    }

    /// Takes the node at `path` out, with whatever is below it.
    ///
    /// # Panics
    /// When there is none: ask [`Tree::find`] first.
    pub(super) fn remove(&mut self, path: &KeyPath) -> Link {
        let (dir, name) = path.split_last().expect("the root is never removed");
        let children = self.find_mut(&dir).children_mut().expect("the parent is a directory");
        children.remove(name).expect("find has seen this child")
    }

    /// Calls `visit` with every node but the root, parents first, names in bytewise order.
    pub(super) fn walk(&self, visit: &mut impl FnMut(&KeyPath, &Node)) {
        walk_below(&KeyPath::root(), &self.root, visit);
    }

    /// The root, for comparing two trees.
    pub(super) fn root(&self) -> &Link {
        &self.root
    }
}

/// Calls `visit` with every node below `node`, which stands at `path`; parents first.
pub(super) fn walk_below(path: &KeyPath, node: &Node, visit: &mut impl FnMut(&KeyPath, &Node)) {
    if let Content::Dir(children) = &node.content {
        for (name, child) in children {
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
    let Content::Dir(children) = &node.content else { return ControlFlow::Continue(()) };
    let from = match after.split_first() {
        Some((name, rest)) => {
            if let Some(child) = children.get(*name) {
                walk_after(&path.child(name), child, rest, visit)?;
            }
            Bound::Excluded(*name)
        }
        None => Bound::Unbounded,
    };
    for (name, child) in children.range::<_, [u8]>((from, Bound::Unbounded)) {
        let child_path = path.child(name);
        visit(&child_path, child)?;
        walk_after(&child_path, child, &[], visit)?;
    }
    ControlFlow::Continue(())
}

/// The paths below a directory that is being removed, relative to it.
pub(super) fn removed_below(dir: &Node) -> Removed {
    let mut paths = Vec::new();
    let mut rest = Vec::new();
    if !collect_below(dir, &mut rest, &mut paths) {
        return Removed::Many;
    }
    if paths.is_empty() {
        return Removed::Nothing;
    }
    paths.sort_unstable();
    Removed::Paths(paths.into())
}

/// `false` when there are too many.
fn collect_below(node: &Node, rest: &mut Vec<u8>, paths: &mut Vec<Box<[u8]>>) -> bool {
    let Content::Dir(children) = &node.content else { return true };
    for (name, child) in children {
        if paths.len() == Removed::PATHS_MAX {
            return false;
        }
        let length = rest.len();
        rest.push(b'/');
        rest.extend_from_slice(name);
        paths.push(Box::from(&rest[..]));
        let few = collect_below(child, rest, paths);
        rest.truncate(length);
        if !few {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_with(count: usize) -> Node {
        let leaf = Link(Arc::new(Node::file(StoreIndex(1), None, Value::from(&b""[..]))));
        let name = |n: usize| Name::from(format!("{n:06}").as_bytes());
        let mut dir = Node::dir(StoreIndex(1), None);
        dir.content = Content::Dir((0..count).map(|n| (name(n), leaf.clone())).collect());
        dir
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
        let mut outer = dir_with(1);
        let inner = Link(Arc::new(dir_with(Removed::PATHS_MAX - 1)));
        let Content::Dir(children) = &mut outer.content else { panic!("it is a directory") };
        children.insert(Name::from(&b"inner"[..]), inner);
        assert_eq!(removed_below(&outer), Removed::Many);
        let Content::Dir(children) = &mut outer.content else { panic!("it is a directory") };
        children.remove(&b"000000"[..]);
        let removed = removed_below(&outer);
        assert!(matches!(removed, Removed::Paths(_)));
        assert!(removed.contains(b"/inner") && removed.contains(b"/inner/000007"));
        assert!(!removed.contains(b"/000000") && !removed.contains(b"/inner/"));
    }
}
