//! The live watchers of a member, and where freshly applied entries are announced to them.
//!
//! Owns: who waits for which key of v2; those of v3 are told by a hub of their own (`v3/watch`). Never knows: the history, how an event is rendered, who the client is.
//! Holds: a registered watcher gets every event that its filter sees from its first index on, once each, in order, until its
//! channel ends; it ends when the watcher reads too slowly, when a snapshot takes the place of the state, when the right to what
//! it waits for is lost, and at a stop.

mod waiting;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::base::lock;
use crate::model::{Clock, LogTime, StoreIndex, Unavailable};
use crate::mvcc::LeaseId;
use crate::raft::{Observer, View};
use crate::replica::hub::waiting::{Entry, Place, Served, Sink, Target, Waiting};
use crate::replica::v3::watch::WatchHub;
use crate::replica::v3::{Lessor, seconds};
use crate::store::{Access, Asker, Event, Members};

/// Events a stream may lag behind before it reads from the history again.
const EVENTS_BUFFERED: usize = 64;

/// An event on its way to watchers; the first that shows it renders it for all.
#[derive(Debug)]
pub struct Notice {
    /// What happened.
    pub event: Arc<Event>,
    rendered: OnceLock<Bytes>,
}

impl Notice {
    pub(super) fn new(event: Arc<Event>) -> Arc<Self> {
        Arc::new(Self { event, rendered: OnceLock::new() })
    }

    /// The rendering, made by `render` the first time. All callers must render alike.
    pub fn body(&self, render: impl FnOnce(&Event) -> Bytes) -> Bytes {
        self.rendered.get_or_init(|| render(&self.event)).clone()
    }
}

/// All watchers of a member.
#[derive(Debug)]
pub struct Hub {
    watchers: Mutex<Watchers>,
    /// Long polls that have their event and are woken when its writer has been answered. The thread that applies fills it and
    /// empties it.
    served: Mutex<Vec<Served>>,
    /// `watchers.waiting.watchers()`, readable without the lock.
    count: AtomicUsize,
    requests: AtomicU64,
    refused: AtomicU64,
    missed: AtomicU64,
    view: Arc<ArcSwapOption<View>>,
    v3: Arc<WatchHub>,
    lessor: Lessor,
    next_deadline: watch::Sender<Option<LogTime>>,
    members: watch::Sender<Members>,
    watchers_max: usize,
    /// What the rights of the waiting watchers were last decided on.
    auth: AtomicU64,
}

#[derive(Debug, Default)]
struct Watchers {
    waiting: Waiting,
    closed: bool,
}

/// How many events a watcher wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The next one.
    Once,
    /// All.
    Stream,
}

impl Hub {
    /// A hub without watchers that lets at most `watchers_max` wait, and as many of v3.
    pub fn new(watchers_max: usize, clock: Arc<dyn Clock>) -> Arc<Self> {
        let view = Arc::new(ArcSwapOption::empty());
        Arc::new(Self {
            v3: WatchHub::new(Arc::clone(&view), watchers_max),
            lessor: Lessor::new(clock),
            watchers: Mutex::default(),
            served: Mutex::default(),
            count: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            view,
            next_deadline: watch::Sender::new(None),
            members: watch::Sender::new(Members::default()),
            watchers_max,
            auth: AtomicU64::new(0),
        })
    }

    /// The watchers of v3.
    pub fn v3(&self) -> &Arc<WatchHub> {
        &self.v3
    }

    /// The deadlines of leases.
    pub(super) fn lessor(&self) -> &Lessor {
        &self.lessor
    }

    /// How many wait. Wire: `watchers`.
    pub fn watchers(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many may wait.
    pub fn watchers_max(&self) -> usize {
        self.watchers_max
    }

    /// How many watches were refused because so many wait.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn count_missed(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many watches wanted events that the history no longer had.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
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
        let mut watchers = self.lock();
        watchers.closed = true;
        self.v3.close();
        let waiting = std::mem::take(&mut watchers.waiting);
        self.count.store(0, Ordering::Relaxed);
        drop(watchers);
        drop(waiting);
    }

