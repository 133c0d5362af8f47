//! Random programs, run by the store and by a naive model of it written from `api-spec/v2-keys.md`.
//!
//! `PROPTEST_CASES=100000 cargo test --test store_model` runs more of them. A failure prints the smallest program that
//! still fails; its seed goes to `store_model.seeds` beside this file and is run first from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use cairn::model::{KeyPath, LogTime, MemberId, StoreIndex, Ttl};
use cairn::store::{
    Action, Applied, Body, Change, Command, Condition, Counter, Event, Filter, Found,
    HistoryLimits, Loader, Node, Removed, Scan, Shown, Store, Write,
};

// ---------------------------------------------------------------------------------------------------------------------
// The model: a flat map from paths to nodes, every question answered by looking at all of it.

type Names = Vec<Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// `None` is a directory.
    value: Option<Vec<u8>>,
    created: u64,
    modified: u64,
    dies: Option<u64>,
}

/// What an event must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Happened {
    action: &'static str,
    index: u64,
    at: u64,
    path: Names,
    node: Entry,
    prev: Option<Entry>,
    silent: bool,
    /// What else went, as whole paths.
    gone: BTreeSet<Names>,
}

/// `(errorCode, cause)`.
type No = (u16, Vec<u8>);

#[derive(Clone, Default)]
struct Model {
    now: u64,
    index: u64,
    entries: BTreeMap<Names, Entry>,
    /// By index; facts of the cluster are missing.
    past: BTreeMap<u64, Happened>,
    events_max: u64,
    counts: BTreeMap<&'static str, u64>,
    members: BTreeMap<u64, (String, Vec<String>, Vec<String>)>,
    members_gone: BTreeSet<u64>,
    version: Option<String>,
}

fn text(path: &[Vec<u8>]) -> Vec<u8> {
    path.iter().flat_map(|name| [b"/".as_slice(), name].concat()).collect()
}

impl Model {
    /// Section 5: 100 up to the first missing component, 104 with the file in the way.
    fn look(&self, path: &[Vec<u8>]) -> Result<Option<&Entry>, No> {
        for depth in 1..=path.len() {
            match self.entries.get(&path[..depth]) {
                None => return Err((100, text(&path[..depth]))),
                Some(entry) if depth == path.len() => return Ok(Some(entry)),
                Some(entry) if entry.value.is_some() => return Err((104, text(&path[..depth]))),
                Some(_) => {}
            }
        }
        Ok(None)
    }

    fn below(&self, path: &[Vec<u8>]) -> BTreeSet<Names> {
        let is_below = |other: &&Names| other.len() > path.len() && other.starts_with(path);
        self.entries.keys().filter(is_below).cloned().collect()
    }

    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// Section 12.
    fn count_outcome(&mut self, command: &Command, code: Option<u16>) {
        let (success, fail, accidents): (_, _, &[u16]) = match command {
            Command::Set { .. } => ("SetsSuccess", "SetsFail", &[]),
            Command::Create { .. } | Command::CreateInOrder { .. } => {
                if code == Some(104) {
                    self.count("SetsFail");
                }
                ("CreateSuccess", "CreateFail", &[])
            }
            Command::Update { .. } => ("UpdateSuccess", "UpdateFail", &[107, 102]),
            Command::CompareAndSwap { .. } => {
                ("CompareAndSwapSuccess", "CompareAndSwapFail", &[107])
            }
            Command::Delete { .. } => ("DeleteSuccess", "DeleteFail", &[107]),
            Command::CompareAndDelete { .. } => {
                ("CompareAndDeleteSuccess", "CompareAndDeleteFail", &[101, 102])
            }
            Command::Tick
            | Command::AddMember { .. }
            | Command::UpdateMember { .. }
            | Command::PublishMember { .. }
            | Command::RemoveMember { .. }
            | Command::SetClusterVersion { .. } => return,
        };
        let is_fail = code.is_some_and(|code| !accidents.contains(&code));
        self.count(if is_fail { fail } else { success });
    }

