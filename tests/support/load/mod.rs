//! Load that is recorded: clients, watchers and a probe, for tests that break something meanwhile.
//!
//! Owns: threads that ask and write down what they saw. Never knows: what is broken, or whether what they saw is right; that
//! is for `support::history`.

pub(crate) mod follower;
mod gateway;
pub(crate) mod probe;
pub(crate) mod recording;
pub(crate) mod targets;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::history::{Action, Call, Outcome, Seen};
use super::rng::Rng;
use targets::{Stop, Targets};
use wire::Line;

/// One client stops when it has made so many calls, so that memory stays bounded.
const CALLS_MAX: usize = 200_000;
/// Answers that no such call may get are kept up to here.
const STRANGE_MAX: usize = 20;
/// Percent of the calls before which a client goes back to the member that it began with. Otherwise all would be at the same
/// one after a while, and what happens to that one would look as if it happened to the cluster.
const HOMESICK: u64 = 2;
/// How many clients race for each fresh key.
const RACERS: u64 = 3;

/// Which key space clients use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Api {
    /// Keys in directories.
    #[default]
    V2,
    /// Over the JSON gateway.
    V3,
}

/// What the clients do.
#[derive(Clone, Debug)]
pub(crate) struct LoadPlan {
    pub(crate) api: Api,
    /// Each client draws its actions from this seed and its number.
    pub(crate) seed: u64,
    pub(crate) clients: u32,
    /// The directory below which all keys are. No other client may write there, and it must be empty at first.
    pub(crate) prefix: String,
    /// Keys that all clients use all the time.
    pub(crate) hot_keys: u64,
    /// Percent of all calls that are plain reads.
    pub(crate) plain_reads: u64,
    /// Percent of all calls that create a key for which others race too.
    pub(crate) fresh: u64,
    /// Mean pause of a client between two calls; keeps histories at a size that can be checked.
    pub(crate) think: Duration,
    /// How long a call may take. A member gives up after 5 s and two election time-outs.
    pub(crate) patience: Duration,
}

impl Default for LoadPlan {
    fn default() -> Self {
        Self {
            api: Api::V2,
            seed: 1,
            clients: 8,
            prefix: "/load".to_owned(),
            hot_keys: 6,
            plain_reads: 20,
            fresh: 10,
            think: Duration::from_millis(5),
            patience: Duration::from_secs(8),
        }
    }
}

/// Clients at work.
pub(crate) struct Load {
    clients: Vec<JoinHandle<Recorded>>,
    stop: Stop,
    answered: Arc<AtomicU64>,
}

/// What clients wrote down.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) calls: Vec<Call>,
    /// Answers that no such call may get, in words; at most a few for each client.
    pub(crate) strange: Vec<String>,
}

impl Load {
    /// Starts the clients; `start` is when the run's time began.
    pub(crate) fn start(targets: impl Into<Targets>, plan: &LoadPlan, start: Instant) -> Self {
        let (targets, stop, fresh) = (targets.into(), Stop::default(), Arc::new(AtomicU64::new(0)));
        let (members, answered) = (targets.all(), Arc::new(AtomicU64::new(0)));
        let start_client = |number: u32| {
            let at = usize::try_from(number).expect("few clients") % members.len();
            let line = Line::new(plan.api, targets.clone(), members[at].0, plan.patience);
            let client = Client {
                number,
                rng: Rng::new(plan.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number))),
                plan: plan.clone(),
                line,
                start,
                fresh: Arc::clone(&fresh),
                answered: Arc::clone(&answered),
                known: BTreeMap::new(),
                written: 0,
            };
            let stop = stop.clone();
            thread::spawn(move || client.run(&stop))
        };
        let clients = (0..plan.clients).map(start_client).collect();
        Self { clients, stop, answered }
    }

    /// Calls that the store has said yes or no to, so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets each client end the call that it is in. Calls come sorted by client.
    pub(crate) fn stop(self) -> Recorded {
        self.stop.stop();
        let mut all = Recorded::default();
        for client in self.clients {
            let recorded = client.join().expect("clients do not panic");
            all.calls.extend(recorded.calls);
            all.strange.extend(recorded.strange);
        }
        all
    }
}

