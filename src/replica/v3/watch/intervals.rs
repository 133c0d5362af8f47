//! Ranges of keys, and which of them hold a given key.
//!
//! Owns: a search tree of distinct ranges, each with something of its own. Never knows: watchers.
//! Holds: ranges stand in the order of their first keys, and every node knows how far the ranges below it reach, so that a search
//! leaves out whatever ends before the key. The tree is kept flat by random priorities (a treap).

use std::cmp::Ordering;

use crate::base::SplitMix;
use crate::model::Value;

/// Any seed does: nobody gains by an unbalanced tree.
const SEED: u64 = 0;

/// From a first key up to, but not including, an end; `None` reaches behind the last key there can be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: Value,
    pub(super) end: Option<Value>,
}

impl Span {
    fn reaches(end: Option<&Value>, key: &[u8]) -> bool {
        end.is_none_or(|end| key < &**end)
    }
}

/// The ranges, each with a `T`.
#[derive(Debug)]
pub(super) struct Intervals<T> {
    root: Tree<T>,
    priorities: SplitMix,
}

type Tree<T> = Option<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    span: Span,
    /// The largest end in this subtree.
    reach: Option<Value>,
    priority: u64,
    held: T,
    left: Tree<T>,
    right: Tree<T>,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self { root: None, priorities: SplitMix::new(SEED) }
    }
}

impl<T: Default> Intervals<T> {
    /// Changes what stands at `span`, which is made if it is not there.
    pub(super) fn change(&mut self, span: &Span, change: impl FnOnce(&mut T)) {
        if let Some(held) = find(&mut self.root, span) {
            change(held);
            return;
        }
        let mut held = T::default();
        change(&mut held);
        let priority = self.priorities.next();
        let reach = span.end.clone();
        let node = Node { span: span.clone(), reach, priority, held, left: None, right: None };
        insert(&mut self.root, Box::new(node));
    }

    /// Takes a range out.
    pub(super) fn remove(&mut self, span: &Span) {
        remove(&mut self.root, span);
    }

    /// What stands at a range.
    pub(super) fn get_mut(&mut self, span: &Span) -> Option<&mut T> {
        find(&mut self.root, span)
    }

    /// Shows what stands at each range that holds `key`.
    pub(super) fn holding<'a>(&'a self, key: &[u8], see: &mut impl FnMut(&'a T)) {
        holding(&self.root, key, see);
    }

    /// Shows all that is there, in order.
    pub(super) fn drain(&mut self, see: &mut impl FnMut(T)) {
        drain(self.root.take(), see);
    }
}

fn find<'a, T>(tree: &'a mut Tree<T>, span: &Span) -> Option<&'a mut T> {
    let mut next = tree;
    while let Some(node) = next {
        next = match span.cmp(&node.span) {
            Ordering::Less => &mut node.left,
            Ordering::Greater => &mut node.right,
            Ordering::Equal => return Some(&mut node.held),
        };
    }
    None
}

fn holding<'a, T>(tree: &'a Tree<T>, key: &[u8], see: &mut impl FnMut(&'a T)) {
    let Some(node) = tree else { return };
    if !Span::reaches(node.reach.as_ref(), key) {
        return;
    }
    holding(&node.left, key, see);
    if key < &*node.span.start {
        return;
    }
    if Span::reaches(node.span.end.as_ref(), key) {
        see(&node.held);
    }
    holding(&node.right, key, see);
}

fn drain<T>(tree: Tree<T>, see: &mut impl FnMut(T)) {
    if let Some(node) = tree {
        let Node { held, left, right, .. } = *node;
        drain(left, see);
        see(held);
        drain(right, see);
    }
}

/// Puts a new node where its priority belongs; what it replaces there becomes its children.
fn insert<T>(tree: &mut Tree<T>, mut new: Box<Node<T>>) {
    match tree {
        Some(node) if node.priority >= new.priority => {
            let side = if new.span < node.span { &mut node.left } else { &mut node.right };
            insert(side, new);
            node.measure();
        }
        _ => {
            (new.left, new.right) = split(tree.take(), &new.span);
            new.measure();
            *tree = Some(new);
        }
    }
}

