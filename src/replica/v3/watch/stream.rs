//! One stream of watchers: its reader gets what all of them see.
//!
//! Owns: where each watcher of the stream stands: live, or looking into the history. Never knows: how anything is rendered.
//! Holds: each watcher is told of every change that it wants from its first revision on, once, in order, and of all changes of one
//! revision at once; until it is cancelled, or a compaction has overtaken it, which it is told.
//!
//! ```text
//! created ──► yet to come? ── yes ─► live ──► the outbox, as things happen
//!                │ no                 │  ▲
//!                ▼                    │  │ knows all that live watchers have been told
//!             history ◄── no room ────┘  │
//!                └── some revisions at a time, whenever the reader has read everything else
//! ```
//!
//! It is no task of its own: all work is done by whoever waits for [`WatchStream::next`], and only while there is room for what it
//! finds. A reader that does not read costs what its outbox holds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::SplitMix;
use crate::mvcc::{KeyRange, Revision};
use crate::replica::v3::watch::history;
use crate::replica::v3::watch::hub::WatchHub;
use crate::replica::v3::watch::notice::{Notice, Revised};
use crate::replica::v3::watch::outbox::{Delivery, Outbox, Taken};
use crate::replica::v3::watch::watchers::{Hit, Place, Wants, Watcher, Watchers};

/// Revisions of the history that are looked at before others get a turn.
const REVISIONS_A_TIME: usize = 512;

/// What a look into the history may find before it is read.
const FOUND_MAX: usize = 1024;

/// And in bytes.
const FOUND_BYTES_MAX: usize = 1 << 20;

/// What is to be watched.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the stream shall call the watcher; zero where it may choose.
    pub id: i64,
    /// The keys.
    pub range: KeyRange,
    /// The first revision of interest; none: whatever comes next.
    pub from: Option<Revision>,
    /// What is of interest.
    pub wants: Wants,
    /// Say now and then how far it is when there is nothing to tell.
    pub progress: bool,
}

/// Why there is no such watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchRefusal {
    /// The stream has a watcher of this name.
    DuplicateId,
    /// No key can be in the range.
    EmptyRange,
    /// There are as many watchers on this member as may be.
    TooMany,
}

/// A watcher that was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// What the stream calls it.
    pub id: i64,
    /// The store's revision then.
    pub now: Revision,
}

/// What the reader of a stream gets.
#[derive(Clone, Debug)]
pub enum Told {
    /// What one watcher sees of one revision, or of several that were there before it was created.
    Events {
        /// Which watcher.
        id: i64,
        /// What it sees.
        notice: Arc<Notice>,
        /// The store's revision when that was found; not older than the events.
        now: Revision,
    },
    /// A watcher has been told everything up to here; `None`: all of the stream have.
    Progress {
        /// Which watcher.
        id: Option<i64>,
        /// Up to where.
        now: Revision,
    },
    /// A watcher wants what is compacted, and has ended.
    Compacted {
        /// Which watcher.
        id: i64,
        /// What is older is gone.
        compacted: Revision,
    },
}

/// A stream. Dropping it ends its watchers.
#[derive(Debug)]
pub struct WatchStream {
    hub: Arc<WatchHub>,
    number: u64,
    outbox: Arc<Outbox>,
    watchers: BTreeMap<i64, Own>,
    created: u64,
    next_id: i64,
    /// Those that look into the history; they have looked at everything up to `looked`.
    behind: Watchers,
    looked: Revision,
    /// Those that begin further back than `looked`: they wait until the others have gone live.
    waiting: Vec<Arc<Watcher>>,
    /// What they have found, and for whom.
    found: VecDeque<(Place, Told)>,
    found_bytes: usize,
    progress_wanted: bool,
    ticks: Ticks,
}

/// A watcher of this stream.
#[derive(Debug)]
struct Own {
    watcher: Arc<Watcher>,
    live: bool,
    /// It wants to be told how far it is.
    progress: bool,
    /// It has been told nothing since the last tick.
    quiet: bool,
}

/// When watchers are told how far they are.
#[derive(Debug)]
struct Ticks {
    interval: Duration,
    next: Instant,
    /// How many want to know.
    watchers: usize,
}

/// Ticks of many streams are spread over a tenth of the interval.
const SPREAD: u32 = 10;

impl WatchHub {
    /// Begins a stream without watchers. Those that wish so are told every `progress`, roughly, how far they are.
    pub fn stream(self: &Arc<Self>, progress: Duration) -> WatchStream {
        let number = self.open_stream();
        let spread = progress / SPREAD;
        let share = SplitMix::new(number).next() % 1000;
        let interval = progress + spread * u32::try_from(share).unwrap_or_default() / 1000;
        WatchStream {
            hub: Arc::clone(self),
            number,
            outbox: Arc::new(Outbox::new(self.pending())),
            watchers: BTreeMap::new(),
            created: 0,
            next_id: 0,
            behind: Watchers::default(),
            looked: Revision::default(),
            waiting: Vec::new(),
            found: VecDeque::new(),
            found_bytes: 0,
            progress_wanted: false,
            ticks: Ticks { interval, next: Instant::now() + interval, watchers: 0 },
        }
    }
}

