//! Writes to a store of a thousand keys, for the test that counts what they cost.

use std::hint::black_box;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::costs::Work;
use crate::model::{KeyPath, LogTime, StoreIndex};
use crate::store::{Applied, Command, Filter, HistoryLimits, Scan, Store, Write};

pub(crate) const WORK: &[Work] = &[
    Work { name: "apply a hundred sets", work: || do_all(&SETS) },
    Work { name: "look up a hundred keys", work: look_up },
    Work { name: "find nothing for a watcher in the history", work: find },
];

static STORE: LazyLock<Mutex<Store>> = LazyLock::new(|| {
    let mut store = Store::new(HistoryLimits { events_max: 1000, bytes_max: 1 << 30 });
    for n in 0..1000 {
        store.apply(LogTime(1), &set(n));
    }
    Mutex::new(store)
});

static SETS: LazyLock<Vec<Command>> = LazyLock::new(|| (0..100).map(|n| set(7 * n)).collect());

fn path(n: u32) -> KeyPath {
    KeyPath::from(format!("/service/{}/node-{n}", n % 10).as_str())
}

/// A set of a value of 256 bytes.
pub(crate) fn set(n: u32) -> Command {
    let write = Write { value: vec![b'x'; 256].into(), dir: false, ttl: None, refresh: false };
    Command::Set { path: path(n), write }
}

fn with_store<T>(work: impl FnOnce(&mut Store) -> T) -> T {
    work(&mut STORE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn do_all(commands: &[Command]) {
    with_store(|store| {
        for command in commands {
            let applied = store.apply(LogTime(1), command);
            assert!(matches!(black_box(applied), Applied::Changed(_)));
        }
    });
}

fn look_up() {
    with_store(|store| {
        for n in 0..100 {
            assert!(black_box(store.get(&path(7 * n))).outcome.is_ok());
        }
    });
}

fn find() {
    let filter = Filter { path: KeyPath::from("/quiet"), recursive: true };
    with_store(|store| {
        let history = store.history();
        let found = history.find(Scan { from: history.oldest(), filter: &filter });
        assert!(found.is_ok() && history.oldest() > StoreIndex(0));
    });
}
