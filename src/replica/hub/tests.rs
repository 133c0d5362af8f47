//! The hub alone: events are published by one thread while others register, read, hang up and are too slow.

use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use super::*;
use crate::model::{KeyPath, LogIndex, LogPosition, Refusal, StillClock, Term};
use crate::replica::Watch;
use crate::store::{
    Applied, AuthCommand, Command, Filter, GUEST, HistoryLimits, Identity, Intent, PasswordHash,
    Permissions, ROOT, Store, Write,
};

/// What is not here by then never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store whose changes are published, as the state machine does it.
struct Publisher {
    hub: Arc<Hub>,
    store: Store,
    position: LogPosition,
    /// All events so far.
    events: Vec<Arc<Event>>,
}

impl Publisher {
    fn new(watchers_max: usize, events_max: usize) -> Self {
        let store = Store::new(HistoryLimits { events_max, bytes_max: 64 << 20 });
        let position = LogPosition { term: Term(1), index: LogIndex(0) };
        let this = Self {
            hub: Hub::new(watchers_max, Arc::new(StillClock)),
            store,
            position,
            events: Vec::new(),
        };
        this.hub.replaced(&this.view());
        this
    }

    fn view(&self) -> Arc<View> {
        Arc::new(View { store: self.store.clone(), position: self.position })
    }

    /// Applies without a word; [`Publisher::publish`] says it.
    fn apply(&mut self, command: &Command) -> Vec<Arc<Event>> {
        self.position.index.0 += 1;
        let applied = self.store.apply(LogTime(1), command);
        assert!(!matches!(applied, Applied::Refused(_)), "{command:?}: {applied:?}");
        self.events.extend(applied.events().iter().cloned());
        applied.events().to_vec()
    }

    /// Several commands with one announcement, as a batch of entries.
    fn publish(&mut self, commands: &[Command]) {
        let events: Vec<_> = commands.iter().flat_map(|command| self.apply(command)).collect();
        self.hub.published(&self.view(), &events);
        self.hub.answered();
    }

    fn watch(&self, path: &str, recursive: bool, stream: bool) -> Watch {
        watch(&self.hub, &self.view(), path, recursive, None, stream).expect("there is room")
    }
}

fn watch(
    hub: &Arc<Hub>,
    view: &View,
    path: &str,
    recursive: bool,
    from: Option<StoreIndex>,
    stream: bool,
) -> Result<Watch, Unavailable> {
    let watch = hub.watch(view, access(path, recursive), Asker::Guest, from, stream)?;
    Ok(watch.outcome.unwrap_or_else(|refusal| panic!("{path}: {refusal:?}")))
}

fn access(path: &str, recursive: bool) -> Access {
    let intent = Intent::Read;
    Access { path: KeyPath::from(path), slash: false, recursive, intent }
}

fn set(path: &str) -> Command {
    let write = Write { value: b"v"[..].into(), dir: false, ttl: None, refresh: false };
    Command::Set { path: KeyPath::from(path), write }
}

fn delete(path: &str) -> Command {
    Command::Delete { path: KeyPath::from(path), dir: true, recursive: true }
}

/// The index of the next event, `None` at the end of the watch.
async fn next(watch: &mut Watch) -> Option<u64> {
    let event = tokio::time::timeout(PATIENCE, watch.next()).await;
    event.expect("an event was lost").map(|notice| notice.event.index.0)
}

/// The index of an event that is there already.
async fn at_once(watch: &mut Watch) -> Option<u64> {
    match futures_util::poll!(std::pin::pin!(watch.next())) {
        Poll::Ready(notice) => notice.map(|notice| notice.event.index.0),
        Poll::Pending => None,
    }
}

async fn is_silent(watch: &mut Watch) -> bool {
    at_once(watch).await.is_none()
}

/// Numbers that come out the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    /// Lets other threads come in between, or not.
    fn stagger(&mut self) {
        match self.below(4) {
            0 => thread::yield_now(),
            1 => (0..self.below(200)).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }
}

const KEYS: [&str; 5] = ["/a", "/d/x", "/d/y", "/d/_hidden", "/e"];
const WATCHED: [(&str, bool); 5] =
    [("/a", false), ("/d", true), ("/d/_hidden", false), ("/d/x", false), ("/", true)];

