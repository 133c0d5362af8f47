//! What must stay cheap however large the store, and what must not overflow however deep.
//!
//! Times are the best of several runs, so that a busy machine does not fail them; the tight bounds hold for release builds.

use std::time::{Duration, Instant};

use cairn::model::{KeyPath, LogTime};
use cairn::store::{Applied, Command, HistoryLimits, Loader, RecordChange, Store, Write};

const LIMITS: HistoryLimits = HistoryLimits { events_max: 1000, bytes_max: 1 << 26 };

/// Dev builds are not optimised: there a bound only tells "what changed" from "what is there".
const fn bound_ms(release: u64, dev: u64) -> Duration {
    Duration::from_millis(if cfg!(debug_assertions) { dev } else { release })
}

fn set(store: &mut Store, key: &str, value: &str) {
    let write = Write { value: value.as_bytes().into(), dir: false, ttl: None, refresh: false };
    let command = Command::Set { path: KeyPath::from(key), write };
    let applied = store.apply(LogTime(1), &command);
    assert!(matches!(applied, Applied::Changed(_)), "{key}: {applied:?}");
}

/// 100,000 keys: half in one directory, half in five hundred.
fn large() -> Store {
    let mut store = Store::new(LIMITS);
    for n in 0..50_000 {
        set(&mut store, &format!("/flat/{n}"), "v");
        set(&mut store, &format!("/deep/{}/{n}", n % 500), "v");
    }
    store
}

fn best_of(runs: usize, mut run: impl FnMut()) -> Duration {
    let timed = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..runs).map(timed).min().expect("at least one run")
}

#[test]
fn a_clone_and_a_difference_cost_what_changed_and_not_what_is_there() {
    let older = large();
    let mut newer = older.clone();
    for n in 0..5 {
        set(&mut newer, &format!("/flat/{}", n * 9_000), "new");
        set(&mut newer, &format!("/deep/{}/{}", n * 90, n * 9_000 + n * 90), "new");
    }
    let mut changes = 0;
    newer.changes_since(Some(&older), &mut |change| {
        assert!(matches!(change, RecordChange::PutNode(..)));
        changes += 1;
    });
    assert_eq!(changes, 10);

    let diff = best_of(9, || newer.changes_since(Some(&older), &mut |_| {}));
    assert!(diff < bound_ms(5, 20), "a difference of 10 keys in 100,000 took {diff:?}");

    let clones = best_of(9, || {
        for _ in 0..1000 {
            std::hint::black_box(older.clone());
        }
    });
    assert!(clones < bound_ms(5, 50), "1000 clones took {clones:?}");
    eprintln!("100,000 keys: difference of 10 in {diff:?}, clone in {:?}", clones / 1000);
}

#[test]
fn a_key_a_thousand_deep_fits_on_the_stack_of_a_thread() {
    // The server's threads have 2 MiB; `--key-depth` is 1000 by default, an in-order key is one deeper.
    let deep = || {
        let dirs = "/d".repeat(1000);
        let mut store = Store::new(LIMITS);
        set(&mut store, &format!("{dirs}/leaf"), "v");
        let clone = store.clone();
        set(&mut store, &format!("{dirs}/leaf"), "new");
        store.check();
        let mut records = Vec::new();
        store.changes_since(None, &mut |change| match change {
            RecordChange::PutNode(path, record) => records.push((path, record)),
            RecordChange::DropNode(path) => panic!("{path}"),
        });
        assert_eq!(records.len(), 1001);
        let mut changes = 0;
        store.changes_since(Some(&clone), &mut |_| changes += 1);
        assert_eq!(changes, 1);
        let mut loader = Loader::new(LIMITS, &store.header()).expect("a header");
        for (path, record) in &records {
            loader.node(path.as_bytes(), record).expect("a node");
        }
        store.events_since(store.history().oldest(), &mut |index, record| {
            loader.event(index, &record).expect("an event");
        });
        let loaded = loader.finish().expect("a store");
        assert_eq!(loaded.digest(), store.digest());
        drop(loaded);
        let delete = Command::Delete { path: KeyPath::from("/d"), dir: true, recursive: true };
        assert!(matches!(store.apply(LogTime(2), &delete), Applied::Changed(_)));
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(deep);
    thread.expect("a thread").join().expect("no panic");
}
