//! How long the pieces of a request take: nanoseconds, for comparing two builds on one machine (`cargo bench`).
//!
//! What must not get slower is counted in instructions instead, in `src/costs.rs`: those are the same on every machine.

use std::sync::Arc;
use std::time::Duration;

use cairn::model::{
    Clock, KeyPath, LogIndex, LogPosition, LogTime, Reader, Term, WallTime, Writer,
};
use cairn::raft::{Observer, View};
use cairn::replica::{Hub, Watch};
use cairn::store::{
    Access, Asker, Command, Event, Filter, HistoryLimits, Intent, Scan, Store, Write,
};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use futures_util::FutureExt;

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
    let commands: Vec<_> = (0..1000).map(|number| set(number * 7919 % keys)).collect();
    let mut next = commands.iter().cycle();
    bencher.bench_local(|| store.apply(LogTime(1), next.next().expect("it has no end")));
}

#[divan::bench(args = KEYS)]
fn look_a_key_up(bencher: Bencher<'_, '_>, keys: u32) {
    let store = store(keys);
    let paths: Vec<_> = (0..1000).map(|number| path(number * 7919 % keys)).collect();
    let mut next = paths.iter().cycle();
    bencher
        .bench_local(|| black_box(store.get(next.next().expect("it has no end"))).outcome.is_ok());
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

/// Nothing here takes its time from a clock.
struct StillClock;

impl Clock for StillClock {
    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A long poll of the key that [`path`] gives for `number`.
fn poll(hub: &Arc<Hub>, view: &View, number: u32) -> Watch {
    let access =
        Access { path: path(number), slash: false, recursive: false, intent: Intent::Read };
    let reply = hub.watch(view, access, Asker::Guest, None, false).expect("there is room");
    reply.outcome.expect("it is from now on")
}

/// One write that long polls wait for, until each has its event and the next poll of its client waits: of one key with so many polls, and of
/// one of so many keys with one poll each. An item is an event.
#[divan::bench(args = [(1, 1), (1, 9_000), (9_000, 1)])]
fn tell_polls_and_take_the_next(bencher: Bencher<'_, '_>, (keys, polls): (u32, u32)) {
    let mut store = store(keys);
    let hub = Hub::new(usize::MAX, Arc::new(StillClock));
    let view = |store: &Store| {
        let position = LogPosition { term: Term(1), index: LogIndex(store.index().0) };
        Arc::new(View { store: store.clone(), position })
    };
    let first = view(&store);
    hub.replaced(&first);
    let mut waiting: Vec<Vec<Watch>> =
        (0..keys).map(|key| (0..polls).map(|_| poll(&hub, &first, key)).collect()).collect();
    let mut next = (0..keys).cycle();
    bencher.counter(ItemsCount::new(polls)).bench_local(|| {
        let key = next.next().expect("it has no end");
        let applied = store.apply(LogTime(1), &set(key));
        let view = view(&store);
        hub.published(&view, applied.events());
        hub.answered();
        for watch in &mut waiting[key as usize] {
            let notice = watch.next().now_or_never().expect("it was told");
            assert!(notice.is_some(), "the hub is open");
            *watch = poll(&hub, &view, key);
        }
    });
}
