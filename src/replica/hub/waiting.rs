//! Who waits for which key, as a value: which watchers an event is for, and taking them out.
//!
//! The watchers of one key that see alike stand in one queue. A poll that has its event leaves its place there, and the next poll
//! of its client takes it: it finds the queue and puts itself at the end, and nothing is allocated for that.
//!
//! Holds: watchers are told in the order in which they came. What an event costs depends on the keys above it and on those that it
//! is for, not on all that wait.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeBounds;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Notice;
use crate::model::{KeyPath, StoreIndex};
use crate::store::{Access, Asker, Event, Filter, Intent};

/// Bytes of the queues that an event has emptied and that are kept for the next polls: all of them together, with their keys.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// The watchers of a member.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// One without watchers is kept, or not there.
    queues: BTreeMap<Target, Queue>,
    watchers: usize,
    /// How many there ever were.
    numbers: u64,
    /// Queues that an event has emptied, with the bytes that each takes, oldest first: the next polls of the same clients will come
    /// to them. One that has grown since stands here twice.
    kept: VecDeque<(Target, usize)>,
    /// The sum of those bytes.
    kept_bytes: usize,
}

/// What is watched. Those below a directory are a range; of one key, the one that also sees what happens below it comes first, so
/// that an event below passes the other over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    path: KeyPath,
    depth: Depth,
}

/// What a watcher sees beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// Everything below.
    Recursive,
    /// Nothing.
    Flat,
}

/// Where a watcher stands.
#[derive(Debug)]
pub(super) struct Place {
    target: Target,
    /// In the order of registration.
    number: u64,
}

/// One watcher.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) slash: bool,
    pub(super) asker: Asker,
    /// The first index that it has not seen.
    pub(super) from: StoreIndex,
    pub(super) sink: Sink,
}

/// How a watcher is told of events.
#[derive(Debug)]
pub(super) enum Sink {
    /// Of the next one.
    Once(oneshot::Sender<Arc<Notice>>),
    /// Of all.
    Stream(mpsc::Sender<Arc<Notice>>),
}

/// A long poll and its event.
pub(super) type Served = (oneshot::Sender<Arc<Notice>>, Arc<Notice>);

impl Target {
    /// What `access` asks for.
    pub(super) fn of(access: &Access) -> Self {
        let depth = if access.recursive { Depth::Recursive } else { Depth::Flat };
        Self { path: access.path.clone(), depth }
    }

    fn recursive(&self) -> bool {
        self.depth == Depth::Recursive
    }

    fn filter(&self) -> Filter {
        Filter { path: self.path.clone(), recursive: self.recursive() }
    }

    fn access(&self, slash: bool) -> Access {
        let (recursive, intent) = (self.recursive(), Intent::Read);
        Access { path: self.path.clone(), slash, recursive, intent }
    }
}

impl Waiting {
    /// How many wait.
    pub(super) fn watchers(&self) -> usize {
        self.watchers
    }

    /// Takes a watcher in.
    pub(super) fn enter(&mut self, target: Target, entry: Entry) -> Place {
        self.numbers += 1;
        self.watchers += 1;
        let number = self.numbers;
        match self.queues.get_mut(&target) {
            Some(queue) => queue.push(number, entry),
            None => {
                self.queues.insert(target.clone(), Queue::of_one(number, entry));
            }
        }
        Place { target, number }
    }

    /// Takes one out; `None` when it has been taken out already.
    pub(super) fn leave(&mut self, place: &Place) -> Option<Entry> {
        let queue = self.queues.get_mut(&place.target)?;
        let entry = queue.take(place.number)?;
        self.watchers -= 1;
        if queue.watchers() == 0 {
            self.queues.remove(&place.target);
        }
        Some(entry)
    }

    /// Takes out those that may no longer have what they wait for, as `keeps` says it of each.
    pub(super) fn leave_unless(&mut self, keeps: impl Fn(&Asker, &Access) -> bool) -> Vec<Entry> {
        let mut lost = Vec::new();
        for (target, queue) in &mut self.queues {
            queue.sift(|entry| {
                if keeps(&entry.asker, &target.access(entry.slash)) {
                    return Some(entry);
                }
                lost.push(entry);
                None
            });
        }
        self.queues.retain(|_, queue| queue.watchers() > 0);
        self.watchers -= lost.len();
        lost
    }

