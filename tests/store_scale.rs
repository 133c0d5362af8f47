//! What must stay cheap however large the store, and what must not overflow however deep.
//!
//! Times are the best of several runs, so that a busy machine does not fail them; the tight bounds hold for release builds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn::model::{KeyPath, LogTime, Ttl};
use cairn::store::{
    Applied, Changes, Command, Event, HistoryLimits, Loader, RecordChange, Removed, Store, Write,
};

const LIMITS: HistoryLimits = HistoryLimits { events_max: 1000, bytes_max: 1 << 26 };

/// Dev builds are not optimised: there a bound only tells "what changed" from "what is there".
const fn bound_ms(release: u64, dev: u64) -> Duration {
    Duration::from_millis(if cfg!(debug_assertions) { dev } else { release })
}

fn set(store: &mut Store, key: &str, value: &str) -> Arc<Event> {
    let write = Write { value: value.as_bytes().into(), dir: false, ttl: None, refresh: false };
    let command = Command::Set { path: KeyPath::from(key), write };
    let applied = store.apply(LogTime(1), &command);
    let Applied::Changed(event) = applied else { panic!("{key}: {applied:?}") };
    event
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
    let mut changes = Changes::since(older.index());
    for n in 0..5 {
        for key in [format!("/flat/{}", n * 9_000), format!("/deep/{}/{}", n * 90, n * 9_090)] {
            // Twice, and noted once.
            for value in ["new", "newer"] {
                changes.note(&set(&mut newer, &key, value));
            }
        }
    }
    let mut written = 0;
    newer.changed_records(&changes, &mut |change| {
        assert!(matches!(change, RecordChange::PutNode(..)));
        written += 1;
    });
    assert_eq!(written, 10);
    assert!(changes.bytes() < 1000, "{} bytes for ten keys", changes.bytes());

    let diff = best_of(9, || newer.changed_records(&changes, &mut |_| {}));
    assert!(diff < bound_ms(5, 20), "a difference of 10 keys in 100,000 took {diff:?}");

    let clones = best_of(9, || {
        for _ in 0..1000 {
            std::hint::black_box(older.clone());
        }
    });
    assert!(clones < bound_ms(5, 50), "1000 clones took {clones:?}");
    eprintln!("100,000 keys: difference of 10 in {diff:?}, clone in {:?}", clones / 1000);
}

/// The walk through the subtree and through all deadlines took a quarter of a second for so many keys.
#[test]
fn a_large_removal_costs_no_more_than_a_small_one_and_leaves_the_memory_to_the_caller() {
    let mut store = Store::new(LIMITS);
    for n in 0..150_000 {
        let ttl = Ttl::from_s(n % 50 + 1);
        let write = Write { value: b"v".as_slice().into(), dir: false, ttl, refresh: false };
        let path = KeyPath::from(format!("/all/{}/{n}", n % 100).as_str());
        store.apply(LogTime(1), &Command::Set { path, write });
    }
    set(&mut store, "/other", "v");
    let full = store.clone();
    let delete = Command::Delete { path: KeyPath::from("/all"), dir: true, recursive: true };
    let removal = best_of(5, || {
        let mut store = full.clone();
        let (applied, remains) = store.apply_and_keep(LogTime(2), &delete);
        let Applied::Changed(event) = applied else { panic!("nothing refuses it") };
        assert_eq!(event.removed, Removed::Many);
        assert!(!remains.is_empty(), "the caller drops what was removed");
        assert_eq!(store.next_deadline(), None);
    });
    assert!(removal < bound_ms(1, 5), "150,000 keys with deadlines were removed in {removal:?}");
    store.apply(LogTime(2), &delete);
    store.check();
}

#[test]
fn mass_expiry_goes_in_ticks_of_a_thousand_nodes_soonest_first() {
    let mut store = Store::new(LIMITS);
    for n in 0..3500 {
        let write =
            Write { value: b"v"[..].into(), dir: false, ttl: Ttl::from_s(1), refresh: false };
        let path = KeyPath::from(format!("/{}/{n}", n % 7).as_str());
        store.apply(LogTime(5000 - n), &Command::Set { path, write });
    }
    let now = LogTime(1).after(Ttl::from_s(10).expect("it is short"));
    let (mut sizes, mut deadlines) = (Vec::new(), Vec::new());
    while store.next_deadline().is_some_and(|at| at <= now) {
        let applied = store.apply(now, &Command::tick());
        sizes.push(applied.events().len());
        let deadline = |event: &Arc<Event>| event.prev.as_ref().and_then(|prev| prev.expires);
        deadlines.extend(applied.events().iter().map(deadline));
    }
    assert_eq!(sizes, [1000, 1000, 1000, 500]);
    assert!(deadlines.is_sorted());
    // What versions without a limit wrote to the log still kills all at once.
    let mut store = large_with_deadlines();
    assert_eq!(store.apply(now, &Command::Tick { nodes_max: None }).events().len(), 2000);
}

fn large_with_deadlines() -> Store {
    let mut store = Store::new(LIMITS);
    for n in 0..2000 {
        let write =
            Write { value: b"v"[..].into(), dir: false, ttl: Ttl::from_s(1), refresh: false };
        let path = KeyPath::from(format!("/{n}").as_str());
        store.apply(LogTime(1), &Command::Set { path, write });
    }
    store
}

#[test]
fn a_key_a_thousand_deep_fits_on_the_stack_of_a_thread() {
    // The server's threads have 2 MiB; `--key-depth` is 1000 by default, an in-order key is one deeper.
    let deep = || {
        let dirs = "/d".repeat(1000);
        let mut store = Store::new(LIMITS);
        set(&mut store, &format!("{dirs}/leaf"), "v");
        let mut changes = Changes::since(store.index());
        changes.note(&set(&mut store, &format!("{dirs}/leaf"), "new"));
        store.check();
        let mut records = Vec::new();
        store.nodes(&mut |path, record| records.push((path.clone(), record)));
        assert_eq!(records.len(), 1001);
        let mut written = 0;
        store.changed_records(&changes, &mut |_| written += 1);
        assert_eq!(written, 1);
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
