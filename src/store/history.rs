//! Events kept for `waitIndex`.
//!
//! Holds: one slot for each store index from the oldest kept to the newest, without a gap. Facts of the cluster take a slot
//! that no watcher sees.

use std::ops::Range;
use std::sync::Arc;

use imbl::Vector;

use crate::model::{Refusal, StoreIndex};
use crate::store::event::Event;
use crate::store::filter::Filter;
use crate::store::summary::Summaries;

/// How much is kept: whatever is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Slots, at least one. etcd keeps 1000.
    pub events_max: usize,
    /// Bytes, as [`Event::weight`] counts them. The newest slot stays, however large.
    pub bytes_max: usize,
}

impl HistoryLimits {
    /// Everything is kept: of a backup, where each member that is made of it has a setting of its own.
    pub const NONE: Self = Self { events_max: usize::MAX, bytes_max: usize::MAX };
}

/// The recent changes, oldest first.
#[derive(Clone, Debug)]
pub struct History {
    slots: Vector<Option<Arc<Event>>>,
    /// The index of the first slot; of the next event while there is none.
    oldest: StoreIndex,
    bytes: usize,
    summaries: Summaries,
    limits: HistoryLimits,
}

/// What a search of the history came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This one is next.
    Event(Arc<Event>),
    /// None so far; go on from this index.
    NoneBefore(StoreIndex),
}

/// Where a search starts and what it looks for.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The first index of interest.
    pub from: StoreIndex,
    /// Who asks.
    pub filter: &'a Filter,
}

impl History {
    pub(super) fn new(limits: HistoryLimits) -> Self {
        let oldest = StoreIndex(1);
        let summaries = Summaries::new(oldest);
        Self { slots: Vector::new(), oldest, bytes: 0, summaries, limits }
    }

    /// The oldest index still kept.
    pub fn oldest(&self) -> StoreIndex {
        self.oldest
    }

    /// The index that the next change will take.
    pub fn next(&self) -> StoreIndex {
        StoreIndex(self.oldest.0 + self.slots.len() as u64)
    }

    /// How many slots are in use.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Is nothing kept?
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the change that took the next index.
    pub(super) fn push(&mut self, event: Arc<Event>) {
        assert_eq!(event.index, self.next(), "events come in the order of their indexes");
        self.bytes += event.weight();
        self.append(Some(event));
    }

    /// A fact of the cluster took the next index.
    pub(super) fn push_silent(&mut self) {
        self.append(None);
    }

    /// Forgets everything and goes on from `oldest`.
    pub(super) fn restart(&mut self, oldest: StoreIndex) {
        let summaries = Summaries::new(oldest);
        *self = Self { oldest, summaries, ..Self::new(self.limits) };
    }

    fn append(&mut self, slot: Option<Arc<Event>>) {
        let next = self.next().next();
        let full = self.summaries.appended(slot.as_deref(), next);
        self.slots.push_back(slot);
        if let Some(from) = full {
            let slots = slots_within(&self.slots, self.oldest, from.max(self.oldest)..next);
            self.summaries.close(slots.flatten(), next);
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.slots.len() > self.limits.events_max.max(1)
            || (self.bytes > self.limits.bytes_max && self.slots.len() > 1)
        {
            let slot = self.slots.pop_front().expect("it is longer than one");
            self.bytes -= slot.map_or(0, |event| event.weight());
            self.oldest = self.oldest.next();
        }
        self.summaries.trim(self.oldest);
    }

    /// The first event from `scan.from` on that the watcher sees.
    ///
    /// # Errors
    /// [`Refusal::HistoryCleared`] when `from` is older than the oldest kept one.
    pub fn find(&self, scan: Scan<'_>) -> Result<Found, Refusal> {
        if scan.from < self.oldest {
            return Err(Refusal::HistoryCleared { oldest: self.oldest, asked: scan.from });
        }
        if scan.from >= self.next() {
            return Ok(Found::NoneBefore(scan.from));
        }
        let slots = scan.from..self.next();
        let found = self.candidates(slots.clone(), scan.filter).find(|e| scan.filter.sees(e));
        Ok(found.map_or(Found::NoneBefore(slots.end), |event| Found::Event(Arc::clone(event))))
    }

    /// The events of `slots` that have to be looked at to find those that `filter` sees.
    fn candidates<'a>(
        &'a self,
        slots: Range<StoreIndex>,
        filter: &'a Filter,
    ) -> impl Iterator<Item = &'a Arc<Event>> {
        let parts = self.summaries.candidates(slots, filter);
        parts.flat_map(|part| slots_within(&self.slots, self.oldest, part)).flatten()
    }

    /// The slots from `from` on with their indexes; `None` is a fact of the cluster.
    pub fn slots_from(
        &self,
        from: StoreIndex,
    ) -> impl Iterator<Item = (StoreIndex, Option<&Arc<Event>>)> {
        let from = from.max(self.oldest).min(self.next());
        let slots = slots_within(&self.slots, self.oldest, from..self.next());
        (from.0..).map(StoreIndex).zip(slots.map(Option::as_ref))
    }
}

