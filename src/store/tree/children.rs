//! The children of a directory by name: a B+ tree whose parts are shared by all copies until one of them changes.
//!
//! A part takes as much memory as what it holds, and a directory that is filled in the order of its names, as counters and dates
//! fill it, has full parts. In a library's map a leaf has room for sixteen, and eight in it when it was filled so (ADR 39).
//!
//! Holds: all leaves are equally deep, none is empty, and names rise from left to right.

use std::fmt;
use std::iter::once;
use std::ops::Bound;
use std::slice;
use std::sync::Arc;

use crate::model::{Name, Sought};
use crate::store::tree::Node;

/// Children in a leaf. With two counters they fill the allocator's class of 256 bytes. A write copies a leaf, and counts one more
/// holder of each node in it: more children would take more time, fewer would take more memory.
const LEAF_MAX: usize = 10;

/// Parts in an inner part; with two counters they fill the class of 512 bytes.
const INNER_MAX: usize = 12;

/// Children by name, in bytewise order. A copy takes no time: it shares all parts.
#[derive(Clone, Default)]
pub struct Children {
    root: Option<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Leaf(Arc<[(Name, Node)]>),
    /// Each part with a name that is greater than all before it and not greater than any in it. That of the first says nothing.
    Inner(Arc<[(Name, Part)]>),
}

/// The children in order, from one on.
#[derive(Clone, Debug, Default)]
pub struct Iter<'a> {
    leaf: slice::Iter<'a, (Name, Node)>,
    /// What comes behind it, from the root down.
    behind: Vec<slice::Iter<'a, (Name, Part)>>,
}

impl Children {
    /// The child of this name.
    pub fn get(&self, name: &[u8]) -> Option<&Node> {
        self.get_key_value(name).map(|(_, node)| node)
    }

    /// The same, with the name as it is kept.
    pub fn get_key_value(&self, name: &[u8]) -> Option<(&Name, &Node)> {
        let (mut part, name) = (self.root.as_ref()?, Sought::from(name));
        loop {
            match part {
                Part::Inner(parts) => part = &parts[part_of(parts, name)].1,
                Part::Leaf(children) => {
                    let (name, node) = &children[child_at(children, name).ok()?];
                    return Some((name, node));
                }
            }
        }
    }

    /// The child of this name, to be changed in this copy alone.
    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Node> {
        let (mut part, name) = (self.root.as_mut()?, Sought::from(name));
        loop {
            match part {
                Part::Inner(parts) => {
                    let at = part_of(parts, name);
                    part = &mut Arc::make_mut(parts)[at].1;
                }
                Part::Leaf(children) => {
                    let at = child_at(children, name).ok()?;
                    return Some(&mut Arc::make_mut(children)[at].1);
                }
            }
        }
    }

    /// Puts a child in, in place of one of the same name.
    pub(super) fn insert(&mut self, name: Name, node: Node) {
        let Some(root) = &mut self.root else {
            self.root = Some(Part::Leaf(Arc::from([(name, node)])));
            return;
        };
        if let Some(right) = root.insert(name, node, true) {
            let left = (Name::clone(&right.0), root.clone());
            *root = Part::Inner(Arc::from([left, right]));
        }
    }

    /// Takes the child of this name out.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Node> {
        let root = self.root.as_mut()?;
        let removed = root.remove(Sought::from(name));
        while let Part::Inner(parts) = root
            && let [(_, only)] = &**parts
        {
            *root = only.clone();
        }
        if root.count() == 0 {
            self.root = None;
        }
        removed
    }

    /// All children.
    pub fn iter(&self) -> Iter<'_> {
        self.range_from(Bound::Unbounded)
    }

    /// Those from a name on.
    pub fn range_from(&self, from: Bound<&[u8]>) -> Iter<'_> {
        let mut behind = Vec::new();
        let from = from.map(Sought::from);
        let Some(mut part) = self.root.as_ref() else { return Iter::default() };
        loop {
            match part {
                Part::Inner(parts) => {
                    let at = match from {
                        Bound::Included(name) | Bound::Excluded(name) => part_of(parts, name),
                        Bound::Unbounded => 0,
                    };
                    behind.push(parts[at + 1..].iter());
                    part = &parts[at].1;
                }
                Part::Leaf(children) => {
                    let at = match from {
                        Bound::Included(name) => child_at(children, name).unwrap_or_else(|at| at),
                        Bound::Excluded(name) => {
                            child_at(children, name).map_or_else(|at| at, |at| at + 1)
                        }
                        Bound::Unbounded => 0,
                    };
                    return Iter { leaf: children[at..].iter(), behind };
                }
            }
        }
    }
}