/// Reads as its client would until the last event, and returns the indexes of what it saw: as one stream, or as one poll after the
/// other.
async fn follow(
    hub: &Arc<Hub>,
    place: (&'static str, bool),
    stream: bool,
    last: u64,
    mut dice: Dice,
) -> (u64, Vec<u64>) {
    let (path, recursive) = place;
    let view = hub.newest().expect("it was published");
    let begun = view.store.index().0;
    let mut seen = Vec::new();
    if begun >= last {
        // It came after the end.
        return (begun, seen);
    }
    let mut from = None;
    let mut view = view;
    loop {
        dice.stagger();
        let mut watch = watch(hub, &view, path, recursive, from, stream).expect("there is room");
        loop {
            dice.stagger();
            let Some(index) = next(&mut watch).await else { break };
            seen.push(index);
            if index >= last {
                return (begun, seen);
            }
        }
        assert!(!stream, "the history reaches back to the beginning");
        from = seen.last().map(|index| StoreIndex(index + 1));
        // A client may come to a view that is older than what it has seen.
        if dice.below(2) == 0 {
            view = hub.newest().expect("it was published");
        }
    }
}

/// A registration looks at the newest view while the next one is published: the event between the two was in neither of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_event_is_lost_or_comes_twice_however_registration_and_announcement_meet() {
    const ROUNDS: u64 = 40;
    const COMMANDS: u64 = 150;
    let mut raced = 0;
    for seed in 1..=ROUNDS {
        let mut publisher = Publisher::new(1000, 100_000);
        let hub = Arc::clone(&publisher.hub);
        // The last event is one that all of them see.
        let last = COMMANDS + WATCHED.len() as u64;
        let followers: Vec<_> = (0..20)
            .map(|number: u64| {
                let place = WATCHED[usize::try_from(number % 5).expect("small")];
                let (hub, stream) = (Arc::clone(&hub), number.is_multiple_of(3));
                let ending = COMMANDS + 1 + number % 5;
                let mut dice = Dice(seed * 1000 + number + 1);
                tokio::spawn(async move {
                    for _ in 0..dice.below(20) {
                        tokio::task::yield_now().await;
                    }
                    (place, follow(&hub, place, stream, ending, dice).await)
                })
            })
            .collect();
        let publishing = tokio::task::spawn_blocking(move || {
            let mut dice = Dice(seed);
            let mut published = 0;
            while published < COMMANDS {
                let count = (1 + dice.below(3)).min(COMMANDS - published);
                let key =
                    |dice: &mut Dice| set(KEYS[usize::try_from(dice.below(5)).expect("small")]);
                let commands: Vec<_> = (0..count).map(|_| key(&mut dice)).collect();
                publisher.publish(&commands);
                published += count;
                dice.stagger();
            }
            // One for each place, in its order, so that each follower knows its end.
            for (path, recursive) in WATCHED {
                publisher.publish(&[set(if recursive { "/d/x" } else { path })]);
            }
            publisher
        });
        let publisher = publishing.await.expect("it is well");
        assert_eq!(publisher.store.index().0, last);
        for follower in followers {
            let ((path, recursive), (begun, seen)) = follower.await.expect("it is well");
            let filter = Filter { path: KeyPath::from(path), recursive };
            let sees = |event: &&Arc<Event>| event.index.0 > begun && filter.sees(event);
            let expected = publisher.events.iter().filter(sees).map(|event| event.index.0);
            let upto = seen.last().copied().unwrap_or_default();
            let expected: Vec<_> = expected.take_while(|index| *index <= upto).collect();
            raced += usize::from(expected.len() > 1);
            assert_eq!(seen, expected, "seed {seed}, {path} from {begun} on");
        }
        assert_eq!(hub.watchers(), 0, "seed {seed}");
    }
    assert!(raced > 100, "hardly any watcher came in time: {raced}");
}

