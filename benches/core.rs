//! How long the pieces of a request take: nanoseconds, for comparing two builds on one machine (`cargo bench`).
//!
//! What must not get slower is counted in instructions instead, in `src/costs.rs`: those are the same on every machine.

use std::sync::Arc;

use cairn::model::{KeyPath, LogTime, Reader, Writer};
use cairn::store::{Command, Event, Filter, HistoryLimits, Scan, Store, Write};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const LIMITS: HistoryLimits = HistoryLimits { events_max: 1000, bytes_max: 1 << 30 };
/// Sizes of a key space.
const KEYS: [u32; 3] = [100, 10_000, 1_000_000];

/// A key of a service, as discovery writes them.
fn path(number: u32) -> KeyPath {
    KeyPath::from(format!("/service/{}/node-{number}", number % 100).as_str())
}

fn set(number: u32) -> Command {
    let write = Write { value: vec![b'x'; 256].into(), dir: false, ttl: None, refresh: false };
    Command::Set { path: path(number), write }
}

fn store(keys: u32) -> Store {
    let mut store = Store::new(LIMITS);
    for number in 0..keys {
        store.apply(LogTime(1), &set(number));
    }
    store
}

/// The event of an overwritten key.
fn event() -> Arc<Event> {
    let mut store = store(1);
    let applied = store.apply(LogTime(1), &set(0));
    Arc::clone(applied.events().first().expect("it is a change"))
}

#[divan::bench]
fn clean_a_path(bencher: Bencher<'_, '_>) {
    bencher.bench(|| KeyPath::clean(black_box(b"/service/17/../42/node-1234")));
}

#[divan::bench(args = KEYS)]
fn apply_a_set(bencher: Bencher<'_, '_>, keys: u32) {
    let mut store = store(keys);
    let commands: Vec<_> = (0..100).map(|number| set(number * (keys / 100))).collect();
    let mut next = commands.iter().cycle();
    bencher.bench_local(|| store.apply(LogTime(1), next.next().expect("it has no end")));
}

#[divan::bench(args = KEYS)]
fn look_a_key_up(bencher: Bencher<'_, '_>, keys: u32) {
    let store = store(keys);
    let path = path(keys / 2);
    bencher.bench_local(|| black_box(store.get(&path)).outcome.is_ok());
}

#[divan::bench]
fn walk_a_listing_of_a_thousand(bencher: Bencher<'_, '_>) {
    let store = store(100_000);
    let directory = KeyPath::from("/service/7");
    bencher.bench_local(|| {
        let node = store.get(&directory).outcome.expect("it is there");
        node.visible_children().filter_map(|(_, node)| node.value()).count()
    });
}

#[divan::bench]
fn encode_a_command(bencher: Bencher<'_, '_>) {
    let command = set(1);
    bencher.bench(|| {
        let mut out = Writer::with_capacity(512);
        command.encode(&mut out);
        out
    });
}

#[divan::bench]
fn decode_a_command(bencher: Bencher<'_, '_>) {
    let mut out = Writer::with_capacity(512);
    set(1).encode(&mut out);
    let bytes = out.finish();
    bencher.bench(|| Command::decode(&mut Reader::new(black_box(&bytes))).is_ok());
}

#[divan::bench]
fn encode_an_event(bencher: Bencher<'_, '_>) {
    let event = event();
    bencher.bench(|| {
        let mut out = Writer::with_capacity(1024);
        event.encode(&mut out);
        out
    });
}

#[divan::bench]
fn decode_an_event(bencher: Bencher<'_, '_>) {
    let mut out = Writer::with_capacity(1024);
    event().encode(&mut out);
    let bytes = out.finish();
    bencher.bench(|| Event::decode(&mut Reader::new(black_box(&bytes))).is_ok());
}

#[divan::bench(args = ["/service/0/node-0", "/service", "/elsewhere"])]
fn match_a_watch(bencher: Bencher<'_, '_>, watched: &str) {
    let (event, filter) = (event(), Filter { path: KeyPath::from(watched), recursive: true });
    bencher.bench(|| black_box(&filter).sees(black_box(&event)));
}

#[divan::bench]
fn find_nothing_in_a_history_of_a_thousand(bencher: Bencher<'_, '_>) {
    let store = store(2000);
    let filter = Filter { path: KeyPath::from("/quiet"), recursive: true };
    bencher.bench_local(|| {
        let history = store.history();
        let scan = Scan { from: history.oldest(), filter: &filter };
        history.find(scan).is_ok()
    });
}
