//! Live watchers: history first, then the channel, without a gap.
//!
//! Owns: who waits for which key. Never knows: how an event is rendered, who the client is.
//! Holds: a watcher gets every event its filter sees from its first index on, once each, in order. One that reads too
//! slowly goes back to the history; only when that no longer reaches back does its stream end. Nobody is dropped in silence.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::model::{KeyPath, LogTime, Refusal, Reply, StoreIndex, Unavailable};
use crate::raft::{Observer, View};
use crate::store::{Event, Filter, Found, Members, Scan};

/// Events a stream may lag behind before it reads from the history again.
const EVENTS_BUFFERED: usize = 64;

/// An event on its way to watchers; whoever shows it first renders it for all.
#[derive(Debug)]
pub struct Notice {
    /// What happened.
    pub event: Arc<Event>,
    rendered: OnceLock<Bytes>,
}

impl Notice {
    fn new(event: Arc<Event>) -> Arc<Self> {
        Arc::new(Self { event, rendered: OnceLock::new() })
    }

    /// The rendering, made by `render` the first time. All callers must render alike.
    pub fn body(&self, render: impl FnOnce(&Event) -> Bytes) -> Bytes {
        self.rendered.get_or_init(|| render(&self.event)).clone()
    }
}

/// All watchers of a member; also where freshly applied entries are announced.
#[derive(Debug)]
pub struct Hub {
    waiting: Mutex<Waiting>,
    /// `waiting.entries.len()`, readable without the lock.
    count: AtomicUsize,
    requests: AtomicU64,
    view: ArcSwapOption<View>,
    next_deadline: watch::Sender<Option<LogTime>>,
    members: watch::Sender<Members>,
    watchers_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By key and then by registration, so that the watchers below a directory are a range.
    entries: BTreeMap<(KeyPath, u64), Entry>,
    registered: u64,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    recursive: bool,
    from: StoreIndex,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Once(oneshot::Sender<Arc<Notice>>),
    Stream(mpsc::Sender<Arc<Notice>>),
}

impl Hub {
    /// A hub without watchers that lets at most `watchers_max` wait.
    pub fn new(watchers_max: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            count: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            view: ArcSwapOption::empty(),
            next_deadline: watch::Sender::new(None),
            members: watch::Sender::new(Members::default()),
            watchers_max,
        })
    }

    /// How many wait. Wire: `watchers`.
    pub fn watchers(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many watches were asked for. Wire: `etcd_debugging_store_watch_requests_total`.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// When the next key dies; changes whenever that does.
    pub(super) fn next_deadline(&self) -> watch::Receiver<Option<LogTime>> {
        self.next_deadline.subscribe()
    }

    /// The facts of the cluster; changes whenever one is recorded.
    pub(super) fn members(&self) -> watch::Receiver<Members> {
        self.members.subscribe()
    }

    /// Ends every watch cleanly and refuses new ones.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let entries = std::mem::take(&mut waiting.entries);
        self.count.store(0, Ordering::Relaxed);
        drop(waiting);
        drop(entries);
    }

    /// Starts a watch at `view`, or at whatever is newer.
    ///
    /// `from` is the first index of interest; `None` means from the next change on. The reply's index is the store's when
    /// the watch began.
    ///
    /// # Errors
    /// [`Unavailable::TooManyWatchers`], [`Unavailable::Stopped`]; in the reply [`Refusal::HistoryCleared`].
    pub fn watch(
        self: &Arc<Self>,
        view: &View,
        filter: Filter,
        from: Option<StoreIndex>,
        stream: bool,
    ) -> Result<Reply<Watch>, Unavailable> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let index = view.store.index();
        let mut watch = Watch {
            hub: Arc::clone(self),
            next: from.unwrap_or(index.next()),
            filter,
            stream,
            source: Source::History,
        };
        let outcome = match watch.look_up(view) {
            Ok(()) => Ok(watch),
            Err(Missed::Cleared(refusal)) => Err(refusal),
            Err(Missed::Unavailable(why)) => return Err(why),
        };
        Ok(Reply { index, outcome })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing below panics half-way, so a poisoned lock still guards a whole map.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, place: &(KeyPath, u64)) {
        let mut waiting = self.lock();
        let entry = waiting.entries.remove(place);
        self.count.store(waiting.entries.len(), Ordering::Relaxed);
        drop(waiting);
        drop(entry);
    }

    fn announce(&self, events: &[Arc<Event>]) {
        let mut waiting = self.lock();
        for event in events {
            waiting.announce(event);
        }
        self.count.store(waiting.entries.len(), Ordering::Relaxed);
    }
}

