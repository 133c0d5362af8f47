//! A store that is right by construction, and clients of it: where good histories come from.
//!
//! Owns: one store in one thread, members that lag behind it, clients whose calls overlap, time that is only counted. Never
//! knows: the checks.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::history::{Action, Call, Event, Final, History, Outcome, Seen, Watcher};
use crate::support::rng::Rng;

pub(crate) const PREFIX: &str = "/load";

/// The store: what is there, and how that came.
#[derive(Clone, Default)]
pub(crate) struct Store {
    pub(crate) index: u64,
    files: BTreeMap<String, Seen>,
    pub(crate) log: Vec<Event>,
}

impl Store {
    /// Does it, as the real one does.
    pub(crate) fn apply(&mut self, key: &str, action: &Action) -> Outcome {
        let there = self.files.get(key).cloned();
        if let Some(code) = action.refusal(there.as_ref()) {
            return Outcome::Refused { code, index: self.index };
        }
        if !action.writes() {
            let modified = there.as_ref().map_or(0, |seen| seen.modified);
            return Outcome::Done { node: there, prev: None, modified, index: self.index };
        }
        self.index += 1;
        let created = match (action, &there) {
            (Action::Swap { .. }, Some(there)) => there.created,
            _ => self.index,
        };
        let node = action.value().map(|value| Seen {
            value: value.to_owned(),
            modified: self.index,
            created,
        });
        match &node {
            Some(node) => self.files.insert(key.to_owned(), node.clone()),
            None => self.files.remove(key),
        };
        self.log.push(Event {
            action: action.event().to_owned(),
            key: key.to_owned(),
            node: node.clone(),
            prev: there.clone(),
            index: self.index,
        });
        Outcome::Done { node, prev: there, modified: self.index, index: self.index }
    }

    /// What a member that has come as far as `index` answers to a plain read.
    fn read_at(&self, key: &str, index: u64) -> Outcome {
        let mut events = self.log.iter().rev();
        let last = events.find(|event| event.index <= index && event.key == key);
        match last.and_then(|event| event.node.clone()) {
            Some(node) => {
                Outcome::Done { modified: node.modified, node: Some(node), prev: None, index }
            }
            None => Outcome::Refused { code: 100, index },
        }
    }

    /// The history of these calls, with a watcher of everything and one of half of it.
    pub(crate) fn history(self, calls: Vec<Call>, members: usize) -> History {
        let watcher = |name: &str, from: u64, prefix: &str| Watcher {
            name: name.to_owned(),
            from,
            until: self.index,
            prefix: prefix.to_owned(),
            events: self
                .log
                .iter()
                .filter(|event| event.index >= from && event.key.starts_with(prefix))
                .cloned()
                .collect(),
        };
        let watchers =
            vec![watcher("all", 1, PREFIX), watcher("late", self.index / 2, "/load/hot")];
        let finals = (0..members)
            .map(|member| Final { member, index: self.index, files: self.files.clone() })
            .collect();
        History { calls, log: self.log, watchers, finals }
    }
}

/// A call under way.
struct Pending {
    call: Call,
    applied: bool,
    /// Its outcome will not be learned.
    lost: bool,
}

/// How a simulated run goes.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) calls: usize,
    pub(crate) clients: usize,
    pub(crate) keys: u64,
    /// Percent of the writes that get no answer.
    pub(crate) lost: u64,
}

const MEMBERS: usize = 3;

/// Runs clients against the store until `calls` calls are over.
pub(crate) fn run(plan: &Plan) -> History {
    let mut rng = Rng::new(plan.seed);
    let mut store = Store::default();
    let mut behind = [0; MEMBERS];
    let mut pending: Vec<Option<Pending>> = (0..plan.clients).map(|_| None).collect();
    // Writes that their clients have given up, but the store has not.
    let mut adrift: Vec<(String, Action)> = Vec::new();
    let mut calls = Vec::new();
    let mut now = 0;
    let mut names = 0;
    while calls.len() < plan.calls {
        now += 1 + rng.below(50);
        let time = Duration::from_micros(now);
        match rng.below(20) {
            // Something that is not below the directory happens.
            0 => store.index += 1,
            1 if !adrift.is_empty() => {
                let place = usize::try_from(rng.below(adrift.len() as u64)).expect("small");
                let (key, action) = adrift.swap_remove(place);
                if rng.chance(60) {
                    store.apply(&key, &action);
                }
            }
            2 => {
                let member = usize::try_from(rng.below(MEMBERS as u64)).expect("small");
                behind[member] += rng.below(store.index - behind[member] + 1);
            }
            _ => {
                let client = usize::try_from(rng.below(plan.clients as u64)).expect("small");
                match pending[client].take() {
                    None => {
                        names += 1;
                        let call = begin(&mut rng, plan, &store, client, names, time);
                        let lost = call.action.writes() && rng.chance(plan.lost);
                        pending[client] = Some(Pending { call, applied: false, lost });
                    }
                    Some(mut open) if !open.applied && !open.lost => {
                        let call = &mut open.call;
                        if call.is_plain_read() {
                            call.outcome = store.read_at(&call.key, behind[call.member]);
                        } else {
                            call.outcome = store.apply(&call.key, &call.action);
                            behind[call.member] = store.index;
                        }
                        open.applied = true;
                        pending[client] = Some(open);
                    }
                    Some(mut open) => {
                        open.call.ended = time;
                        if open.lost {
                            adrift.push((open.call.key.clone(), open.call.action.clone()));
                        }
                        calls.push(open.call);
                    }
                }
            }
        }
    }
    for open in pending.into_iter().flatten() {
        // The run ends before they are answered; what was applied was applied.
        let outcome = if open.applied || open.lost { Outcome::Unknown } else { Outcome::Nothing };
        calls.push(Call { ended: Duration::from_micros(now), outcome, ..open.call });
    }
    store.history(calls, MEMBERS)
}

fn begin(
    rng: &mut Rng,
    plan: &Plan,
    store: &Store,
    client: usize,
    name: u64,
    at: Duration,
) -> Call {
    let key = match rng.below(10) {
        0 => format!("{PREFIX}/fresh/{}", name / 3),
        _ => format!("{PREFIX}/hot/{}", rng.below(plan.keys)),
    };
    let there = store.files.get(&key).cloned();
    let value = format!("{client}-{name}");
    let if_value = there.as_ref().map(|seen| seen.value.clone());
    let if_index = there.as_ref().map(|seen| seen.modified);
    let other = Some("something else".to_owned());
    let action = match rng.below(12) {
        0 | 1 => Action::Read { quorum: true },
        2 | 3 => Action::Read { quorum: false },
        4 | 5 => Action::Set { value },
        6 => Action::Create { value },
        7 => Action::Delete,
        8 => Action::Swap { value, if_value, if_index: None },
        9 if if_index.is_some() => Action::Swap { value, if_value: None, if_index },
        10 => Action::DeleteIf { if_value: if_value.or(other), if_index: None },
        _ => Action::Swap { value, if_value: other, if_index: None },
    };
    let member = usize::try_from(rng.below(MEMBERS as u64)).expect("small");
    let client = u32::try_from(client).expect("few clients");
    Call { client, member, key, action, began: at, ended: at, outcome: Outcome::Unknown }
}