impl fmt::Debug for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Children {
    type Item = (&'a Name, &'a Node);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Name, &'a Node);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((name, node)) = self.leaf.next() {
                return Some((name, node));
            }
            match self.behind.last_mut()?.next() {
                Some((_, Part::Inner(parts))) => self.behind.push(parts.iter()),
                Some((_, Part::Leaf(children))) => self.leaf = children.iter(),
                None => {
                    self.behind.pop();
                }
            }
        }
    }
}

/// Which part a name is in, if it is there.
fn part_of(parts: &[(Name, Part)], name: Sought<'_>) -> usize {
    parts[1..].partition_point(|(first, _)| name.order_of(first).is_le())
}

/// Where a name is in a leaf, or would be.
fn child_at(children: &[(Name, Node)], name: Sought<'_>) -> Result<usize, usize> {
    children.binary_search_by(|(known, _)| name.order_of(known))
}

impl Part {
    /// How many children or parts are in it, on its own level.
    fn count(&self) -> usize {
        match self {
            Self::Leaf(children) => children.len(),
            Self::Inner(parts) => parts.len(),
        }
    }

    /// Puts a child in. Returns what did not fit, which stands to the right of this part, with its name. `last`: nothing stands to
    /// the right of this part yet.
    fn insert(&mut self, name: Name, node: Node, last: bool) -> Option<(Name, Self)> {
        match self {
            Self::Leaf(children) => match child_at(children, Sought::from(&*name)) {
                Ok(at) => {
                    Arc::make_mut(children)[at].1 = node;
                    None
                }
                Err(at) => {
                    let right = put(children, at, (name, node), LEAF_MAX, last)?;
                    Some((Name::clone(&right[0].0), Self::Leaf(right)))
                }
            },
            Self::Inner(parts) => {
                let at = part_of(parts, Sought::from(&*name));
                let last = last && at + 1 == parts.len();
                let split_off = Arc::make_mut(parts)[at].1.insert(name, node, last)?;
                let right = put(parts, at + 1, split_off, INNER_MAX, last)?;
                Some((Name::clone(&right[0].0), Self::Inner(right)))
            }
        }
    }

    /// Takes a child out. What is left of this part may be empty.
    fn remove(&mut self, name: Sought<'_>) -> Option<Node> {
        match self {
            Self::Leaf(children) => {
                let at = child_at(children, name).ok()?;
                let removed = Node::clone(&children[at].1);
                *children = join([&children[..at], &children[at + 1..]]);
                Some(removed)
            }
            Self::Inner(parts) => {
                let at = part_of(parts, name);
                let removed = Arc::make_mut(parts)[at].1.remove(name);
                tidy(parts, at);
                removed
            }
        }
    }

    /// This part and the one to its right, whose name is `first`, in one; `None` when that is too much for one.
    fn joined(&self, first: &Name, right: &Self) -> Option<Self> {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => (left.len() + right.len() <= LEAF_MAX)
                .then(|| Self::Leaf(join([&left[..], &right[..]]))),
            (Self::Inner(left), Self::Inner(right)) => {
                (left.len() + right.len() <= INNER_MAX).then(|| {
                    // The name of a first part says nothing; now it is no first one.
                    let named = (Name::clone(first), right[0].1.clone());
                    Self::Inner(join([&left[..], &[named], &right[1..]]))
                })
            }
            (Self::Leaf(_), Self::Inner(_)) | (Self::Inner(_), Self::Leaf(_)) => {
                unreachable!("parts beside each other are equally deep")
            }
        }
    }
}

