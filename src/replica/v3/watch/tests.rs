//! Streams of watchers, while changes are published as the state machine does it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::*;
use crate::base::SplitMix;
use crate::model::{LogPosition, LogTime};
use crate::mvcc::{Command, DeleteRange, KeyRange, Op, Put, Request, Revision, Txn};
use crate::raft::View;
use crate::store::{self, HistoryLimits, Store};

const LONG: Duration = Duration::from_secs(600);

/// A store whose changes are published.
struct Publisher {
    hub: Arc<WatchHub>,
    view: Arc<ArcSwapOption<View>>,
    store: Store,
}

impl Publisher {
    fn new(watchers_max: usize) -> Self {
        let view = Arc::new(ArcSwapOption::empty());
        let store = Store::new(HistoryLimits { events_max: 10, bytes_max: 1 << 20 });
        let this = Self { hub: WatchHub::new(Arc::clone(&view), watchers_max), view, store };
        this.publish();
        this
    }

    /// Applies without a word; [`Publisher::publish`] says it.
    fn apply(&mut self, request: Request) {
        let command = store::Command::Mvcc(Command::internal(request));
        let store::Applied::Mvcc(applied) = self.store.apply(LogTime(1), &command) else {
            panic!("{command:?}")
        };
        applied.reply.unwrap_or_else(|refusal| panic!("{command:?}: {refusal:?}"));
    }

    fn publish(&self) {
        let view = View { store: self.store.clone(), position: LogPosition::default() };
        let view = Arc::new(view);
        self.view.store(Some(Arc::clone(&view)));
        self.hub.published(&view);
    }

    fn put(&mut self, key: &str, value: &str) {
        self.apply(Request::Put(Put::new(key.as_bytes(), value.as_bytes())));
        self.publish();
    }

    fn delete(&mut self, key: &str) {
        self.apply(Request::DeleteRange(DeleteRange { range: one(key), prev_kv: false }));
        self.publish();
    }

    /// As the task does that hands out.
    fn hand_out(&self) {
        while !self.hub.hand_out_some() {}
    }

    fn revision(&self) -> u64 {
        self.store.mvcc().revision().0
    }
}

fn one(key: &str) -> KeyRange {
    KeyRange::new(key.as_bytes().into(), b""[..].into())
}

fn between(start: &str, end: &str) -> KeyRange {
    KeyRange::new(start.as_bytes().into(), end.as_bytes().into())
}

fn wanted(range: KeyRange, from: u64) -> Wanted {
    let wants = Wants { puts: true, deletes: true, previous: false };
    let from = (from > 0).then_some(Revision(from));
    Wanted { id: 0, range, from, wants, progress: false }
}

/// Everything that can be told without waiting, as text: a line for each revision.
fn told(stream: &mut WatchStream) -> Vec<String> {
    let mut all = Vec::new();
    let mut idle = 0;
    while idle < 3 {
        let mut next = pin!(stream.next());
        match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(told)) => {
                all.extend(lines(&told));
                idle = 0;
            }
            Poll::Ready(None) => {
                all.push("end".to_owned());
                return all;
            }
            Poll::Pending => idle += 1,
        }
    }
    all
}

fn lines(told: &Told) -> Vec<String> {
    match told {
        Told::Progress { id: Some(id), now } => vec![format!("{id} progress {now}")],
        Told::Progress { id: None, now } => vec![format!("progress {now}")],
        Told::Compacted { id, compacted } => vec![format!("{id} compacted {compacted}")],
        Told::Events { id, notice, now } => {
            assert!(notice.revision <= *now);
            assert_eq!(notice.events.last().map(|event| event.kv.modified), Some(notice.revision));
            let each = notice.events.chunk_by(|one, other| one.kv.modified == other.kv.modified);
            let line = |events: &[Event]| {
                let texts: Vec<_> = events.iter().map(text).collect();
                format!("{id} {}: {}", events[0].kv.modified, texts.join(" "))
            };
            each.map(line).collect()
        }
    }
}

fn text(event: &Event) -> String {
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (key, value) = (show(&event.kv.key), show(&event.kv.value));
    let previous = event.previous.as_ref();
    let previous = previous.map_or(String::new(), |kv| format!("<{}", show(&kv.value)));
    match event.kv.is_deletion() {
        true => format!("-{key}{previous}"),
        false => format!("{key}={value}{previous}"),
    }
}

