//! A flat map from paths to nodes: every question is answered by looking at all of it.
//!
//! Written from `api-spec/v2-keys.md`, sections 5 to 10 and 12; knows the store's commands and nothing of its insides.

use std::collections::{BTreeMap, BTreeSet};

use cairn::model::KeyPath;
use cairn::store::{Command, Condition, Write};

pub(crate) type Names = Vec<Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `None` is a directory.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) created: u64,
    pub(crate) modified: u64,
    pub(crate) dies: Option<u64>,
}

/// What an event must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) action: &'static str,
    pub(crate) index: u64,
    pub(crate) at: u64,
    pub(crate) path: Names,
    pub(crate) node: Entry,
    pub(crate) prev: Option<Entry>,
    pub(crate) silent: bool,
    /// What else went, as whole paths.
    pub(crate) gone: BTreeSet<Names>,
}

/// `(errorCode, cause)`.
pub(crate) type No = (u16, Vec<u8>);

#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) index: u64,
    pub(crate) entries: BTreeMap<Names, Entry>,
    /// By index; facts of the cluster are missing.
    pub(crate) past: BTreeMap<u64, Happened>,
    pub(crate) events_max: u64,
    pub(crate) bytes_max: usize,
    /// What each event weighs, by index: the one thing that the model has to be told.
    pub(crate) weights: BTreeMap<u64, usize>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) members: BTreeMap<u64, (String, Vec<String>, Vec<String>)>,
    pub(crate) members_gone: BTreeSet<u64>,
    pub(crate) version: Option<String>,
}

pub(crate) fn text(path: &[Vec<u8>]) -> Vec<u8> {
    path.iter().flat_map(|name| [b"/".as_slice(), name].concat()).collect()
}

impl Model {
    /// Section 5: 100 up to the first missing component, 104 with the file in the way.
    pub(crate) fn look(&self, path: &[Vec<u8>]) -> Result<Option<&Entry>, No> {
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

    pub(crate) fn below(&self, path: &[Vec<u8>]) -> BTreeSet<Names> {
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
            Command::Tick { .. }
            | Command::AddMember { .. }
            | Command::UpdateMember { .. }
            | Command::PublishMember { .. }
            | Command::RemoveMember { .. }
            | Command::SetClusterVersion { .. }
            | Command::Auth(_)
            | Command::Mvcc(_) => return,
        };
        let is_fail = code.is_some_and(|code| !accidents.contains(&code));
        self.count(if is_fail { fail } else { success });
    }

    pub(crate) fn apply(&mut self, at: u64, command: &Command) -> Result<Vec<Happened>, No> {
        self.now = self.now.max(at);
        let result = match command {
            Command::Tick { nodes_max } => return Ok(self.tick(*nodes_max)),
            Command::AddMember { .. }
            | Command::UpdateMember { .. }
            | Command::PublishMember { .. }
            | Command::RemoveMember { .. }
            | Command::SetClusterVersion { .. } => {
                self.index += self.record(command);
                return Ok(vec![]);
            }
            // What it does is checked beside its code, against etcd and by the corpus.
            Command::Auth(_) | Command::Mvcc(_) => return Ok(vec![]),
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

    /// The indexes that a fact takes: none when it is known or cannot be.
    fn record(&mut self, command: &Command) -> u64 {
        let before = (self.members.clone(), self.version.clone());
        let taken = |id: u64, urls: &[String]| {
            let others = self.members.iter().filter(|(other, _)| **other != id);
            others.flat_map(|(_, member)| &member.1).any(|url| urls.contains(url))
        };
        if let Command::AddMember { checked, .. } | Command::RemoveMember { checked, .. } = command
            && checked.is_some_and(|revision| revision.0 != self.joined_and_left())
        {
            return 0;
        }
        match command {
            Command::AddMember { id, peer_urls, .. } => {
                let known = self.members.contains_key(&id.0) || self.members_gone.contains(&id.0);
                if !known && !taken(id.0, peer_urls) {
                    self.members.entry(id.0).or_default().1 = in_order(peer_urls);
                }
            }
            Command::UpdateMember { id, peer_urls } => {
                if taken(id.0, peer_urls) {
                    return 0;
                }
                // A move takes an index even when it leads to the same place.
                let Some(member) = self.members.get_mut(&id.0) else { return 0 };
                member.1 = in_order(peer_urls);
                return 1;
            }
            Command::PublishMember { id, name, client_urls } => {
                if let Some(member) = self.members.get_mut(&id.0) {
                    member.0.clone_from(name);
                    member.2.clone_from(client_urls);
                }
            }
            Command::RemoveMember { id, .. } => {
                if self.members.remove(&id.0).is_none() {
                    return 0;
                }
                self.members_gone.insert(id.0);
                return 2;
            }
            Command::SetClusterVersion { version } => self.version = Some(version.clone()),
            Command::Set { .. }
            | Command::Create { .. }
            | Command::CreateInOrder { .. }
            | Command::Update { .. }
            | Command::CompareAndSwap { .. }
            | Command::Delete { .. }
            | Command::CompareAndDelete { .. }
            | Command::Tick { .. }
            | Command::Auth(_)
            | Command::Mvcc(_) => {}
        }
        u64::from(before != (self.members.clone(), self.version.clone()))
    }

    /// How often a member joined, and how often one left.
    pub(crate) fn joined_and_left(&self) -> u64 {
        (self.members.len() + self.members_gone.len() + self.members_gone.len()) as u64
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

    pub(crate) fn update(&mut self, path: Names, write: &Write) -> Result<Happened, No> {
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

    fn tick(&mut self, nodes_max: Option<u64>) -> Vec<Happened> {
        let mut all: Vec<Happened> = Vec::new();
        loop {
            let gone: usize = all.iter().map(|happened| 1 + happened.gone.len()).sum();
            if nodes_max.is_some_and(|max| gone as u64 >= max) {
                return all;
            }
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
        write.ttl.map(|ttl| self.now + ttl.as_s() * 1_000_000_000)
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
        entry.modified = self.index;
        entry.dies = self.dies(write);
        if !write.refresh && entry.value.is_some() {
            entry.value = Some(write.value.to_vec());
        }
        // A directory shows the new index and keeps the old one.
        let kept = if entry.value.is_none() { prev.modified } else { entry.modified };
        self.entries.insert(path.clone(), Entry { modified: kept, ..entry.clone() });
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

    /// The longest end of the past that fits both limits, but at least the last index.
    pub(crate) fn oldest(&self) -> u64 {
        let (mut oldest, mut bytes) = (self.index.max(1), 0);
        for index in (1..=self.index).rev() {
            bytes += self.weights.get(&index).copied().unwrap_or_default();
            let count = self.index + 1 - index;
            if count > 1 && (count > self.events_max || bytes > self.bytes_max) {
                break;
            }
            oldest = index;
        }
        oldest
    }

    /// Section 10 with the rule of section 9: the first event from `from` on, or nothing, or 401.
    pub(crate) fn search(
        &self,
        from: u64,
        path: &[Vec<u8>],
        recursive: bool,
    ) -> Result<Option<u64>, No> {
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
pub(crate) fn sees(watched: &[Vec<u8>], recursive: bool, happened: &Happened) -> bool {
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
pub(crate) fn compare(
    path: &[Vec<u8>],
    found: Option<Entry>,
    wanted: &Condition,
) -> Result<Entry, No> {
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

pub(crate) fn in_order(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

pub(crate) fn names(path: &KeyPath) -> Names {
    path.names().map(<[u8]>::to_vec).collect()
}