/// With no other watcher the count decides whether the hub looks for watchers at all: a registration that raised it after its
/// search, or an announcement that looked at it before the view was in its place, would lose the event between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_watcher_is_told_of_what_is_published_while_it_registers() {
    const ROUNDS: u64 = 5_000;
    let mut publisher = Publisher::new(10, 100_000);
    let hub = Arc::clone(&publisher.hub);
    // The rounds that the one and the other have come to.
    let rounds = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let meet = |rounds: &[AtomicU64; 2], me: usize, round: u64| {
        rounds[me].store(round, Ordering::SeqCst);
        let begun = tokio::time::Instant::now();
        while rounds[1 - me].load(Ordering::SeqCst) < round {
            assert!(begun.elapsed() < 2 * PATIENCE, "the other one is gone");
            std::hint::spin_loop();
        }
    };
    let theirs = Arc::clone(&rounds);
    let publishing = tokio::task::spawn_blocking(move || {
        let mut dice = Dice(7);
        for round in 1..=ROUNDS {
            meet(&theirs, 0, round);
            (0..dice.below(100)).for_each(|_| std::hint::spin_loop());
            publisher.publish(&[set("/a")]);
        }
    });
    let mut dice = Dice(8);
    for round in 1..=ROUNDS {
        // The one before is there: the index of the next one is known.
        let view = hub.newest().expect("it was published");
        meet(&rounds, 1, round);
        (0..dice.below(100)).for_each(|_| std::hint::spin_loop());
        let from = Some(StoreIndex(round));
        let mut watch = watch(&hub, &view, "/a", false, from, false).expect("there is room");
        assert_eq!(next(&mut watch).await, Some(round));
    }
    publishing.await.expect("it is well");
    assert_eq!(hub.watchers(), 0);
}

/// Watchers that hang up while they are told, and others that come: the count decides whether any watcher is told at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_count_is_right_after_many_have_come_and_gone() {
    let mut publisher = Publisher::new(1000, 100_000);
    let hub = Arc::clone(&publisher.hub);
    let stop = Arc::new(AtomicBool::new(false));
    let comers: Vec<_> = (1..=4)
        .map(|seed| {
            let (hub, stop) = (Arc::clone(&hub), Arc::clone(&stop));
            tokio::task::spawn_blocking(move || {
                let mut dice = Dice(seed);
                while !stop.load(Ordering::Relaxed) {
                    let view = hub.newest().expect("it was published");
                    let stream = dice.below(2) == 0;
                    let watches: Vec<_> = (0..dice.below(5))
                        .map(|_| watch(&hub, &view, "/a", false, None, stream).expect("room"))
                        .collect();
                    dice.stagger();
                    drop(watches);
                }
            })
        })
        .collect();
    for _ in 0..5000 {
        publisher.publish(&[set("/a")]);
    }
    stop.store(true, Ordering::Relaxed);
    for comer in comers {
        comer.await.expect("it is well");
    }
    assert_eq!(hub.watchers(), 0);
    let mut watch = publisher.watch("/a", false, false);
    assert_eq!(hub.watchers(), 1);
    publisher.publish(&[set("/a")]);
    assert_eq!(next(&mut watch).await, Some(5001));
    assert_eq!((next(&mut watch).await, hub.watchers()), (None, 0));
}

#[tokio::test]
async fn one_that_waits_is_told_once_and_a_stream_goes_on() {
    let mut publisher = Publisher::new(10, 1000);
    let (mut poll, mut stream) =
        (publisher.watch("/a", false, false), publisher.watch("/a", false, true));
    assert!(is_silent(&mut poll).await && is_silent(&mut stream).await);
    publisher.publish(&[set("/a"), set("/b"), set("/a")]);
    assert_eq!((next(&mut poll).await, next(&mut poll).await), (Some(1), None));
    assert_eq!((next(&mut stream).await, next(&mut stream).await), (Some(1), Some(3)));
    assert!(is_silent(&mut stream).await);
    assert_eq!(publisher.hub.watchers(), 1);
    drop(stream);
    assert_eq!((publisher.hub.watchers(), publisher.hub.requests()), (0, 2));
}

#[tokio::test]
async fn an_event_is_rendered_once_for_all() {
    let mut publisher = Publisher::new(10, 1000);
    let mut watches = [publisher.watch("/d", true, true), publisher.watch("/d/x", false, false)];
    publisher.publish(&[set("/d/x")]);
    let mut bodies = Vec::new();
    for watch in &mut watches {
        let notice = watch.next().await.expect("an event");
        let fresh = Bytes::from(format!("body {}", bodies.len()));
        bodies.push(notice.body(|_| fresh));
    }
    assert_eq!(bodies, ["body 0", "body 0"]);
}