#[tokio::test]
async fn a_watcher_sees_what_follows_its_creation() {
    let mut publisher = Publisher::new(10);
    publisher.put("a", "0");
    let mut stream = publisher.hub.stream(LONG);
    let created = stream.create(wanted(one("a"), 0)).unwrap();
    assert_eq!(created, Created { id: 0, now: Revision(2) });
    assert!(told(&mut stream).is_empty());
    publisher.put("a", "1");
    publisher.put("b", "1");
    publisher.delete("a");
    publisher.hand_out();
    assert_eq!(told(&mut stream), ["0 3: a=1", "0 5: -a"]);
    assert_eq!((publisher.hub.watchers(), publisher.hub.slow_watchers()), (1, 0));
    drop(stream);
    assert_eq!((publisher.hub.watchers(), publisher.hub.streams()), (0, 0));
}

#[tokio::test]
async fn a_watcher_from_the_past_goes_live_without_a_gap_or_a_double() {
    let mut publisher = Publisher::new(10);
    for value in ["0", "1", "2"] {
        publisher.put("a", value);
    }
    let mut stream = publisher.hub.stream(LONG);
    stream.create(wanted(between("a", "b"), 3)).unwrap();
    publisher.put("a", "3");
    assert_eq!(told(&mut stream), ["0 3: a=1", "0 4: a=2", "0 5: a=3"]);
    // The task that hands out has yet to come to this; the watcher knows it already.
    publisher.hand_out();
    publisher.put("a", "4");
    publisher.hand_out();
    publisher.put("a", "5");
    stream.create(wanted(one("a"), 7)).unwrap();
    publisher.put("a", "6");
    publisher.hand_out();
    let mut all = told(&mut stream);
    all.sort();
    assert_eq!(all, ["0 6: a=4", "0 7: a=5", "0 8: a=6", "1 7: a=5", "1 8: a=6"]);
}

/// As etcd does it: what was there before a watcher comes in one answer, what is new in one for each revision.
#[tokio::test]
async fn what_one_look_finds_for_a_watcher_comes_at_once() {
    let mut publisher = Publisher::new(10);
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        publisher.put(key, value);
    }
    publisher.delete("b");
    let mut stream = publisher.hub.stream(LONG);
    stream.create(wanted(KeyRange::all(), 3)).unwrap();
    stream.create(wanted(one("a"), 1)).unwrap();
    let mut all = Vec::new();
    for _ in 0..2 {
        let Some(Told::Events { id, notice, now }) = stream.next().await else { panic!() };
        let events: Vec<_> = notice.events.iter().map(text).collect();
        all.push(format!("{id} {} of {now}: {}", notice.revision, events.join(" ")));
    }
    all.sort();
    assert_eq!(all, ["0 5 of 5: b=2 a=3 -b", "1 4 of 5: a=1 a=3"]);
    publisher.put("a", "4");
    publisher.put("a", "5");
    publisher.hand_out();
    for _ in 0..4 {
        let Some(Told::Events { notice, .. }) = stream.next().await else { panic!() };
        assert_eq!(notice.events.len(), 1);
    }
}

#[tokio::test]
async fn a_watcher_of_the_future_waits_for_it() {
    let mut publisher = Publisher::new(10);
    let mut stream = publisher.hub.stream(LONG);
    stream.create(wanted(one("a"), 4)).unwrap();
    for value in ["0", "1", "2", "3"] {
        publisher.put("a", value);
        publisher.hand_out();
    }
    assert_eq!(told(&mut stream), ["0 4: a=2", "0 5: a=3"]);
}

#[tokio::test]
async fn a_revision_comes_at_once_with_what_each_wants_of_it() {
    let mut publisher = Publisher::new(10);
    publisher.put("b", "0");
    let mut stream = publisher.hub.stream(LONG);
    let no_puts = Wants { puts: false, deletes: true, previous: true };
    let no_deletes = Wants { puts: true, deletes: false, previous: true };
    stream.create(wanted(KeyRange::all(), 0)).unwrap();
    stream.create(Wanted { wants: no_puts, ..wanted(KeyRange::all(), 0) }).unwrap();
    stream.create(Wanted { wants: no_deletes, ..wanted(between("a", "c"), 0) }).unwrap();
    let delete = Op::DeleteRange(DeleteRange { range: one("b"), prev_kv: false });
    let puts = ["c", "a"].map(|key| Op::Put(Put::new(key.as_bytes(), &b"1"[..])));
    let success = puts.into_iter().chain([delete]).collect();
    publisher.apply(Request::Txn(Txn { success, ..Txn::default() }));
    publisher.publish();
    publisher.put("a", "2");
    publisher.hand_out();
    let expected = ["0 3: c=1 a=1 -b", "1 3: -b<0", "2 3: a=1", "0 4: a=2", "2 4: a=2<1"];
    assert_eq!(told(&mut stream), expected);
}

