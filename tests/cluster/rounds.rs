//! One round: a new cluster, clients that write down what they see, faults one after the other, and the checks.
//!
//! Owns: the order of these. Never knows: what is sound; that is for `support::history`.

use std::time::Duration;
use std::{fs, thread};

use super::holders::Holders;
use super::pulse::Pulse;
use super::support::cluster::{Cluster, Options, PATIENCE};
use super::support::faults::{DISK_MEGABYTES, Fault};
use super::support::history::{self, Checked, History};
use super::support::load::recording::Recording;
use super::support::load::{Api, LoadPlan};
use super::support::rng::Rng;

/// Checkpoints are written so often that faults meet them, and logs are cut so that followers need snapshots.
const CHECKPOINT_WAL_BYTES: u32 = 1 << 20;
/// Clients get this much time in peace before a fault and after it.
const PEACE: Duration = Duration::from_millis(500);

/// What happens in a round.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) members: usize,
    pub(crate) seed: u64,
    /// Of version 2; half as many use version 3.
    pub(crate) clients: u32,
    pub(crate) blows: Vec<Blow>,
    /// Further flags of the members.
    pub(crate) args: Vec<String>,
    /// What to say when something is wrong, so that it can be had again.
    pub(crate) story: String,
    /// Leave everything behind when something is wrong.
    pub(crate) keep: bool,
}

/// What happens, and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blow {
    pub(crate) fault: Fault,
    /// What happens half-way, while that lasts.
    pub(crate) second: Option<Fault>,
    pub(crate) lasts: Duration,
}

/// What a round came to.
pub(crate) struct Report {
    pub(crate) calls: usize,
    pub(crate) checked: Checked,
    /// The same of version 3.
    pub(crate) checked_v3: Checked,
    /// How often a lock was held.
    pub(crate) turns: usize,
    /// How often a lease was kept alive.
    pub(crate) kept: usize,
    /// What really happened.
    pub(crate) struck: Vec<Struck>,
}

/// What happened.
pub(crate) struct Struck {
    pub(crate) blow: Blow,
    /// From when to when, on the clock of the history.
    from: Duration,
    to: Duration,
    /// The longest time around it in which no client was told that a write had worked.
    pub(crate) silence: Duration,
}

/// `None` where nothing of it can be done.
///
/// # Panics
/// When a member does not do as it should, or clients saw what they must not see.
pub(crate) fn run(plan: &Plan) -> Option<Report> {
    let mut args = vec![format!("--checkpoint-wal-bytes={CHECKPOINT_WAL_BYTES}")];
    args.extend(plan.args.iter().cloned());
    let mut cluster = Cluster::start(Options {
        args,
        disk_megabytes: Some(DISK_MEGABYTES),
        keep: plan.keep,
        ..Options::members(plan.members)
    });
    let possible = |blow: &&Blow| {
        let mut faults = [Some(blow.fault), blow.second].into_iter().flatten();
        let missing = faults.find_map(|fault| fault.missing(&cluster));
        if let Some(what) = missing {
            eprintln!("skipped: {blow:?} needs {what}");
        }
        missing.is_none()
    };
    let blows: Vec<_> = plan.blows.iter().filter(possible).copied().collect();
    if blows.is_empty() {
        return None;
    }
    let mut rng = Rng::new(plan.seed);
    let start = |api, clients| {
        let load = LoadPlan { api, seed: plan.seed, clients, ..LoadPlan::default() };
        Recording::start(cluster.targets().clone(), load)
    };
    let recording = start(Api::V2, plan.clients);
    let recording_v3 = start(Api::V3, plan.clients / 2);
    let holders = Holders::start(cluster.targets());
    let pulse = Pulse::start(cluster.targets(), recording.began());
    let mut struck = Vec::new();
    for blow in blows {
        thread::sleep(PEACE);
        let from = recording.began().elapsed();
        let mut injury = blow.fault.inject(&mut cluster, &mut rng);
        if let Some(second) = blow.second {
            thread::sleep(blow.lasts / 2);
            second.strike(&mut cluster, &mut rng, &mut injury);
            thread::sleep(blow.lasts / 2);
        } else {
            thread::sleep(blow.lasts);
        }
        injury.heal(&mut cluster);
        cluster.await_leader();
        let to = recording.began().elapsed();
        struck.push(Struck { blow, from, to, silence: Duration::ZERO });
    }
    thread::sleep(PEACE);
    cluster.assert_alive();
    let beats = pulse.stop();
    let held = holders.finish().unwrap_or_else(|why| panic!("{}: {why}", plan.story));
    let finish = |recording: Recording| {
        recording.finish(PATIENCE).unwrap_or_else(|why| panic!("{}: {why}", plan.story))
    };
    let (history, history_v3) = (finish(recording), finish(recording_v3));
    cluster.await_healthy();
    let checked = check(&history, plan, &cluster, "history");
    let checked_v3 = check(&history_v3, plan, &cluster, "history-v3");
    for struck in &mut struck {
        struck.silence = beats.silence(struck.from, struck.to);
    }
    let calls = history.calls.len() + history_v3.calls.len();
    Some(Report { calls, checked, checked_v3, turns: held.turns, kept: held.kept, struck })
}

fn check(history: &History, plan: &Plan, cluster: &Cluster, name: &str) -> Checked {
    let violations = match history::check_all(history) {
        Ok(checked) => return checked,
        Err(violations) => violations,
    };
    if plan.keep {
        let path = cluster.folder().join(name);
        fs::write(&path, format!("{history:#?}\n")).expect("a file can be written");
        eprintln!("the history is beside the logs: {}", path.display());
    }
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    panic!("{}: {name}: {} rules broken\n{}", plan.story, lines.len(), lines.join("\n"))
}
