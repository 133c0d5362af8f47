//! The log from outside: it has an end whatever clients do, and operators get what they expect.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::http::{self, Client, Request};
use support::process::Process;

const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

fn address(member: &mut Process) -> SocketAddr {
    member.line("ready to serve client requests");
    let line = member.line("serving insecure client requests on ");
    line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address")
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(POLL);
    }
}

/// Each of these requests wrote a line with the whole path in it: any client could fill the disk.
#[test]
fn a_client_that_repeats_itself_does_not_fill_the_log() {
    const REQUESTS: usize = 5000;
    let mut member = Process::cairn(&[]);
    let mut client = Client::new(address(&mut member));
    let before = member.log().len();
    let path = format!("/v2/keys/{}", "x".repeat(4000));
    for _ in 0..REQUESTS {
        let request = Request::new("PUT", &*path).header("Content-Type", "text/plain").body("v");
        assert!(client.ask(&request).expect("an answer").status() < 300);
    }
    let line = member.line(" more like it)");
    let count = line.rsplit("(and ").next().and_then(|rest| rest.split(' ').next());
    let count: usize = count.expect("a number").replace(',', "").parse().expect("a number");
    let written = member.log()[before..].matches("the body is not read").count();
    // What was left out of a later period is told when that has ended.
    assert!(written <= 2 * 21 && count > 100, "{written} lines, {count} left out");
    let bytes = member.log().len() - before;
    assert!(bytes < 60_000, "{bytes} bytes");
    member.terminate();
    assert!(member.end().success());
    let told: usize = member.log()[before..]
        .lines()
        .filter(|line| line.contains("the body is not read"))
        .map(|line| match line.rsplit_once("(and ") {
            Some((_, rest)) => {
                let number = rest.split(' ').next().expect("a number").replace(',', "");
                1 + number.parse::<usize>().expect("a number")
            }
            None => 1,
        })
        .sum();
    assert_eq!(told, REQUESTS, "each is written or counted");
}

#[test]
fn what_a_client_writes_cannot_forge_a_line() {
    let mut member = Process::cairn(&[]);
    let address = address(&mut member);
    let forged = "2026-01-01 00:00:00.000000 E | etcdserver: the sky falls";
    let request = Request::new("PUT", "/v2/keys/a")
        .header("Content-Type", &format!("text/plain;\t\u{85}{forged}"))
        .body("v");
    http::ask(address, &request).expect("an answer");
    let line = member.line("the body is not read");
    assert!(line.contains("\\t\\u{85}2026-01-01"), "{line}");
}

#[test]
fn hangup_opens_the_log_anew_and_takes_the_level_of_the_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let any = "http://127.0.0.1:0";
    let write = |level: &str| {
        let text = format!(
            "listen-client-urls: {any}\nadvertise-client-urls: {any}\nlisten-peer-urls: {any}\n\
             data-dir: {}\nlog-outputs: [stderr, {}]\nlog-level: {level}\n",
            path("data"),
            path("log"),
        );
        fs::write(path("config.yml"), text).expect("the folder is ours");
    };
    write("info");
    let program = std::env::var("CAIRN_TEST_BIN");
    let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_cairn").to_owned());
    let mut member = Process::start(&program, &[format!("--config-file={}", path("config.yml"))]);
    member.line("ready to serve client requests");
    fs::rename(path("log"), path("log.1")).expect("a log");
    member.signal(Signal::HUP);
    member.line("the log's files are opened anew");
    until("a new file", || fs::metadata(path("log")).is_ok_and(|file| file.len() > 0));
    assert!(fs::read_to_string(path("log.1")).expect("the old one").contains("ready to serve"));
    write("nonsense");
    member.signal(Signal::HUP);
    member.line("the configuration file is not taken: ");
    write("error");
    member.signal(Signal::HUP);
    // Nothing says so any more, and the stop says nothing either.
    member.line("the configuration file is not taken: ");
    for signal in [Signal::USR1, Signal::USR2] {
        member.signal(signal);
    }
    until("the level of the file", || {
        let before = member.log().len();
        member.signal(Signal::HUP);
        thread::sleep(10 * POLL);
        member.log().len() == before
    });
    assert!(member.is_alive(), "SIGUSR1 and SIGUSR2 end nothing");
    member.terminate();
    assert!(member.end().success());
    assert!(!member.log().contains("received terminated signal"));
}