struct Client {
    number: u32,
    rng: Rng,
    plan: LoadPlan,
    line: Line,
    start: Instant,
    /// How many calls for fresh keys all clients have made.
    fresh: Arc<AtomicU64>,
    /// How many answers all clients have got.
    answered: Arc<AtomicU64>,
    /// What it last saw under each hot key.
    known: BTreeMap<String, Seen>,
    written: u64,
}

impl Client {
    fn run(mut self, stop: &Stop) -> Recorded {
        let mut recorded = Recorded::default();
        while recorded.calls.len() < CALLS_MAX {
            if self.rng.chance(HOMESICK) {
                self.line.go_home();
            }
            let (key, action) = self.next();
            let began = self.start.elapsed();
            let answered = self.line.call(&key, &action);
            let ended = self.start.elapsed();
            if recorded.strange.len() < STRANGE_MAX {
                recorded.strange.extend(answered.strange);
            }
            let (client, member, outcome) = (self.number, answered.member, answered.outcome);
            self.remember(&key, &outcome);
            let is_answer = matches!(outcome, Outcome::Done { .. } | Outcome::Refused { .. });
            self.answered.fetch_add(u64::from(is_answer), Ordering::Relaxed);
            recorded.calls.push(Call { client, member, key, action, began, ended, outcome });
            let think_us = u64::try_from(self.plan.think.as_micros()).expect("a short pause");
            if stop.pause(Duration::from_micros(self.rng.below(2 * think_us + 1))) {
                break;
            }
        }
        recorded
    }

    fn remember(&mut self, key: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Done { node: Some(node), .. } if key.contains("/hot/") => {
                self.known.insert(key.to_owned(), node.clone());
            }
            Outcome::Done { node: None, .. } | Outcome::Refused { code: 100, .. } => {
                self.known.remove(key);
            }
            // What others have put there is not told; asking with the old value must fail then.
            Outcome::Done { .. }
            | Outcome::Refused { .. }
            | Outcome::Unknown
            | Outcome::Nothing => {}
        }
    }

    fn next(&mut self) -> (String, Action) {
        self.written += 1;
        let value = format!("{}-{}", self.number, self.written);
        if self.rng.chance(self.plan.fresh) {
            let number = self.fresh.fetch_add(1, Ordering::Relaxed) / RACERS;
            return (format!("{}/fresh/{number}", self.plan.prefix), Action::Create { value });
        }
        let key = format!("{}/hot/{}", self.plan.prefix, self.rng.below(self.plan.hot_keys));
        if self.rng.chance(self.plan.plain_reads) {
            return (key, Action::Read { quorum: false });
        }
        let known = self.known.get(&key);
        let if_value = known.map(|seen| seen.value.clone());
        let if_index = known.map(|seen| seen.modified);
        let is_known = known.is_some();
        let action = match self.rng.below(20) {
            0..=4 => Action::Read { quorum: true },
            5..=8 => Action::Set { value },
            9 | 10 => Action::Create { value },
            11..=13 if is_known => Action::Swap { value, if_value, if_index: None },
            14 if is_known => Action::Swap { value, if_value: None, if_index },
            15 if is_known => Action::Swap { value, if_value, if_index },
            16 if is_known => Action::DeleteIf { if_value, if_index: None },
            17 if is_known => Action::DeleteIf { if_value: None, if_index },
            18 => Action::Delete,
            19 => {
                let if_value = Some("of-nobody".to_owned());
                Action::Swap { value, if_value, if_index: None }
            }
            _ => Action::Swap { value, if_value: None, if_index: None },
        };
        (key, action)
    }
}
