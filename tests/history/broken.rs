//! One good story, and everything that can be wrong with it.
//!
//! Owns: the story and the lies. Never knows: how a lie is found out.

use std::time::Duration;

use crate::simulated::{PREFIX, Store};
use crate::support::history::{Action, Call, Event, History, Outcome, Rule, Seen};

/// Tells calls one after the other, ten milliseconds each.
struct Teller {
    store: Store,
    calls: Vec<Call>,
}

impl Teller {
    fn call(&mut self, member: usize, key: &str, action: Action) -> &mut Call {
        let key = format!("{PREFIX}/hot/{key}");
        let outcome = self.store.apply(&key, &action);
        let began = Duration::from_millis(10 * self.calls.len() as u64);
        let ended = began + Duration::from_millis(5);
        let client = u32::try_from(member).expect("small");
        self.calls.push(Call { client, member, key, action, began, ended, outcome });
        self.calls.last_mut().expect("just told")
    }
}

fn set(value: &str) -> Action {
    Action::Set { value: value.to_owned() }
}

fn create(value: &str) -> Action {
    Action::Create { value: value.to_owned() }
}

fn swap(value: &str, if_value: &str) -> Action {
    Action::Swap { value: value.to_owned(), if_value: Some(if_value.to_owned()), if_index: None }
}

const READ: Action = Action::Read { quorum: true };
const PLAIN: Action = Action::Read { quorum: false };

const CREATE: usize = 0;
const CREATE_REFUSED: usize = 1;
const SET: usize = 2;
const READ_AFTER_SET: usize = 3;
const SWAP: usize = 4;
const SWAP_REFUSED: usize = 5;
const PLAIN_READ: usize = 6;
const DELETE: usize = 7;
const UNKNOWN_SET: usize = 9;
const READ_OF_UNKNOWN: usize = 10;
const UNKNOWN_DELETE: usize = 11;
const NOTHING: usize = 12;
const LAST_PLAIN_READ: usize = 14;

/// Two clients, each at its own member.
pub(crate) fn story() -> History {
    let mut teller = Teller { store: Store::default(), calls: Vec::new() };
    teller.store.index = 4;
    teller.call(0, "a", create("a1"));
    teller.call(1, "a", create("a2"));
    teller.call(0, "a", set("a3"));
    teller.call(1, "a", READ);
    teller.call(0, "a", swap("a4", "a3"));
    teller.call(1, "a", swap("a5", "a1"));
    teller.call(0, "a", PLAIN);
    teller.call(1, "a", Action::Delete);
    teller.call(0, "a", READ);
    teller.call(0, "a", set("a6")).outcome = Outcome::Unknown;
    teller.call(1, "a", READ);
    teller.call(1, "a", Action::Delete).outcome = Outcome::Unknown;
    let key = format!("{PREFIX}/hot/a");
    let began = Duration::from_millis(120);
    teller.calls.push(Call {
        client: 0,
        member: 0,
        key,
        action: set("a7"),
        began,
        ended: began + Duration::from_millis(1),
        outcome: Outcome::Nothing,
    });
    teller.store.index += 1;
    teller.call(0, "b", set("b1"));
    teller.call(1, "b", PLAIN);
    teller.call(0, "b", set("b2"));
    teller.store.history(teller.calls, 2)
}

fn seen(value: &str, modified: u64) -> Seen {
    Seen { value: value.to_owned(), modified, created: modified }
}

/// The parts of an answer.
struct Answer<'a> {
    node: &'a mut Option<Seen>,
    prev: &'a mut Option<Seen>,
    modified: &'a mut u64,
    index: &'a mut u64,
}

fn answer(history: &mut History, place: usize) -> Answer<'_> {
    let Outcome::Done { node, prev, modified, index } = &mut history.calls[place].outcome else {
        panic!("call {place} of the story has an answer");
    };
    Answer { node, prev, modified, index }
}

fn refused(code: u32, index: u64) -> Outcome {
    Outcome::Refused { code, index }
}

/// Takes an event out of everything that was told, as if it had never been.
fn forget(history: &mut History, index: u64) {
    history.log.retain(|event| event.index != index);
    for watcher in &mut history.watchers {
        watcher.events.retain(|event| event.index != index);
    }
}

/// Puts an event into everything that was told.
fn invent(history: &mut History, event: &Event) {
    history.log.push(event.clone());
    for watcher in &mut history.watchers {
        watcher.events.push(event.clone());
        watcher.until = event.index;
    }
    for last in &mut history.finals {
        last.index = event.index;
        last.files.insert(event.key.clone(), event.node.clone().expect("it writes"));
    }
}