impl Observer for Hub {
    fn published(&self, view: &Arc<View>, events: &[Arc<Event>]) {
        self.show(view);
        // A registration raises the count and then looks at `view`; this stores `view` and then looks at the count. The
        // fences make sure that one of the two sees the other.
        fence(Ordering::SeqCst);
        if !events.is_empty() && self.count.load(Ordering::Relaxed) > 0 {
            self.announce(events);
        }
    }

    /// Everybody who waits searches the history of the new state: there is what they would have been told.
    fn replaced(&self, view: &Arc<View>) {
        self.show(view);
        let mut waiting = self.lock();
        let entries = std::mem::take(&mut waiting.entries);
        self.count.store(0, Ordering::Relaxed);
        drop(waiting);
        drop(entries);
    }
}

impl Hub {
    fn show(&self, view: &Arc<View>) {
        self.view.store(Some(Arc::clone(view)));
        let next = view.store.next_deadline();
        self.next_deadline.send_if_modified(|deadline| {
            let changed = *deadline != next;
            *deadline = next;
            changed
        });
        let members = view.store.members();
        self.members.send_if_modified(|known| {
            let changed = !known.same(members);
            if changed {
                *known = members.clone();
            }
            changed
        });
    }
}

impl Waiting {
    /// Hands `event` to everybody who may see it: watchers of the key, of the keys above, and of those below.
    fn announce(&mut self, event: &Arc<Event>) {
        if self.entries.is_empty() || event.refresh {
            return;
        }
        let mut notice = None;
        for depth in 0..=event.path.depth() {
            let path = event.path.ancestor(depth);
            let range = (path.clone(), 0)..=(path, u64::MAX);
            self.hand_over(range, event, &mut notice);
        }
        if event.action.removes() && event.node.dir {
            // Keys below `/d` are those from `/d/` up to, but not including, `/d0`: `0` follows `/`.
            let below = [event.path.as_bytes(), b"/"].concat();
            let beyond = [event.path.as_bytes(), b"0"].concat();
            let range = (
                Bound::Included((KeyPath::from_stored(&below), 0)),
                Bound::Excluded((KeyPath::from_stored(&beyond), 0)),
            );
            self.hand_over(range, event, &mut notice);
        }
    }

    fn hand_over(
        &mut self,
        range: impl std::ops::RangeBounds<(KeyPath, u64)>,
        event: &Arc<Event>,
        notice: &mut Option<Arc<Notice>>,
    ) {
        let mut done = Vec::new();
        for (place, entry) in self.entries.range(range) {
            let filter = Filter { path: place.0.clone(), recursive: entry.recursive };
            if event.index < entry.from || !filter.sees(event) {
                continue;
            }
            let notice = notice.get_or_insert_with(|| Notice::new(Arc::clone(event)));
            match &entry.sink {
                Sink::Once(_) => done.push(place.clone()),
                // A full buffer: the watcher reads on from the history. A closed one: it is gone.
                Sink::Stream(events_tx) => {
                    if events_tx.try_send(Arc::clone(notice)).is_err() {
                        done.push(place.clone());
                    }
                }
            }
        }
        for place in done {
            if let Some(Entry { sink: Sink::Once(event_tx), .. }) = self.entries.remove(&place)
                && let Some(notice) = notice
            {
                // It may have hung up; then nobody misses the event.
                let _ = event_tx.send(Arc::clone(notice));
            }
        }
    }
}

