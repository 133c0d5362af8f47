//! What the entries of a log do: etcd's version 2 store, entry by entry.
//!
//! Owns: which command of ours an entry is, what changes of members do, and that all trees share one index. Never knows: files;
//! which entries count.
//! Holds: conditions are evaluated again, as etcd does when it starts, so a request that failed there fails here and takes no index.
//!
//! Users' keys are one store, the hidden keys of the cluster and of users and roles another; an index that one takes, the other
//! skips. What each command does is said once, in `store`.
//!
//! Version 3 begins with what was read from its own file, which has come as far as some entry: those behind it count for version 3,
//! wherever the snapshot of version 2 is.

use thiserror::Error;

use crate::etcd::entry::{
    Asked, ChangeKind, ConfChange, EntryError, EntryKind, Method, Request, Wrapped,
};
use crate::etcd::facts::{self, Attributes, RaftAttributes};
pub use crate::etcd::facts::{EtcdMember, Facts};
use crate::etcd::passwords::Hashing;
use crate::etcd::requests::{Given, Meant};
use crate::etcd::rights;
use crate::etcd::snapshot::{self, DEPTH_MAX, Loaded, Replaced, SnapshotError};
use crate::model::{KeyPath, LogTime, MemberId, StoreIndex, Value};
use crate::mvcc::{self, AuthRequest, Mvcc};
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

/// What entries of version 3 were, behind those that its file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoneThree {
    /// Changes that went through.
    pub changes: u64,
    /// Requests that were refused, as they were then.
    pub refused: u64,
}

/// Version 3 so far.
#[derive(Clone, Copy, Debug)]
struct Three {
    /// Entries up to this one are in it.
    behind: u64,
    hashing: Hashing,
    done: DoneThree,
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

    /// Takes version 3 along: it begins with `mvcc`, in which the entries up to `behind` are.
    pub fn take_version_three(&mut self, mvcc: Mvcc, behind: u64, hashing: Hashing) {
        self.keys.set_mvcc(mvcc);
        self.three = Some(Three { behind, hashing, done: DoneThree::default() });
    }