#[tokio::test]
async fn who_reads_too_slowly_goes_on_from_the_history_and_misses_nothing() {
    let mut publisher = Publisher::new(10, 1000);
    let mut slow = publisher.watch("/", true, true);
    let count = 3 * EVENTS_BUFFERED as u64;
    for n in 0..count {
        publisher.publish(&[set(&format!("/k{}", n % 5))]);
    }
    assert_eq!(publisher.hub.watchers(), 0, "its buffer is full, and it was taken out");
    for index in 1..=count {
        assert_eq!(next(&mut slow).await, Some(index));
    }
    assert!(is_silent(&mut slow).await);
    assert_eq!(publisher.hub.watchers(), 1, "it is live again");
    publisher.publish(&[set("/last")]);
    assert_eq!(next(&mut slow).await, Some(count + 1));
}

#[tokio::test]
async fn who_is_slower_than_the_history_comes_to_an_end() {
    let mut publisher = Publisher::new(10, 20);
    let mut slow = publisher.watch("/", true, true);
    for _ in 0..3 * EVENTS_BUFFERED {
        publisher.publish(&[set("/a")]);
    }
    let mut seen = 0;
    while let Some(index) = next(&mut slow).await {
        seen += 1;
        assert_eq!(index, seen, "in order up to the end");
    }
    assert_eq!(seen, EVENTS_BUFFERED as u64, "what was in its buffer");
    assert_eq!(publisher.hub.watchers(), 0);
}

#[tokio::test]
async fn watchers_go_on_behind_a_snapshot_with_what_led_to_it() {
    let mut publisher = Publisher::new(10, 1000);
    let (mut poll, mut stream) =
        (publisher.watch("/b", false, false), publisher.watch("/", true, true));
    publisher.publish(&[set("/a")]);
    // These come with the snapshot alone.
    publisher.apply(&set("/b"));
    publisher.apply(&set("/c"));
    publisher.hub.replaced(&publisher.view());
    assert_eq!(next(&mut poll).await, Some(2));
    for index in 1..=3 {
        assert_eq!(next(&mut stream).await, Some(index));
    }
    assert!(is_silent(&mut stream).await);
    publisher.publish(&[set("/d")]);
    assert_eq!(next(&mut stream).await, Some(4));
}

#[tokio::test]
async fn long_polls_are_woken_when_the_writer_has_its_answer() {
    let mut publisher = Publisher::new(10, 1000);
    let mut poll = publisher.watch("/a", false, false);
    let events = publisher.apply(&set("/a"));
    publisher.hub.published(&publisher.view(), &events);
    assert_eq!(publisher.hub.watchers(), 0, "it has its event");
    assert!(is_silent(&mut poll).await);
    publisher.hub.answered();
    assert_eq!(next(&mut poll).await, Some(1));
}

#[tokio::test]
async fn a_closed_hub_ends_all_watchers_and_takes_none() {
    let mut publisher = Publisher::new(10, 1000);
    let (mut poll, mut stream) =
        (publisher.watch("/a", false, false), publisher.watch("/a", false, true));
    publisher.publish(&[set("/b")]);
    publisher.hub.close();
    assert_eq!((next(&mut poll).await, next(&mut stream).await), (None, None));
    assert_eq!(publisher.hub.watchers(), 0);
    let refused = watch(&publisher.hub, &publisher.view(), "/a", false, None, true);
    assert_eq!(refused.err(), Some(Unavailable::Stopped));
    // An event of the history needs no registered watcher.
    let view = publisher.view();
    let mut past = watch(&publisher.hub, &view, "/b", false, Some(StoreIndex(1)), false).unwrap();
    assert_eq!(next(&mut past).await, Some(1));
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let mut publisher = Publisher::new(2, 1000);
    let (first, mut second) =
        (publisher.watch("/a", false, false), publisher.watch("/b", false, true));
    let view = publisher.view();
    let more = || watch(&publisher.hub, &view, "/c", false, None, false);
    assert_eq!(more().err(), Some(Unavailable::TooManyWatchers));
    drop(first);
    let third = more().expect("there is room again");
    assert_eq!(more().err(), Some(Unavailable::TooManyWatchers));
    assert_eq!(publisher.hub.watchers(), 2);
    publisher.publish(&[set("/b"), set("/c")]);
    assert_eq!(next(&mut second).await, Some(1));
    assert_eq!(publisher.hub.watchers(), 1, "the third has had its event");
    drop(third);
    assert_eq!(publisher.hub.watchers(), 1);
    // A watch that finds its event in the history takes no place.
    let _places = [publisher.watch("/d", false, true)];
    let past = watch(&publisher.hub, &publisher.view(), "/b", false, Some(StoreIndex(1)), false);
    assert_eq!(next(&mut past.expect("it does not wait")).await, Some(1));
}

