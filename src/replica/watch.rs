//! One watch: the history first, then live events, without a gap between the two.
//!
//! Holds: a watch gets every event its filter sees from its first index on, once each, in order. One that reads too slowly
//! goes back to the history; only when that no longer reaches back does its stream end. No watcher is dropped in silence.

use std::sync::Arc;

use crate::model::{Refusal, Reply, StoreIndex, Unavailable};
use crate::raft::View;
use crate::replica::hub::{Hub, Kind, Notice, Registration};
use crate::store::{Access, Asker, Event, Filter, Found, Scan};

/// One watch under way.
#[derive(Debug)]
pub struct Watch {
    hub: Arc<Hub>,
    access: Access,
    asker: Asker,
    filter: Filter,
    /// The first index that was not looked at yet.
    next: StoreIndex,
    kind: Kind,
    source: Source,
}

/// Where a watch's next event comes from.
#[derive(Debug)]
enum Source {
    History,
    Found(Arc<Event>),
    Live(Registration),
    Ended,
}

/// Why a watch cannot go on.
enum Missed {
    Refused(Refusal),
    Unavailable(Unavailable),
}

impl From<Unavailable> for Missed {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

impl Hub {
    /// Starts a watch at `view`, or at whatever is newer.
    ///
    /// `asker` must have the right to read at the start, and the watch ends when that is lost, on whatever member it was changed.
    ///
    /// `from` is the first index of interest; `None` means from the next change on. The reply's index is the store's when
    /// the watch began.
    ///
    /// # Errors
    /// [`Unavailable::TooManyWatchers`], [`Unavailable::Stopped`]; in the reply [`Refusal::HistoryCleared`],
    /// [`Refusal::NotAllowed`].
    pub fn watch(
        self: &Arc<Self>,
        view: &View,
        access: Access,
        asker: Asker,
        from: Option<StoreIndex>,
        stream: bool,
    ) -> Result<Reply<Watch>, Unavailable> {
        self.count_request();
        let index = view.store.index();
        let mut watch = Watch {
            hub: Arc::clone(self),
            next: from.unwrap_or(index.next()),
            filter: Filter { path: access.path.clone(), recursive: access.recursive },
            access,
            asker,
            kind: if stream { Kind::Stream } else { Kind::Once },
            source: Source::History,
        };
        let outcome = match watch.look_up(view) {
            Ok(()) => Ok(watch),
            Err(Missed::Refused(refusal)) => Err(refusal),
            Err(Missed::Unavailable(why)) => return Err(why),
        };
        Ok(Reply { index, outcome })
    }
}

impl Watch {
    /// The next event; waits for it. `None` ends the watch: a poll has had its event, the member stops, the right to it was lost,
    /// or the watcher was so slow that the history no longer reaches back to where it stood.
    pub async fn next(&mut self) -> Option<Arc<Notice>> {
        loop {
            match &mut self.source {
                Source::Ended => return None,
                Source::History => {
                    let view = self.hub.newest()?;
                    self.look_up(&view).ok()?;
                }
                Source::Found(event) => {
                    let notice = Notice::new(Arc::clone(event));
                    self.source = Source::History;
                    return Some(self.deliver(notice));
                }
                Source::Live(live) => match live.next().await {
                    Some(notice) => return Some(self.deliver(notice)),
                    None => self.source = Source::History,
                },
            }
        }
    }

    /// May the watcher see the values in this event? A watch on `/a/` may rest on a right for what is below `/a`, and
    /// that is none for a file in its place.
    pub fn shows(&self, notice: &Notice) -> bool {
        if !self.access.slash || notice.event.path != self.access.path {
            return true;
        }
        self.hub.newest().is_some_and(|view| view.store.shows(&self.asker, &self.access.path))
    }

    fn deliver(&mut self, notice: Arc<Notice>) -> Arc<Notice> {
        self.next = notice.event.index.next();
        if self.kind == Kind::Once {
            self.source = Source::Ended;
        }
        notice
    }

    /// Searches the history up to `view`, then goes live; what came in between is searched under the hub's lock.
    fn look_up(&mut self, view: &View) -> Result<(), Missed> {
        if self.search(view)? {
            return Ok(());
        }
        let hub = Arc::clone(&self.hub);
        let (access, asker, kind) = (self.access.clone(), self.asker.clone(), self.kind);
        let live = hub.register(&access, &asker, kind, |newest| match newest {
            Some(newest) if self.search(newest)? => Ok(None),
            Some(_) | None => Ok::<_, Missed>(Some(self.next)),
        })?;
        if let Some(live) = live {
            self.source = Source::Live(live);
        }
        Ok(())
    }

    /// `true` when the history has the next event.
    fn search(&mut self, view: &View) -> Result<bool, Missed> {
        if !view.store.allows(&self.asker, &self.access) {
            return Err(Missed::Refused(Refusal::NotAllowed));
        }
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
            Err(refusal) => {
                self.hub.count_missed();
                Err(Missed::Refused(refusal))
            }
        }
    }
}