    fn apply(&mut self, at: u64, command: &Command) -> Result<Vec<Happened>, No> {
        self.now = self.now.max(at);
        let result = match command {
            Command::Tick => return Ok(self.tick()),
            Command::AddMember { id, peer_urls } => {
                self.index += 1;
                if !self.members_gone.contains(&id.0) {
                    self.members.entry(id.0).or_default().1 = in_order(peer_urls);
                }
                return Ok(vec![]);
            }
            Command::UpdateMember { id, peer_urls } => {
                self.index += 1;
                if let Some(member) = self.members.get_mut(&id.0) {
                    member.1 = in_order(peer_urls);
                }
                return Ok(vec![]);
            }
            Command::PublishMember { id, name, client_urls } => {
                self.index += 1;
                if let Some(member) = self.members.get_mut(&id.0) {
                    member.0.clone_from(name);
                    member.2.clone_from(client_urls);
                }
                return Ok(vec![]);
            }
            Command::RemoveMember { id } => {
                self.index += 2;
                self.members.remove(&id.0);
                self.members_gone.insert(id.0);
                return Ok(vec![]);
            }
            Command::SetClusterVersion { version } => {
                self.index += 1;
                self.version = Some(version.clone());
                return Ok(vec![]);
            }
            Command::Set { path, write } => self.set(names(path), write),
            Command::Create { path, write } => self.create(names(path), write),
            Command::CreateInOrder { dir, write } => {
                let mut path = names(dir);
                path.push(format!("{:020}", self.index + 1).into_bytes());
                self.create(path, write)
            }
            Command::Update { path, write } => self.update(names(path), write),
            Command::CompareAndSwap { path, write, condition } => {
                self.swap(names(path), write, condition)
            }
            Command::Delete { path, dir, recursive } => self.delete(names(path), *dir, *recursive),
            Command::CompareAndDelete { path, condition } => self.delete_if(names(path), condition),
        };
        self.count_outcome(command, result.as_ref().err().map(|(code, _)| *code));
        result.map(|happened| vec![happened])
    }

    fn set(&mut self, path: Names, write: &Write) -> Result<Happened, No> {
        let prev = match self.look(&path) {
            Ok(entry) => entry.cloned(),
            Err((100, cause)) if write.refresh => return Err((100, cause)),
            Err((100, _)) => None,
            Err(no) => return Err(no),
        };
        if path.is_empty() {
            return Err((107, b"/".to_vec()));
        }
        if prev.as_ref().is_some_and(|prev| prev.value.is_none()) {
            return Err((102, text(&path)));
        }
        if write.refresh && write.dir {
            return Err((102, text(&path))); // improvement 20
        }
        let mut entry = self.fresh(write);
        if write.refresh {
            entry.value = prev.as_ref().and_then(|prev| prev.value.clone());
        }
        Ok(self.place("set", path, entry, prev, write.refresh))
    }

    fn create(&mut self, path: Names, write: &Write) -> Result<Happened, No> {
        if path.is_empty() {
            return Err((107, b"/".to_vec()));
        }
        match self.look(&path) {
            Ok(_) => return Err((105, text(&path))),
            Err((100, _)) => {}
            Err(no) => return Err(no),
        }
        let entry = self.fresh(write);
        Ok(self.place("create", path, entry, None, false))
    }

    fn update(&mut self, path: Names, write: &Write) -> Result<Happened, No> {
        if path.is_empty() {
            return Err((107, b"/".to_vec()));
        }
        let prev = self.look(&path)?.expect("not the root").clone();
        if prev.value.is_none() && !write.value.is_empty() {
            return Err((102, text(&path)));
        }
        Ok(self.change("update", path, prev, write))
    }

    fn swap(&mut self, path: Names, write: &Write, wanted: &Condition) -> Result<Happened, No> {
        if path.is_empty() {
            return Err((107, b"/".to_vec()));
        }
        let prev = self.look(&path)?.cloned();
        let prev = compare(&path, prev, wanted)?;
        Ok(self.change("compareAndSwap", path, prev, write))
    }

