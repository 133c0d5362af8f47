//! Who hears of changes as they happen.
//!
//! Owns: the live watchers of all streams, and how far they have been told. Never knows: how an event is rendered, who the client
//! is, what a stream has yet to read.
//! Holds: a live watcher has been told of every change that it wants up to [`Live::position`], from its first revision on, once and
//! in order, or it has fallen out with the revision from which it was not.
//!
//! The thread that applies entries only says that there is something new. A task of its own reads the changes from the history of
//! the newest view, as a watcher from the past does, and hands them out: so a writer never waits for watchers, nothing queues up
//! between the two, and a snapshot that takes the place of the state needs no other way.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::base::lock;
use crate::mvcc::Revision;
use crate::raft::View;
use crate::replica::v3::watch::history;
use crate::replica::v3::watch::outbox::Outbox;
use crate::replica::v3::watch::watchers::{Hit, Place, Watcher, Watchers};

/// Revisions that are handed out before others get the lock.
const REVISIONS_A_TIME: usize = 256;

/// Deliveries after which others get the lock.
const DELIVERIES_A_TIME: usize = 8192;

/// The watchers of a member.
#[derive(Debug)]
pub struct WatchHub {
    live: Mutex<Live>,
    /// `live.watchers.len()`, readable without the lock.
    live_count: AtomicUsize,
    /// The watchers of all streams, wherever they stand.
    watchers: AtomicUsize,
    watchers_max: usize,
    streams: AtomicUsize,
    /// Streams that there ever were.
    streams_total: AtomicU64,
    refused: AtomicU64,
    /// Events that wait to be read by streams.
    pending: Arc<AtomicUsize>,
    /// Events that streams were told.
    told: AtomicU64,
    /// The newest revision that was published.
    revision: AtomicU64,
    view: Arc<ArcSwapOption<View>>,
    news: Notify,
    closed: CancellationToken,
}

/// Those who are told of changes as they happen.
#[derive(Debug, Default)]
pub(super) struct Live {
    watchers: Watchers,
    /// They have been told of everything up to here.
    position: Revision,
}

