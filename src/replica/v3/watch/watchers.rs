//! Which watchers want to hear of a change.
//!
//! Owns: watchers by what they watch: those of one key in a map, those of a range in a tree of ranges. Never knows: who reads
//! what they get, and where they stand in the history.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::Value;
use crate::mvcc::{ChangeKind, KeyRange, Revision};
use crate::replica::v3::watch::intervals::{Intervals, Span};
use crate::replica::v3::watch::notice::{Notice, Revised};
use crate::replica::v3::watch::outbox::Outbox;

/// The number of a stream, and of a watcher among those that there ever were on it.
pub(super) type Place = (u64, u64);

/// One watcher as it is registered: it does not change any more.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Its stream first, so that watchers of one stream stand side by side; then the order of creation.
    pub(super) place: Place,
    /// What the stream calls it.
    pub(super) id: i64,
    pub(super) range: KeyRange,
    /// The first revision that it has not seen.
    pub(super) from: Revision,
    pub(super) wants: Wants,
    pub(super) outbox: Arc<Outbox>,
}

/// What a watcher wants of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Keys that are written.
    pub puts: bool,
    /// Keys that go.
    pub deletes: bool,
    /// What a key was before.
    pub previous: bool,
}

impl Watcher {
    /// The same, at another place in the history.
    pub(super) fn at(&self, from: Revision) -> Arc<Self> {
        let Self { place, id, ref range, wants, ref outbox, .. } = *self;
        Arc::new(Self { place, id, range: range.clone(), from, wants, outbox: Arc::clone(outbox) })
    }

    fn sees(&self, revision: Revision, kind: ChangeKind) -> bool {
        let wanted = match kind {
            ChangeKind::Put => self.wants.puts,
            ChangeKind::Delete => self.wants.deletes,
        };
        wanted && revision >= self.from
    }
}

/// What one watcher sees of one revision.
pub(super) struct Hit<'a> {
    pub(super) watcher: &'a Arc<Watcher>,
    pub(super) notice: Arc<Notice>,
}

type Group = BTreeMap<Place, Arc<Watcher>>;

/// The watchers.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    keys: BTreeMap<Value, Group>,
    ranges: Intervals<Group>,
    count: usize,
}

impl Watchers {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn insert(&mut self, watcher: Arc<Watcher>) {
        let mut added = false;
        let mut add = |group: &mut Group, watcher: Arc<Watcher>| {
            added = group.insert(watcher.place, watcher).is_none();
        };
        match span(&watcher.range) {
            None => add(self.keys.entry(watcher.range.start().clone()).or_default(), watcher),
            Some(span) => self.ranges.change(&span, |group| add(group, watcher)),
        }
        self.count += usize::from(added);
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, watcher: &Watcher) -> bool {
        let removed = match span(&watcher.range) {
            None => match self.keys.get_mut(watcher.range.start()) {
                Some(group) => {
                    let removed = group.remove(&watcher.place).is_some();
                    if group.is_empty() {
                        self.keys.remove(watcher.range.start());
                    }
                    removed
                }
                None => false,
            },
            Some(span) => {
                let group = self.ranges.get_mut(&span);
                let (removed, empty) = group.map_or((false, false), |group| {
                    (group.remove(&watcher.place).is_some(), group.is_empty())
                });
                if empty {
                    self.ranges.remove(&span);
                }
                removed
            }
        };
        self.count -= usize::from(removed);
        removed
    }

    /// Takes all of them out.
    pub(super) fn take_all(&mut self) -> Vec<Arc<Watcher>> {
        let mut all = Vec::with_capacity(self.count);
        for group in std::mem::take(&mut self.keys).into_values() {
            all.extend(group.into_values());
        }
        self.ranges.drain(&mut |group| all.extend(group.into_values()));
        self.count = 0;
        all
    }

    /// Who sees what of a revision: each watcher once, those of a stream side by side. Watchers that see the same share a notice.
    pub(super) fn hits<'a>(&'a self, revised: &Revised) -> Vec<Hit<'a>> {
        let mut seen: Vec<(&'a Arc<Watcher>, usize)> = Vec::new();
        for (number, change) in revised.changes.iter().enumerate() {
            let mut see = |group: &'a Group| {
                let sees = group.values().filter(|it| it.sees(revised.revision, change.kind()));
                seen.extend(sees.map(|watcher| (watcher, number)));
            };
            if let Some(group) = self.keys.get(&change.kv.key) {
                see(group);
            }
            self.ranges.holding(&change.kv.key, &mut see);
        }
        seen.sort_unstable_by_key(|(watcher, number)| (watcher.place, *number));
        let mut notices = Notices { revised, made: BTreeMap::new() };
        let each = seen.chunk_by(|(one, _), (other, _)| one.place == other.place);
        each.map(|seen| {
            let watcher = seen[0].0;
            let numbers = seen.iter().map(|(_, number)| *number).collect();
            Hit { watcher, notice: notices.of(numbers, watcher.wants.previous) }
        })
        .collect()
    }
}

/// What was made of one revision, by the changes that are in it, and whether it says what was before.
struct Notices<'a> {
    revised: &'a Revised,
    made: BTreeMap<(Vec<usize>, bool), Arc<Notice>>,
}

impl Notices<'_> {
    fn of(&mut self, changes: Vec<usize>, previous: bool) -> Arc<Notice> {
        let revised = self.revised;
        let make = |(changes, previous): &(Vec<usize>, bool)| {
            Arc::new(Notice::of(revised, changes, *previous))
        };
        let seen = (changes, previous);
        Arc::clone(self.made.entry(seen).or_insert_with_key(make))
    }
}

/// The range, unless it is a single key.
fn span(range: &KeyRange) -> Option<Span> {
    match range {
        KeyRange::Single(_) => None,
        KeyRange::Between(start, end) => {
            Some(Span { start: start.clone(), end: Some(end.clone()) })
        }
        KeyRange::From(start) => Some(Span { start: start.clone(), end: None }),
    }
}