    /// The newest view; `None` before the first.
    pub(super) fn newest(&self) -> Option<Arc<View>> {
        self.view.load_full()
    }

    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Goes live with a watcher, unless `search` finds what it waits for in the newest view.
    ///
    /// `search` looks at that view and says from which index on nothing was seen yet, or `None` when the watcher's event is
    /// there. It runs under the lock: what is announced later comes by the channel, what was announced before is in the view.
    ///
    /// # Errors
    /// What `search` returns; [`Unavailable::TooManyWatchers`], [`Unavailable::Stopped`].
    pub(super) fn register<E: From<Unavailable>>(
        self: &Arc<Self>,
        access: &Access,
        asker: &Asker,
        kind: Kind,
        search: impl FnOnce(Option<&View>) -> Result<Option<StoreIndex>, E>,
    ) -> Result<Option<Registration>, E> {
        let mut watchers = self.lock();
        if watchers.closed {
            return Err(Unavailable::Stopped.into());
        }
        let count = watchers.waiting.watchers();
        if count >= self.watchers_max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Unavailable::TooManyWatchers.into());
        }
        // Counted before the newest view is looked at: see `published`.
        self.count.store(count + 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let from = match search(self.newest().as_deref()) {
            Ok(Some(from)) => from,
            other => {
                self.count.store(count, Ordering::Relaxed);
                return other.map(|_| None);
            }
        };
        let (sink, feed) = match kind {
            Kind::Once => {
                let (event_tx, event_rx) = oneshot::channel();
                (Sink::Once(event_tx), Feed::Once(event_rx))
            }
            Kind::Stream => {
                let (events_tx, events_rx) = mpsc::channel(EVENTS_BUFFERED);
                (Sink::Stream(events_tx), Feed::Stream(events_rx))
            }
        };
        let entry = Entry { slash: access.slash, asker: asker.clone(), from, sink };
        let place = watchers.waiting.enter(Target::of(access), entry);
        drop(watchers);
        Ok(Some(Registration { hub: Arc::clone(self), place, feed, ended: false }))
    }

    fn lock(&self) -> MutexGuard<'_, Watchers> {
        // Nothing below panics half-way, so a poisoned lock still guards a whole map.
        lock(&self.watchers)
    }

    fn forget(&self, place: &Place) {
        let mut watchers = self.lock();
        let entry = watchers.waiting.leave(place);
        self.count.store(watchers.waiting.watchers(), Ordering::Relaxed);
        drop(watchers);
        drop(entry);
    }

    /// Takes out the watchers that have lost the right to what they wait for. They look into the history next, and end there.
    ///
    /// This is the only time that a waiting watcher's right costs anything: a walk over all of them when users or roles change.
    fn cut(&self, view: &View) {
        let mut watchers = self.lock();
        let lost = watchers.waiting.leave_unless(|asker, access| view.store.allows(asker, access));
        self.count.store(watchers.waiting.watchers(), Ordering::Relaxed);
        drop(watchers);
        drop(lost);
    }

    fn announce(&self, events: &[Arc<Event>]) {
        let mut served = lock(&self.served);
        let mut watchers = self.lock();
        for event in events {
            watchers.waiting.announce(event, &mut served);
        }
        self.count.store(watchers.waiting.watchers(), Ordering::Relaxed);
    }
}

impl Observer for Hub {
    fn published(&self, view: &Arc<View>, events: &[Arc<Event>]) {
        let rights_changed = self.show(view);
        // A registration raises the count and then looks at `view`; this stores `view` and then looks at the count. The
        // fences make sure that one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Before the events: those behind the change of rights must not get out, and they cannot be told from those before it.
        if rights_changed {
            self.cut(view);
        }
        if !events.is_empty() {
            self.announce(events);
        }
    }

    fn answered(&self) {
        for (event_tx, notice) in std::mem::take(&mut *lock(&self.served)) {
            // The watcher may have hung up; then the event is not missed.
            let _ = event_tx.send(notice);
        }
    }

    fn lease_granted(&self, lease: LeaseId, ttl_s: i64) {
        self.lessor.granted(lease, seconds(ttl_s));
    }

    /// Every waiting watcher searches the history of the new state: what it would have been told is there.
    fn replaced(&self, view: &Arc<View>) {
        self.show(view);
        let mut watchers = self.lock();
        let waiting = std::mem::take(&mut watchers.waiting);
        self.count.store(0, Ordering::Relaxed);
        drop(watchers);
        drop(waiting);
    }
}

/// A live watcher. Dropping it takes it out of the hub.
#[derive(Debug)]
pub(super) struct Registration {
    hub: Arc<Hub>,
    place: Place,
    feed: Feed,
    /// The hub has taken it out itself.
    ended: bool,
}

#[derive(Debug)]
enum Feed {
    Once(oneshot::Receiver<Arc<Notice>>),
    Stream(mpsc::Receiver<Arc<Notice>>),
}

impl Registration {
    /// The next event. `None` when no more come this way: the hub is closed, a snapshot came, the right to it was lost, or the
    /// watcher read too slowly; the history knows more.
    pub(super) async fn next(&mut self) -> Option<Arc<Notice>> {
        match &mut self.feed {
            Feed::Once(event_rx) => {
                let event = event_rx.await.ok();
                self.ended = true;
                event
            }
            Feed::Stream(events_rx) => {
                let event = events_rx.recv().await;
                self.ended = event.is_none();
                event
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.ended {
            self.hub.forget(&self.place);
        }
    }
}

impl Hub {
    /// Returns whether users, roles or the flag changed.
    fn show(&self, view: &Arc<View>) -> bool {
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
        self.v3.published(view);
        let auth = view.store.auth().revision().0;
        self.auth.swap(auth, Ordering::Relaxed) != auth
    }
}

#[cfg(test)]
mod tests;
