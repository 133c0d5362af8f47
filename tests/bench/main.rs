//! `cairn bench` as users run it: what it counts is what happened, whatever the server does.

#[path = "../support/mod.rs"]
mod support;

#[expect(dead_code, reason = "the tests of TLS need more of it")]
#[path = "../tls/pki.rs"]
mod pki;

mod loads;
mod stall;
mod strange;
mod who;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The program with these words, ready to start.
fn bench(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    command.arg("bench").args(words.split_whitespace()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(words: &str) -> Output {
    bench(words).output().expect("the program can be started")
}

/// Runs it to its end; what it has printed, as JSON, and its exit code.
fn measure(words: &str) -> (Value, i32) {
    report(&run(&format!("{words} --output json")))
}

fn report(output: &Output) -> (Value, i32) {
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("no JSON, {error}: {output:?}"));
    (report, output.status.code().expect("it was not killed"))
}

/// A number of a report, by its path.
fn number(report: &Value, path: &str) -> u64 {
    let value = report.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no number at {path}: {report}"))
}

/// The same of what has a fraction.
fn amount(report: &Value, path: &str) -> f64 {
    let value = report.pointer(path).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no amount at {path}: {report}"))
}

/// Nothing is lost between sending and the results.
fn assert_adds_up(report: &Value) {
    let count = |name: &str| number(report, &format!("/requests/{name}"));
    assert_eq!(
        count("sent"),
        count("answered") + count("failed") + count("unanswered"),
        "{report}"
    );
    let sum = |path: &str| {
        let counts = report.pointer(path).and_then(Value::as_object).expect("counts");
        counts.values().filter_map(Value::as_u64).sum::<u64>()
    };
    assert_eq!((sum("/answers"), sum("/failures")), (count("answered"), count("failed")));
}
