//! Rounds of random faults for as long as one likes: `scripts/soak.sh`.
//!
//! Each round has a cluster of its own and follows from its seed alone, so the one that failed can be had again by itself.

use std::collections::BTreeMap;
use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use super::alone;
use super::rounds::{Blow, Plan, Report, Struck, run};
use super::support::faults::Fault;
use super::support::rng::{Rng, seed_from_env};

/// A round is long enough for faults to meet what others left, and short enough for its history to be checked.
const BLOWS_MAX: u64 = 4;
/// Percent of the faults during which another one happens.
const TWICE: u64 = 30;
/// Percent of the rounds with short heartbeats and elections, so that leaders change all the time.
const FAST: u64 = 30;
const CLIENTS: [u32; 3] = [8, 12, 20];

/// The round that a seed stands for.
fn plan(seed: u64) -> Plan {
    let mut rng = Rng::new(seed);
    let members = if rng.chance(50) { 3 } else { 5 };
    let blows = (0..=rng.below(BLOWS_MAX)).map(|_| blow(&mut rng)).collect();
    let fast = ["--heartbeat-interval=20", "--election-timeout=200"].map(str::to_owned);
    let args = if rng.chance(FAST) { fast.to_vec() } else { Vec::new() };
    let clients = *rng.pick(&CLIENTS);
    let story = format!("to repeat: scripts/soak.sh 1 {seed}");
    Plan { members, seed, clients, blows, args, story, keep: true }
}

fn blow(rng: &mut Rng) -> Blow {
    let fault = *rng.pick(&Fault::ALL);
    let (least, most) = if fault == Fault::PauseLeader { (1000, 10_000) } else { (100, 5000) };
    let lasts = Duration::from_millis(least + rng.below(most - least));
    let second =
        (Fault::SECOND.contains(&fault) && rng.chance(TWICE)).then(|| *rng.pick(&Fault::SECOND));
    Blow { fault, second, lasts }
}

/// What all rounds came to.
#[derive(Default)]
struct Total {
    rounds: usize,
    calls: usize,
    written: usize,
    /// Of these, with version 3.
    written_v3: usize,
    /// How often a lock was held, and a lease kept alive.
    turns: usize,
    kept: usize,
    reads: usize,
    refused: usize,
    unknown: usize,
    events: usize,
    watched: usize,
    /// How often, and the longest time in which no member acknowledged a write, where nothing else happened at once.
    faults: BTreeMap<Fault, (usize, Option<Duration>)>,
    /// Faults during which another one happened.
    twice: usize,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.rounds += 1;
        self.calls += report.calls;
        self.turns += report.turns;
        self.kept += report.kept;
        self.written_v3 += report.checked_v3.written;
        for checked in [&report.checked, &report.checked_v3] {
            self.written += checked.written;
            self.reads += checked.plain_reads + checked.quorum_reads;
            self.refused += checked.refused;
            self.unknown += checked.unknown;
            self.events += checked.events;
            self.watched += checked.watched;
        }
        for struck in &report.struck {
            for fault in [Some(struck.blow.fault), struck.blow.second].into_iter().flatten() {
                self.faults.entry(fault).or_default().0 += 1;
            }
            match struck.blow.second {
                Some(_) => self.twice += 1,
                None => {
                    let (_, silence) = self.faults.entry(struck.blow.fault).or_default();
                    *silence = (*silence).max(Some(struck.silence));
                }
            }
        }
    }

    fn show(&self, first: u64) {
        let Self { rounds, calls, written, reads, refused, unknown, events, watched, .. } = self;
        eprintln!("--- {rounds} rounds from seed {first} on");
        eprintln!("operations: {calls}, outcome unknown: {unknown}");
        eprintln!(
            "checked: {written} writes ({} of version 3), {reads} reads, {refused} refusals, {events} events, {watched} events at \
             watchers, {} checks of a whole history",
            self.written_v3,
            4 * rounds
        );
        eprintln!(
            "a lock held by one at a time {} times, leases kept alive {} times",
            self.turns, self.kept
        );
        eprintln!("{:6} x two faults at once, whose silences are not counted", self.twice);
        for (fault, (count, silence)) in &self.faults {
            let silence = silence.map(|silence| format!(", longest silence {silence:.1?}"));
            eprintln!("{count:6} x {fault:?}{}", silence.unwrap_or_default());
        }
        let with_majority = self.faults.iter().filter(|(fault, _)| !fault.loses_majority());
        let longest =
            with_majority.filter_map(|(_, (_, silence))| *silence).max().unwrap_or_default();
        eprintln!(
            "longest time without an acknowledged write, majority losses apart: {longest:.1?}"
        );
    }
}

fn show(round: u64, plan: &Plan, report: &Report) {
    let struck = report.struck.iter().map(|Struck { blow, silence, .. }| {
        let second = blow.second.map(|second| format!(" and {second:?}")).unwrap_or_default();
        format!("{:?}{second} for {:.1?} (silence {silence:.1?})", blow.fault, blow.lasts)
    });
    eprintln!(
        "round {round}, seed {}: {} members {}, {} clients, {} calls, {} unknown: {}",
        plan.seed,
        plan.members,
        plan.args.join(" "),
        plan.clients,
        report.calls,
        report.checked.unknown + report.checked_v3.unknown,
        struck.collect::<Vec<_>>().join(", ")
    );
}

#[test]
#[ignore = "runs for as long as it is told: scripts/soak.sh"]
fn faults_in_random_order() {
    let _alone = alone();
    let minutes = env::var("CAIRN_SOAK_MINUTES").map_or(1, |text| text.parse().expect("a number"));
    let first = seed_from_env("CAIRN_SEED");
    let deadline = Instant::now() + Duration::from_secs(60 * minutes);
    let mut total = Total::default();
    for round in 0.. {
        if Instant::now() > deadline {
            break;
        }
        let plan = plan(first + round);
        match panic::catch_unwind(AssertUnwindSafe(|| run(&plan))) {
            Ok(None) => {}
            Ok(Some(report)) => {
                show(round, &plan, &report);
                total.add(&report);
            }
            Err(panic) => {
                eprintln!("round {round} failed: {plan:?}");
                total.show(first);
                eprintln!("{}", plan.story);
                panic::resume_unwind(panic);
            }
        }
    }
    total.show(first);
}
