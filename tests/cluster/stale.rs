//! The checks see a stale read when there is one: a check that cannot fail is worth nothing.

use std::time::{Duration, Instant};

use super::beside_others;
use super::support::cluster::{Cluster, Options, PATIENCE};
use super::support::history::{self, Action, Call, History, Outcome, Rule};
use super::support::load::Api;
use super::support::load::follower::{Follow, Follower, Home, Style};
use super::support::load::recording::{Space, settle};
use super::support::load::wire::Line;

const PREFIX: &str = "/stale";
const KEY: &str = "/stale/key";

/// One client at one member, and what it saw.
struct Client<'a> {
    number: u32,
    line: Line,
    start: Instant,
    calls: &'a mut Vec<Call>,
}

impl<'a> Client<'a> {
    fn at(cluster: &Cluster, member: usize, start: Instant, calls: &'a mut Vec<Call>) -> Self {
        let number = u32::try_from(calls.len()).expect("few calls");
        let line = Line::new(Api::V2, cluster.targets().clone(), member, Duration::from_secs(1));
        Self { number, line, start, calls }
    }

    fn call(mut self, action: Action) -> Outcome {
        let began = self.start.elapsed();
        let answered = self.line.call(KEY, &action);
        let ended = self.start.elapsed();
        assert_eq!(answered.strange, None);
        let (client, member, key) = (self.number, answered.member, KEY.to_owned());
        let outcome = answered.outcome;
        let told = outcome.clone();
        self.calls.push(Call { client, member, key, action, began, ended, outcome });
        told
    }
}

fn value(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Done { node, .. } => node.as_ref().map(|seen| seen.value.as_str()),
        Outcome::Refused { .. } | Outcome::Unknown | Outcome::Nothing => None,
    }
}

fn set(value: &str) -> Action {
    Action::Set { value: value.to_owned() }
}

/// A follower hears no other member while a write is acknowledged, and is read then.
fn read_from_behind(mut cluster: Cluster) -> History {
    let (start, mut calls) = (Instant::now(), Vec::new());
    let leader = cluster.await_leader();
    let behind = (leader + 1) % 3;
    let (name, prefix) = ("the log".to_owned(), PREFIX.to_owned());
    // Nothing has been written, and history begins at 1.
    let follow = Follow {
        api: Api::V2,
        name,
        prefix,
        from: 1,
        style: Style::Stream,
        home: Home::Only(leader),
    };
    let log = Follower::start(cluster.targets(), follow);

    let first = Client::at(&cluster, leader, start, &mut calls).call(set("first"));
    assert_eq!(value(&first), Some("first"));
    cluster.await_healthy();
    for other in (0..3).filter(|other| *other != behind) {
        cluster.cut_both(behind, other);
    }
    let second = Client::at(&cluster, leader, start, &mut calls).call(set("second"));
    assert_eq!(value(&second), Some("second"), "two of three are enough");
    let quorum = Action::Read { quorum: true };
    let read = Client::at(&cluster, behind, start, &mut calls).call(quorum);
    assert_eq!(value(&read), None, "no answer is better than an old one");
    let plain = Action::Read { quorum: false };
    let read = Client::at(&cluster, behind, start, &mut calls).call(plain);
    assert_eq!(value(&read), Some("first"), "it cannot know better");

    cluster.heal();
    cluster.await_healthy();
    let settled = settle(
        Space { api: Api::V2, targets: cluster.targets(), prefix: PREFIX },
        start,
        &mut calls,
        PATIENCE,
    );
    let (index, finals) = settled.expect("the members come together");
    let log = log.finish(index, PATIENCE).expect("the watcher gets there");
    History { calls, log: log.events, watchers: Vec::new(), finals }
}

#[test]
fn quorum_reads_switched_to_plain_are_caught() {
    let _beside_others = beside_others();
    let cluster = Cluster::start(Options::members(3));
    if !cluster.can_cut() {
        eprintln!("skipped: only members that can be cut off stay behind for sure");
        return;
    }
    let mut history = read_from_behind(cluster);
    history::assert_sound(&history, "told as they were, these reads are fine");
    for call in history.calls.iter_mut().filter(|call| call.is_plain_read()) {
        call.action = Action::Read { quorum: true };
    }
    let violations = history::check(&history).expect_err("a stale quorum read");
    let rules: Vec<_> = violations.iter().map(|violation| violation.rule).collect();
    assert_eq!(rules, [Rule::StaleQuorumRead], "{violations:?}");
    let violations = history::check_linear(&history.calls).expect_err("no order explains it");
    let rules: Vec<_> = violations.iter().map(|violation| violation.rule).collect();
    assert_eq!(rules, [Rule::NotLinearizable], "{violations:?}");
}