#[tokio::test]
async fn watchers_that_see_the_same_share_it() {
    let mut publisher = Publisher::new(100);
    let mut streams: Vec<_> = (0..5).map(|_| publisher.hub.stream(LONG)).collect();
    for stream in &mut streams {
        stream.create(wanted(one("a"), 0)).unwrap();
        stream.create(wanted(KeyRange::all(), 0)).unwrap();
    }
    publisher.put("a", "1");
    publisher.hand_out();
    let mut notices = Vec::new();
    for stream in &mut streams {
        for _ in 0..2 {
            let Some(Told::Events { notice, .. }) = stream.next().await else { panic!() };
            notices.push(notice);
        }
    }
    assert!(notices.iter().all(|notice| Arc::ptr_eq(notice, &notices[0])));
}

#[tokio::test]
async fn ids_are_chosen_or_wanted_and_never_twice() {
    let publisher = Publisher::new(5);
    let mut stream = publisher.hub.stream(LONG);
    let named = |id| Wanted { id, ..wanted(one("a"), 0) };
    assert_eq!(stream.create(named(1)).unwrap().id, 1);
    assert_eq!(stream.create(named(0)).unwrap().id, 0);
    assert_eq!(stream.create(named(0)).unwrap().id, 2);
    assert_eq!(stream.create(named(2)), Err(WatchRefusal::DuplicateId));
    assert_eq!(stream.create(wanted(between("b", "a"), 0)), Err(WatchRefusal::EmptyRange));
    assert_eq!(stream.create(named(-7)).unwrap().id, -7);
    assert_eq!(stream.create(named(9)).unwrap().id, 9);
    assert_eq!(stream.create(named(10)), Err(WatchRefusal::TooMany));
    assert_eq!(publisher.hub.refused(), 1);
    assert!(stream.cancel(9) && !stream.cancel(9));
    assert_eq!(stream.create(named(10)).unwrap().id, 10);
}

#[tokio::test]
async fn a_cancelled_watcher_is_told_nothing_more() {
    let mut publisher = Publisher::new(10);
    publisher.put("a", "0");
    let mut stream = publisher.hub.stream(LONG);
    stream.create(wanted(one("a"), 0)).unwrap();
    stream.create(wanted(one("a"), 1)).unwrap();
    stream.create(wanted(one("a"), 0)).unwrap();
    publisher.put("a", "1");
    publisher.hand_out();
    assert!(stream.cancel(0) && stream.cancel(1));
    // What is under the same name now is another one.
    stream.create(Wanted { id: 1, ..wanted(one("b"), 0) }).unwrap();
    assert_eq!(told(&mut stream), ["2 3: a=1"]);
}

#[tokio::test]
async fn what_is_compacted_ends_those_who_want_it() {
    let mut publisher = Publisher::new(10);
    for value in ["0", "1", "2", "3"] {
        publisher.put("a", value);
    }
    publisher.apply(Request::Compact(Revision(4)));
    publisher.publish();
    let mut stream = publisher.hub.stream(LONG);
    for from in [2, 4, 3, 5] {
        stream.create(wanted(one("a"), from)).unwrap();
    }
    let mut all = told(&mut stream);
    all.sort();
    let expected = ["0 compacted 4", "1 4: a=2", "1 5: a=3", "2 compacted 4", "3 5: a=3"];
    assert_eq!(all, expected);
    assert_eq!(publisher.hub.watchers(), 2);
    publisher.put("a", "4");
    publisher.hand_out();
    assert_eq!(told(&mut stream), ["1 6: a=4", "3 6: a=4"]);
}