    /// Applies only what the entry at `index` does to version 3: version 2 has it already.
    ///
    /// # Errors
    /// See [`ReplayError`]; nothing has changed then.
    pub fn entry_of_version_three(
        &mut self,
        index: u64,
        kind: EntryKind,
        data: &[u8],
    ) -> Result<(), ReplayError> {
        if kind == EntryKind::Normal
            && let Asked::VersionThree(wrapped) = Asked::decode(data)?
        {
            self.version_three(index, &wrapped)?;
        }
        Ok(())
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

    fn version_three(&mut self, index: u64, wrapped: &Wrapped<'_>) -> Result<(), ReplayError> {
        let Some(three) = self.three.filter(|three| index > three.behind) else { return Ok(()) };
        let (asker, meant) = (wrapped.asker()?, wrapped.meant()?);
        let request = match meant {
            Meant::Nothing => return Ok(()),
            Meant::Change(request) => request,
            Meant::Password { user, is_new, given } => {
                let known = self.keys.mvcc().auth().user(&user);
                let password = match given {
                    // Who has no password gets none.
                    _ if known.is_some_and(|known| known.password.is_none()) => None,
                    Given::None => None,
                    Given::Hash(hash) => Some(hash),
                    Given::Text(text) => Some(three.hashing.hash(index, &user, &text)),
                };
                mvcc::Request::Auth(match is_new {
                    true => AuthRequest::UserAdd { name: user, password },
                    false => AuthRequest::UserChangePassword { name: user, password },
                })
            }
        };
        let is_taken = self.is_taken(&asker, request);
        if let Some(three) = self.three.as_mut() {
            match is_taken {
                true => three.done.changes += 1,
                false => three.done.refused += 1,
            }
        }
        Ok(())
    }

    /// Applies a request of version 3, if etcd lets the asker do it; says whether it went through.
    fn is_taken(&mut self, asker: &mvcc::Asker, request: mvcc::Request) -> bool {
        let is_too_long = if let mvcc::Request::LeaseGrant { ttl_s, .. } = &request {
            mvcc::check_lease_grant(*ttl_s).is_err()
        } else {
            false
        };
        if is_too_long || rights::check(self.keys.mvcc(), asker, &request).is_err() {
            return false;
        }
        let command = Command::Mvcc(mvcc::Command::internal(request));
        let applied = self.keys.replay(self.latest, &command, None);
        let Applied::Mvcc(applied) = applied else {
            unreachable!("a change of version 3 came to {applied:?}")
        };
        applied.reply.is_ok()
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

    /// What entries of version 3 were; `None` while it is left out.
    pub fn done_three(&self) -> Option<DoneThree> {
        self.three.map(|three| three.done)
    }

    /// Version 3 so far.
    pub fn mvcc(&self) -> &Mvcc {
        self.keys.mvcc()
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

    /// An entry of version 3 of this user, whose token is of this revision of users.
    fn three(number: u64, body: Message, (user, revision): (&str, u64)) -> Vec<u8> {
        let header = Message::default().varint(1, 9).bytes(2, user.as_bytes());
        let header = header.varint(3, revision).finish();
        Message::default().bytes(number, &body.finish()).bytes(100, &header).finish()
    }

    const NOBODY: (&str, u64) = ("", 0);
    const PUT: u64 = 4;
    const TXN: u64 = 6;

    fn put_three(key: &str) -> Message {
        Message::default().bytes(1, key.as_bytes()).bytes(2, b"v")
    }

    fn begin() -> Replay {
        let mut replay = Replay::new(LIMITS);
        replay.take_version_three(Mvcc::default(), 10, Hashing::for_tests());
        replay
    }

    /// Applies such an entry; says whether it went through.
    fn goes(replay: &mut Replay, number: u64, body: Message, asker: (&str, u64)) -> bool {
        let before = replay.done_three().unwrap();
        let data = three(number, body, asker);
        replay.entry(11, EntryKind::Normal, &data).expect("it is understood");
        let done = replay.done_three().unwrap();
        assert_eq!(done.changes + done.refused, before.changes + before.refused + 1);
        done.changes > before.changes
    }

    #[test]
    fn version_three_goes_on_behind_the_entry_that_its_file_has() {
        let mut replay = begin();
        let data = three(PUT, put_three("a"), NOBODY);
        for index in [9, 10, 11, 12] {
            replay.entry(index, EntryKind::Normal, &data).unwrap();
        }
        assert_eq!((replay.mvcc().revision().0, replay.index().0), (3, 0));
        assert_eq!((replay.done().version_three, replay.done_three().unwrap().changes), (4, 2));
        // What version 2 has already counts for version 3 alone.
        replay.entry_of_version_three(13, EntryKind::Normal, &data).unwrap();
        let two = put(b"/1/a", b"v").finish();
        replay.entry_of_version_three(14, EntryKind::Normal, &two).unwrap();
        assert_eq!((replay.mvcc().revision().0, replay.index().0), (4, 0));
        let mut without = Replay::new(LIMITS);
        without.entry(11, EntryKind::Normal, &data).unwrap();
        assert!(without.mvcc().is_untouched() && without.done_three().is_none());
    }

    #[test]
    fn what_was_refused_is_refused_again() {
        let mut replay = begin();
        let lease = |id: u64, ttl: u64| Message::default().varint(1, ttl).varint(2, id);
        let on_lease = |key: &str, id| put_three(key).varint(3, id);
        assert!(!goes(&mut replay, PUT, on_lease("a", 5), NOBODY), "there is no lease");
        assert!(goes(&mut replay, 8, lease(5, 1), NOBODY));
        assert!(!goes(&mut replay, 8, lease(5, 9), NOBODY), "it is there");
        assert!(!goes(&mut replay, 8, lease(6, 9_000_000_001), NOBODY), "it is too long");
        assert_eq!(replay.mvcc().lease(mvcc::LeaseId(5)).unwrap().ttl_s(), 2, "the shortest");
        assert!(goes(&mut replay, PUT, on_lease("a", 5), NOBODY));
        let ignore = put_three("b").varint(5, 1);
        assert!(!goes(&mut replay, PUT, ignore, NOBODY), "there is no such key");
        assert!(!goes(&mut replay, 7, Message::default().varint(1, 3), NOBODY), "the future");
        assert!(goes(&mut replay, 7, Message::default().varint(1, 2), NOBODY));
        assert!(!goes(&mut replay, 7, Message::default().varint(1, 2), NOBODY), "it is done");
        let op = |body: Message| Message::default().bytes(2, &body.finish()).finish();
        let txn = |ops: &[Vec<u8>]| ops.iter().fold(Message::default(), |txn, op| txn.bytes(2, op));
        let both = txn(&[op(put_three("x")), op(on_lease("y", 77))]);
        assert!(!goes(&mut replay, TXN, both, NOBODY), "one part is enough");
        assert!(goes(&mut replay, TXN, txn(&[op(put_three("x")), op(put_three("y"))]), NOBODY));
        assert!(goes(&mut replay, 9, Message::default().varint(1, 5), NOBODY));
        assert!(!goes(&mut replay, 9, Message::default().varint(1, 5), NOBODY), "it is gone");
        let alarm = Message::default().varint(1, 1).varint(2, 3).varint(3, 1);
        assert!(goes(&mut replay, 10, alarm, NOBODY));
        assert!(!goes(&mut replay, PUT, put_three("z"), NOBODY), "there is no room");
        assert_eq!((replay.mvcc().revision().0, replay.mvcc().keys_count()), (4, 2));
        let (store, _) = replay.finish();
        store.check();
    }

    #[test]
    fn reads_and_tokens_and_what_is_left_of_leases_change_nothing() {
        let mut replay = begin();
        for number in [3, 11, 1012, 1013, 1102, 1106, 1107, 1202, 1302, 9900] {
            let data = three(number, Message::default(), NOBODY);
            replay.entry(11, EntryKind::Normal, &data).unwrap();
        }
        assert_eq!(replay.done_three(), Some(DoneThree::default()));
        assert!(replay.mvcc().is_untouched());
        for (number, body) in [(1205, vec![]), (4, vec![]), (4, vec![0x3a, 0]), (6, vec![0x12, 0])]
        {
            let data = Message::default().bytes(number, &body).finish();
            assert!(replay.entry(11, EntryKind::Normal, &data).is_err(), "{number} {body:?}");
        }
    }

    /// Users root and alice, who may read and write /a, and users count.
    fn with_users() -> Replay {
        let mut replay = begin();
        let text = |text: &str| Message::default().bytes(1, text.as_bytes());
        let two = |one: &str, other: &str| text(one).bytes(2, other.as_bytes());
        let range = Message::default().varint(1, 2).bytes(2, b"/a").bytes(3, b"/b").finish();
        for (number, body) in [
            (1100, two("root", "pw")),
            (1100, two("alice", "al")),
            (1104, two("root", "root")),
            (1200, text("app")),
            (1203, text("app").bytes(2, &range)),
            (1104, two("alice", "app")),
            (1000, Message::default()),
        ] {
            assert!(goes(&mut replay, number, body, NOBODY), "{number}");
        }
        replay
    }

    #[test]
    fn rights_are_asked_for_as_etcd_asks() {
        let mut replay = with_users();
        let now = replay.mvcc().auth().revision().0;
        let (alice, root) = (("alice", now), ("root", now));
        assert!(goes(&mut replay, PUT, put_three("/a/x"), alice));
        for (key, asker) in
            [("/c", alice), ("/a/x", NOBODY), ("/a/x", ("bob", now)), ("/a/x", ("alice", now - 1))]
        {
            assert!(!goes(&mut replay, PUT, put_three(key), asker), "{key} {asker:?}");
        }
        // Who puts on a lease could delete what hangs on it.
        let lease = Message::default().varint(1, 600).varint(2, 5);
        assert!(goes(&mut replay, 8, lease, NOBODY));
        assert!(goes(&mut replay, PUT, put_three("/c").varint(3, 5), root));
        assert!(!goes(&mut replay, PUT, put_three("/a/y").varint(3, 5), alice));
        assert!(!goes(&mut replay, 9, Message::default().varint(1, 5), alice));
        // In a transaction nobody asks for that, nor for what is inside of one in it.
        let op = |field, body: Message| Message::default().bytes(field, &body.finish()).finish();
        let txn = |op: &[u8]| Message::default().bytes(2, op);
        assert!(goes(&mut replay, TXN, txn(&op(2, put_three("/a/y").varint(3, 5))), alice));
        assert!(!goes(&mut replay, TXN, txn(&op(2, put_three("/c"))), alice));
        let inside = txn(&op(2, put_three("/c")));
        assert!(goes(&mut replay, TXN, txn(&op(4, inside)), alice));
        assert!(goes(&mut replay, 7, Message::default().varint(1, 2), NOBODY));
        // The role root is enough for users, whatever has changed since.
        let name = |name: &str| Message::default().bytes(1, name.as_bytes());
        assert!(!goes(&mut replay, 1200, name("r"), alice));
        assert!(!goes(&mut replay, 1200, name("r"), NOBODY));
        assert!(goes(&mut replay, 1200, name("r"), ("root", 1)));
        assert!(goes(&mut replay, 1011, Message::default(), ("root", 1)));
        assert!(goes(&mut replay, PUT, put_three("/c"), NOBODY), "nobody is asked any more");
    }

    #[test]
    fn passwords_in_the_log_are_hashed_once_and_for_all() {
        let password =
            |replay: &Replay, name: &str| replay.mvcc().auth().user(name).unwrap().password.clone();
        let (one, other) = (with_users(), with_users());
        assert_eq!(password(&one, "alice"), password(&other, "alice"));
        let hash = password(&one, "alice").unwrap();
        assert!(hash.as_str().starts_with("$2a$"), "{}", hash.as_str());
        let mut replay = one;
        let root = ("root", replay.mvcc().auth().revision().0);
        let user = |name: &str| Message::default().bytes(1, name.as_bytes());
        let none = Message::default().varint(1, 1).finish();
        assert!(goes(&mut replay, 1100, user("cert").bytes(3, &none), root));
        assert_eq!(password(&replay, "cert"), None);
        // From 3.5 on the log has the hash.
        assert!(goes(&mut replay, 1100, user("new").bytes(4, b"JDJhJDEwJGg="), root));
        assert_eq!(password(&replay, "new").unwrap().as_str(), "$2a$10$h");
        assert!(goes(&mut replay, 1103, user("alice").bytes(3, b"JDJhJDEwJGg="), root));
        assert_eq!(password(&replay, "alice").unwrap().as_str(), "$2a$10$h");
        assert!(goes(&mut replay, 1103, user("cert").bytes(2, b"x"), root), "it stays without");
        assert_eq!(password(&replay, "cert"), None);
        assert!(!goes(&mut replay, 1103, user("bob").bytes(2, b"x"), root), "nobody");
    }
}