/// One watch under way.
#[derive(Debug)]
pub struct Watch {
    hub: Arc<Hub>,
    filter: Filter,
    /// The first index that was not looked at yet.
    next: StoreIndex,
    stream: bool,
    source: Source,
}

/// Where a watch's next event comes from.
#[derive(Debug)]
enum Source {
    History,
    Found(Arc<Event>),
    Once(oneshot::Receiver<Arc<Notice>>, (KeyPath, u64)),
    Stream(mpsc::Receiver<Arc<Notice>>, (KeyPath, u64)),
    Ended,
}

enum Missed {
    Cleared(Refusal),
    Unavailable(Unavailable),
}

impl Watch {
    /// The next event; waits for it. `None` ends the watch: a poll has had its event, the member stops, or the watcher was
    /// so slow that the history no longer reaches back to where it stood.
    pub async fn next(&mut self) -> Option<Arc<Notice>> {
        loop {
            match &mut self.source {
                Source::Ended => return None,
                Source::History => {
                    let view = self.hub.view.load_full()?;
                    self.look_up(&view).ok()?;
                }
                Source::Found(event) => {
                    let notice = Notice::new(Arc::clone(event));
                    return Some(self.deliver(notice, Source::History));
                }
                Source::Once(event_rx, _) => match event_rx.await {
                    Ok(notice) => return Some(self.deliver(notice, Source::Ended)),
                    // The hub is closed, which the history says as well, or a snapshot came.
                    Err(_) => self.source = Source::History,
                },
                Source::Stream(events_rx, _) => match events_rx.recv().await {
                    Some(notice) => {
                        self.next = notice.event.index.next();
                        return Some(notice);
                    }
                    None => self.source = Source::History,
                },
            }
        }
    }

    fn deliver(&mut self, notice: Arc<Notice>, source: Source) -> Arc<Notice> {
        self.next = notice.event.index.next();
        self.source = if self.stream { source } else { Source::Ended };
        notice
    }

    /// Searches the history up to `view`, then goes live; what came in between is searched under the lock.
    fn look_up(&mut self, view: &View) -> Result<(), Missed> {
        if self.search(view)? {
            return Ok(());
        }
        let hub = Arc::clone(&self.hub);
        let mut waiting = hub.lock();
        if waiting.closed {
            return Err(Missed::Unavailable(Unavailable::Stopped));
        }
        if waiting.entries.len() >= hub.watchers_max {
            return Err(Missed::Unavailable(Unavailable::TooManyWatchers));
        }
        // Counted before the newest view is looked at: see `published`.
        hub.count.store(waiting.entries.len() + 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if let Some(newest) = hub.view.load_full()
            && self.search(&newest)?
        {
            hub.count.store(waiting.entries.len(), Ordering::Relaxed);
            return Ok(());
        }
        waiting.registered += 1;
        let place = (self.filter.path.clone(), waiting.registered);
        let (sink, source) = if self.stream {
            let (events_tx, events_rx) = mpsc::channel(EVENTS_BUFFERED);
            (Sink::Stream(events_tx), Source::Stream(events_rx, place.clone()))
        } else {
            let (event_tx, event_rx) = oneshot::channel();
            (Sink::Once(event_tx), Source::Once(event_rx, place.clone()))
        };
        let entry = Entry { recursive: self.filter.recursive, from: self.next, sink };
        waiting.entries.insert(place, entry);
        drop(waiting);
        self.source = source;
        Ok(())
    }

    /// `true` when the history has the next event.
    fn search(&mut self, view: &View) -> Result<bool, Missed> {
        let scan = Scan { from: self.next, filter: &self.filter };
        match view.store.history().find(scan) {
            Ok(Found::Event(event)) => {
                self.source = Source::Found(event);
                Ok(true)
            }
            Ok(Found::NoneBefore(next)) => {
                self.next = next;
                Ok(false)
            }
            Err(refusal) => Err(Missed::Cleared(refusal)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        match &self.source {
            Source::Once(_, place) | Source::Stream(_, place) => self.hub.forget(place),
            Source::History | Source::Found(_) | Source::Ended => {}
        }
    }
}