    /// Hands `event` to all watchers whose filter sees it: those of the key, the recursive ones of the keys above, and of those
    /// below. Long polls that get it are `served`.
    pub(super) fn announce(&mut self, event: &Arc<Event>, served: &mut Vec<Served>) {
        if self.watchers == 0 || event.refresh {
            return;
        }
        let mut notice = None;
        for path in event.path.way() {
            let last = if path == event.path { Depth::Flat } else { Depth::Recursive };
            let first = Target { path: path.clone(), depth: Depth::Recursive };
            self.tell(first..=Target { path, depth: last }, event, &mut notice, served);
        }
        if event.action.removes() && event.node.dir {
            // Keys below `/d` are those from `/d/` up to, but not including, `/d0`: `0` follows `/`.
            let below = [event.path.as_bytes(), b"/"].concat();
            let beyond = [event.path.as_bytes(), b"0"].concat();
            let first = |path: &[u8]| {
                let path = KeyPath::from_stored(path);
                Target { path, depth: Depth::Recursive }
            };
            self.tell(first(&below)..first(&beyond), event, &mut notice, served);
        }
    }

    fn tell(
        &mut self,
        targets: impl RangeBounds<Target>,
        event: &Arc<Event>,
        notice: &mut Option<Arc<Notice>>,
        served: &mut Vec<Served>,
    ) {
        let mut emptied = Vec::new();
        for (target, queue) in self.queues.range_mut(targets) {
            let before = queue.watchers();
            if before == 0 || !target.filter().sees(event) {
                continue;
            }
            queue.sift(|entry| {
                if event.index < entry.from {
                    return Some(entry);
                }
                let notice = notice.get_or_insert_with(|| Notice::new(Arc::clone(event)));
                match entry.sink {
                    Sink::Once(event_tx) => {
                        served.push((event_tx, Arc::clone(notice)));
                        None
                    }
                    // A full buffer: the watcher reads on from the history. A closed one: it is gone.
                    Sink::Stream(events_tx) => {
                        let told = events_tx.try_send(Arc::clone(notice)).is_ok();
                        told.then_some(Entry { sink: Sink::Stream(events_tx), ..entry })
                    }
                }
            });
            self.watchers -= before - queue.watchers();
            if queue.watchers() == 0 {
                emptied.push(target.clone());
            }
        }
        for target in emptied {
            self.keep(target);
        }
    }

    /// Keeps a queue that an event has emptied for the next polls; those that have been kept for longest go for it.
    fn keep(&mut self, target: Target) {
        if let Some(queue) = self.queues.get_mut(&target)
            && let more @ 1.. = queue.bytes(&target).saturating_sub(queue.kept)
        {
            queue.kept += more;
            self.kept_bytes += more;
            self.kept.push_back((target, more));
        }
        while self.kept_bytes > KEPT_BYTES_MAX
            && let Some((target, bytes)) = self.kept.pop_front()
        {
            self.kept_bytes -= bytes;
            if let Some(queue) = self.queues.get_mut(&target) {
                queue.kept = 0;
                if queue.watchers() == 0 {
                    self.queues.remove(&target);
                }
            }
        }
    }
}

/// The watchers of one target, in the order in which they came.
#[derive(Debug)]
struct Queue {
    /// By number. The place of one that has left is empty until half of all are.
    places: Vec<(u64, Option<Entry>)>,
    empty: usize,
    /// Bytes that [`Waiting::kept`] counts for it.
    kept: usize,
}

impl Queue {
    fn of_one(number: u64, entry: Entry) -> Self {
        Self { places: vec![(number, Some(entry))], empty: 0, kept: 0 }
    }

    fn watchers(&self) -> usize {
        self.places.len() - self.empty
    }

    /// What it takes, roughly: with its key, which may be much longer than all places, and its places in the map and among those
    /// that are kept.
    fn bytes(&self, target: &Target) -> usize {
        const OVERHEAD: usize = 160;
        OVERHEAD
            + target.path.as_bytes().len()
            + self.places.capacity() * size_of::<(u64, Option<Entry>)>()
    }

    fn push(&mut self, number: u64, entry: Entry) {
        self.places.push((number, Some(entry)));
    }

    fn take(&mut self, number: u64) -> Option<Entry> {
        let place = self.places.binary_search_by_key(&number, |place| place.0).ok()?;
        let entry = self.places[place].1.take()?;
        self.empty += 1;
        if self.empty * 2 > self.places.len() {
            self.sift(Some);
        }
        Some(entry)
    }

