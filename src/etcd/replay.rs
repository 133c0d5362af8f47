//! What the entries of a log do: etcd's version 2 store, entry by entry.
//!
//! Owns: which command of ours an entry is, what changes of members do, and that all trees share one index. Never knows: files;
//! which entries count.
//! Holds: conditions are evaluated again, as etcd does when it starts, so a request that failed there fails here and takes no index.
//!
//! Users' keys are one store, the hidden keys of the cluster and of users and roles another; an index that one takes, the other
//! skips. What each command does is said once, in `store`.
//!
//! What entries of version 3 do is in `version_three.rs`, and which leases they find in `leases.rs`.

mod leases;
mod version_three;

use thiserror::Error;

use crate::etcd::entry::{Asked, ChangeKind, ConfChange, EntryError, EntryKind, Method, Request};
use crate::etcd::facts::{self, Attributes, RaftAttributes};
pub use crate::etcd::facts::{EtcdMember, Facts};
pub use crate::etcd::replay::leases::{LeaseChange, LeasesInLog};
pub use crate::etcd::replay::version_three::DoneThree;
use crate::etcd::replay::version_three::Three;
use crate::etcd::snapshot::{self, DEPTH_MAX, Loaded, Replaced, SnapshotError};
use crate::model::{KeyPath, LogTime, MemberId, StoreIndex, Value};
use crate::store::{Applied, Command, Condition, Counters, HistoryLimits, Store, Write};

/// A deadline before the year 2000 is none, where a node is set or created.
const DEADLINE_MIN: i64 = 946_684_800 * 1_000_000_000;

/// The hidden keys' history is nobody's.
const NO_HISTORY: HistoryLimits = HistoryLimits { events_max: 1, bytes_max: 1 };

/// Why an entry cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// It cannot be understood.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// It names a key in no tree.
    #[error("the key {0:?} is in none of etcd's trees")]
    Path(String),
    /// It names a key that is deeper than a member here takes, and walks.
    #[error(
        "the key has more than {DEPTH_MAX} components, and a member here takes none of them: remove it while etcd runs"
    )]
    Deep,
    /// A record of a member that is not there.
    #[error("member {0} publishes its name and was never added")]
    Unknown(MemberId),
}

/// What entries were, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Changes of keys that went through.
    pub changes: u64,
    /// Requests that were refused, as they were then.
    pub refused: u64,
    /// Keys that expired.
    pub expired: u64,
    /// Changes of members, and facts of the cluster.
    pub facts: u64,
    /// Requests of version 3; they have no effect on version 2.
    pub version_three: u64,
    /// Without an effect: a leader's first entry, reads, moments at which nothing expired.
    pub nothing: u64,
}

impl Done {
    /// All of them.
    pub fn entries(&self) -> u64 {
        self.changes + self.refused + self.facts + self.version_three + self.nothing
    }
}

/// The state so far.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Version 3 is in it as well.
    keys: Store,
    hidden: Store,
    counters: Counters,
    replaced: Replaced,
    /// The latest moment that is known.
    latest: LogTime,
    done: Done,
    /// None while version 3 is left out.
    three: Option<Three>,
}

/// Which tree a path is in.
#[derive(Clone, Copy)]
enum Tree {
    /// What users see as `/`.
    Keys,
    /// What they do not see.
    Hidden,
}

impl Replay {
    /// The empty store of a new cluster.
    pub fn new(limits: HistoryLimits) -> Self {
        Self {
            keys: Store::new(limits),
            hidden: Store::new(NO_HISTORY),
            counters: Counters::default(),
            replaced: Replaced::default(),
            latest: LogTime::default(),
            done: Done::default(),
            three: None,
        }
    }

