//! What waits to be read on one stream of watchers.
//!
//! Owns: the queue between those who announce changes and the one who reads. Never knows: who watches what.
//! Holds: the queue is bounded. A watcher whose change finds no room falls out, with the revision from which it must look into the
//! history; what was queued for it before stays, and it is not told to the reader before that is read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::base::lock;
use crate::mvcc::Revision;
use crate::replica::v3::watch::notice::Notice;
use crate::replica::v3::watch::watchers::{Place, Watcher};

/// Deliveries that may wait on a stream. Enough for one change that ten thousand watchers of one stream see.
const DELIVERIES_MAX: usize = 16_384;

/// Bytes of events that may wait on a stream. Streams that see the same share them.
const BYTES_MAX: usize = 2 << 20;

/// Something for one watcher of the stream, or for all.
#[derive(Debug)]
pub(super) enum Delivery {
    /// Events.
    Events {
        /// For whom.
        place: Place,
        /// What the stream calls it.
        id: i64,
        notice: Arc<Notice>,
        /// What the store's revision was when this was queued.
        now: Revision,
        /// What was counted for it.
        bytes: usize,
    },
    /// Everything up to here is queued; `None` says so of all watchers of the stream.
    Progress { watcher: Option<(Place, i64)>, now: Revision },
}

/// A watcher that finds the rest in the history, from this revision on.
pub(super) type Fallen = (Arc<Watcher>, Revision);

/// The queue of one stream.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    pub(super) news: Notify,
    /// Events that wait on all streams.
    pending: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Waiting {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    fallen: Vec<Fallen>,
}

/// What a reader gets.
pub(super) enum Taken {
    Delivery(Delivery),
    /// All that was queued has been read.
    Fallen(Vec<Fallen>),
    Nothing,
}

impl Outbox {
    /// An empty one; `pending` counts the events that wait on all streams.
    pub(super) fn new(pending: Arc<AtomicUsize>) -> Self {
        Self { waiting: Mutex::default(), news: Notify::new(), pending }
    }

    /// Queues what watchers of this stream see of a revision; the stores's revision is `now`. Returns whether there was room for
    /// each.
    pub(super) fn deliver<'a>(
        &self,
        seen: impl Iterator<Item = (&'a Arc<Watcher>, Arc<Notice>)>,
        now: Revision,
        mut fell: impl FnMut(&'a Arc<Watcher>),
    ) {
        let mut waiting = self.lock();
        for (watcher, notice) in seen {
            let full = waiting.deliveries.len() >= DELIVERIES_MAX || waiting.bytes >= BYTES_MAX;
            if full {
                waiting.fallen.push((Arc::clone(watcher), notice.revision));
                fell(watcher);
                continue;
            }
            let shared = waiting.deliveries.back().is_some_and(|last| {
                matches!(last, Delivery::Events { notice: before, .. } if Arc::ptr_eq(before, &notice))
            });
            let bytes = if shared { 0 } else { notice.bytes };
            waiting.bytes += bytes;
            self.pending.fetch_add(notice.events.len(), Ordering::Relaxed);
            let (place, id) = (watcher.place, watcher.id);
            waiting.deliveries.push_back(Delivery::Events { place, id, notice, now, bytes });
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// A watcher must look into the history from `from` on.
    pub(super) fn fall(&self, watcher: Arc<Watcher>, from: Revision) {
        self.lock().fallen.push((watcher, from));
        self.news.notify_one();
    }

    /// Says behind everything that is queued that this was all until now; of one watcher, or of all of the stream. `false`, and
    /// nothing is said, if one of those it is said of has fallen out.
    pub(super) fn say_progress(&self, watcher: Option<(Place, i64)>, now: Revision) -> bool {
        let mut waiting = self.lock();
        let concerned =
            |(fallen, _): &Fallen| watcher.is_none_or(|(place, _)| fallen.place == place);
        if waiting.fallen.iter().any(concerned) {
            return false;
        }
        waiting.deliveries.push_back(Delivery::Progress { watcher, now });
        true
    }

    pub(super) fn take(&self) -> Taken {
        let mut waiting = self.lock();
        if let Some(delivery) = waiting.deliveries.pop_front() {
            if let Delivery::Events { bytes, notice, .. } = &delivery {
                waiting.bytes -= bytes;
                self.pending.fetch_sub(notice.events.len(), Ordering::Relaxed);
            }
            return Taken::Delivery(delivery);
        }
        if waiting.fallen.is_empty() {
            return Taken::Nothing;
        }
        Taken::Fallen(std::mem::take(&mut waiting.fallen))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing below panics half-way.
        lock(&self.waiting)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let unread = self
            .lock()
            .deliveries
            .iter()
            .map(|delivery| match delivery {
                Delivery::Events { notice, .. } => notice.events.len(),
                Delivery::Progress { .. } => 0,
            })
            .sum();
        self.pending.fetch_sub(unread, Ordering::Relaxed);
    }
}