/// Puts `item` into `items`; returns the right half when there would be more than `max`. At the `last` end of a directory the left
/// part stays full: the next name will come behind this one too.
fn put<T: Clone>(
    items: &mut Arc<[T]>,
    at: usize,
    item: T,
    max: usize,
    last: bool,
) -> Option<Arc<[T]>> {
    if items.len() < max {
        let (before, behind) = items.split_at(at);
        let all = before.iter().cloned().chain(once(item)).chain(behind.iter().cloned());
        *items = all.collect();
        return None;
    }
    if last && at == items.len() {
        return Some(Arc::from([item]));
    }
    let mut left = Vec::with_capacity(items.len() + 1);
    left.extend_from_slice(items);
    left.insert(at, item);
    let right = left.split_off(left.len().div_ceil(2));
    *items = Arc::from(left);
    Some(Arc::from(right))
}

fn join<T: Clone, const N: usize>(pieces: [&[T]; N]) -> Arc<[T]> {
    let mut all = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    pieces.into_iter().for_each(|piece| all.extend_from_slice(piece));
    Arc::from(all)
}

/// Something was taken out of the part at `at`: an empty one goes, and a small one is joined with one beside it.
fn tidy(parts: &mut Arc<[(Name, Part)]>, at: usize) {
    let max = match &parts[at].1 {
        Part::Leaf(_) => LEAF_MAX,
        Part::Inner(_) => INNER_MAX,
    };
    let count = parts[at].1.count();
    if count == 0 {
        *parts = join([&parts[..at], &parts[at + 1..]]);
        return;
    }
    if count > max / 3 {
        return;
    }
    let beside = [at.checked_sub(1), Some(at)].into_iter().flatten();
    for left in beside.filter(|left| left + 1 < parts.len()) {
        let (name, part) = &parts[left];
        let (first, right) = &parts[left + 1];
        if let Some(joined) = part.joined(first, right) {
            let joined = (Name::clone(name), joined);
            *parts = join([&parts[..left], &[joined], &parts[left + 2..]]);
            return;
        }
    }
}

/// Makes the children of a directory from the bottom up, as they come in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Filler {
    leaf: Vec<(Name, Node)>,
    /// Parts that have no part above them yet, by level.
    levels: Vec<Vec<(Name, Part)>>,
    /// The greatest name so far.
    last: Option<Name>,
    /// Those that came behind a greater one.
    late: Vec<(Name, Node)>,
}

impl Filler {
    pub(super) fn push(&mut self, name: Name, node: Node) {
        if self.last.as_ref().is_some_and(|last| *last >= name) {
            self.late.push((name, node));
            return;
        }
        self.last = Some(Name::clone(&name));
        self.leaf.push((name, node));
        if self.leaf.len() == LEAF_MAX
            && let Some(leaf) = self.take_leaf()
        {
            self.raise(leaf);
        }
    }

    fn take_leaf(&mut self) -> Option<(Name, Part)> {
        let first = Name::clone(&self.leaf.first()?.0);
        Some((first, Part::Leaf(self.leaf.drain(..).collect())))
    }

    /// Puts a part where those of its level are; as many as fill one above make that one.
    fn raise(&mut self, mut part: (Name, Part)) {
        for level in &mut self.levels {
            level.push(part);
            if level.len() < INNER_MAX {
                return;
            }
            let Some(above) = inner_of(level) else { return };
            part = above;
        }
        self.levels.push(vec![part]);
    }

    pub(super) fn finish(mut self) -> Children {
        let mut part = self.take_leaf();
        let levels = self.levels.len();
        for (level, parts) in self.levels.iter_mut().enumerate() {
            parts.extend(part);
            // The top of a tree has more than one part.
            let is_root = level + 1 == levels && parts.len() == 1;
            part = if is_root { parts.pop() } else { inner_of(parts) };
        }
        let mut children = Children { root: part.map(|(_, root)| root) };
        self.late.into_iter().for_each(|(name, node)| children.insert(name, node));
        children
    }
}