/// A reader that does not read holds up nobody, costs no more than its outbox, and loses nothing.
#[tokio::test]
async fn a_slow_reader_goes_on_from_the_history() {
    let mut publisher = Publisher::new(10);
    let (mut slow, mut fast) = (publisher.hub.stream(LONG), publisher.hub.stream(LONG));
    slow.create(wanted(one("a"), 0)).unwrap();
    slow.create(wanted(one("b"), 0)).unwrap();
    fast.create(wanted(one("a"), 0)).unwrap();
    let large = "x".repeat(300_000);
    let mut expected = Vec::new();
    for number in 0..30 {
        publisher.put("a", &format!("{number}{large}"));
        expected.push(format!("0 {}: a={number}", publisher.revision()));
        publisher.hand_out();
        assert_eq!(told(&mut fast).len(), 1);
    }
    assert_eq!(publisher.hub.slow_watchers(), 1, "the other one had nothing to read");
    let pending = publisher.hub.events_pending();
    assert!((5..10).contains(&pending), "{pending} found room");
    publisher.put("b", "1");
    publisher.hand_out();
    expected.push(format!("1 {}: b=1", publisher.revision()));
    let read: Vec<_> =
        told(&mut slow).iter().map(|told| told.trim_end_matches('x').to_owned()).collect();
    assert_eq!(read, expected);
    assert_eq!(publisher.hub.slow_watchers(), 0);
    assert_eq!(publisher.hub.events_pending(), 0);
    publisher.put("a", "last");
    publisher.hand_out();
    assert_eq!(told(&mut slow).len(), 1);
    assert_eq!(publisher.hub.events_pending(), 1, "the fast one has not read it");
    drop(fast);
    assert_eq!(publisher.hub.events_pending(), 0);
}

#[tokio::test]
async fn a_compaction_overtakes_a_slow_reader_and_it_is_told() {
    let mut publisher = Publisher::new(10);
    let mut stream = publisher.hub.stream(LONG);
    stream.create(wanted(one("a"), 0)).unwrap();
    stream.create(wanted(one("b"), 0)).unwrap();
    let large = "x".repeat(3 << 20);
    for _ in 0..5 {
        publisher.put("a", &large);
        publisher.hand_out();
    }
    let revision = publisher.revision();
    publisher.apply(Request::Compact(Revision(revision)));
    publisher.publish();
    publisher.put("b", "1");
    publisher.hand_out();
    let all: Vec<_> =
        told(&mut stream).iter().map(|told| told.trim_end_matches('x').to_owned()).collect();
    // The first one found room, the second did not.
    let expected = [
        "0 2: a=".to_owned(),
        format!("0 compacted {revision}"),
        format!("1 {}: b=1", revision + 1),
    ];
    assert_eq!(all.len(), 3, "{all:?}");
    for told in expected {
        assert!(all.contains(&told), "{told}: {all:?}");
    }
}

/// A snapshot of the leader may be far ahead, and compacted: those who hand out read on from it as anybody else.
#[tokio::test]
async fn a_state_that_took_the_place_of_another_is_read_like_it() {
    let mut publisher = Publisher::new(10);
    publisher.put("a", "0");
    let mut stream = publisher.hub.stream(LONG);
    stream.create(wanted(one("a"), 0)).unwrap();
    stream.create(wanted(one("a"), 5)).unwrap();
    for value in ["1", "2", "3", "4"] {
        publisher.apply(Request::Put(Put::new(&b"a"[..], value.as_bytes())));
    }
    publisher.apply(Request::Compact(Revision(5)));
    publisher.publish();
    publisher.hand_out();
    assert_eq!(told(&mut stream), ["0 compacted 5", "1 5: a=3", "1 6: a=4"]);
}

#[tokio::test]
async fn progress_is_said_behind_everything_that_is_known() {
    let mut publisher = Publisher::new(10);
    let mut stream = publisher.hub.stream(LONG);
    stream.want_progress();
    assert_eq!(told(&mut stream), ["progress 1"], "also without watchers");
    stream.create(wanted(one("a"), 0)).unwrap();
    publisher.put("a", "1");
    stream.want_progress();
    assert_eq!(told(&mut stream), ["0 2: a=1", "progress 2"]);
    // Of one that is behind it is said when it is not any more.
    let large = "x".repeat(3 << 20);
    for _ in 0..3 {
        publisher.put("a", &large);
        publisher.hand_out();
    }
    stream.want_progress();
    let all = told(&mut stream);
    assert_eq!((all.len(), all[3].as_str()), (4, "progress 5"));
}

