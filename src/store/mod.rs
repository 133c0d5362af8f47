//! The replicated state machine: a pure value.
//!
//! Owns: what a command does to the key space, and the events that come of it.
//! Never knows: a clock, the disk, the network, who waits for the answer.
//! Holds: the same commands at the same log times give the same store on every member, for ever.
//! Cloning a [`Store`] is O(1), whatever its size: all of its parts are shared persistent maps.

mod auth;
mod blocks;
mod changes;
mod command;
#[cfg(test)]
pub(crate) mod costs;
mod counters;
mod deaths;
mod event;
mod filter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod history;
mod imported;
mod members;
mod operations;
mod refound;
mod rows;
mod snapshot;
mod summary;
mod tree;

use crate::model::{KeyPath, LogTime, MemberId, Refusal, Reply, Stamp, StoreIndex, WallOffset};
use crate::mvcc::{self, Mvcc};

pub use auth::{
    Access, Asker, Auth, AuthChange, AuthCommand, AuthRefusal, AuthRevision, GUEST, Identity,
    Intent, PasswordHash, Permissions, ROOT, User,
};
pub use blocks::RecordCounts;
pub use changes::Changes;
pub use command::{Command, Condition, Write};
pub use counters::{Counter, Counters};
pub use event::{Action, Event, Removed, Shown};
pub use filter::Filter;
pub use history::{Found, History, HistoryLimits, Scan};
pub use imported::{Import, OutOfOrder};
pub use members::{MemberRecord, Members, MembersRevision};
pub use rows::{DecodedNodes, NodeRecords};
pub use snapshot::{
    EventLoader, Header, Loader, NodeLoader, Position, Record, RecordChange, RevisionLoader,
};
pub use tree::{Dir, Facts, FileValue, Node, Remains};

use std::sync::Arc;
use std::time::Duration;

use tree::Tree;

/// While the leader's wall clock differs by no more than this from what is known of it, dates that are shown stay as they are.
/// It is read with each stamp, and corrected a little all the time; an `expiration` must not change with each reading.
const OFFSET_TOLERANCE: Duration = Duration::from_millis(250);

/// The key space, its recent history and the facts of the cluster, at one store index.
#[derive(Clone, Debug)]
pub struct Store {
    now: LogTime,
    offset: WallOffset,
    index: StoreIndex,
    tree: Tree,
    history: History,
    members: Members,
    auth: Auth,
    counters: Counters,
    mvcc: Mvcc,
    /// Of the command that is being applied; nothing at other times.
    remains: Remains,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub enum Applied {
    /// One change of the key space.
    Changed(Arc<Event>),
    /// A change was refused; nothing changed.
    Refused(Refusal),
    /// A tick: the keys that died, soonest deadline first; often none. More may be due: [`Store::next_deadline`] tells.
    Expired(Vec<Arc<Event>>),
    /// A fact of the cluster was recorded. Watchers of keys never see it.
    Recorded,
    /// A fact of the cluster was known already, or cannot be; nothing changed.
    Known,
    /// A member joined or left after the checks that the command rests on; nothing changed.
    Outdated,
    /// Users, roles or the flag changed. Watchers of keys never see it.
    AuthChanged(AuthChange),
    /// Users, roles and the flag stay as they are; all that it may have taken are the indexes of etcd's first record.
    AuthRefused(AuthRefusal),
    /// The v3 key space was asked for something. Watchers of v2's keys never see it.
    Mvcc(mvcc::Applied),
}

impl Applied {
    /// The events for the watchers, in the order of their indexes.
    pub fn events(&self) -> &[Arc<Event>] {
        match self {
            Self::Changed(event) => std::slice::from_ref(event),
            Self::Expired(events) => events,
            Self::Refused(_)
            | Self::Recorded
            | Self::Known
            | Self::Outdated
            | Self::AuthChanged(_)
            | Self::AuthRefused(_)
            | Self::Mvcc(_) => &[],
        }
    }
}

impl Store {
    /// The empty store of a new cluster.
    pub fn new(limits: HistoryLimits) -> Self {
        Self {
            now: LogTime::default(),
            offset: WallOffset::default(),
            index: StoreIndex::default(),
            tree: Tree::default(),
            history: History::new(limits),
            members: Members::default(),
            auth: Auth::default(),
            counters: Counters::default(),
            mvcc: Mvcc::default(),
            remains: Remains::default(),
        }
    }