fn inner_of(parts: &mut Vec<(Name, Part)>) -> Option<(Name, Part)> {
    let first = Name::clone(&parts.first()?.0);
    Some((first, Part::Inner(parts.drain(..).collect())))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::model::StoreIndex;

    type Plain = BTreeMap<Vec<u8>, u64>;

    fn node(modified: u64) -> Node {
        Node::file(StoreIndex(modified), None, b"v")
    }

    fn name(number: usize) -> Name {
        Name::from(format!("{number:06}").as_bytes())
    }

    fn plain<'a>(children: impl IntoIterator<Item = (&'a Name, &'a Node)>) -> Vec<(Vec<u8>, u64)> {
        children.into_iter().map(|(name, node)| (name.to_vec(), node.modified.0)).collect()
    }

    /// What a tree is made of.
    #[derive(Default)]
    struct Shape {
        leaves: usize,
        children: usize,
        depths: Vec<usize>,
    }

    /// Panics unless a part is what it should be, whose names are from `from` up to, but not including, `to`.
    fn check(part: &Part, depth: usize, from: &[u8], to: Option<&[u8]>, shape: &mut Shape) {
        match part {
            Part::Leaf(children) => {
                assert!((1..=LEAF_MAX).contains(&children.len()));
                assert!(children.is_sorted_by(|one, other| one.0 < other.0));
                let within = |name: &[u8]| name >= from && to.is_none_or(|to| name < to);
                assert!(children.iter().all(|(name, _)| within(name)));
                shape.leaves += 1;
                shape.children += children.len();
                shape.depths.push(depth);
            }
            Part::Inner(parts) => {
                assert!((1..=INNER_MAX).contains(&parts.len()));
                for (at, (_, part)) in parts.iter().enumerate() {
                    let from = if at == 0 { from } else { &*parts[at].0 };
                    let to = parts.get(at + 1).map_or(to, |(next, _)| Some(&**next));
                    check(part, depth + 1, from, to, shape);
                }
            }
        }
    }

    fn shape(children: &Children) -> Shape {
        let mut shape = Shape::default();
        if let Some(root) = &children.root {
            check(root, 0, b"", None, &mut shape);
            assert!(matches!(root, Part::Leaf(_)) || root.count() > 1, "a root with one part");
        }
        shape.depths.dedup();
        assert!(shape.depths.len() <= 1, "all leaves are equally deep: {:?}", shape.depths);
        shape
    }

    fn filled(names: impl IntoIterator<Item = usize>) -> Children {
        let mut children = Children::default();
        names.into_iter().for_each(|number| children.insert(name(number), node(1)));
        children
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(usize),
        /// So many names in order, as from a counter.
        InOrder(usize, usize),
        Change(usize),
        Remove(usize),
        RemoveFrom(usize, usize),
        Copy,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let number = 0..400_usize;
        let step = prop_oneof![
            4 => number.clone().prop_map(Step::Insert),
            2 => (number.clone(), 1..150_usize).prop_map(|(from, count)| Step::InOrder(from, count)),
            2 => number.clone().prop_map(Step::Change),
            4 => number.clone().prop_map(Step::Remove),
            1 => (number, 1..150_usize).prop_map(|(from, count)| Step::RemoveFrom(from, count)),
            1 => Just(Step::Copy),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_its_copies_stay_as_they_were(steps in steps(), from in 0..450_usize) {
            let (mut children, mut expected) = (Children::default(), Plain::new());
            let mut copies: Vec<(Children, Plain)> = Vec::new();
            for (modified, step) in (1..).zip(steps) {
                match step {
                    Step::Insert(number) => {
                        children.insert(name(number), node(modified));
                        expected.insert(name(number).to_vec(), modified);
                    }
                    Step::InOrder(from, count) => {
                        for number in from..from + count {
                            children.insert(name(number), node(modified));
                            expected.insert(name(number).to_vec(), modified);
                        }
                    }
                    Step::Change(number) => {
                        let there = children.get_mut(&name(number));
                        prop_assert_eq!(there.is_some(), expected.contains_key(&*name(number)));
                        if let Some(there) = there {
                            *there = node(modified);
                            expected.insert(name(number).to_vec(), modified);
                        }
                    }
                    Step::Remove(number) => {
                        let removed = children.remove(&name(number)).map(|node| node.modified.0);
                        prop_assert_eq!(removed, expected.remove(&*name(number)));
                    }
                    Step::RemoveFrom(from, count) => {
                        for number in from..from + count {
                            let removed = children.remove(&name(number)).is_some();
                            prop_assert_eq!(removed, expected.remove(&*name(number)).is_some());
                        }
                    }
                    Step::Copy => copies.push((children.clone(), expected.clone())),
                }
                prop_assert_eq!(shape(&children).children, expected.len());
            }
            copies.push((children, expected));
            for (children, expected) in copies {
                let all: Vec<_> = expected.clone().into_iter().collect();
                prop_assert_eq!(plain(&children), all.clone());
                let first = name(from);
                let behind = |bound: Bound<&[u8]>| {
                    let range = expected.range::<[u8], _>((bound, Bound::Unbounded));
                    range.map(|(name, modified)| (name.clone(), *modified)).collect::<Vec<_>>()
                };
                for bound in [Bound::Included(&*first), Bound::Excluded(&*first), Bound::Unbounded] {
                    prop_assert_eq!(plain(children.range_from(bound)), behind(bound));
                }
                for number in 0..450 {
                    let there = children.get_key_value(&name(number));
                    let known = expected.get_key_value(&*name(number));
                    prop_assert_eq!(there.map(|(name, node)| (&**name, node.modified.0)), known.map(|(name, at)| (&**name, *at)));
                }
                let mut filler = Filler::default();
                children.iter().for_each(|(name, node)| filler.push(name.clone(), node.clone()));
                let again = filler.finish();
                prop_assert_eq!(plain(&again), all);
                shape(&again);
            }
        }

        #[test]
        fn it_is_filled_in_any_order(numbers in prop::collection::vec(0..1000_usize, 0..300)) {
            let mut filler = Filler::default();
            let mut expected = BTreeSet::new();
            for number in numbers {
                if expected.insert(name(number).to_vec()) {
                    filler.push(name(number), node(1));
                }
            }
            let children = filler.finish();
            shape(&children);
            let names: Vec<_> = children.iter().map(|(name, _)| name.to_vec()).collect();
            prop_assert_eq!(names, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn leaves_are_full_of_what_came_in_order() {
        const COUNT: usize = 20_000;
        let mut filler = Filler::default();
        (0..COUNT).for_each(|number| filler.push(name(number), node(1)));
        for children in [filled(0..COUNT), filler.finish()] {
            let shape = shape(&children);
            assert_eq!((shape.children, shape.leaves), (COUNT, COUNT / LEAF_MAX));
            assert_eq!(shape.depths, [4], "twelve times twelve times twelve leaves are too few");
        }
    }

    #[test]
    fn leaves_are_half_full_of_what_came_in_any_order_and_of_what_is_left() {
        const COUNT: usize = 20_000;
        // A number without a common divisor goes through all of them.
        let scattered = |step: usize| (0..COUNT).map(move |n| n * step % COUNT);
        let mut children = filled(scattered(7919));
        let filled = shape(&children);
        assert!(filled.leaves <= 2 * COUNT / LEAF_MAX, "{}", filled.leaves);
        for gone in scattered(6007).take(COUNT * 9 / 10) {
            assert!(children.remove(&name(gone)).is_some());
        }
        let left = shape(&children);
        assert_eq!(left.children, COUNT / 10);
        assert!(left.leaves <= 2 * left.children / LEAF_MAX + 1, "{}", left.leaves);
        for gone in scattered(6007).skip(COUNT * 9 / 10) {
            assert!(children.remove(&name(gone)).is_some());
        }
        assert!(children.root.is_none());
    }

    /// A copy of a large directory and one write to it: what the copy shares is not made anew.
    #[test]
    fn a_write_copies_its_way_and_no_more() {
        let before = filled(0..20_000);
        let mut after = before.clone();
        *after.get_mut(&name(7)).expect("it is there") = node(2);
        fn leaves<'a>(part: &'a Part, all: &mut Vec<&'a Arc<[(Name, Node)]>>) {
            match part {
                Part::Leaf(children) => all.push(children),
                Part::Inner(parts) => parts.iter().for_each(|(_, part)| leaves(part, all)),
            }
        }
        let [mut one, mut other] = [Vec::new(), Vec::new()];
        leaves(before.root.as_ref().expect("it has children"), &mut one);
        leaves(after.root.as_ref().expect("it has children"), &mut other);
        assert_eq!(one.len(), other.len());
        let copied = one.iter().zip(&other).filter(|(one, other)| !Arc::ptr_eq(one, other));
        assert_eq!(copied.count(), 1);
    }
}
