//! The answer to a read, in blocks: however large a directory is, its listing never stands in memory as a whole.
//!
//! Owns: where rendering stands between two blocks. Never knows: who takes the blocks, and on which thread they are made.
//! Holds: all blocks together are one answer, of one state of the store, whatever happens meanwhile.
//!
//! Between two blocks only names are kept: the way from the listed directory down to the last node that was rendered. The next
//! block goes down that way again; the tree it walks never changes.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;

use crate::api::keys::render::{self, When};
use crate::model::{KeyPath, Name};
use crate::raft::View;
use crate::store::Node;

/// An answer that is being rendered.
pub(super) struct Listing {
    view: Arc<View>,
    path: KeyPath,
    recursive: bool,
    when: When,
    /// The last node that was rendered, below the listed one.
    last: Vec<Name>,
    /// It is a directory and none of what is in it was rendered yet; else all of it was.
    entered: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begin,
    Middle,
    End,
}

impl Listing {
    /// The first block of the answer for `node`, which is at `path` in `view`, and what renders the others if there are any. A file is
    /// always rendered whole.
    pub(super) fn begin(
        view: &Arc<View>,
        node: &Node,
        path: KeyPath,
        recursive: bool,
        when: When,
        bytes: usize,
    ) -> (Bytes, Option<Self>) {
        if !node.is_dir() {
            return (render::file(&path, node, when), None);
        }
        let (view, last, state) = (Arc::clone(view), Vec::new(), State::Begin);
        let mut listing = Self { view, path, recursive, when, last, entered: false, state };
        let first = listing.next_block(bytes);
        let rest = if listing.is_done() { None } else { Some(listing) };
        (first, rest)
    }

    /// Is everything rendered?
    pub(super) fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// The next block: about `bytes`, and no more than one node beyond that.
    pub(super) fn next_block(&mut self, bytes: usize) -> Bytes {
        let view = Arc::clone(&self.view);
        let listed = view.store.get(&self.path).outcome;
        let listed = listed.expect("it was there, and a view never changes");
        let begins = self.state == State::Begin;
        // Most listings are of a few keys.
        let mut out = Vec::with_capacity(256 + if begins { 0 } else { bytes });
        let mut key = self.path.as_bytes().to_vec();
        if begins {
            self.state = State::Middle;
            render::open(&mut out, "get");
            render::node_begin(&mut out, &key, listed, self.when);
        }
        let behind = std::mem::take(&mut self.last);
        if self
            .children(&mut Block { out: &mut out, bytes }, &mut key, listed, &behind)
            .is_continue()
        {
            self.state = State::End;
            render::node_end(&mut out, listed);
            out.extend_from_slice(b"}\n");
        }
        Bytes::from(out)
    }

    /// Renders what is in `node` behind the one that `behind` leads to; `key` is the path of `node`, and comes back as it was
    /// unless the block is full.
    fn children(
        &mut self,
        block: &mut Block<'_>,
        key: &mut Vec<u8>,
        node: &Node,
        behind: &[Name],
    ) -> ControlFlow<()> {
        let length = key.len();
        let mut from = Bound::Unbounded;
        if let Some((name, rest)) = behind.split_first() {
            from = Bound::Excluded(&**name);
            let inside = !rest.is_empty() || std::mem::take(&mut self.entered);
            if let Some(child) = node.child(name).filter(|_| inside) {
                self.enter(key, name);
                self.children(block, key, child, rest)?;
                self.leave(block, key, length, child)?;
            }
        }
        let mut first = behind.is_empty();
        for (name, child) in node.visible_children_from(from) {
            block.out.extend_from_slice(if first { b",\"nodes\":[" } else { b"," });
            first = false;
            self.enter(key, name);
            render::node_begin(block.out, key, child, self.when);
            if self.recursive && child.is_dir() {
                if block.is_full() {
                    self.entered = true;
                    return ControlFlow::Break(());
                }
                self.children(block, key, child, &[])?;
            }
            self.leave(block, key, length, child)?;
        }
        if !first {
            block.out.push(b']');
        }
        ControlFlow::Continue(())
    }

    fn enter(&mut self, key: &mut Vec<u8>, name: &Name) {
        key.push(b'/');
        key.extend_from_slice(name);
        self.last.push(Name::clone(name));
    }