impl WatchHub {
    /// A hub without watchers that lets at most `watchers_max` wait; `view` is where the newest state appears.
    pub(in crate::replica) fn new(
        view: Arc<ArcSwapOption<View>>,
        watchers_max: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            live: Mutex::default(),
            live_count: AtomicUsize::new(0),
            watchers: AtomicUsize::new(0),
            watchers_max,
            streams: AtomicUsize::new(0),
            streams_total: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            pending: Arc::default(),
            told: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            view,
            news: Notify::new(),
            closed: CancellationToken::new(),
        })
    }

    /// How many watchers there are. Wire: `etcd_debugging_mvcc_watcher_total`.
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    /// How many of them are behind. Wire: `etcd_debugging_mvcc_slow_watcher_total`.
    pub fn slow_watchers(&self) -> usize {
        self.watchers().saturating_sub(self.live_count.load(Ordering::Relaxed))
    }

    /// How many streams there are. Wire: `etcd_debugging_mvcc_watch_stream_total`.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// How many events wait until streams have read what was before. Wire: `etcd_debugging_mvcc_pending_events_total`.
    pub fn events_pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// How many events streams were told. Wire: `etcd_debugging_mvcc_events_total`.
    pub fn events_told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    pub(super) fn pending(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.pending)
    }

    /// A stream was told so many events.
    pub(super) fn told(&self, events: usize) {
        self.told.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// How many watchers were refused because there are so many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Ends all streams, and those to come.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Waits until the member stops: streams of all kinds are to end.
    pub async fn until_closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// A new view can be seen. Costs one comparison where nothing changed in the v3 key space, or nobody watches it.
    pub(in crate::replica) fn published(&self, view: &View) {
        let now = view.store.mvcc().revision().0;
        if self.revision.load(Ordering::Relaxed) == now {
            return;
        }
        self.revision.store(now, Ordering::Relaxed);
        // Whoever goes live raises the count and then looks at the newest view; the view was stored, and this looks at the count.
        // The fences make sure that one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.live_count.load(Ordering::Relaxed) > 0 {
            self.news.notify_one();
        }
    }

    /// Hands out what is published, for as long as the member runs.
    pub async fn hand_out(self: Arc<Self>) {
        loop {
            self.news.notified().await;
            while !self.hand_out_some() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// `true` when all is handed out.
    pub(super) fn hand_out_some(&self) -> bool {
        let mut live = self.lock();
        let done = self.advance(&mut live);
        self.live_count.store(live.watchers.len(), Ordering::Relaxed);
        done
    }

    /// Tells live watchers what they do not know yet, up to a limit. `true` when they know all that the newest view does.
    fn advance(&self, live: &mut Live) -> bool {
        let Some(view) = self.newest() else { return true };
        let mvcc = view.store.mvcc();
        let now = mvcc.revision();
        if live.watchers.is_empty() {
            live.position = live.position.max(now);
        }
        if live.position >= now {
            return true;
        }
        let Ok(revisions) = history::since(mvcc, live.position.next(), REVISIONS_A_TIME) else {
            // They slept through a compaction, or a snapshot came: each looks for itself what is left.
            for watcher in live.watchers.take_all() {
                let from = watcher.from.max(live.position.next());
                let outbox = Arc::clone(&watcher.outbox);
                outbox.fall(watcher, from);
            }
            live.position = now;
            return true;
        };
        let mut deliveries = 0;
        for revised in revisions {
            let hits = live.watchers.hits(&revised);
            deliveries += hits.len();
            for watcher in deliver(hits, now) {
                live.watchers.remove(&watcher);
            }
            live.position = revised.revision;
            if deliveries >= DELIVERIES_A_TIME {
                break;
            }
        }
        live.position >= now
    }

    pub(super) fn newest(&self) -> Option<Arc<View>> {
        self.view.load_full()
    }

    /// Goes live with watchers that know everything up to `known`; else, where live watchers have been told of more, nothing is
    /// done. Returns what their streams call them.
    pub(super) fn go_live(&self, watchers: &mut Watchers, known: Revision) -> Option<Vec<i64>> {
        let mut live = self.lock();
        // Counted before the newest view is looked at: see `published`.
        self.live_count.store(live.watchers.len() + watchers.len(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.wake(&mut live);
        let mut ids = None;
        if live.position <= known {
            let mut gone_live = Vec::with_capacity(watchers.len());
            for watcher in watchers.take_all() {
                gone_live.push(watcher.id);
                // What comes between the two positions they know already.
                let knows = watcher.from <= known && live.position < known;
                live.watchers.insert(if knows { watcher.at(known.next()) } else { watcher });
            }
            ids = Some(gone_live);
        }
        self.live_count.store(live.watchers.len(), Ordering::Relaxed);
        ids
    }

    /// Goes live with a watcher, unless live watchers have been told already of what it wants to see first.
    pub(super) fn go_live_from(&self, watcher: &Arc<Watcher>) -> bool {
        let mut live = self.lock();
        self.live_count.store(live.watchers.len() + 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.wake(&mut live);
        let to_come = watcher.from > live.position;
        if to_come {
            live.watchers.insert(Arc::clone(watcher));
        }
        self.live_count.store(live.watchers.len(), Ordering::Relaxed);
        to_come
    }

    /// Where nobody is live, nobody has been told of anything: the position is that of the newest view.
    fn wake(&self, live: &mut Live) {
        if live.watchers.is_empty()
            && let Some(view) = self.newest()
        {
            live.position = live.position.max(view.store.mvcc().revision());
        }
    }

    /// Takes live watchers out; those that are not live are passed over.
    pub(super) fn forget<'a>(&self, watchers: impl Iterator<Item = &'a Arc<Watcher>>) {
        let mut live = self.lock();
        for watcher in watchers {
            live.watchers.remove(watcher);
        }
        self.live_count.store(live.watchers.len(), Ordering::Relaxed);
    }

    /// Says on a stream, behind all that it is told, up to where that is everything: of one of its watchers, or of all. `false`
    /// when that cannot be said, because one of them has fallen behind.
    pub(super) fn say_progress(&self, outbox: &Outbox, watcher: Option<(Place, i64)>) -> bool {
        let mut live = self.lock();
        self.advance(&mut live);
        self.live_count.store(live.watchers.len(), Ordering::Relaxed);
        outbox.say_progress(watcher, live.position)
    }

    /// Makes room for one more watcher of a stream.
    pub(super) fn admit(&self) -> bool {
        let max = self.watchers_max;
        let more = |count: usize| (count < max).then_some(count + 1);
        let admitted =
            self.watchers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !admitted {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// So many watchers are gone.
    pub(super) fn dismiss(&self, count: usize) {
        self.watchers.fetch_sub(count, Ordering::Relaxed);
    }

    /// A stream begins; its number is never used again.
    pub(super) fn open_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.streams_total.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn close_stream(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        // Nothing below panics half-way, so a poisoned lock still guards whole maps.
        lock(&self.live)
    }
}

/// Queues hits on the streams that they are for. Returns those for which there was no room.
fn deliver(hits: Vec<Hit<'_>>, now: Revision) -> Vec<Arc<Watcher>> {
    let mut fallen = Vec::new();
    let same_stream = |one: &Hit<'_>, other: &Hit<'_>| one.watcher.place.0 == other.watcher.place.0;
    for hits in hits.chunk_by(same_stream) {
        let outbox = &hits[0].watcher.outbox;
        let seen = hits.iter().map(|hit| (hit.watcher, Arc::clone(&hit.notice)));
        outbox.deliver(seen, now, |watcher| fallen.push(Arc::clone(watcher)));
    }
    fallen
}