    /// Applies one committed entry.
    ///
    /// Time never runs backwards: an older stamp than the last one (of two that were put into the log at the same moment)
    /// counts as the last one.
    pub fn apply(&mut self, stamp: impl Into<Stamp>, command: &Command) -> Applied {
        self.apply_and_keep(stamp, command).0
    }

    /// The same, and what a large removal took out of the tree: the caller decides where that is dropped.
    pub fn apply_and_keep(
        &mut self,
        stamp: impl Into<Stamp>,
        command: &Command,
    ) -> (Applied, Remains) {
        let applied = self.apply_stamped(stamp.into(), command);
        (applied, std::mem::take(&mut self.remains))
    }

    fn apply_stamped(&mut self, stamp: Stamp, command: &Command) -> Applied {
        self.now = self.now.max(stamp.at);
        if self.offset.differs_by(stamp.offset) > OFFSET_TOLERANCE {
            self.offset = stamp.offset;
        }
        if !matches!(command, Command::Mvcc(_)) {
            self.mvcc.sweep();
        }
        let applied = match command {
            Command::Mvcc(command) => Applied::Mvcc(self.mvcc.apply(self.now, command)),
            Command::Tick { nodes_max } => self.expire(*nodes_max),
            Command::AddMember { .. }
            | Command::UpdateMember { .. }
            | Command::PublishMember { .. }
            | Command::RemoveMember { .. }
            | Command::SetClusterVersion { .. } => self.record(command),
            Command::Auth(command) => self.change_auth(command),
            Command::Set { .. }
            | Command::Create { .. }
            | Command::CreateInOrder { .. }
            | Command::Update { .. }
            | Command::CompareAndSwap { .. }
            | Command::Delete { .. }
            | Command::CompareAndDelete { .. } => self.change_keys(command, self.deadline(command)),
        };
        assert!(self.history.next() == self.index.next(), "each index has its slot in the history");
        applied
    }

    fn change_keys(&mut self, command: &Command, expires: Option<LogTime>) -> Applied {
        let before = self.index;
        match self.change(command, expires) {
            Ok(event) => {
                let event = Arc::new(event);
                self.history.push(Arc::clone(&event));
                Applied::Changed(event)
            }
            Err(refusal) => {
                assert_eq!(self.index, before, "a refused command must not take an index");
                Applied::Refused(refusal)
            }
        }
    }

    /// The index of the last change. Wire: `X-Etcd-Index`.
    pub fn index(&self) -> StoreIndex {
        self.index
    }

    /// The latest stamp seen in the log.
    pub fn now(&self) -> LogTime {
        self.now
    }

    /// How the leader's wall clock goes with the log's, to a quarter of a second; dates that are shown follow from it.
    pub fn wall_offset(&self) -> WallOffset {
        self.offset
    }

    /// Both at once.
    pub fn stamp(&self) -> Stamp {
        Stamp { at: self.now, offset: self.offset }
    }

    /// When the next key dies; the leader proposes a tick then.
    pub fn next_deadline(&self) -> Option<LogTime> {
        self.tree.next_death()
    }

    /// How many files and directories there are, hidden ones included.
    pub fn nodes_count(&self) -> u64 {
        self.tree.root().nodes_below()
    }

    /// What both key spaces weigh: names and values, and 128 bytes for each node of v2 and each version of v3. Known at once,
    /// whatever the size.
    pub fn bytes(&self) -> u64 {
        self.tree.root().bytes_below() + self.mvcc.bytes()
    }

    /// Could a command make the key space larger? A compare that fails or a create of what is there could not; a value that is no
    /// longer than the one it replaces does not, nor does a new deadline.
    pub fn grows(&self, command: &Command) -> bool {
        let longer = |path: &KeyPath, write: &Write| match self.tree.find(path) {
            Ok(node) => node.value().is_some_and(|old| write.value.len() > old.len()),
            Err(_) => false,
        };
        match command {
            Command::Set { path, write } => {
                !write.refresh && (self.tree.find(path).is_err() || longer(path, write))
            }
            Command::Create { path, .. } => self.tree.find(path).is_err(),
            Command::CreateInOrder { .. } => true,
            Command::Update { path, write } | Command::CompareAndSwap { path, write, .. } => {
                !write.refresh && longer(path, write)
            }
            Command::Delete { .. }
            | Command::CompareAndDelete { .. }
            | Command::Tick { .. }
            | Command::AddMember { .. }
            | Command::UpdateMember { .. }
            | Command::PublishMember { .. }
            | Command::RemoveMember { .. }
            | Command::SetClusterVersion { .. }
            | Command::Auth(_) => false,
            Command::Mvcc(command) => command.request.grows(),
        }
    }