    /// Gives each watcher to `keep`, which gives back those that stay. Memory for more than four times of those goes.
    fn sift(&mut self, mut keep: impl FnMut(Entry) -> Option<Entry>) {
        self.places.retain_mut(|(_, entry)| {
            *entry = entry.take().and_then(&mut keep);
            entry.is_some()
        });
        self.empty = 0;
        let watchers = self.places.len();
        if watchers > 0 && self.places.capacity() > 4 * watchers {
            self.places.shrink_to(2 * watchers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SplitMix;
    use crate::model::LogTime;
    use crate::store::{Command, HistoryLimits, Store, Write};

    /// Numbers that come out the same for the same seed.
    struct Dice(SplitMix);

    impl Dice {
        fn below(&mut self, below: usize) -> usize {
            usize::try_from(self.0.next() % below as u64).expect("it is below")
        }
    }

    /// What a watcher has been told of.
    enum Told {
        Once(oneshot::Receiver<Arc<Notice>>),
        Stream(mpsc::Receiver<Arc<Notice>>),
    }

    /// A watcher in the list of all.
    struct Listed {
        place: Place,
        access: Access,
        from: StoreIndex,
        told: Told,
    }

    fn access(path: &str, recursive: bool) -> Access {
        Access { path: KeyPath::from(path), slash: false, recursive, intent: Intent::Read }
    }

    fn enter(
        waiting: &mut Waiting,
        access: &Access,
        from: StoreIndex,
        stream: bool,
    ) -> (Place, Told) {
        let (sink, told) = if stream {
            let (events_tx, events_rx) = mpsc::channel(1000);
            (Sink::Stream(events_tx), Told::Stream(events_rx))
        } else {
            let (event_tx, event_rx) = oneshot::channel();
            (Sink::Once(event_tx), Told::Once(event_rx))
        };
        let entry = Entry { slash: access.slash, asker: Asker::Guest, from, sink };
        (waiting.enter(Target::of(access), entry), told)
    }

    fn seen(told: &mut Told) -> Vec<StoreIndex> {
        match told {
            Told::Once(event_rx) => {
                event_rx.try_recv().ok().map(|told| told.event.index).into_iter().collect()
            }
            Told::Stream(events_rx) => std::iter::from_fn(|| events_rx.try_recv().ok())
                .map(|told| told.event.index)
                .collect(),
        }
    }

    struct Keys(Store);

    impl Keys {
        fn new() -> Self {
            Self(Store::new(HistoryLimits { events_max: 10, bytes_max: 1 << 20 }))
        }

        fn set(&mut self, path: &str) -> Option<Arc<Event>> {
            let write = Write { value: b"v"[..].into(), dir: false, ttl: None, refresh: false };
            self.apply(&Command::Set { path: KeyPath::from(path), write })
        }

        fn delete(&mut self, path: &str) -> Option<Arc<Event>> {
            self.apply(&Command::Delete { path: KeyPath::from(path), dir: true, recursive: true })
        }

        fn apply(&mut self, command: &Command) -> Option<Arc<Event>> {
            self.0.apply(LogTime(1), command).events().first().cloned()
        }

        fn next(&self) -> StoreIndex {
            self.0.index().next()
        }
    }

    /// Announces and, as when the writer has its answer, hands over.
    fn tell(waiting: &mut Waiting, event: &Arc<Event>) {
        let mut served = Vec::new();
        waiting.announce(event, &mut served);
        for (event_tx, notice) in served {
            event_tx.send(notice).expect("none has hung up");
        }
    }

    fn is_whole(waiting: &Waiting, wait: usize) {
        let counted: usize = waiting.queues.values().map(Queue::watchers).sum();
        assert_eq!((waiting.watchers(), counted), (wait, wait));
        for (target, queue) in &waiting.queues {
            let entries = queue.places.iter().filter(|place| place.1.is_some()).count();
            assert_eq!(entries, queue.watchers(), "{target:?}");
            assert!(
                entries > 0 || queue.kept >= queue.bytes(target),
                "{target:?} is empty and is not kept"
            );
        }
        let bytes: usize = waiting.kept.iter().map(|kept| kept.1).sum();
        assert_eq!(bytes, waiting.kept_bytes);
        assert!(bytes <= KEPT_BYTES_MAX);
    }

    /// Each has been told of `event` if it should be; polls that were are out of the list.
    fn check(list: &mut Vec<Listed>, event: &Event, seed: u64) {
        list.retain_mut(|one| {
            let filter = Filter { path: one.access.path.clone(), recursive: one.access.recursive };
            let sees = event.index >= one.from && filter.sees(event);
            let expected: Vec<_> = sees.then_some(event.index).into_iter().collect();
            assert_eq!(seen(&mut one.told), expected, "seed {seed}, {:?}, {event:?}", one.access);
            !(sees && matches!(one.told, Told::Once(_)))
        });
    }

    #[test]
    fn those_are_told_that_a_search_of_all_would_find() {
        const PATHS: [&str; 9] =
            ["/", "/d", "/d/a", "/d/a/x", "/d/_h", "/d/_h/x", "/d0", "/dx", "/e"];
        for seed in 0..200 {
            let mut dice = Dice(SplitMix::new(seed));
            let (mut keys, mut waiting) = (Keys::new(), Waiting::default());
            let mut list = Vec::new();
            for _ in 0..300 {
                match dice.below(9) {
                    0..5 => {
                        let access = access(PATHS[dice.below(PATHS.len())], dice.below(2) == 0);
                        // Now and then one waits for an index that is still to come.
                        let ahead = [0, 0, 0, 5][dice.below(4)];
                        let from = StoreIndex(keys.next().0 + ahead);
                        let (place, told) = enter(&mut waiting, &access, from, dice.below(3) == 0);
                        list.push(Listed { place, access, from, told });
                    }
                    5 if !list.is_empty() => {
                        let gone = list.swap_remove(dice.below(list.len()));
                        assert!(waiting.leave(&gone.place).is_some(), "seed {seed}");
                        assert!(waiting.leave(&gone.place).is_none(), "seed {seed}");
                    }
                    6 => {
                        let depth = dice.below(4);
                        let lost = waiting.leave_unless(|_, access| access.path.depth() != depth);
                        let before = list.len();
                        list.retain(|one| one.access.path.depth() != depth);
                        assert_eq!(lost.len(), before - list.len(), "seed {seed}");
                    }
                    _ => {
                        let path = PATHS[1 + dice.below(PATHS.len() - 1)];
                        let delete = dice.below(3) == 0;
                        let event = if delete { keys.delete(path) } else { keys.set(path) };
                        let Some(event) = event else { continue };
                        tell(&mut waiting, &event);
                        check(&mut list, &event, seed);
                    }
                }
                is_whole(&waiting, list.len());
            }
        }
    }

    #[test]
    fn polls_of_one_key_are_served_in_the_order_in_which_they_came() {
        let (mut keys, mut waiting) = (Keys::new(), Waiting::default());
        let access = access("/a", false);
        let mut polls: Vec<_> =
            (0..100).map(|_| enter(&mut waiting, &access, keys.next(), false)).collect();
        for hangs_up in [70, 69, 3] {
            let (place, _) = polls.remove(hangs_up);
            assert!(waiting.leave(&place).is_some());
        }
        let mut served = Vec::new();
        waiting.announce(&keys.set("/a").expect("a change"), &mut served);
        assert_eq!(served.len(), polls.len());
        for ((event_tx, notice), (_, told)) in served.into_iter().zip(&mut polls) {
            assert!(seen(told).is_empty());
            event_tx.send(notice).expect("it listens");
            assert_eq!(seen(told), [StoreIndex(1)]);
        }
    }

    /// As many as may wait come to one key after the other, and all but one of each go again.
    #[test]
    fn a_queue_keeps_no_memory_for_those_who_are_gone() {
        const EACH: usize = 5_000;
        let (keys, mut waiting) = (Keys::new(), Waiting::default());
        let mut stay = Vec::new();
        for key in 0..20 {
            let access = access(&format!("/k{key}"), false);
            let mut polls: Vec<_> =
                (0..EACH).map(|_| enter(&mut waiting, &access, keys.next(), false)).collect();
            stay.extend(polls.pop());
            // From the first on, which would move all others each time if none of the places stayed empty.
            for (place, _) in polls {
                assert!(waiting.leave(&place).is_some());
            }
        }
        is_whole(&waiting, stay.len());
        let room: usize = waiting.queues.values().map(|queue| queue.places.capacity()).sum();
        assert!(room <= 20 * 8, "{room} places for 20 watchers");
    }

    #[test]
    fn queues_that_events_have_emptied_are_kept_up_to_a_limit() {
        // Of many polls each; and of keys as long as keys may be, for one poll each.
        for (path, polls) in [("/k".to_owned(), 1000), (format!("/{}", "k".repeat(16_000)), 1)] {
            let (mut keys, mut waiting) = (Keys::new(), Waiting::default());
            for number in 0..600 {
                let path = format!("{path}{number}");
                let access = access(&path, false);
                let polls: Vec<_> =
                    (0..polls).map(|_| enter(&mut waiting, &access, keys.next(), false)).collect();
                tell(&mut waiting, &keys.set(&path).expect("a change"));
                drop(polls);
                is_whole(&waiting, 0);
            }
            let kept = waiting.queues.iter().map(|(target, queue)| queue.bytes(target)).sum();
            assert!((KEPT_BYTES_MAX / 2..=KEPT_BYTES_MAX).contains(&kept), "{kept}");
        }
    }
}