    /// Begins with the store of a snapshot.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn of(json: &[u8], limits: HistoryLimits) -> Result<Self, SnapshotError> {
        let Loaded { keys, hidden, counters, replaced, latest } = snapshot::load(json, limits)?;
        Ok(Self { keys, hidden, counters, replaced, latest, done: Done::default(), three: None })
    }

    /// It is at least this late: what is shown of lifetimes in past events follows from it.
    pub fn not_before(&mut self, at: LogTime) {
        self.latest = self.latest.max(at);
    }

    /// Applies the entry at `index`.
    ///
    /// # Errors
    /// See [`ReplayError`]; nothing has changed then.
    pub fn entry(&mut self, index: u64, kind: EntryKind, data: &[u8]) -> Result<(), ReplayError> {
        match kind {
            EntryKind::ConfChange => {
                self.conf_change(&ConfChange::decode(data)?)?;
                self.done.facts += 1;
            }
            EntryKind::Normal => match Asked::decode(data)? {
                Asked::Nothing => self.done.nothing += 1,
                Asked::VersionThree(wrapped) => {
                    self.version_three(index, &wrapped)?;
                    self.done.version_three += 1;
                }
                Asked::ClusterVersion(version) => {
                    self.set_hidden(KeyPath::from(facts::VERSION), version.as_bytes());
                    self.done.facts += 1;
                }
                Asked::Attributes { member, name, client_urls } => {
                    let own = Attributes { name, client_urls: Some(client_urls) };
                    let json = serde_json::to_vec(&own).expect("texts are JSON");
                    self.publish(MemberId(member), &json)?;
                    self.done.facts += 1;
                }
                Asked::Request(request) => self.request(&request)?,
            },
        }
        Ok(())
    }

    fn request(&mut self, request: &Request<'_>) -> Result<(), ReplayError> {
        match request.method {
            Method::Qget => {
                self.done.nothing += 1;
                return Ok(());
            }
            Method::Sync => {
                self.expire(LogTime(u64::try_from(request.time).unwrap_or(0)));
                return Ok(());
            }
            Method::Post | Method::Put | Method::Delete => {}
        }
        let (tree, path) = tree(request.path)?;
        let command = command(request, path);
        let expires = deadline(request, &command);
        if let (Tree::Hidden, Command::Set { path, .. }) = (tree, &command)
            && let Some(member) = facts::member_of_attributes(path)
        {
            self.publish(member, request.value)?;
            self.done.facts += 1;
            return Ok(());
        }
        let applied = match tree {
            Tree::Keys => {
                let applied = self.keys.replay(self.latest, &command, expires);
                self.hidden.skip_indexes(self.keys.index().0 - self.hidden.index().0);
                applied
            }
            Tree::Hidden => self.hide(&command, expires),
        };
        match applied {
            Applied::Refused(_) => self.done.refused += 1,
            Applied::Changed(_)
            | Applied::Expired(_)
            | Applied::Recorded
            | Applied::Known
            | Applied::Outdated
            | Applied::AuthChanged(_)
            | Applied::AuthRefused(_)
            | Applied::Mvcc(_) => self.done.changes += 1,
        }
        Ok(())
    }

    /// What a SYNC does.
    fn expire(&mut self, moment: LogTime) {
        self.not_before(moment);
        // The hidden keys have no deadlines.
        let applied = self.keys.replay(moment, &Command::Tick { nodes_max: None }, None);
        let count = applied.events().len() as u64;
        self.hidden.skip_indexes(count);
        self.done.expired += count;
        match count {
            0 => self.done.nothing += 1,
            _ => self.done.changes += 1,
        }
    }

    /// Changes hidden keys.
    fn hide(&mut self, command: &Command, expires: Option<LogTime>) -> Applied {
        let applied = self.hidden.replay(self.latest, command, expires);
        self.keys.skip_indexes(self.hidden.index().0 - self.keys.index().0);
        applied
    }

    fn set_hidden(&mut self, path: KeyPath, value: &[u8]) {
        let write = write(value.into());
        self.hide(&Command::Set { path, write }, None);
    }

    /// A member says what it is called. Of one that has left it counts for nothing.
    fn publish(&mut self, member: MemberId, json: &[u8]) -> Result<(), ReplayError> {
        let is_there = |path: &KeyPath| self.hidden.get(path).outcome.is_ok();
        if is_there(&facts::member(member)) {
            self.set_hidden(facts::attributes(member), json);
            return Ok(());
        }
        match is_there(&facts::removed(member)) {
            true => Ok(()),
            false => Err(ReplayError::Unknown(member)),
        }
    }

    /// What a change of members does to the hidden keys. One that etcd refuses when it applies it changes nothing.
    fn conf_change(&mut self, change: &ConfChange) -> Result<(), ReplayError> {
        let id = MemberId(change.member);
        let is_there = |path: &KeyPath| self.hidden.get(path).outcome.is_ok();
        let present = is_there(&facts::member(id));
        if is_there(&facts::removed(id)) {
            return Ok(());
        }
        let raft = |learner| {
            let raft = RaftAttributes { peer_urls: Some(change.peer_urls.clone()), learner };
            write(serde_json::to_vec(&raft).expect("texts are JSON").into())
        };
        let path = facts::raft_attributes(id);
        match change.kind {
            ChangeKind::Add { .. } if change.promote => {
                if present && self.is_learner(id) {
                    let write = match self.raft_attributes(id) {
                        Some(old) => {
                            let raft = RaftAttributes { learner: false, ..old };
                            write(serde_json::to_vec(&raft).expect("texts are JSON").into())
                        }
                        None => raft(false),
                    };
                    self.hide(&Command::Update { path, write }, None);
                }
            }
            ChangeKind::Add { learner } => {
                if change.member == 0 {
                    let (what, found) = ("a member to add", "0".to_owned());
                    return Err(EntryError::Unknown { what, found }.into());
                }
                if !present && !self.has_url(&change.peer_urls, None) {
                    self.hide(&Command::Create { path, write: raft(learner) }, None);
                }
            }
            ChangeKind::Update => {
                if present && !self.has_url(&change.peer_urls, Some(id)) {
                    self.hide(&Command::Update { path, write: raft(self.is_learner(id)) }, None);
                }
            }
            ChangeKind::Remove => {
                if present {
                    let path = facts::member(id);
                    self.hide(&Command::Delete { path, dir: true, recursive: true }, None);
                    let (path, write) = (facts::removed(id), write(Value::default()));
                    self.hide(&Command::Create { path, write }, None);
                }
            }
        }
        Ok(())
    }

    fn raft_attributes(&self, id: MemberId) -> Option<RaftAttributes> {
        let node = self.hidden.get(&facts::raft_attributes(id)).outcome.ok()?;
        serde_json::from_slice(node.value()?).ok()
    }

    fn is_learner(&self, id: MemberId) -> bool {
        self.raft_attributes(id).is_some_and(|raft| raft.learner)
    }

    /// Is another member at one of these URLs?
    fn has_url(&self, urls: &[String], except: Option<MemberId>) -> bool {
        let Ok(facts) = Facts::of(&self.hidden) else { return false };
        let others = facts.members.iter().filter(|member| Some(member.id) != except);
        others.flat_map(|member| &member.record.peer_urls).any(|url| urls.contains(url))
    }

    /// The index so far.
    pub fn index(&self) -> StoreIndex {
        self.keys.index()
    }

    /// What the entries were.
    pub fn done(&self) -> Done {
        self.done
    }

    /// Keys whose bytes a snapshot has replaced.
    pub fn replaced(&self) -> &Replaced {
        &self.replaced
    }

    /// Members, users and roles.
    ///
    /// # Errors
    /// Which record cannot be read.
    pub fn facts(&self) -> Result<Facts, String> {
        Facts::of(&self.hidden)
    }

    /// The keys with their history, and what was counted.
    pub fn finish(self) -> (Store, Counters) {
        let Self { keys, hidden, counters, .. } = self;
        let counters = counters.plus_all(keys.counters()).plus_all(hidden.counters());
        (keys, counters)
    }
}