impl WatchStream {
    /// How many watchers there are on the stream.
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// Adds a watcher. What it is to be told comes by [`WatchStream::next`], also that it begins too far back.
    ///
    /// # Errors
    /// See [`WatchRefusal`].
    pub fn create(&mut self, wanted: Wanted) -> Result<Created, WatchRefusal> {
        let Wanted { id, range, from, wants, progress } = wanted;
        if id != 0 && self.watchers.contains_key(&id) {
            return Err(WatchRefusal::DuplicateId);
        }
        if range.is_empty() {
            return Err(WatchRefusal::EmptyRange);
        }
        if !self.hub.admit() {
            return Err(WatchRefusal::TooMany);
        }
        let id = if id == 0 { self.choose_id() } else { id };
        self.created += 1;
        let now = self.hub.newest().map_or(Revision::FIRST, |view| view.store.mvcc().revision());
        let (place, outbox) = ((self.number, self.created), Arc::clone(&self.outbox));
        let from = from.unwrap_or(now.next());
        let watcher = Arc::new(Watcher { place, id, range, from, wants, outbox });
        let live = from > now && self.hub.go_live_from(&watcher);
        if !live {
            self.look_back(Arc::clone(&watcher));
        }
        self.watchers.insert(id, Own { watcher, live, progress, quiet: true });
        self.ticks.watchers += usize::from(progress);
        Ok(Created { id, now })
    }

    fn choose_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Takes a watcher out; it is told nothing more. Whether there was one.
    pub fn cancel(&mut self, id: i64) -> bool {
        let Some(own) = self.remove(id) else { return false };
        if own.live {
            self.hub.forget(std::iter::once(&own.watcher));
        } else {
            self.waiting.retain(|waiting| waiting.place != own.watcher.place);
            if self.behind.remove(&own.watcher) && self.behind.is_empty() {
                self.next_turn();
            }
        }
        true
    }

    fn remove(&mut self, id: i64) -> Option<Own> {
        let own = self.watchers.remove(&id)?;
        self.ticks.watchers -= usize::from(own.progress);
        self.hub.dismiss(1);
        Some(own)
    }

    /// Once all watchers have been told everything, say so.
    pub fn want_progress(&mut self) {
        self.progress_wanted = true;
    }

