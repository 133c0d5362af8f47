//! The checkers of histories, checked: good histories pass, and each rule catches the history that breaks it.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod broken;
mod recorded;
mod simulated;

use std::time::{Duration, Instant};

use simulated::{Plan, run};
use support::history::{Rule, assert_sound, check, check_linear};

/// `HISTORY_SEED` runs one seed again.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("HISTORY_SEED") {
        Ok(seed) => vec![seed.parse().expect("HISTORY_SEED is a number")],
        Err(_) => (1..=count).collect(),
    }
}

#[test]
fn good_histories_pass() {
    let mut sum = support::history::Checked::default();
    for seed in seeds(60) {
        let lost = [0, 5, 30][usize::try_from(seed % 3).expect("small")];
        let history = run(&Plan { seed, calls: 600, clients: 6, keys: 3, lost });
        let checked = assert_sound(&history, &format!("HISTORY_SEED={seed}"));
        sum.unknown += checked.unknown;
        sum.unknown_in_log += checked.unknown_in_log;
        sum.written += checked.written;
        sum.refused += checked.refused;
    }
    eprintln!("{sum:?}");
    assert!(sum.unknown_in_log > 0 && sum.unknown > sum.unknown_in_log, "all kinds: {sum:?}");
}

/// A write that was answered, answered otherwise: a rule must notice, whatever it is and wherever it stands.
#[test]
fn no_answer_can_be_altered_unnoticed() {
    for seed in seeds(10) {
        let history = run(&Plan { seed, calls: 150, clients: 4, keys: 2, lost: 5 });
        for place in 0..history.calls.len() {
            let mut altered = history.clone();
            if broken::alter(&mut altered.calls[place]) {
                let call = &altered.calls[place];
                assert!(check(&altered).is_err(), "HISTORY_SEED={seed}: {call} goes unnoticed");
            }
        }
    }
}

#[test]
fn a_long_history_takes_no_long_time() {
    let seed = 1;
    let history = run(&Plan { seed, calls: 50_000, clients: 16, keys: 200, lost: 2 });
    let begun = Instant::now();
    check(&history).expect("a good history");
    check_linear(&history.calls).expect("a good history");
    let took = begun.elapsed();
    eprintln!("{} calls took {took:?}", history.calls.len());
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn each_rule_catches_the_history_that_breaks_it() {
    for (name, rule, spoil) in broken::EXACT {
        let mut history = broken::story();
        check(&history).unwrap_or_else(|violations| panic!("the story is good: {violations:?}"));
        spoil(&mut history);
        let violations = check(&history).expect_err(name);
        for violation in &violations {
            eprintln!("{name}: {violation}");
        }
        assert!(violations.iter().any(|v| v.rule == *rule), "{name}: {rule:?} is not among them");
    }
}

#[test]
fn the_black_box_check_catches_what_no_order_explains() {
    for (name, spoil) in broken::BLACK_BOX {
        let mut history = broken::story();
        check_linear(&history.calls).expect("the story is good");
        spoil(&mut history);
        let violations = check_linear(&history.calls).expect_err(name);
        eprintln!("{name}: {}", violations[0]);
        assert!(violations.iter().any(|v| v.rule == Rule::NotLinearizable), "{name}");
    }
}

#[test]
fn a_history_that_is_too_hard_is_given_up_and_says_so() {
    let violations = check_linear(&broken::too_hard()).expect_err("too hard");
    assert_eq!(violations[0].rule, Rule::TooHard, "{}", violations[0]);
}