/// Those of `slots`, the first of which is `oldest`, that `indexes` names.
fn slots_within(
    slots: &Vector<Option<Arc<Event>>>,
    oldest: StoreIndex,
    indexes: Range<StoreIndex>,
) -> impl Iterator<Item = &Option<Arc<Event>>> {
    let place = |index: StoreIndex| {
        let place = usize::try_from(index.0.saturating_sub(oldest.0)).unwrap_or(usize::MAX);
        place.min(slots.len())
    };
    let (start, end) = (place(indexes.start), place(indexes.end));
    slots.focus().narrow(start..end.max(start)).into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyPath, LogTime, WallOffset};
    use crate::store::event::{Action, Removed, Shown};
    use proptest::prelude::*;

    const ALL: HistoryLimits = HistoryLimits { events_max: usize::MAX, bytes_max: usize::MAX };

    fn event(index: StoreIndex, action: Action, path: &str, removed: Removed) -> Event {
        let dir = removed != Removed::Nothing;
        let shown = Shown { value: None, dir, modified: index, created: index, expires: None };
        Event {
            action,
            index,
            at: LogTime(1),
            offset: WallOffset(0),
            path: KeyPath::from(path),
            node: shown,
            prev: None,
            refresh: false,
            removed,
        }
    }

    fn listed(paths: &[&str]) -> Removed {
        Removed::Paths(paths.iter().map(|path| Box::from(path.as_bytes())).collect())
    }

    fn push(history: &mut History, action: Action, path: &str, removed: Removed) {
        history.push(Arc::new(event(history.next(), action, path, removed)));
    }

    fn set(history: &mut History, path: &str) {
        push(history, Action::Set, path, Removed::Nothing);
    }

    fn filter(path: &str, recursive: bool) -> Filter {
        Filter { path: KeyPath::from(path), recursive }
    }

    /// What the summaries must not change: every slot is looked at.
    fn naive(history: &History, scan: Scan<'_>) -> Result<Found, Refusal> {
        if scan.from < history.oldest {
            return Err(Refusal::HistoryCleared { oldest: history.oldest, asked: scan.from });
        }
        let skip = usize::try_from(scan.from.0 - history.oldest.0).unwrap_or(usize::MAX);
        let found = history.slots.iter().skip(skip).flatten().find(|e| scan.filter.sees(e));
        Ok(match found {
            Some(event) => Found::Event(Arc::clone(event)),
            None => Found::NoneBefore(history.next().max(scan.from)),
        })
    }

    /// How many events a search that finds nothing looks at.
    fn looked_at(history: &History, filter: &Filter) -> usize {
        let scan = Scan { from: history.oldest, filter };
        assert_eq!(history.find(scan), Ok(Found::NoneBefore(history.next())), "{filter:?}");
        history.candidates(history.oldest..history.next(), filter).count()
    }

    #[derive(Clone, Debug)]
    struct Change {
        action: Action,
        path: String,
        removed: Option<Vec<String>>,
        refresh: bool,
        silent: bool,
    }

    fn path() -> impl Strategy<Value = String> {
        // Most keys are rare, so that blocks differ.
        prop_oneof![4 => "(/[abc]){0,3}", 2 => "(/_?[a-e]){0,4}", 2 => "/[a-z]{2}(/[a-z]){0,2}"]
    }

    fn change() -> impl Strategy<Value = Change> {
        let removed = prop_oneof![
            6 => Just(None),
            2 => prop::collection::btree_set("(/_?[a-c]){1,2}", 0..4)
                .prop_map(|paths| Some(paths.into_iter().collect())),
        ];
        let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.05), any::<bool>());
        (path(), removed, flags).prop_map(|(path, removed, (refresh, silent, delete))| Change {
            action: match (&removed, delete) {
                (None, _) => Action::Set,
                (Some(_), true) => Action::Delete,
                (Some(_), false) => Action::Expire,
            },
            path,
            removed,
            refresh,
            silent,
        })
    }

    fn limits() -> impl Strategy<Value = HistoryLimits> {
        let events_max = prop_oneof![3 => Just(usize::MAX), 1 => 1..600usize];
        let bytes_max = prop_oneof![3 => Just(usize::MAX), 1 => 0..100_000usize];
        (events_max, bytes_max)
            .prop_map(|(events_max, bytes_max)| HistoryLimits { events_max, bytes_max })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn a_search_finds_what_looking_at_every_event_finds(
            changes in prop::collection::vec(change(), 1..1000),
            limits in limits(),
            many in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
            filters in prop::collection::vec((path(), any::<bool>()), 12),
            starts in prop::collection::vec(any::<prop::sample::Index>(), 12),
        ) {
            let many: Vec<_> = many.iter().map(|at| at.index(changes.len())).collect();
            let mut history = History::new(limits);
            for (place, change) in changes.iter().enumerate() {
                if change.silent {
                    history.push_silent();
                    continue;
                }
                let removed = match &change.removed {
                    Some(_) if many.contains(&place) => Removed::Many,
                    Some(paths) if !paths.is_empty() => {
                        listed(&paths.iter().map(String::as_str).collect::<Vec<_>>())
                    }
                    Some(_) | None => Removed::Nothing,
                };
                let event = event(history.next(), change.action, &change.path, removed);
                history.push(Arc::new(Event { refresh: change.refresh, ..event }));
            }
            let last = usize::try_from(history.next().0 + 2).expect("it is short");
            for (path, recursive) in &filters {
                let filter = filter(path, *recursive);
                let from = starts.iter().map(|start| start.index(last) as u64);
                for from in from.chain([history.oldest.0, 0, u64::MAX]).map(StoreIndex) {
                    let scan = Scan { from, filter: &filter };
                    prop_assert_eq!(history.find(scan), naive(&history, scan), "{:?}", scan);
                }
            }
        }
    }

    #[test]
    fn a_search_for_a_quiet_key_looks_at_few_of_a_hundred_thousand_events() {
        let mut history = History::new(ALL);
        for n in 0..100_000 {
            set(&mut history, &format!("/service/app-{}/key-{n}", n % 100));
        }
        for path in ["/quiet", "/service/quiet", "/service/app-1/quiet", "/service/app-1/key-1/x"] {
            for recursive in [false, true] {
                let looked_at = looked_at(&history, &filter(path, recursive));
                assert!(looked_at < 1500, "{looked_at} events for {path}, recursive: {recursive}");
            }
        }
        let per_event = history.summaries.bytes() / history.len();
        assert!(per_event <= 4, "{per_event} bytes for each event");
    }

    #[test]
    fn hidden_keys_and_refreshes_are_not_looked_at_for_watchers_that_see_none() {
        let mut history = History::new(ALL);
        for n in 0..10_000 {
            set(&mut history, &format!("/d/_hidden/{n}"));
            let refreshed = event(history.next(), Action::Set, "/d/lease", Removed::Nothing);
            history.push(Arc::new(Event { refresh: true, ..refreshed }));
        }
        for path in ["/", "/d", "/d/lease"] {
            let looked_at = looked_at(&history, &filter(path, true));
            assert!(looked_at < 1500, "{looked_at} events for {path}");
        }
    }

    #[test]
    fn removals_of_a_directory_are_not_looked_at_for_keys_that_were_not_in_it() {
        let mut history = History::new(ALL);
        for _ in 0..10_000 {
            set(&mut history, "/jobs/now/a");
            push(&mut history, Action::Delete, "/jobs/now", listed(&["/a"]));
        }
        let looked_at = looked_at(&history, &filter("/jobs/now/b", true));
        assert!(looked_at < 1500, "{looked_at} events");
    }

    #[test]
    fn the_memory_of_summaries_follows_the_weight_of_what_they_sum_up() {
        let mut deep = History::new(ALL);
        for n in 0..100 {
            set(&mut deep, &format!("/{n}").repeat(1000));
        }
        let mut wide = History::new(ALL);
        let names: Vec<_> = (0..10_000).map(|n| format!("/{n:05}")).collect();
        for _ in 0..10 {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            push(&mut wide, Action::Delete, "/d", listed(&names));
        }
        for history in [&deep, &wide] {
            let (summaries, events) = (history.summaries.bytes(), history.bytes());
            assert!(summaries > 0 && summaries * 8 < events * 10, "{summaries} for {events} bytes");
            assert!(looked_at(history, &filter("/quiet", true)) <= 8);
        }
    }

    #[test]
    fn blocks_go_when_their_events_go() {
        let mut history = History::new(HistoryLimits { events_max: 1000, ..ALL });
        for n in 0..10_000 {
            set(&mut history, &format!("/{n}"));
        }
        assert_eq!(history.len(), 1000);
        assert!(history.summaries.bytes() < 6000, "{} bytes", history.summaries.bytes());
    }
}
