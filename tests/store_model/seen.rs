//! The store in the words of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn::model::{KeyPath, StoreIndex};
use cairn::store::{
    Action, Applied, Changes, Counter, Event, HistoryLimits, Loader, Node, RecordChange, Removed,
    Shown, Store,
};

use crate::model::{Entry, Happened, Names, No, names};

pub(crate) fn entry_of(node: &Node) -> Entry {
    Entry {
        value: node.value().map(|value| value.to_vec()),
        created: node.created.0,
        modified: node.modified.0,
        dies: node.expires.map(|at| at.0),
    }
}

pub(crate) fn entry_of_shown(shown: &Shown) -> Entry {
    Entry {
        value: shown.value.as_ref().map(|value| value.to_vec()),
        created: shown.created.0,
        modified: shown.modified.0,
        dies: shown.expires.map(|at| at.0),
    }
}

pub(crate) fn happened_of(event: &Event) -> Happened {
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
    if let Some(prev) = &event.prev {
        assert_eq!(prev.dir, prev.value.is_none(), "a file has a value");
    }
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

pub(crate) fn entries_of(store: &Store) -> BTreeMap<Names, Entry> {
    fn collect(path: &Names, node: &Node, all: &mut BTreeMap<Names, Entry>) {
        let Some(dir) = node.as_dir() else { return };
        for (name, child) in dir.children() {
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
pub(crate) struct Records(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records {
    pub(crate) fn update(&mut self, changes: &Changes, newer: &Store) {
        let mut put = BTreeSet::new();
        newer.changed_records(changes, &mut |change| match change {
            RecordChange::PutNode(path, record) => {
                assert!(put.insert(path.clone()), "{path} is written once");
                let is_file = newer.get(&path).outcome.is_ok_and(|node| !node.is_dir());
                let old = self.0.insert(path.as_bytes().to_vec(), record.clone());
                // An event names a directory also where its record stays as it was.
                assert!(!is_file || old != Some(record), "{path} did not change");
            }
            RecordChange::DropNode(path) => drop(self.0.remove(path.as_bytes())),
            RecordChange::DropBelow(dir) => {
                let below = [dir.as_bytes(), b"/"].concat();
                self.0.retain(|key, _| !key.starts_with(&below));
            }
        });
    }

    pub(crate) fn of(store: &Store) -> Self {
        let mut records = Self::default();
        store.nodes(&mut |path, record| {
            records.0.insert(path.as_bytes().to_vec(), record);
        });
        records
    }

    pub(crate) fn load(&self, from: &Store, limits: HistoryLimits) -> Store {
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

pub(crate) fn history_of(store: &Store) -> Vec<(StoreIndex, Option<Arc<Event>>)> {
    store.history().slots_from(StoreIndex(0)).map(|(index, slot)| (index, slot.cloned())).collect()
}

const COUNTERS: [(&str, Counter); 13] = [
    ("SetsSuccess", Counter::SetsSuccess),
    ("SetsFail", Counter::SetsFail),
    ("DeleteSuccess", Counter::DeleteSuccess),
    ("DeleteFail", Counter::DeleteFail),
    ("UpdateSuccess", Counter::UpdateSuccess),
    ("UpdateFail", Counter::UpdateFail),
    ("CreateSuccess", Counter::CreateSuccess),
    ("CreateFail", Counter::CreateFail),
    ("CompareAndSwapSuccess", Counter::CompareAndSwapSuccess),
    ("CompareAndSwapFail", Counter::CompareAndSwapFail),
    ("CompareAndDeleteSuccess", Counter::CompareAndDeleteSuccess),
    ("CompareAndDeleteFail", Counter::CompareAndDeleteFail),
    ("ExpireCount", Counter::ExpireCount),
];

pub(crate) fn counts_of(store: &Store) -> BTreeMap<&'static str, u64> {
    let counts = COUNTERS.iter().map(|(name, counter)| (*name, store.counters().get(*counter)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The answer in the words of the model.
pub(crate) fn answer_of(applied: &Applied) -> Result<Vec<Happened>, No> {
    match applied {
        Applied::Refused(refusal) => Err((refusal.row().0, refusal.cause().to_vec())),
        Applied::Changed(_)
        | Applied::Expired(_)
        | Applied::Recorded
        | Applied::Known
        | Applied::Outdated
        | Applied::AuthChanged(_)
        | Applied::AuthRefused(_)
        | Applied::Mvcc(_) => Ok(applied.events().iter().map(|event| happened_of(event)).collect()),
    }
}