    /// `child` is done; so is the block, if it is full.
    fn leave(
        &mut self,
        block: &mut Block<'_>,
        key: &mut Vec<u8>,
        length: usize,
        child: &Node,
    ) -> ControlFlow<()> {
        render::node_end(block.out, child);
        if block.is_full() {
            return ControlFlow::Break(());
        }
        key.truncate(length);
        self.last.pop();
        ControlFlow::Continue(())
    }
}

struct Block<'a> {
    out: &'a mut Vec<u8>,
    bytes: usize,
}

impl Block<'_> {
    fn is_full(&self) -> bool {
        self.out.len() >= self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{LogPosition, LogTime, Ttl, WallOffset};
    use crate::store::{Command, HistoryLimits, Store, Write};

    /// The whole answer in one go, written down as plainly as possible.
    fn at_once(out: &mut Vec<u8>, key: &[u8], node: &Node, levels: usize, when: When) {
        render::node_begin(out, key, node, when);
        if levels > 0 {
            let children: Vec<_> = node.visible_children().collect();
            for (place, (name, child)) in children.iter().enumerate() {
                out.extend_from_slice(if place == 0 { b",\"nodes\":[" } else { b"," });
                at_once(out, &[key, b"/", name].concat(), child, levels - 1, when);
            }
            if !children.is_empty() {
                out.push(b']');
            }
        }
        render::node_end(out, node);
    }

    fn view(keys: &[(String, bool)]) -> Arc<View> {
        let mut store = Store::new(HistoryLimits { events_max: 10, bytes_max: 1 << 20 });
        for (n, (key, dir)) in keys.iter().enumerate() {
            let value = "v".repeat(n % 7).into_bytes().into();
            let ttl = Ttl::from_s(100).filter(|_| n % 3 == 0);
            let write = Write { value, dir: *dir, ttl, refresh: false };
            store.apply(LogTime(1), &Command::Set { path: KeyPath::from(key.as_str()), write });
        }
        Arc::new(View { store, position: LogPosition::default() })
    }

    proptest! {
        #[test]
        fn blocks_of_any_size_make_the_same_answer(
            keys in prop::collection::vec(("(/[ab_-]{1,2}){1,4}", any::<bool>()), 0..40),
            listed in "(/[ab]{1,2}){0,2}",
            recursive: bool,
            sizes in prop::collection::vec(1usize..200, 1..5),
        ) {
            let view = view(&keys);
            let path = KeyPath::from(listed.as_str());
            let Ok(node) = view.store.get(&path).outcome else { return Ok(()) };
            let when = When { now: LogTime(2), offset: WallOffset(3) };
            let mut expected = b"{\"action\":\"get\",\"node\":".to_vec();
            let levels = if recursive { usize::MAX } else { 1 };
            at_once(&mut expected, path.as_bytes(), node, levels, when);
            expected.extend_from_slice(b"}\n");

            let mut sizes = sizes.into_iter().cycle();
            let mut size = || sizes.next().expect("it is a cycle");
            let (first, mut rest) = Listing::begin(&view, node, path, recursive, when, size());
            prop_assert!(!first.is_empty());
            let mut answer = first.to_vec();
            while let Some(listing) = rest.as_mut().filter(|listing| !listing.is_done()) {
                let block = listing.next_block(size());
                prop_assert!(!block.is_empty());
                answer.extend_from_slice(&block);
            }
            prop_assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(&expected));
        }
    }

    #[test]
    fn a_block_ends_with_the_node_that_fills_it() {
        let keys: Vec<_> = (0..1000).map(|n| (format!("/d/{n:04}"), false)).collect();
        let when = When { now: LogTime(2), offset: WallOffset(0) };
        let (view, root) = (view(&keys), KeyPath::root());
        let node = view.store.get(&root).outcome.expect("the root is there");
        let (mut block, rest) = Listing::begin(&view, node, root, true, when, 4096);
        let mut listing = rest.expect("there are more");
        loop {
            assert!(block.len() < 4096 + 200, "{} bytes", block.len());
            if listing.is_done() {
                break;
            }
            block = listing.next_block(4096);
        }
    }
}
