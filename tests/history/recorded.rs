//! The recording load, at a real member.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broken::alter;
use crate::support::history::{Action, Outcome, assert_sound, check, check_all};
use crate::support::load::probe::Probe;
use crate::support::load::recording::Recording;
use crate::support::load::{Api, LoadPlan};
use crate::support::rng::seed_from_env;
use crate::support::server::{Flavor, Server};

/// For what takes a second or two; other tests may be running.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn what_clients_of_one_member_see_is_sound_and_a_lie_about_it_is_not() {
    see_and_lie(Api::V2);
}

#[test]
fn what_clients_of_version_3_see_is_sound_and_a_lie_about_it_is_not() {
    see_and_lie(Api::V3);
}

fn see_and_lie(api: Api) {
    let seed = seed_from_env("LOAD_SEED");
    let server = Server::start_with(Flavor::Subject, &["--history-events=100000"]);
    let targets = vec![server.addr()];
    let recording =
        Recording::start(targets.clone(), LoadPlan { api, seed, ..LoadPlan::default() });
    let pace = (Duration::from_millis(10), Duration::from_secs(8));
    let probe = Probe::start(targets, "/probe", pace, recording.began());
    recording.wait_for_answers(1200, LIMIT);
    let availability = probe.stop();
    let history = recording.finish(LIMIT).expect("the member answers to the end");
    let story = format!("LOAD_SEED={seed}");
    let checked = assert_sound(&history, &story);
    eprintln!("{checked:?}\n{availability:?}");
    assert!(checked.written > 200 && checked.refused > 20, "{story}: {checked:?}");
    assert!(checked.quorum_reads > 20 && checked.plain_reads > 20, "{story}: {checked:?}");
    assert_eq!(checked.watched, 3 * checked.events, "{story}: two wanderers, one at the member");
    assert_eq!(checked.unknown, 0, "{story}: nothing is broken here");
    assert!(availability.acknowledged > 1 && availability.failed == 0, "{availability:?}");
    assert!(availability.longest() > Duration::ZERO, "{availability:?}");

    let mut races: BTreeMap<&str, usize> = BTreeMap::new();
    for call in history.calls.iter().filter(|call| call.key.contains("/fresh/")) {
        let won = matches!(call.outcome, Outcome::Done { .. });
        assert!(matches!(call.action, Action::Create { .. }));
        *races.entry(&call.key).or_default() += usize::from(won);
    }
    assert!(races.len() > 5 && races.values().all(|winners| *winners == 1), "{races:?}");

    let step = history.calls.len() / 20;
    for place in (0..history.calls.len()).step_by(step) {
        let mut altered = history.clone();
        if alter(&mut altered.calls[place]) {
            assert!(check_all(&altered).is_err(), "{story}: {}", altered.calls[place]);
        }
    }
    let mut altered = history.clone();
    altered.log.remove(altered.log.len() / 2);
    assert!(check(&altered).is_err(), "{story}: an event less");
}

#[test]
fn what_clients_see_of_a_member_that_is_killed_again_and_again_is_sound() {
    let seed = seed_from_env("LOAD_SEED");
    let mut server = Server::start_with(Flavor::Subject, &["--history-events=100000"]);
    let plan = LoadPlan { seed, clients: 16, ..LoadPlan::default() };
    let recording = Recording::start(vec![server.addr()], plan);
    for _ in 0..3 {
        recording.wait_for_answers(200, LIMIT);
        server.kill();
        server.restart();
    }
    recording.wait_for_answers(200, LIMIT);
    let history = recording.finish(LIMIT).expect("the member answers in the end");
    let checked = assert_sound(&history, &format!("LOAD_SEED={seed}"));
    eprintln!("{checked:?}");
    let nothing = history.calls.iter().filter(|call| call.outcome == Outcome::Nothing).count();
    assert!(checked.written > 50 && nothing > 0, "LOAD_SEED={seed}: {checked:?}, {nothing}");
}