fn write(value: Value) -> Write {
    Write { value, dir: false, ttl: None, refresh: false }
}

/// The tree that a path is in, and the path there.
fn tree(path: &[u8]) -> Result<(Tree, KeyPath), ReplayError> {
    const KEYS: &[u8] = b"/1";
    let path = KeyPath::clean(path);
    // Its tree is one of them.
    if path.depth() > DEPTH_MAX + 1 {
        return Err(ReplayError::Deep);
    }
    match path.names().next() {
        Some(b"1") => Ok((Tree::Keys, KeyPath::clean(&path.as_bytes()[KEYS.len()..]))),
        Some(b"0" | b"2") => Ok((Tree::Hidden, path.clone())),
        Some(_) | None => Err(ReplayError::Path(path.to_string())),
    }
}

/// What a request asks of the node at `path`.
fn command(request: &Request<'_>, path: KeyPath) -> Command {
    let write = Write {
        value: request.value.into(),
        dir: request.dir,
        ttl: None,
        refresh: request.refresh,
    };
    let condition = Condition {
        value: (!request.prev_value.is_empty()).then(|| request.prev_value.into()),
        index: StoreIndex(request.prev_index),
    };
    let compares = request.prev_index > 0 || !request.prev_value.is_empty();
    match (request.method, request.prev_exist) {
        (Method::Post, _) => Command::CreateInOrder { dir: path, write },
        (Method::Delete, _) if compares => Command::CompareAndDelete { path, condition },
        (Method::Delete, _) => {
            Command::Delete { path, dir: request.dir, recursive: request.recursive }
        }
        (_, Some(false)) => Command::Create { path, write },
        (_, Some(true)) if !compares => Command::Update { path, write },
        (_, Some(true) | None) if compares => Command::CompareAndSwap { path, write, condition },
        (_, Some(true) | None) => Command::Set { path, write },
    }
}