    fn delete(&mut self, path: Names, dir: bool, recursive: bool) -> Result<Happened, No> {
        if path.is_empty() {
            return Err((107, b"/".to_vec()));
        }
        let entry = self.look(&path)?.expect("not the root");
        if entry.value.is_none() && !dir && !recursive {
            return Err((102, text(&path)));
        }
        if !self.below(&path).is_empty() && !recursive {
            return Err((108, text(&path)));
        }
        Ok(self.remove("delete", path))
    }

    fn delete_if(&mut self, path: Names, wanted: &Condition) -> Result<Happened, No> {
        let prev = self.look(&path)?.cloned();
        compare(&path, prev, wanted)?;
        Ok(self.remove("compareAndDelete", path))
    }

    fn tick(&mut self) -> Vec<Happened> {
        let mut all = Vec::new();
        loop {
            let due = |(path, entry): (&Names, &Entry)| {
                entry.dies.filter(|dies| *dies <= self.now).map(|dies| (dies, text(path)))
            };
            let Some((_, first)) = self.entries.iter().filter_map(due).min() else { return all };
            self.count("ExpireCount");
            all.push(
                self.remove("expire", first.split(|b| *b == b'/').skip(1).map(Vec::from).collect()),
            );
        }
    }

    fn dies(&self, write: &Write) -> Option<u64> {
        write.ttl.map(|ttl| self.now + ttl.as_s() * 1000)
    }

    /// What a write puts at a place where it may.
    fn fresh(&self, write: &Write) -> Entry {
        let value = if write.dir { None } else { Some(write.value.to_vec()) };
        let index = self.index + 1;
        Entry { value, created: index, modified: index, dies: self.dies(write) }
    }

    fn place(
        &mut self,
        action: &'static str,
        path: Names,
        entry: Entry,
        prev: Option<Entry>,
        silent: bool,
    ) -> Happened {
        self.index += 1;
        for depth in 1..path.len() {
            let dir = Entry { value: None, created: self.index, modified: self.index, dies: None };
            self.entries.entry(path[..depth].to_vec()).or_insert(dir);
        }
        self.entries.insert(path.clone(), entry.clone());
        self.note(action, path, entry, prev, silent, BTreeSet::new())
    }

    fn change(
        &mut self,
        action: &'static str,
        path: Names,
        prev: Entry,
        write: &Write,
    ) -> Happened {
        self.index += 1;
        let mut entry = prev.clone();
        entry.modified = self.index; // also of directories: improvement 5
        entry.dies = self.dies(write);
        if !write.refresh && entry.value.is_some() {
            entry.value = Some(write.value.to_vec());
        }
        self.entries.insert(path.clone(), entry.clone());
        self.note(action, path, entry, Some(prev), write.refresh, BTreeSet::new())
    }

    fn remove(&mut self, action: &'static str, path: Names) -> Happened {
        self.index += 1;
        let gone = self.below(&path);
        for path in &gone {
            self.entries.remove(path);
        }
        let prev = self.entries.remove(&path).expect("it was looked up");
        let node = Entry { value: None, modified: self.index, created: prev.created, dies: None };
        self.note(action, path, node, Some(prev), false, gone)
    }

    fn note(
        &mut self,
        action: &'static str,
        path: Names,
        node: Entry,
        prev: Option<Entry>,
        silent: bool,
        gone: BTreeSet<Names>,
    ) -> Happened {
        let (index, at) = (self.index, self.now);
        let happened = Happened { action, index, at, path, node, prev, silent, gone };
        self.past.insert(index, happened.clone());
        happened
    }

    fn oldest(&self) -> u64 {
        (self.index + 1).saturating_sub(self.events_max).max(1)
    }

    /// Section 10 with the rule of section 9: the first event from `from` on, or nothing, or 401.
    fn search(&self, from: u64, path: &[Vec<u8>], recursive: bool) -> Result<Option<u64>, No> {
        if from < self.oldest() {
            let cause =
                format!("the requested history has been cleared [{}/{from}]", self.oldest());
            return Err((401, cause.into_bytes()));
        }
        let seen = |happened: &&Happened| sees(path, recursive, happened);
        Ok(self.past.range(from..).map(|(_, happened)| happened).find(seen).map(|it| it.index))
    }
}