#[tokio::test(start_paused = true)]
async fn quiet_watchers_are_told_now_and_then_how_far_they_are() {
    let mut publisher = Publisher::new(10);
    let minute = Duration::from_secs(60);
    let mut stream = publisher.hub.stream(minute);
    stream.create(Wanted { progress: true, ..wanted(one("a"), 0) }).unwrap();
    stream.create(Wanted { progress: true, ..wanted(one("b"), 0) }).unwrap();
    stream.create(wanted(one("c"), 0)).unwrap();
    publisher.put("b", "1");
    publisher.hand_out();
    assert_eq!(told(&mut stream), ["1 2: b=1"]);
    tokio::time::advance(minute * 9 / 10).await;
    assert!(told(&mut stream).is_empty());
    tokio::time::advance(minute / 5).await;
    assert_eq!(told(&mut stream), ["0 progress 2"]);
    tokio::time::advance(minute * 11 / 10).await;
    assert_eq!(told(&mut stream), ["0 progress 2", "1 progress 2"]);
}

#[tokio::test]
async fn a_member_that_stops_ends_its_streams() {
    let publisher = Publisher::new(10);
    let mut stream = publisher.hub.stream(LONG);
    stream.create(wanted(one("a"), 0)).unwrap();
    publisher.hub.close();
    assert_eq!(told(&mut stream), ["end"]);
}

/// Whatever happens in whatever order: each watcher is told what the history says, once and in order.
#[tokio::test]
async fn each_watcher_is_told_what_happened() {
    for seed in 0..60 {
        let mut random = SplitMix::new(seed);
        let mut publisher = Publisher::new(1000);
        let mut streams: Vec<_> = (0..3).map(|_| publisher.hub.stream(LONG)).collect();
        // What each watcher was told, and from where on it watches which range.
        let mut watchers = Vec::<(usize, i64, KeyRange, u64, Vec<String>)>::new();
        let key = |random: &mut SplitMix| format!("k{}", random.next() % 8);
        for _ in 0..400 {
            match random.next() % 12 {
                0..5 => {
                    let long = random.next().is_multiple_of(20);
                    let value = "v".repeat(if long { 1 << 20 } else { 1 });
                    publisher.apply(Request::Put(Put::new(
                        key(&mut random).as_bytes(),
                        value.as_bytes(),
                    )));
                    if random.next().is_multiple_of(2) {
                        publisher.publish();
                    }
                }
                5 => publisher.hand_out(),
                6 => {
                    publisher.publish();
                    publisher.hub.hand_out_some();
                }
                7 => {
                    let number = usize::try_from(random.next() % 3).unwrap();
                    let from = 1 + random.next() % (publisher.revision() + 3);
                    let range = match random.next() % 3 {
                        0 => one(&key(&mut random)),
                        1 => between("k2", "k5"),
                        _ => KeyRange::all(),
                    };
                    let created = streams[number].create(wanted(range.clone(), from)).unwrap();
                    watchers.push((number, created.id, range, from, Vec::new()));
                }
                _ => {
                    let number = usize::try_from(random.next() % 3).unwrap();
                    for _ in 0..random.next() % 40 {
                        let mut next = pin!(streams[number].next());
                        let poll = next.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                        let Poll::Ready(told) = poll else { continue };
                        note(&mut watchers, number, &told.unwrap());
                    }
                }
            }
        }
        publisher.publish();
        publisher.hand_out();
        for (number, stream) in streams.iter_mut().enumerate() {
            let mut idle = 0;
            while idle < 3 {
                let mut next = pin!(stream.next());
                match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(told) => note(&mut watchers, number, &told.unwrap()),
                    Poll::Pending => idle += 1,
                }
            }
        }
        for (_, _, range, from, told) in &watchers {
            let all = publisher.store.mvcc().changes_since(Revision(*from)).unwrap();
            let seen = all.filter(|change| range.contains(&change.kv.key));
            let expected: Vec<_> = seen
                .map(|change| {
                    let key = String::from_utf8_lossy(&change.kv.key).into_owned();
                    format!("{}: {key}={}", change.kv.modified, change.kv.value.len())
                })
                .collect();
            assert_eq!(*told, expected, "seed {seed}");
        }
    }
}

fn note(watchers: &mut [(usize, i64, KeyRange, u64, Vec<String>)], stream: usize, told: &Told) {
    let Told::Events { id, notice, .. } = told else { panic!("{told:?}") };
    let watcher = watchers.iter_mut().find(|watcher| (watcher.0, watcher.1) == (stream, *id));
    let (.., seen) = watcher.expect("it was created");
    for event in &notice.events {
        let key = String::from_utf8_lossy(&event.kv.key).into_owned();
        seen.push(format!("{}: {key}={}", event.kv.modified, event.kv.value.len()));
    }
}