fn remove<T>(tree: &mut Tree<T>, span: &Span) {
    let Some(node) = tree else { return };
    match span.cmp(&node.span) {
        Ordering::Less => remove(&mut node.left, span),
        Ordering::Greater => remove(&mut node.right, span),
        Ordering::Equal => {
            *tree = join(node.left.take(), node.right.take());
            return;
        }
    }
    node.measure();
}

/// What is before `span`, and what is behind it.
fn split<T>(tree: Tree<T>, span: &Span) -> (Tree<T>, Tree<T>) {
    let Some(mut node) = tree else { return (None, None) };
    if node.span < *span {
        let (left, right) = split(node.right.take(), span);
        node.right = left;
        node.measure();
        (Some(node), right)
    } else {
        let (left, right) = split(node.left.take(), span);
        node.left = right;
        node.measure();
        (left, Some(node))
    }
}

/// One tree of two; all of `left` is before all of `right`.
fn join<T>(left: Tree<T>, right: Tree<T>) -> Tree<T> {
    let (mut left, mut right) = match (left, right) {
        (None, one) | (one, None) => return one,
        (Some(left), Some(right)) => (left, right),
    };
    if left.priority >= right.priority {
        left.right = join(left.right.take(), Some(right));
        left.measure();
        Some(left)
    } else {
        right.left = join(Some(left), right.left.take());
        right.measure();
        Some(right)
    }
}

impl<T> Node<T> {
    fn measure(&mut self) {
        let mut reach = self.span.end.clone();
        for child in [&self.left, &self.right].into_iter().flatten() {
            reach = match (reach, &child.reach) {
                (Some(ours), Some(theirs)) => Some(ours.max(theirs.clone())),
                (None, _) | (_, None) => None,
            };
        }
        self.reach = reach;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn span(start: u64, end: Option<u64>) -> Span {
        Span { start: key(start), end: end.map(key) }
    }

    fn key(number: u64) -> Value {
        number.to_be_bytes()[..].into()
    }

    fn depth<T>(tree: &Tree<T>) -> usize {
        tree.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    #[test]
    fn it_finds_what_a_look_at_each_range_finds() {
        let mut random = SplitMix::new(7);
        let mut intervals = Intervals::<u64>::default();
        let mut model = BTreeMap::<Span, u64>::new();
        for step in 1..20_000 {
            let start = random.next() % 200;
            let length = 1 + random.next() % 30;
            let span = span(start, (!random.next().is_multiple_of(10)).then_some(start + length));
            if random.next().is_multiple_of(3) {
                intervals.remove(&span);
                model.remove(&span);
            } else {
                intervals.change(&span, |held| *held = step);
                model.insert(span, step);
            }
            let asked = key(random.next() % 240);
            let mut found = Vec::new();
            intervals.holding(&asked, &mut |held| found.push(*held));
            let holds = |span: &Span| {
                span.start <= asked && span.end.as_ref().is_none_or(|end| asked < *end)
            };
            let expected: Vec<_> =
                model.iter().filter(|(span, _)| holds(span)).map(|(_, held)| *held).collect();
            assert_eq!(found, expected, "step {step}");
        }
        let mut all = Vec::new();
        intervals.drain(&mut |held| all.push(held));
        assert_eq!(all, model.into_values().collect::<Vec<_>>());
        assert!(intervals.root.is_none());
    }

    #[test]
    fn ranges_that_come_in_order_do_not_make_it_deep() {
        let mut intervals = Intervals::<u64>::default();
        for start in 0..10_000 {
            intervals.change(&span(start, Some(start + 1)), |held| *held = start);
        }
        assert!(depth(&intervals.root) < 60, "{}", depth(&intervals.root));
        let mut found = Vec::new();
        intervals.holding(&key(5000), &mut |held| found.push(*held));
        assert_eq!(found, [5000]);
    }
}