/// The next event, which sets a key.
fn next_event(history: &History, key: &str, value: &str) -> Event {
    let index = history.log.last().expect("a log").index + 1;
    let key = format!("{PREFIX}/hot/{key}");
    let node = Some(seen(value, index));
    Event { action: "set".to_owned(), key, node, prev: None, index }
}

type Spoil = fn(&mut History);

/// What the exact check must call by its name.
pub(crate) const EXACT: &[(&str, Rule, Spoil)] = &[
    ("a write is placed before one that had ended", Rule::OutOfOrder, |h| {
        // The create ends last of all, though its index is the first.
        h.calls[CREATE].began = Duration::from_millis(500);
        h.calls[CREATE].ended = Duration::from_millis(510);
    }),
    ("an unknown write is in the log before it began", Rule::OutOfOrder, |h| {
        h.calls[UNKNOWN_SET].began = Duration::from_secs(1);
        h.calls[UNKNOWN_SET].ended = Duration::from_secs(1);
    }),
    ("a refusal is placed before a write that had ended", Rule::OutOfOrder, |h| {
        // True at index 5, but index 6 had been acknowledged.
        h.calls[SWAP_REFUSED].action = swap("a5", "a0");
        h.calls[SWAP_REFUSED].outcome = refused(101, 5);
    }),
    ("a quorum read is stale", Rule::StaleQuorumRead, |h| {
        let a = answer(h, READ_AFTER_SET);
        (*a.node, *a.modified, *a.index) = (Some(seen("a1", 5)), 5, 5);
    }),
    ("a quorum read finds nothing, as long ago", Rule::StaleQuorumRead, |h| {
        h.calls[READ_AFTER_SET].outcome = refused(100, 4);
    }),
    ("a quorum read shows another value", Rule::WrongQuorumRead, |h| {
        answer(h, READ_AFTER_SET).node.as_mut().expect("a value").value = "a1".to_owned();
    }),
    ("a quorum read shows another modifiedIndex", Rule::WrongQuorumRead, |h| {
        answer(h, READ_AFTER_SET).node.as_mut().expect("a value").modified -= 1;
    }),
    ("a quorum read finds nothing where something is", Rule::WrongQuorumRead, |h| {
        h.calls[READ_AFTER_SET].outcome = refused(100, 6);
    }),
    ("an acknowledged write is lost", Rule::LostWrite, |h| forget(h, 6)),
    ("the last acknowledged write is lost", Rule::LostWrite, |h| {
        let last = h.log.last().expect("a log").index;
        forget(h, last);
    }),
    ("an acknowledged write is in the log with another value", Rule::LostWrite, |h| {
        h.log[1].node.as_mut().expect("a value").value = "a9".to_owned();
    }),
    ("prevNode is not what was there", Rule::WrongPrevNode, |h| {
        *answer(h, SET).prev = None;
    }),
    ("prevNode has a wrong createdIndex", Rule::WrongPrevNode, |h| {
        answer(h, DELETE).prev.as_mut().expect("a value").created += 1;
    }),
    ("the answer shows another node than the event", Rule::WrongAnswer, |h| {
        answer(h, SWAP).node.as_mut().expect("a value").created += 1;
    }),
    ("X-Etcd-Index of a write is not its own", Rule::WrongAnswer, |h| {
        *answer(h, SWAP).index += 1;
    }),
    ("a compare succeeds that should have failed", Rule::WrongCompare, |h| {
        h.calls[SWAP].action = swap("a4", "a1");
    }),
    ("an unknown compare took effect that should have failed", Rule::WrongCompare, |h| {
        h.calls[SWAP].action = swap("a4", "a1");
        h.calls[SWAP].outcome = Outcome::Unknown;
    }),
    ("a compare is refused that should have succeeded", Rule::WrongRefusal, |h| {
        h.calls[SWAP_REFUSED].action = swap("a5", "a4");
    }),
    ("a create is refused though nothing is there", Rule::WrongRefusal, |h| {
        h.calls[CREATE_REFUSED].outcome = refused(105, 4);
    }),
    ("a refusal has the wrong code", Rule::WrongRefusal, |h| {
        h.calls[SWAP_REFUSED].outcome = refused(100, 7);
    }),
    ("two win a create", Rule::TwoCreators, |h| {
        let index = 6;
        let node = Some(seen("a2", index));
        h.calls[CREATE_REFUSED].outcome =
            Outcome::Done { node, prev: None, modified: index, index };
    }),
    ("two calls claim one event", Rule::ClaimedTwice, |h| {
        let mut again = h.calls[SET].clone();
        again.client = 7;
        again.action = set("a8");
        h.calls.push(again);
    }),
    ("one call made two events", Rule::ClaimedTwice, |h| {
        let event = next_event(h, "c", "a6");
        h.calls[UNKNOWN_SET].key.clone_from(&event.key);
        let mut first = event.clone();
        first.index += 1;
        first.node = Some(seen("a6", first.index));
        first.prev.clone_from(&event.node);
        invent(h, &event);
        invent(h, &first);
    }),
    ("a plain read shows what never was", Rule::WrongPlainRead, |h| {
        answer(h, PLAIN_READ).node.as_mut().expect("a value").value = "a3".to_owned();
    }),
    ("a plain read finds nothing where something is", Rule::WrongPlainRead, |h| {
        h.calls[PLAIN_READ].outcome = refused(100, 7);
    }),
    ("a plain read goes back behind a write of its own member", Rule::WentBack, |h| {
        let a = answer(h, PLAIN_READ);
        (*a.node, *a.modified, *a.index) = (Some(seen("a3", 6)), 6, 6);
    }),
    ("a plain read goes back behind a plain read of its own member", Rule::WentBack, |h| {
        let mut before = h.calls[LAST_PLAIN_READ].clone();
        before.began += Duration::from_micros(5100);
        before.ended = before.began;
        before.client = 9;
        before.outcome = refused(100, 4);
        h.calls.push(before);
    }),
    ("a plain read sees what had not begun", Rule::OutOfOrder, |h| {
        let index = h.log.last().expect("a log").index;
        h.calls[LAST_PLAIN_READ].outcome =
            Outcome::Done { node: Some(seen("b2", index)), prev: None, modified: index, index };
    }),
    ("an event that no client wrote", Rule::Unclaimed, |h| {
        let event = next_event(h, "c", "from nowhere");
        invent(h, &event);
    }),
    ("a removal that no client asked for", Rule::Unclaimed, |h| {
        h.calls.remove(UNKNOWN_DELETE);
    }),
    ("a removal that was asked for only later", Rule::Unclaimed, |h| {
        h.calls[UNKNOWN_DELETE].began = Duration::from_secs(1);
        h.calls[UNKNOWN_DELETE].ended = Duration::from_secs(1);
    }),
    ("a key expires that has no deadline", Rule::Unclaimed, |h| {
        let expired = h.log.iter_mut().filter(|event| event.node.is_none());
        expired.for_each(|event| event.action = "expire".to_owned());
    }),
    ("a write that did nothing is in the log", Rule::NothingButWritten, |h| {
        let event = next_event(h, "a", "a7");
        invent(h, &event);
    }),
    ("a removal that did nothing is in the log", Rule::NothingButWritten, |h| {
        h.calls[UNKNOWN_DELETE].outcome = Outcome::Nothing;
    }),
    ("a write that was refused is in the log", Rule::NothingButWritten, |h| {
        let event = next_event(h, "a", "a5");
        invent(h, &event);
    }),
    ("the log is not in order", Rule::LogDisorder, |h| h.log.swap(0, 1)),
    ("the log has an event twice", Rule::LogDisorder, |h| {
        let again = h.log[1].clone();
        h.log.insert(2, again);
    }),
    ("an event's prevNode is not the node before", Rule::BrokenChain, |h| {
        h.log[2].prev.as_mut().expect("a value").value = "a1".to_owned();
    }),
    ("a create event over something", Rule::BrokenChain, |h| {
        h.log[1].action = "create".to_owned();
    }),
    ("a watcher misses an event", Rule::WatcherMissed, |h| {
        h.watchers[0].events.remove(2);
    }),
    ("a watcher misses the first event", Rule::WatcherMissed, |h| {
        h.watchers[1].events.remove(0);
    }),
    ("a watcher misses the last event", Rule::WatcherMissed, |h| {
        h.watchers[0].events.pop();
    }),
    ("a watcher gets an event twice", Rule::WatcherTwice, |h| {
        let again = h.watchers[0].events[2].clone();
        h.watchers[0].events.insert(3, again);
    }),
    ("a watcher gets an old event again", Rule::WatcherTwice, |h| {
        let again = h.watchers[0].events[0].clone();
        h.watchers[0].events.push(again);
    }),
    ("a watcher gets events out of order", Rule::WatcherDisorder, |h| {
        h.watchers[0].events.swap(1, 2);
    }),
    ("a watcher gets an event that is not in the log", Rule::WatcherStranger, |h| {
        let event = next_event(h, "c", "from nowhere");
        h.watchers[0].events.push(event);
    }),
    ("a watcher gets an event of before its index", Rule::WatcherStranger, |h| {
        let event = h.log[0].clone();
        h.watchers[1].events.insert(0, event);
    }),
    ("a watcher gets another prevNode", Rule::WatcherStranger, |h| {
        h.watchers[0].events[2].prev = None;
    }),
    ("a member ends with another value", Rule::UnequalFinals, |h| {
        h.finals[1].files.values_mut().for_each(|seen| seen.value = "b1".to_owned());
    }),
    ("a member ends with another index", Rule::UnequalFinals, |h| h.finals[1].index += 1),
    ("a member ends without a key", Rule::UnequalFinals, |h| h.finals[1].files.clear()),
    ("all members end with what is not in the log", Rule::WrongFinal, |h| {
        for last in &mut h.finals {
            last.files.insert(format!("{PREFIX}/hot/z"), seen("z", 3));
        }
    }),
    ("all members end behind the log", Rule::WrongFinal, |h| {
        h.finals.iter_mut().for_each(|last| last.index -= 1);
    }),
    ("a value is written twice", Rule::Unfit, |h| {
        let mut again = h.calls[NOTHING].clone();
        again.client = 8;
        h.calls.push(again);
    }),
];

