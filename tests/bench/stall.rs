//! A server that stands still, and a user who has seen enough.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::http::{self, Request};
use crate::support::server::{Flavor, Server};
use crate::{amount, assert_adds_up, bench, measure, number, report};

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("it runs");
}

/// Waits until the server has written so much that the run is well under way.
fn wait_for_writes(server: &Server) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let reply = http::ask(server.addr(), &Request::get("/v2/stats/store")).expect("an answer");
        let all: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
        if all["setsSuccess"].as_u64().is_some_and(|sets| sets >= 100) {
            return;
        }
        assert!(Instant::now() < deadline, "no load came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Four connections have four requests under way when the server stops: 0.2 % of them all. Those that were due in the meantime are
/// 15 %, and only who counts these sees the stall in the 99th percentile.
#[test]
fn requests_that_were_due_in_a_stall_are_measured_from_then() {
    let server = Server::start(Flavor::Subject);
    let words = "put --rate 1000 --duration 2s --connections 4 --output json";
    let run = bench(&format!("{words} --endpoints http://{}", server.addr()));
    let run = { run }.spawn().expect("the program can be started");
    wait_for_writes(&server);
    signal(server.pid(), Signal::STOP);
    std::thread::sleep(Duration::from_millis(300));
    signal(server.pid(), Signal::CONT);
    let output = run.wait_with_output().expect("it ends");
    let (report, code) = report(&output);
    assert_eq!(code, 0, "{report}");
    assert_adds_up(&report);
    assert!(amount(&report, "/latency_ms/max") >= 290.0, "{report}");
    assert!(amount(&report, "/latency_ms/p99") >= 150.0, "{report}");
    let due = number(&report, "/requests/sent") + number(&report, "/requests/unsent");
    assert_eq!(due, 2000, "{report}");
}

#[test]
fn a_rate_that_no_server_keeps_up_with_is_said() {
    let server = Server::start(Flavor::Subject);
    let words = "put --rate 10000000 --duration 500ms --connections 2";
    let (report, code) = measure(&format!("{words} --endpoints http://{}", server.addr()));
    assert_eq!(code, 0, "{report}");
    let due = number(&report, "/requests/sent") + number(&report, "/requests/unsent");
    assert_eq!(due, 5_000_000, "{report}");
    assert!(number(&report, "/requests/unsent") > 1_000_000, "{report}");
}

#[test]
fn an_interrupted_run_shows_what_it_has_measured() {
    for output in ["json", "text"] {
        let server = Server::start(Flavor::Subject);
        let words = format!("put --duration 60s --output {output}");
        let run = bench(&format!("{words} --endpoints http://{}", server.addr()));
        let run = { run }.spawn().expect("the program can be started");
        wait_for_writes(&server);
        let asked = Instant::now();
        signal(run.id(), Signal::INT);
        let ended = run.wait_with_output().expect("it ends");
        assert!(asked.elapsed() < Duration::from_secs(20), "{ended:?}");
        if output == "json" {
            let (report, code) = report(&ended);
            assert_eq!((code, &report["interrupted"]), (0, &true.into()), "{report}");
            assert_adds_up(&report);
            assert!(number(&report, "/requests/sent") >= 100, "{report}");
        } else {
            let text = String::from_utf8_lossy(&ended.stdout);
            assert!(text.contains("interrupted") && text.contains("\nlatency "), "{text}");
        }
    }
}

/// What is under way when the run is cut off is counted as that, and is waited for only a moment.
#[test]
fn an_interrupted_run_does_not_wait_for_a_server_that_hangs() {
    let server = Server::start(Flavor::Subject);
    let words = "put --duration 60s --timeout 60s --connections 3 --output json";
    let run = bench(&format!("{words} --endpoints http://{}", server.addr()));
    let run = { run }.spawn().expect("the program can be started");
    wait_for_writes(&server);
    signal(server.pid(), Signal::STOP);
    signal(run.id(), Signal::INT);
    let asked = Instant::now();
    let ended = run.wait_with_output().expect("it ends");
    signal(server.pid(), Signal::CONT);
    assert!(asked.elapsed() < Duration::from_secs(20), "{ended:?}");
    let (report, code) = report(&ended);
    assert_eq!(code, 0, "{report}");
    assert_adds_up(&report);
    assert!(number(&report, "/requests/unanswered") <= 3, "{report}");
}