#[tokio::test]
async fn a_watch_of_what_is_forgotten_is_refused_and_takes_no_place() {
    let mut publisher = Publisher::new(10, 5);
    (0..20).for_each(|_| publisher.publish(&[set("/a")]));
    let (hub, from) = (&publisher.hub, Some(StoreIndex(3)));
    let reply =
        hub.watch(&publisher.view(), access("/a", false), Asker::Guest, from, false).unwrap();
    let refused = reply.outcome.err();
    assert!(matches!(refused, Some(Refusal::HistoryCleared { .. })), "{refused:?}");
    assert_eq!((reply.index, publisher.hub.watchers()), (StoreIndex(20), 0));
}

#[tokio::test]
async fn who_sees_what() {
    let mut publisher = Publisher::new(100, 1000);
    publisher.publish(&[set("/d/x"), set("/d/s/deep"), set("/d/_h/x"), set("/dx"), set("/d0")]);
    let places = [
        ("/d", false),
        ("/d", true),
        ("/d/x", false),
        ("/d/s", true),
        ("/d/s/deep", false),
        ("/d/s/none", false),
        ("/d/_h", true),
        ("/d/_h/x", false),
        ("/dx", true),
        ("/d0", true),
        ("/", false),
        ("/", true),
    ];
    let mut watches = places.map(|(path, recursive)| publisher.watch(path, recursive, true));
    for (command, expected) in [
        (set("/d/x"), vec![("/d", true), ("/d/x", false), ("/", true)]),
        (set("/d/_h/x"), vec![("/d/_h", true), ("/d/_h/x", false)]),
        (set("/dx"), vec![("/dx", true), ("/", true)]),
        (delete("/d/s"), vec![("/d", true), ("/d/s", true), ("/d/s/deep", false), ("/", true)]),
        (
            delete("/d"),
            vec![
                ("/d", false),
                ("/d", true),
                ("/d/x", false),
                ("/d/_h", true),
                ("/d/_h/x", false),
                ("/", true),
            ],
        ),
        (set("/d0"), vec![("/d0", true), ("/", true)]),
    ] {
        publisher.publish(std::slice::from_ref(&command));
        let event = publisher.events.last().expect("an event");
        let mut told = Vec::new();
        for (place, watch) in places.iter().zip(&mut watches) {
            let (path, recursive) = *place;
            let filter = Filter { path: KeyPath::from(path), recursive };
            let seen = at_once(watch).await;
            assert_eq!(seen.is_some(), filter.sees(event), "{place:?}, {command:?}");
            if let Some(index) = seen {
                assert_eq!(index, event.index.0);
                told.push(*place);
            }
        }
        assert_eq!(told, expected, "{command:?}");
    }
}

/// Root and `u` are users, and guests and `u` may read below `/d`.
fn users() -> Vec<Command> {
    let user = |name: &str, roles: &[&str]| {
        let roles = (!roles.is_empty()).then(|| roles.iter().map(|role| (*role).into()).collect());
        let password = Some(PasswordHash::new("hash"));
        Command::Auth(AuthCommand::PutUser { name: name.into(), password, roles })
    };
    let role = |name: &str| {
        let permissions = Permissions { read: Some(vec!["/d/*".into()]), write: None };
        Command::Auth(AuthCommand::CreateRole { name: name.into(), permissions })
    };
    let enable = Command::Auth(AuthCommand::Enable);
    vec![user(ROOT, &[]), user("u", &["r"]), role("r"), role(GUEST), enable]
}

fn delete_role(name: &str) -> Command {
    Command::Auth(AuthCommand::DeleteRole { name: name.into() })
}