    /// Events kept for `waitIndex`.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The cluster's members and version.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Users, roles, and whether they count.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// The v3 key space.
    pub fn mvcc(&self) -> &Mvcc {
        &self.mvcc
    }

    /// Outcomes of all commands since the cluster began.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Looks a key up.
    ///
    /// # Errors
    /// [`Refusal::KeyNotFound`], or [`Refusal::NotADirectory`] where a file is in the way.
    pub fn get(&self, path: &KeyPath) -> Reply<&Node> {
        Reply { index: self.index, outcome: self.tree.find(path) }
    }

    /// Is `member` known, under whatever name?
    pub fn has_member(&self, member: MemberId) -> bool {
        self.members.get(member).is_some()
    }

    /// Panics unless every directory knows how many nodes are below it and when the first of them dies. For tests; walks
    /// everything.
    pub fn check(&self) {
        self.tree.check();
        self.mvcc.check();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ttl, Value};

    #[test]
    fn dates_follow_the_leaders_wall_clock_and_do_not_tremble_with_it() {
        let mut store = Store::new(HistoryLimits { events_max: 10, bytes_max: 1 << 20 });
        let mut set = |at_ms: u64, offset_ms: i64| {
            let write =
                Write { value: b"v"[..].into(), dir: false, ttl: Ttl::from_s(1), refresh: false };
            let (at, offset) = (LogTime(at_ms * 1_000_000), WallOffset(offset_ms * 1_000_000));
            let command = Command::Set { path: KeyPath::from("/a"), write };
            let applied = store.apply(Stamp { at, offset }, &command);
            let Applied::Changed(event) = applied else { panic!("nothing refuses it") };
            assert_eq!(event.offset, store.wall_offset());
            (event.node.expires, event.offset.0 / 1_000_000)
        };
        let deadline = |ms: u64| Some(LogTime(ms * 1_000_000));
        assert_eq!(set(5, 200), (deadline(1005), 0), "a quarter of a second is no change");
        assert_eq!(set(6, 3_600_000), (deadline(1006), 3_600_000));
        assert_eq!(set(7, 3_599_800), (deadline(1007), 3_600_000));
        assert_eq!(set(8, -9), (deadline(1008), -9));
    }

    #[test]
    fn a_write_grows_the_key_space_where_it_needs_room() {
        let mut store = Store::new(HistoryLimits { events_max: 10, bytes_max: 1 << 20 });
        let path = |text: &str| KeyPath::from(text);
        let write = |value: &str| Write {
            value: Value::from(value.as_bytes()),
            dir: false,
            ttl: None,
            refresh: false,
        };
        let set = |at: &str, value: &str| Command::Set { path: path(at), write: write(value) };
        assert_eq!(store.bytes(), 0);
        store.apply(LogTime(1), &set("/a/b", "12345"));
        assert_eq!(store.bytes(), 2 * 128 + 1 + 1 + 5);
        let refresh = Write { refresh: true, ..write("") };
        let condition = Condition { value: Some(Value::from(&b"12345"[..])), index: StoreIndex(0) };
        let swap = |at: &str, value: &str| Command::CompareAndSwap {
            path: path(at),
            write: write(value),
            condition: condition.clone(),
        };
        for (command, grows) in [
            (set("/a/b", "12345"), false),
            (set("/a/b", "123456"), true),
            (set("/a/c", ""), true),
            (set("/a", "x"), false),
            (Command::Set { path: path("/a/b"), write: refresh }, false),
            (Command::Create { path: path("/a/b"), write: write("123456") }, false),
            (Command::Create { path: path("/a/c"), write: write("") }, true),
            (Command::CreateInOrder { dir: path("/a"), write: write("") }, true),
            (Command::Update { path: path("/a/b"), write: write("54321") }, false),
            (Command::Update { path: path("/a/c"), write: write("54321") }, false),
            (swap("/a/b", "0"), false),
            (swap("/a/b", "123456"), true),
            (swap("/a/c", "123456"), false),
            (Command::Delete { path: path("/a"), dir: true, recursive: true }, false),
        ] {
            let before = store.bytes();
            assert_eq!(store.grows(&command), grows, "{command:?}");
            let mut after = store.clone();
            after.apply(LogTime(2), &command);
            assert_eq!(after.bytes() > before, grows, "{command:?}");
            after.tree.check();
        }
        store.apply(LogTime(3), &Command::Delete { path: path("/a"), dir: true, recursive: true });
        assert_eq!(store.bytes(), 0);
    }
}