/// What no order explains, indexes or not.
pub(crate) const BLACK_BOX: &[(&str, Spoil)] = &[
    ("a quorum read is stale", |h| {
        let a = answer(h, READ_AFTER_SET);
        (*a.node, *a.modified) = (Some(seen("a1", 5)), 5);
    }),
    ("a quorum read finds nothing where something is", |h| {
        h.calls[READ_AFTER_SET].outcome = refused(100, 6);
    }),
    ("an acknowledged write is lost", |h| {
        *answer(h, SWAP).prev = Some(seen("a1", 5));
        h.calls[SWAP].action = swap("a4", "a1");
        h.calls[READ_AFTER_SET].outcome = Outcome::Unknown;
    }),
    ("two win a create", |h| {
        let node = Some(seen("a2", 6));
        h.calls[CREATE_REFUSED].outcome = Outcome::Done { node, prev: None, modified: 6, index: 6 };
    }),
    ("two remove the same", |h| {
        let mut again = h.calls[DELETE].clone();
        again.client = 9;
        h.calls.push(again);
    }),
    ("prevNode is not what was there", |h| *answer(h, SET).prev = None),
    ("a compare is refused that should have succeeded", |h| {
        h.calls[SWAP_REFUSED].action = swap("a5", "a4");
    }),
    ("a compare succeeds that should have failed", |h| h.calls[SWAP].action = swap("a4", "a1")),
    ("an index lies about its value", |h| {
        let seen = answer(h, DELETE).prev.as_mut().expect("a value");
        seen.modified = 6;
    }),
    ("a write that did nothing is seen", |h| {
        h.calls[UNKNOWN_SET].outcome = Outcome::Nothing;
    }),
    ("an unknown write is seen before it began", |h| {
        h.calls[UNKNOWN_SET].began = Duration::from_secs(1);
        h.calls[UNKNOWN_SET].ended = Duration::from_secs(1);
    }),
    ("an unknown write is not undone", |h| {
        h.calls.remove(UNKNOWN_DELETE);
        let mut read = h.calls[READ_OF_UNKNOWN].clone();
        (read.began, read.ended) = (Duration::from_secs(1), Duration::from_secs(1));
        read.outcome = refused(100, 20);
        h.calls.push(read);
    }),
    ("a set is refused", |h| h.calls[SET].outcome = refused(105, 6)),
];