    /// The next thing to tell; waits for it. `None` when the member stops.
    ///
    /// May be dropped and called again; nothing is lost.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if self.hub.closed().is_cancelled() {
                return None;
            }
            if let Some(told) = self.next_now() {
                if let Told::Events { notice, .. } = &told {
                    self.hub.told(notice.events.len());
                }
                return Some(told);
            }
            if !self.behind.is_empty() {
                // It has found nothing yet, and others want to run.
                tokio::task::yield_now().await;
                continue;
            }
            let ticks = self.ticks.watchers > 0;
            tokio::select! {
                biased;
                () = self.hub.closed().cancelled() => return None,
                () = self.outbox.news.notified() => {}
                () = tokio::time::sleep_until(self.ticks.next), if ticks => {}
            }
        }
    }

    /// What can be told at once.
    fn next_now(&mut self) -> Option<Told> {
        if self.ticks.watchers > 0 && Instant::now() >= self.ticks.next {
            self.tick();
        }
        loop {
            if let Some((place, told)) = self.found.pop_front() {
                if let Told::Events { notice, .. } = &told {
                    self.found_bytes -= notice.bytes;
                }
                if let Some(told) = self.still_told(place, told) {
                    return Some(told);
                }
                continue;
            }
            match self.outbox.take() {
                Taken::Delivery(Delivery::Events { place, id, notice, now, .. }) => {
                    let told = self.still_told(place, Told::Events { id, notice, now });
                    if told.is_some() {
                        return told;
                    }
                    continue;
                }
                Taken::Delivery(Delivery::Progress { watcher, now }) => {
                    let Some((place, id)) = watcher else {
                        return Some(Told::Progress { id: None, now });
                    };
                    let told = self.still_told(place, Told::Progress { id: Some(id), now });
                    if told.is_some() {
                        return told;
                    }
                    continue;
                }
                Taken::Fallen(fallen) => self.take_back(fallen),
                Taken::Nothing => {}
            }
            if !self.behind.is_empty() {
                self.look_some();
                if self.found.is_empty() && !self.behind.is_empty() {
                    return None;
                }
            } else if self.progress_wanted {
                // When one has just fallen out, this is tried again once it is live.
                self.progress_wanted = !self.hub.say_progress(&self.outbox, None);
            } else {
                return None;
            }
        }
    }

    /// What is found for a watcher that was cancelled meanwhile is told to nobody.
    fn still_told(&mut self, place: Place, told: Told) -> Option<Told> {
        let (Told::Events { id, .. }
        | Told::Compacted { id, .. }
        | Told::Progress { id: Some(id), .. }) = told
        else {
            return Some(told);
        };
        let own = self.watchers.get_mut(&id).filter(|own| own.watcher.place == place)?;
        match told {
            Told::Events { .. } => own.quiet = false,
            Told::Progress { .. } => {}
            Told::Compacted { .. } => drop(self.remove(id)),
        }
        Some(told)
    }

    /// Watchers for which the outbox had no room.
    fn take_back(&mut self, fallen: Vec<(Arc<Watcher>, Revision)>) {
        for (watcher, from) in fallen {
            let own = self.watchers.get_mut(&watcher.id);
            let Some(own) = own.filter(|own| own.watcher.place == watcher.place) else { continue };
            let watcher = watcher.at(from);
            own.live = false;
            own.watcher = Arc::clone(&watcher);
            self.look_back(watcher);
        }
    }

    /// A watcher finds what it wants in the history.
    fn look_back(&mut self, watcher: Arc<Watcher>) {
        if self.behind.is_empty() {
            self.looked = Revision(watcher.from.0.saturating_sub(1));
        }
        if watcher.from > self.looked {
            self.behind.insert(watcher);
        } else {
            self.waiting.push(watcher);
        }
    }

    /// A look into the history, for all that are behind; at its end they go live.
    fn look_some(&mut self) {
        let Some(view) = self.hub.newest() else { return };
        let mvcc = view.store.mvcc();
        let now = mvcc.revision();
        if let Some(compacted) = mvcc.compacted().filter(|it| self.looked.next() < *it) {
            self.end_compacted(compacted);
        }
        while self.looked < now && self.has_room() {
            let from = self.looked.next();
            let Ok(revisions) = history::since(mvcc, from, REVISIONS_A_TIME) else { return };
            self.looked = revisions.last().map_or(now, |last| last.revision);
            for revised in revisions {
                if !self.has_room() {
                    self.looked = Revision(revised.revision.0 - 1);
                    break;
                }
                self.find(&revised, now);
            }
            if self.found.is_empty() {
                // Others want to run.
                break;
            }
        }
        self.join_found();
        if self.looked >= now
            && let Some(live) = self.hub.go_live(&mut self.behind, self.looked)
        {
            for id in live {
                if let Some(own) = self.watchers.get_mut(&id) {
                    own.live = true;
                }
            }
            self.next_turn();
        }
    }

    fn has_room(&self) -> bool {
        self.found.len() < FOUND_MAX && self.found_bytes < FOUND_BYTES_MAX
    }

    fn find(&mut self, revised: &Revised, now: Revision) {
        for Hit { watcher, notice } in self.behind.hits(revised) {
            self.found_bytes += notice.bytes;
            let told = Told::Events { id: watcher.id, notice, now };
            self.found.push_back((watcher.place, told));
        }
    }

    /// Each watcher is told at once what one look has found for it.
    fn join_found(&mut self) {
        let mut each = BTreeMap::<Place, (i64, Revision, Vec<Arc<Notice>>)>::new();
        for (place, told) in std::mem::take(&mut self.found) {
            match told {
                Told::Events { id, notice, now } => {
                    each.entry(place).or_insert((id, now, Vec::new())).2.push(notice);
                }
                Told::Progress { .. } | Told::Compacted { .. } => {
                    self.found.push_back((place, told));
                }
            }
        }
        self.found.extend(each.into_iter().map(|(place, (id, now, notices))| {
            (place, Told::Events { id, notice: Notice::joined(&notices), now })
        }));
    }

    /// What these watchers want to see next is gone.
    fn end_compacted(&mut self, compacted: Revision) {
        for watcher in self.behind.take_all() {
            if watcher.from >= compacted {
                self.behind.insert(watcher);
                continue;
            }
            let told = Told::Compacted { id: watcher.id, compacted };
            self.found.push_back((watcher.place, told));
        }
        self.looked = Revision(compacted.0 - 1);
        if self.behind.is_empty() {
            self.next_turn();
        }
    }

    /// Nobody is behind any more but those that have waited for their turn.
    fn next_turn(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if let Some(first) = waiting.iter().map(|watcher| watcher.from).min() {
            self.looked = Revision(first.0.saturating_sub(1));
            waiting.into_iter().for_each(|watcher| self.behind.insert(watcher));
        }
    }

    /// Watchers that were told nothing since the last tick are told how far they are, if they are not behind.
    fn tick(&mut self) {
        self.ticks.next = Instant::now() + self.ticks.interval;
        for (id, own) in self.watchers.iter_mut().filter(|(_, own)| own.progress) {
            let quiet = std::mem::replace(&mut own.quiet, true);
            if quiet && own.live {
                self.hub.say_progress(&self.outbox, Some((own.watcher.place, *id)));
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let live = self.watchers.values().filter(|own| own.live).map(|own| &own.watcher);
        self.hub.forget(live);
        self.hub.dismiss(self.watchers.len());
        self.hub.close_stream();
    }
}
