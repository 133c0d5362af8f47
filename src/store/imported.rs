//! A store that goes on from what another server kept: put together from its nodes and events, and changed by what its log says.
//!
//! Owns: the door through which deadlines and indexes come in that are known already. Never knows: the other server's files.

use std::sync::Arc;

use crate::model::{LogTime, StoreIndex};
use crate::mvcc::Mvcc;
use crate::store::auth::Auth;
use crate::store::command::Command;
use crate::store::counters::Counters;
use crate::store::event::Event;
use crate::store::history::HistoryLimits;
use crate::store::members::Members;
use crate::store::tree::{self, Node};
use crate::store::{Applied, Store};

/// A node without its directory, or not in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder;

/// Puts a store together from nodes.
#[derive(Debug, Default)]
pub struct Import {
    nodes: tree::Builder,
}

impl Import {
    /// Adds a node, a directory without its children; nodes come in the order of a walk, parents first, names in bytewise order.
    ///
    /// # Errors
    /// [`OutOfOrder`].
    pub fn node(&mut self, key: &[u8], node: Node) -> Result<(), OutOfOrder> {
        self.nodes.push(key, node).map_err(|_| OutOfOrder)
    }

    /// The store at `index`, when the log's clock showed `now`, with its most recent `events`: a slot for each index, the last of which
    /// is `index`.
    pub fn finish(
        self,
        limits: HistoryLimits,
        (index, now): (StoreIndex, LogTime),
        events: Vec<Option<Event>>,
        counters: Counters,
    ) -> Store {
        let mut store =
            Store { index, now, counters, tree: self.nodes.finish(), ..Store::new(limits) };
        let oldest = index.0.saturating_sub(events.len() as u64) + 1;
        store.history.restart(StoreIndex(oldest));
        for event in events {
            match event {
                Some(event) => store.history.push(Arc::new(event)),
                None => store.history.push_silent(),
            }
        }
        store
    }
}

impl Store {
    /// Applies a change of keys that another server has made at a moment `at`. What it writes dies at `expires`, whatever lifetime
    /// the command gives; a tick lets die what was due at that moment, also where a later one has been seen.
    ///
    /// # Panics
    /// For facts of the cluster, users and roles of version 2: those are set by [`Store::with_facts`].
    pub fn replay(&mut self, at: LogTime, command: &Command, expires: Option<LogTime>) -> Applied {
        let latest = self.now.max(at);
        let applied = match command {
            Command::Tick { nodes_max } => {
                self.now = at;
                self.expire(*nodes_max)
            }
            Command::Set { .. }
            | Command::Create { .. }
            | Command::CreateInOrder { .. }
            | Command::Update { .. }
            | Command::CompareAndSwap { .. }
            | Command::Delete { .. }
            | Command::CompareAndDelete { .. } => {
                self.now = latest;
                self.change_keys(command, expires)
            }
            Command::Mvcc(command) => Applied::Mvcc(self.mvcc.apply(latest, command)),
            Command::AddMember { .. }
            | Command::UpdateMember { .. }
            | Command::PublishMember { .. }
            | Command::RemoveMember { .. }
            | Command::SetClusterVersion { .. }
            | Command::Auth(_) => unreachable!("facts are not replayed one by one"),
        };
        self.now = latest;
        // Nobody is served meanwhile, so it can be dropped here.
        self.remains = <_>::default();
        applied
    }

    /// Takes indexes for what the other server keeps in hidden keys; no watcher sees them.
    pub fn skip_indexes(&mut self, count: u64) {
        self.take_indexes(count);
    }

    /// Goes on with this key space of version 3.
    pub fn set_mvcc(&mut self, mvcc: Mvcc) {
        self.mvcc = mvcc;
    }

    /// The same keys with these members, users, roles and counters.
    #[must_use]
    pub fn with_facts(self, members: Members, auth: Auth, counters: Counters) -> Self {
        Self { members, auth, counters, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyPath, WallOffset};
    use crate::store::{Action, Filter, Found, Removed, Scan, Shown, Write};

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 100, bytes_max: 1 << 20 };

    fn set(path: &str) -> Command {
        let write = Write { value: b"v"[..].into(), dir: false, ttl: None, refresh: false };
        Command::Set { path: KeyPath::from(path), write }
    }

    #[test]
    fn deadlines_are_taken_as_they_are_and_each_tick_has_its_own_moment() {
        let mut store = Store::new(LIMITS);
        store.replay(LogTime(5), &set("/a"), Some(LogTime(100)));
        store.replay(LogTime(500), &Command::Tick { nodes_max: None }, None);
        assert_eq!((store.index().0, store.now()), (2, LogTime(500)));
        // A leader whose clock was behind wrote this and ticked.
        store.replay(LogTime(0), &set("/b"), Some(LogTime(400)));
        store.replay(LogTime(399), &Command::Tick { nodes_max: None }, None);
        assert_eq!((store.index().0, store.now()), (3, LogTime(500)));
        store.replay(LogTime(400), &Command::Tick { nodes_max: None }, None);
        assert_eq!(store.index().0, 4);
        assert_eq!(store.nodes_count(), 0);
    }

    #[test]
    fn a_store_goes_on_from_nodes_and_events() {
        let shown = |index| Shown {
            value: Some(b"v"[..].into()),
            dir: false,
            modified: StoreIndex(index),
            created: StoreIndex(index),
            expires: None,
        };
        let event = |index| Event {
            action: Action::Set,
            index: StoreIndex(index),
            at: LogTime(1),
            offset: WallOffset(0),
            path: KeyPath::from("/a"),
            node: shown(index),
            prev: None,
            refresh: false,
            removed: Removed::Nothing,
        };
        let mut import = Import::default();
        assert_eq!(import.node(b"/a/b", Node::file(StoreIndex(3), None, b"v")), Err(OutOfOrder));
        import.node(b"/a", Node::file(StoreIndex(9), None, b"v")).unwrap();
        let events = vec![Some(event(8)), None, Some(event(10))];
        let mut store =
            import.finish(LIMITS, (StoreIndex(10), LogTime(1)), events, Counters::default());
        store.check();
        let filter = Filter { path: KeyPath::from("/a"), recursive: false };
        let find = |store: &Store, from| {
            store.history().find(Scan { from: StoreIndex(from), filter: &filter })
        };
        assert!(find(&store, 7).is_err());
        assert!(matches!(find(&store, 9), Ok(Found::Event(event)) if event.index.0 == 10));
        store.skip_indexes(2);
        store.replay(LogTime(1), &set("/a"), None);
        assert!(matches!(find(&store, 11), Ok(Found::Event(event)) if event.index.0 == 13));
    }
}