/// Makes an answer say something else. False where there is nothing to say otherwise.
pub(crate) fn alter(call: &mut Call) -> bool {
    let writes = call.action.writes();
    match &mut call.outcome {
        Outcome::Done { node: Some(node), .. } => node.value.push('!'),
        Outcome::Done { prev: Some(prev), .. } if writes => prev.value.push('!'),
        Outcome::Done { modified, .. } => *modified += 1,
        Outcome::Refused { code: 100, .. } => {
            call.outcome = Outcome::Refused { code: 101, index: 0 };
        }
        Outcome::Refused { code, .. } => *code = 100,
        Outcome::Unknown | Outcome::Nothing => return false,
    }
    true
}

/// Many writes of unknown outcome, each with a reader that waits all the time, and an answer that none of them explains.
pub(crate) fn too_hard() -> Vec<Call> {
    let call = |client: u32, action, outcome, began: u64, ended: u64| Call {
        client,
        member: 0,
        key: "/load/hot/a".to_owned(),
        action,
        began: Duration::from_millis(began),
        ended: Duration::from_millis(ended),
        outcome,
    };
    let mut calls = Vec::new();
    for n in 0..20_u32 {
        let value = format!("v{n}");
        let node = Some(seen(&value, 10 + u64::from(n)));
        let read = Outcome::Done { node, prev: None, modified: 10, index: 50 };
        calls.push(call(n, set(&value), Outcome::Unknown, 0, 1));
        calls.push(call(100 + n, READ, read, 0, 1000));
    }
    let node = Some(seen("never", 3));
    let read = Outcome::Done { node, prev: None, modified: 3, index: 3 };
    calls.push(call(99, READ, read, 500, 600));
    calls
}