/// The table of section 9.
fn sees(watched: &[Vec<u8>], recursive: bool, happened: &Happened) -> bool {
    let path = &happened.path;
    if happened.silent {
        false
    } else if *path == watched {
        true
    } else if path.starts_with(watched) {
        recursive && !path[watched.len()..].iter().any(|name| name.starts_with(b"_"))
    } else {
        happened.gone.contains(watched)
    }
}

/// Section 6: the file, or why it is not what the client thinks.
fn compare(path: &[Vec<u8>], found: Option<Entry>, wanted: &Condition) -> Result<Entry, No> {
    let Some(entry) = found else { return Err((102, vec![])) };
    let Some(value) = &entry.value else { return Err((102, text(path))) };
    let mut causes: Vec<Vec<u8>> = Vec::new();
    if let Some(wanted) = &wanted.value
        && **wanted != value[..]
    {
        causes.push([b"[", &**wanted, b" != ", value, b"]"].concat());
    }
    if wanted.index.0 != 0 && wanted.index.0 != entry.modified {
        causes.push(format!("[{} != {}]", wanted.index.0, entry.modified).into_bytes());
    }
    if causes.is_empty() { Ok(entry) } else { Err((101, causes.join(&b" "[..]))) }
}

fn in_order(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

fn names(path: &KeyPath) -> Names {
    path.names().map(<[u8]>::to_vec).collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// The store in the words of the model.

fn entry_of(node: &Node) -> Entry {
    Entry {
        value: node.value().map(|value| value.to_vec()),
        created: node.created.0,
        modified: node.modified.0,
        dies: node.expires.map(|at| at.0),
    }
}

fn entry_of_shown(shown: &Shown) -> Entry {
    Entry {
        value: shown.value.as_ref().map(|value| value.to_vec()),
        created: shown.created.0,
        modified: shown.modified.0,
        dies: shown.expires.map(|at| at.0),
    }
}

fn happened_of(event: &Event) -> Happened {
    let path = names(&event.path);
    let gone = match &event.removed {
        Removed::Nothing => BTreeSet::new(),
        Removed::Paths(paths) => {
            assert!(paths.is_sorted(), "or they cannot be searched");
            let whole = |rest: &[u8]| {
                let rest = rest.split(|b| *b == b'/').skip(1).map(<[u8]>::to_vec);
                path.iter().cloned().chain(rest).collect()
            };
            paths.iter().map(|rest| whole(rest)).collect()
        }
        Removed::Many => panic!("programs are too small for that"),
    };
    let dir = event.prev.as_ref().unwrap_or(&event.node).dir;
    assert!(
        event.node.dir == dir || event.action == Action::Set,
        "only a set can make a directory of a file"
    );
    if !event.action.removes() {
        assert_eq!(event.node.dir, event.node.value.is_none(), "a file has a value");
    }
    Happened {
        action: event.action.as_str(),
        index: event.index.0,
        at: event.at.0,
        path,
        node: entry_of_shown(&event.node),
        prev: event.prev.as_ref().map(entry_of_shown),
        silent: event.refresh,
        gone,
    }
}

fn entries_of(store: &Store) -> BTreeMap<Names, Entry> {
    fn collect(path: &Names, node: &Node, all: &mut BTreeMap<Names, Entry>) {
        let Body::Dir(children) = &node.body else { return };
        for (name, child) in children {
            let mut path = path.clone();
            path.push(name.to_vec());
            all.insert(path.clone(), entry_of(child));
            collect(&path, child, all);
        }
    }
    let mut all = BTreeMap::new();
    let root = store.get(&KeyPath::root()).outcome.expect("the root is there");
    collect(&Vec::new(), root, &mut all);
    all
}

/// The records of a checkpoint, kept up to date as a disk would.
#[derive(Default, PartialEq, Eq, Debug)]
struct Records(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records {
    fn update(&mut self, older: Option<&Store>, newer: &Store) {
        newer.changes_since(older, &mut |change| match change {
            Change::PutNode(path, record) => {
                let old = self.0.insert(path.as_bytes().to_vec(), record.clone());
                assert_ne!(old, Some(record), "{path} did not change");
            }
            Change::DropNode(path) => {
                assert!(self.0.remove(path.as_bytes()).is_some(), "{path} was not there");
            }
        });
    }

    fn of(store: &Store) -> Self {
        let mut records = Self::default();
        records.update(None, store);
        records
    }

    fn load(&self, from: &Store, limits: HistoryLimits) -> Store {
        let mut loader = Loader::new(limits, &from.header()).expect("a header");
        for (key, record) in &self.0 {
            loader.node(key, record).expect("a node");
        }
        from.events_since(StoreIndex(0), &mut |index, record| {
            loader.event(index, &record).expect("an event");
        });
        loader.finish().expect("a store")
    }
}

fn history_of(store: &Store) -> Vec<(StoreIndex, Option<Arc<Event>>)> {
    store.history().slots_from(StoreIndex(0)).map(|(index, slot)| (index, slot.cloned())).collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// Programs.

/// A command whose details depend on what is there when it runs.
#[derive(Clone, Debug)]
enum Op {
    Set,
    Create,
    Post,
    Update,
    Swap,
    Delete {
        dir: bool,
        recursive: bool,
    },
    DeleteIf,
    Tick,
    /// A set of the name that the next in-order key will want.
    TakeName,
    Member(u8, u8),
    Version(u8),
    Checkpoint,
    Reload,
}

#[derive(Clone, Debug)]
struct Step {
    ahead_ms: i64,
    op: Op,
    path: Names,
    value: Vec<u8>,
    dir: bool,
    ttl: Option<u64>,
    refresh: bool,
    /// How close to the truth a condition is: none, right, wrong for the value; the same for the index.
    guess: (u8, u8),
    /// What a watcher looks at after the step.
    watched: Names,
    recursive: bool,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(b"a".to_vec()),
        4 => Just(b"b".to_vec()),
        2 => Just(b"ab".to_vec()),
        2 => Just(b"_h".to_vec()),
        1 => Just(b"a.".to_vec()),
        1 => Just(vec![0xff, 0]),
    ]
}

fn path() -> impl Strategy<Value = Names> {
    prop_oneof![
        1 => Just(vec![]),
        24 => prop::collection::vec(name(), 1..=2),
        10 => prop::collection::vec(name(), 3..=4),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => Just(Op::Set),
        6 => Just(Op::Create),
        3 => Just(Op::Post),
        6 => Just(Op::Update),
        6 => Just(Op::Swap),
        6 => any::<(bool, bool)>().prop_map(|(dir, recursive)| Op::Delete { dir, recursive }),
        4 => Just(Op::DeleteIf),
        6 => Just(Op::Tick),
        1 => Just(Op::TakeName),
        2 => (0..4u8, 1..4u8).prop_map(|(what, who)| Op::Member(what, who)),
        1 => (1..5u8).prop_map(Op::Version),
        2 => Just(Op::Checkpoint),
        1 => Just(Op::Reload),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let value =
        prop_oneof![Just(vec![]), Just(b"1".to_vec()), Just(b"2".to_vec()), Just(vec![0xfe])];
    let ahead_ms = prop_oneof![6 => Just(0), 6 => 0..1500i64, 3 => Just(1000), 1 => -3000..0i64];
    let ttl = prop_oneof![3 => Just(None), 4 => (0..5u64).prop_map(Some)];
    let flags = (proptest::bool::weighted(0.25), proptest::bool::weighted(0.2), any::<bool>());
    (ahead_ms, op(), path(), value, ttl, flags, (0..3u8, 0..3u8), path()).prop_map(
        |(ahead_ms, op, path, value, ttl, (dir, refresh, recursive), guess, watched)| Step {
            ahead_ms,
            op,
            path,
            value,
            dir,
            ttl,
            refresh,
            guess,
            watched,
            recursive,
        },
    )
}

fn key(path: &[Vec<u8>]) -> KeyPath {
    KeyPath::clean(&text(path))
}

impl Step {
    fn command(&self, model: &Model) -> Option<Command> {
        let path = key(&self.path);
        let refresh = self.refresh;
        let write = Write {
            // The edge lets no refresh through that has a value, or none that has no ttl.
            value: if refresh { vec![] } else { self.value.clone() }.into(),
            dir: self.dir,
            ttl: if refresh { self.ttl.or(Some(3)) } else { self.ttl }.and_then(Ttl::from_s),
            refresh,
        };
        let there = model.entries.get(&self.path);
        let right_value = there.and_then(|entry| entry.value.clone()).unwrap_or(b"1".to_vec());
        let right_index = there.map_or(1, |entry| entry.modified);
        let mut condition = Condition {
            value: [None, Some(right_value), Some(b"wrong\n".to_vec())][usize::from(self.guess.0)]
                .clone()
                .map(Into::into),
            index: StoreIndex([0, right_index, right_index + 1][usize::from(self.guess.1)]),
        };
        if condition.value.is_none() && condition.index == StoreIndex(0) {
            condition.index = StoreIndex(right_index);
        }
        let urls = vec![format!("http://{}", self.value.len()), "http://0".to_owned()];
        Some(match self.op {
            Op::Set => Command::Set { path, write },
            Op::Create => Command::Create { path, write },
            Op::Post => Command::CreateInOrder { dir: path, write },
            Op::Update => Command::Update { path, write },
            Op::Swap => Command::CompareAndSwap { path, write, condition },
            Op::Delete { dir, recursive } => Command::Delete { path, dir, recursive },
            Op::DeleteIf => Command::CompareAndDelete { path, condition },
            Op::Tick => Command::Tick,
            Op::TakeName => {
                let name = format!("{:020}", model.index + 2);
                Command::Set { path: path.child(name.as_bytes()), write }
            }
            Op::Member(what, who) => {
                let id = MemberId(who.into());
                match what {
                    0 => Command::AddMember { id, peer_urls: urls },
                    1 => Command::UpdateMember { id, peer_urls: urls },
                    2 => Command::PublishMember { id, name: "one".into(), client_urls: urls },
                    _ => Command::RemoveMember { id },
                }
            }
            Op::Version(minor) => Command::SetClusterVersion { version: format!("3.{minor}.0") },
            Op::Checkpoint | Op::Reload => return None,
        })
    }
}

const COUNTERS: [Counter; 13] = [
    Counter::SetsSuccess,
    Counter::SetsFail,
    Counter::DeleteSuccess,
    Counter::DeleteFail,
    Counter::UpdateSuccess,
    Counter::UpdateFail,
    Counter::CreateSuccess,
    Counter::CreateFail,
    Counter::CompareAndSwapSuccess,
    Counter::CompareAndSwapFail,
    Counter::CompareAndDeleteSuccess,
    Counter::CompareAndDeleteFail,
    Counter::ExpireCount,
];

fn counts_of(store: &Store) -> BTreeMap<&'static str, u64> {
    const NAMES: [&str; 13] = [
        "SetsSuccess",
        "SetsFail",
        "DeleteSuccess",
        "DeleteFail",
        "UpdateSuccess",
        "UpdateFail",
        "CreateSuccess",
        "CreateFail",
        "CompareAndSwapSuccess",
        "CompareAndSwapFail",
        "CompareAndDeleteSuccess",
        "CompareAndDeleteFail",
        "ExpireCount",
    ];
    let counts = NAMES.iter().zip(COUNTERS).map(|(name, at)| (*name, store.counters().get(at)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The answer in the words of the model.
fn answer_of(applied: &Applied) -> Result<Vec<Happened>, No> {
    match applied {
        Applied::Refused(refusal) => Err((refusal.row().0, refusal.cause().to_vec())),
        Applied::Changed(_) | Applied::Expired(_) | Applied::Recorded => {
            Ok(applied.events().iter().map(|event| happened_of(event)).collect())
        }
    }
}

/// What the model says of the whole store.
fn agree(store: &Store, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(store.index().0, model.index);
    prop_assert_eq!(store.now().0, model.now);
    prop_assert_eq!(&entries_of(store), &model.entries);
    prop_assert_eq!(&counts_of(store), &model.counts);
    let soonest = model.entries.values().filter_map(|entry| entry.dies).min();
    prop_assert_eq!(store.next_deadline().map(|at| at.0), soonest);
    prop_assert_eq!(store.history().oldest().0, model.oldest());
    prop_assert_eq!(store.history().next().0, model.index + 1);
    prop_assert_eq!(store.members().version(), model.version.as_deref());
    let members: BTreeMap<_, _> = store
        .members()
        .iter()
        .map(|(id, it)| (id.0, (it.name.clone(), it.peer_urls.clone(), it.client_urls.clone())))
        .collect();
    prop_assert_eq!(&members, &model.members);
    for id in 0..5 {
        prop_assert_eq!(
            store.members().was_removed(MemberId(id)),
            model.members_gone.contains(&id)
        );
    }
    Ok(())
}

/// One look at one key: the node or the refusal, and the visible children.
fn agree_on(store: &Store, model: &Model, path: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let reply = store.get(&key(path));
    prop_assert_eq!(reply.index.0, model.index);
    match (reply.outcome, model.look(path)) {
        (Ok(node), Ok(entry)) => {
            if let Some(entry) = entry {
                prop_assert_eq!(&entry_of(node), entry);
            }
            let listed: Vec<_> = node.visible_children().map(|(name, _)| name.to_vec()).collect();
            let visible: BTreeSet<_> = model
                .below(path)
                .into_iter()
                .filter(|child| child.len() == path.len() + 1)
                .filter_map(|child| child.last().cloned())
                .filter(|name| !name.starts_with(b"_"))
                .collect();
            prop_assert_eq!(listed, visible.into_iter().collect::<Vec<_>>());
        }
        (Err(refusal), Err((code, cause))) => {
            prop_assert_eq!((refusal.row().0, refusal.cause().to_vec()), (code, cause));
        }
        (found, wanted) => prop_assert!(false, "found {found:?}, wanted {wanted:?}"),
    }
    Ok(())
}

fn agree_on_history(
    store: &Store,
    model: &Model,
    from: u64,
    path: &[Vec<u8>],
    recursive: bool,
) -> Result<(), TestCaseError> {
    let filter = Filter { path: key(path), recursive };
    let found = store.history().find(Scan { from: StoreIndex(from), filter: &filter });
    match (found, model.search(from, path, recursive)) {
        (Ok(Found::Event(event)), Ok(Some(index))) => prop_assert_eq!(event.index.0, index),
        (Ok(Found::NoneBefore(next)), Ok(None)) => {
            prop_assert_eq!(next.0, from.max(model.index + 1));
        }
        (Err(refusal), Err((code, cause))) => {
            prop_assert_eq!((refusal.row().0, refusal.cause().to_vec()), (code, cause));
        }
        (found, wanted) => {
            prop_assert!(false, "{filter:?} from {from}: found {found:?}, wanted {wanted:?}");
        }
    }
    Ok(())
}

fn run(steps: &[Step], events_max: usize) -> Result<(), TestCaseError> {
    let limits = HistoryLimits { events_max, bytes_max: usize::MAX };
    let mut store = Store::new(limits);
    let mut twin = Store::new(limits);
    let mut model = Model { events_max: events_max as u64, ..Model::default() };
    let mut clock = 1_000_000i64;
    let mut checkpoint = (store.clone(), Records::default());
    let mut snapshots = Vec::new();
    for step in steps {
        let Some(command) = step.command(&model) else {
            let (older, records) = &mut checkpoint;
            records.update(Some(older), &store);
            prop_assert_eq!(&*records, &Records::of(&store));
            *older = store.clone();
            if matches!(step.op, Op::Reload) {
                let loaded = records.load(&store, limits);
                loaded.check();
                prop_assert_eq!(loaded.digest(), store.digest());
                prop_assert_eq!(history_of(&loaded), history_of(&store));
                prop_assert_eq!(loaded.history().bytes(), store.history().bytes());
                prop_assert_eq!(loaded.header(), store.header());
                store = loaded;
                agree(&store, &model)?;
                // A loaded store shares nothing with an older one; what differs must be found all the same.
                older.changes_since(Some(&store), &mut |change| panic!("differs: {change:?}"));
                checkpoint.0 = store.clone();
            } else {
                snapshots.push((store.clone(), store.digest(), model.clone()));
            }
            continue;
        };
        clock += step.ahead_ms;
        let at = clock.unsigned_abs();
        let before = store.clone();
        let applied = store.apply(LogTime(at), &command);
        twin.apply(LogTime(at), &command);
        let wanted = model.apply(at, &command);
        prop_assert_eq!(answer_of(&applied), wanted, "{:?}", command);
        store.check();
        agree(&store, &model)?;
        agree_on(&store, &model, &step.path)?;
        agree_on(&store, &model, &step.watched)?;
        if matches!(applied, Applied::Refused(_)) {
            prop_assert_eq!(entries_of(&before), entries_of(&store));
            prop_assert_eq!(history_of(&before), history_of(&store));
            store.changes_since(Some(&before), &mut |change| panic!("refused, but {change:?}"));
        }
        for event in applied.events() {
            let filter = Filter { path: key(&step.watched), recursive: step.recursive };
            prop_assert_eq!(
                filter.sees(event),
                sees(&step.watched, step.recursive, &happened_of(event)),
                "{:?} {:?}",
                filter,
                event
            );
        }
    }
    prop_assert_eq!(store.digest(), twin.digest(), "the same program, the same store");
    prop_assert_eq!(store.header(), twin.header());
    prop_assert_eq!(history_of(&store), history_of(&twin));
    for (snapshot, digest, model) in &snapshots {
        prop_assert_eq!(snapshot.digest(), *digest, "a clone does not change");
        agree(snapshot, model)?;
    }
    // Few filters and all indexes: the filters vary from case to case.
    for step in steps.iter().rev().take(4) {
        for path in [&step.watched, &step.path] {
            for from in 0..=model.index + 2 {
                agree_on_history(&store, &model, from, path, step.recursive)?;
            }
        }
    }
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..default
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn store_and_model_agree_on_every_step_of_a_program(
        steps in prop::collection::vec(step(), 1..40),
        events_max in prop_oneof![Just(0usize), Just(1), Just(5), Just(20), Just(1000)],
    ) {
        let events_max = events_max.max(1);
        run(&steps, events_max)?;
    }
}

/// Directories of more than one leaf of the map, so that differences have something to skip.
#[derive(Clone, Debug)]
enum Churn {
    Put(u16),
    Drop(u16),
    Range(u16, u16),
    Checkpoint,
}

fn churn() -> impl Strategy<Value = Churn> {
    prop_oneof![
        6 => (0..400u16).prop_map(Churn::Put),
        6 => (0..400u16).prop_map(Churn::Drop),
        1 => (0..400u16, 0..150u16).prop_map(|(from, count)| Churn::Range(from, count)),
        3 => Just(Churn::Checkpoint),
    ]
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_checkpoint_of_a_large_directory_is_what_changed_exactly(
        start in 0..400u16,
        churn in prop::collection::vec(churn(), 1..60),
    ) {
        let limits = HistoryLimits { events_max: 1, bytes_max: usize::MAX };
        let mut store = Store::new(limits);
        let path = |n: u16| KeyPath::from(format!("/d/{n}").as_str());
        let put = |store: &mut Store, n: u16| {
            let value = store.index().0.to_string().into_bytes().into();
            let write = Write { value, dir: false, ttl: None, refresh: false };
            store.apply(LogTime(1), &Command::Set { path: path(n), write });
        };
        for n in 0..start {
            put(&mut store, n);
        }
        let mut older = store.clone();
        let mut records = Records::of(&store);
        for step in churn.into_iter().chain([Churn::Checkpoint]) {
            match step {
                Churn::Put(n) => put(&mut store, n),
                Churn::Drop(n) => {
                    let command = Command::Delete { path: path(n), dir: false, recursive: false };
                    store.apply(LogTime(1), &command);
                }
                Churn::Range(from, count) => (from..from + count).for_each(|n| put(&mut store, n)),
                Churn::Checkpoint => {
                    records.update(Some(&older), &store);
                    prop_assert_eq!(&records, &Records::of(&store));
                    older = store.clone();
                }
            }
        }
    }
}
