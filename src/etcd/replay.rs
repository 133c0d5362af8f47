//! What the entries of a log do: etcd's version 2 store, entry by entry.
//!
//! Owns: which command of ours an entry is, what changes of members do, and that all trees share one index. Never knows: files;
//! which entries count.
//! Holds: conditions are evaluated again, as etcd does when it starts, so a request that failed there fails here and takes no index.
//!
//! Users' keys are one store, the hidden keys of the cluster and of users and roles another; an index that one takes, the other
//! skips. What each command does is said once, in `store`.

use thiserror::Error;

use crate::etcd::entry::{Asked, ChangeKind, ConfChange, EntryError, EntryKind, Method, Request};
use crate::etcd::facts::{self, Attributes, RaftAttributes};
pub use crate::etcd::facts::{EtcdMember, Facts};
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
    /// Requests of version 3, which are left out.
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
    keys: Store,
    hidden: Store,
    counters: Counters,
    replaced: Replaced,
    /// The latest moment that is known.
    latest: LogTime,
    done: Done,
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
        }
    }

    /// Begins with the store of a snapshot.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn of(json: &[u8], limits: HistoryLimits) -> Result<Self, SnapshotError> {
        let Loaded { keys, hidden, counters, replaced, latest } = snapshot::load(json, limits)?;
        Ok(Self { keys, hidden, counters, replaced, latest, done: Done::default() })
    }

    /// It is at least this late: what is shown of lifetimes in past events follows from it.
    pub fn not_before(&mut self, at: LogTime) {
        self.latest = self.latest.max(at);
    }

    /// Applies an entry.
    ///
    /// # Errors
    /// See [`ReplayError`]; nothing has changed then.
    pub fn entry(&mut self, kind: EntryKind, data: &[u8]) -> Result<(), ReplayError> {
        match kind {
            EntryKind::ConfChange => {
                self.conf_change(&ConfChange::decode(data)?)?;
                self.done.facts += 1;
            }
            EntryKind::Normal => match Asked::decode(data)? {
                Asked::Nothing => self.done.nothing += 1,
                Asked::VersionThree(_) => self.done.version_three += 1,
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
            | Applied::AuthRefused(_) => self.done.changes += 1,
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