fn named(publisher: &Publisher, name: &str) -> Asker {
    let password = publisher.store.auth().user(name).map(|user| user.password_set);
    Asker::User(Arc::new(Identity { name: name.into(), password }))
}

fn watch_as(
    publisher: &Publisher,
    asker: Asker,
    path: &str,
    stream: bool,
) -> Result<Watch, Refusal> {
    let slash = path.ends_with('/');
    let access = Access { slash, ..access(path, slash) };
    publisher.hub.watch(&publisher.view(), access, asker, None, stream).unwrap().outcome
}

#[tokio::test]
async fn who_loses_the_right_is_told_nothing_of_what_comes_with_its_loss() {
    let mut publisher = Publisher::new(10, 1000);
    let mut early = watch_as(&publisher, Asker::Guest, "/x", false).unwrap();
    publisher.publish(&users());
    assert_eq!(next(&mut early).await, None, "it is on now, and guests have no right to this");
    let (user, root) = (named(&publisher, "u"), named(&publisher, ROOT));
    let mut users =
        [false, true].map(|stream| watch_as(&publisher, user.clone(), "/d/", stream).unwrap());
    let mut guest = watch_as(&publisher, Asker::Guest, "/d/", true).unwrap();
    let mut root = watch_as(&publisher, root, "/", true).unwrap();
    // The roles are hidden keys in etcd and take indexes; these are the events.
    let first = publisher.store.index().0 + 1;
    publisher.publish(&[set("/d/a"), delete_role("r"), set("/d/b")]);
    for user in &mut users {
        assert_eq!(next(user).await, None);
    }
    for other in [&mut guest, &mut root] {
        assert_eq!((next(other).await, next(other).await), (Some(first), Some(first + 2)));
    }
    assert_eq!(publisher.hub.watchers(), 2);
    assert_eq!(watch_as(&publisher, user, "/d/", true).err(), Some(Refusal::NotAllowed));
    publisher.publish(&[delete_role(GUEST)]);
    assert_eq!(next(&mut guest).await, None);
    assert!(is_silent(&mut root).await);
}

/// A snapshot takes the place of the state, and of the rights.
#[tokio::test]
async fn who_has_no_right_in_a_snapshot_is_cut() {
    let mut publisher = Publisher::new(10, 1000);
    publisher.publish(&users());
    let mut guest = watch_as(&publisher, Asker::Guest, "/d/", true).unwrap();
    publisher.apply(&delete_role(GUEST));
    publisher.apply(&set("/d/a"));
    publisher.hub.replaced(&publisher.view());
    assert_eq!(next(&mut guest).await, None);
}

#[tokio::test]
async fn a_file_in_the_place_of_a_directory_is_not_shown_to_who_may_see_what_was_in_it() {
    let mut publisher = Publisher::new(10, 1000);
    publisher.publish(&users());
    let (user, root) = (named(&publisher, "u"), named(&publisher, ROOT));
    let mut user = watch_as(&publisher, user, "/d/", true).unwrap();
    let mut root = watch_as(&publisher, root, "/d/", true).unwrap();
    publisher.publish(&[set("/d/a"), delete("/d"), set("/d")]);
    for (watch, shows) in [(&mut user, [true, false, false]), (&mut root, [true; 3])] {
        for shows in shows {
            let notice = watch.next().await.unwrap();
            assert_eq!(watch.shows(&notice), shows, "{:?}", notice.event);
        }
    }
}

/// Registrations and the end of the right, at the same time: none goes on waiting.
#[test]
fn no_watch_waits_without_a_right_however_its_registration_meets_the_end_of_it() {
    for round in 0..300 {
        let mut publisher = Publisher::new(1000, 1000);
        publisher.publish(&users());
        let view = publisher.view();
        let hub = Arc::clone(&publisher.hub);
        let registering = thread::spawn(move || {
            let start = |n: u64| {
                let access = Access { slash: true, ..access("/d", true) };
                let from = n.is_multiple_of(2).then_some(StoreIndex(1));
                hub.watch(&view, access, Asker::Guest, from, true).unwrap().outcome
            };
            (0..20).filter_map(|n| start(n).ok()).collect::<Vec<_>>()
        });
        publisher.publish(&[delete_role(GUEST)]);
        let _watches = registering.join().unwrap();
        assert_eq!(publisher.hub.watchers(), 0, "round {round}");
    }
}