/// When it dies. The member that took the request has computed that, by its own clock.
fn deadline(request: &Request<'_>, command: &Command) -> Option<LogTime> {
    let makes = matches!(
        command,
        Command::Set { .. } | Command::Create { .. } | Command::CreateInOrder { .. }
    );
    match request.expiration {
        0 => None,
        early if makes && early < DEADLINE_MIN => None,
        // What should have died before 1970 dies with the next SYNC.
        at => Some(LogTime(u64::try_from(at).unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::proto::Message;

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 100, bytes_max: 1 << 20 };
    const S: i64 = 1_000_000_000;
    /// Some day in 2026.
    const TODAY: i64 = 1_790_000_000 * S;

    fn request(method: &[u8], path: &[u8]) -> Message {
        Message::default().bytes(2, method).bytes(3, path)
    }

    fn put(path: &[u8], value: &[u8]) -> Message {
        request(b"PUT", path).bytes(4, value)
    }

    fn dies(message: Message, at: i64) -> Message {
        message.varint(9, at.cast_unsigned())
    }

    fn sync(at: i64) -> Message {
        request(b"SYNC", b"").varint(15, at.cast_unsigned())
    }

    /// Applies a normal entry; returns how many indexes it took.
    fn apply(replay: &mut Replay, message: Message) -> u64 {
        let before = replay.index().0;
        replay.entry(1, EntryKind::Normal, &message.finish()).expect("it is understood");
        replay.index().0 - before
    }

    fn change(replay: &mut Replay, kind: u64, node: u64, json: &str) -> u64 {
        let before = replay.index().0;
        let message = Message::default().varint(2, kind).varint(3, node).bytes(4, json.as_bytes());
        replay.entry(1, EntryKind::ConfChange, &message.finish()).expect("it is understood");
        replay.index().0 - before
    }

    fn at(port: u64) -> String {
        format!(r#"{{"peerURLs":["http://h:{port}"]}}"#)
    }

    fn names(replay: &Replay) -> Vec<(u64, bool, String)> {
        let facts = replay.facts().expect("they can be read");
        let members = facts.members.into_iter();
        members.map(|m| (m.id.0, m.learner, m.record.peer_urls.concat())).collect()
    }

    #[test]
    fn changes_of_members_take_as_many_indexes_as_in_etcd() {
        let mut replay = Replay::new(LIMITS);
        assert_eq!(change(&mut replay, 0, 1, &at(1)), 1);
        assert_eq!(change(&mut replay, 0, 1, &at(9)), 0, "it is there already");
        assert_eq!(change(&mut replay, 0, 2, &at(1)), 0, "its URL is another's");
        assert_eq!(change(&mut replay, 3, 2, &at(2)), 1, "a learner");
        assert_eq!(change(&mut replay, 0, 1, r#"{"isPromote":true}"#), 0, "it has a vote");
        let (one, two) = ("http://h:1".to_owned(), "http://h:2".to_owned());
        assert_eq!(names(&replay), [(1, false, one.clone()), (2, true, two.clone())]);
        assert_eq!(change(&mut replay, 0, 2, r#"{"isPromote":true}"#), 1);
        assert_eq!(names(&replay), [(1, false, one), (2, false, two)]);
        assert_eq!(change(&mut replay, 2, 2, &at(1)), 0, "its new URL is another's");
        assert_eq!(change(&mut replay, 2, 2, &at(3)), 1);
        assert_eq!(change(&mut replay, 2, 5, &at(5)), 0, "nobody");
        assert_eq!(change(&mut replay, 1, 5, ""), 0, "nobody");
        assert_eq!(change(&mut replay, 1, 2, ""), 2);
        assert_eq!(change(&mut replay, 0, 2, &at(3)), 0, "it left for good");
        let facts = replay.facts().expect("they can be read");
        assert_eq!((facts.members.len(), &facts.removed[..]), (1, &[MemberId(2)][..]));
        assert_eq!(replay.done().facts, 12);
    }

    #[test]
    fn what_members_publish_counts_while_they_are_members() {
        let mut replay = Replay::new(LIMITS);
        change(&mut replay, 0, 10, &at(1));
        let own = br#"{"name":"m","clientURLs":["http://c:1"]}"#;
        for _ in 0..2 {
            assert_eq!(apply(&mut replay, put(b"/0/members/a/attributes", own)), 1, "each time");
        }
        assert_eq!(apply(&mut replay, put(b"/0/version", b"3.4.0")), 1);
        assert_eq!(apply(&mut replay, put(b"/0/version", b"3.4.0")), 1);
        let facts = replay.facts().expect("they can be read");
        assert_eq!(facts.version.as_deref(), Some("3.4.0"));
        assert_eq!(
            (&*facts.members[0].record.name, facts.members[0].record.client_urls.len()),
            ("m", 1)
        );
        change(&mut replay, 1, 10, "");
        assert_eq!(apply(&mut replay, put(b"/0/members/a/attributes", own)), 0);
        let unknown = put(b"/0/members/b/attributes", own).finish();
        let error = replay.entry(1, EntryKind::Normal, &unknown).unwrap_err();
        assert_eq!(error, ReplayError::Unknown(MemberId(11)));
    }

    #[test]
    fn all_trees_share_one_index_and_users_see_their_own() {
        let mut replay = Replay::new(LIMITS);
        assert_eq!(apply(&mut replay, put(b"/2/enabled", b"false")), 1);
        assert_eq!(apply(&mut replay, put(b"/1/a", b"1")), 1);
        assert_eq!(apply(&mut replay, put(b"/1//a/", b"2").varint(7, 2)), 1, "paths are cleaned");
        assert_eq!(apply(&mut replay, put(b"/1/a", b"3").varint(7, 2)), 0, "it was changed since");
        assert_eq!(apply(&mut replay, request(b"POST", b"/1/q").bytes(4, b"job")), 1);
        assert_eq!(apply(&mut replay, put(b"/1", b"x")), 0, "the root is read-only");
        assert_eq!(apply(&mut replay, request(b"QGET", b"/1/a")), 0);
        for path in [&b"/"[..], b"/9/a", b"x"] {
            assert!(replay.entry(1, EntryKind::Normal, &put(path, b"v").finish()).is_err());
        }
        let deep = [&b"/1"[..], &b"/d".repeat(DEPTH_MAX + 1)].concat();
        let error = replay.entry(1, EntryKind::Normal, &put(&deep, b"v").finish());
        assert_eq!(error, Err(ReplayError::Deep));
        assert_eq!(apply(&mut replay, put(&deep[..deep.len() - 2], b"v")), 1);
        let done = replay.done();
        assert_eq!((done.changes, done.refused, done.nothing), (5, 2, 1));
        let (store, _) = replay.finish();
        store.check();
        let path = KeyPath::from("/q/00000000000000000004");
        assert!(store.get(&path).outcome.is_ok());
    }

    #[test]
    fn deadlines_are_those_of_the_log_and_only_a_sync_kills() {
        let mut replay = Replay::new(LIMITS);
        apply(&mut replay, dies(put(b"/1/early", b"v"), TODAY));
        apply(&mut replay, dies(put(b"/1/never", b"v"), DEADLINE_MIN - 1));
        apply(&mut replay, dies(put(b"/1/wrapped", b"v"), -5));
        apply(&mut replay, dies(put(b"/1/later", b"v"), TODAY + S));
        assert_eq!(apply(&mut replay, sync(TODAY - 1)), 0);
        assert_eq!(apply(&mut replay, sync(TODAY)), 1);
        assert_eq!(apply(&mut replay, put(b"/1/x", b"v")), 1, "only a SYNC kills");
        // An update takes a deadline as it is.
        assert_eq!(apply(&mut replay, dies(put(b"/1/never", b"w").varint(8, 1), -5)), 1);
        assert_eq!(apply(&mut replay, sync(TODAY + S)), 2);
        let done = replay.done();
        assert_eq!((done.expired, done.nothing), (3, 1));
        let (store, counters) = replay.finish();
        let is_there = |path| store.get(&KeyPath::from(path)).outcome.is_ok();
        assert_eq!(
            ["/early", "/never", "/wrapped", "/later"].map(is_there),
            [false, false, true, false]
        );
        assert_eq!(counters.get(crate::store::Counter::ExpireCount), 3);
    }
}
