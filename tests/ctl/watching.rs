//! Watches miss nothing: members that are killed and come back, histories that are too short, programs that are run.

use std::net::SocketAddr;

use rustix::process::Signal;

use crate::support::http::{self, Request};
use crate::support::server::{Flavor, Server};
use crate::tool::{PATIENCE, Running};

fn set(addr: SocketAddr, key: &str, value: &str) {
    let request = Request::new("PUT", format!("/v2/keys{key}")).form(format!("value={value}"));
    let reply = http::ask_within(addr, &request, PATIENCE).expect("an answer");
    assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
}

/// Values that are written before, while and after a member is away.
const EACH: usize = 20;

fn values() -> impl Iterator<Item = String> {
    (0..3 * EACH).map(|number| format!("v{number}"))
}

/// Writes all values, with two SIGKILLs in between, the second while nobody has had time to connect again.
fn write_around_two_kills(server: &mut Server) {
    let all: Vec<_> = values().collect();
    for (round, values) in all.chunks(EACH).enumerate() {
        values.iter().for_each(|value| set(server.addr(), "/dir/key", value));
        if round < 2 {
            server.kill();
            server.restart();
        }
    }
}

#[test]
fn a_watch_misses_nothing_when_a_member_is_killed() {
    let mut server = Server::start(Flavor::Subject);
    // From the start of the store, so that it does not matter when it connects.
    let words = ["watch", "-f", "-r", "/dir", "--after-index", "1"];
    let watch = Running::start(server.addr(), &words);
    write_around_two_kills(&mut server);
    let expected: String = values().map(|value| format!("[set] /dir/key\n{value}\n")).collect();
    watch.wait("out", "all events", |out| out.len() >= expected.len());
    assert_eq!(watch.read("out"), expected);
}

#[test]
fn a_watch_without_an_index_goes_on_where_it_began() {
    let mut server = Server::start(Flavor::Subject);
    set(server.addr(), "/k", "before");
    let mut watch = Running::start(server.addr(), &["--debug", "watch", "-f", "/k"]);
    // The request is shown before it is sent. What it has been answered is not seen from here, so events are made until one comes.
    watch.wait("err", "it asks", |err| err.contains("wait=true"));
    let mut made = 0;
    watch.wait("out", "the first event", |out| {
        if out.is_empty() {
            made += 1;
            set(server.addr(), "/k", &format!("first-{made}"));
        }
        !out.is_empty()
    });
    server.kill();
    watch.wait("err", "it is said", |err| err.contains("lost the members, trying again"));
    server.restart();
    set(server.addr(), "/k", "last");
    watch.wait("out", "what came after", |out| out.ends_with("last\n"));
    watch.wait("err", "it is said", |err| err.contains("connected again"));
    watch.signal(Signal::INT);
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn a_watch_that_the_history_has_left_behind_reads_again_and_says_so() {
    let server = Server::start_with(Flavor::Subject, &["--history-events=10"]);
    let words = ["watch", "-f", "-r", "/dir", "--after-index", "1"];
    let watch = Running::start(server.addr(), &words);
    set(server.addr(), "/dir/a", "1");
    watch.wait("out", "the first event", |out| out.contains("/dir/a"));
    watch.signal(Signal::STOP);
    // The answer to the next question may be under way already; what follows cannot be.
    set(server.addr(), "/dir/a", "2");
    set(server.addr(), "/dir/b", "3");
    (0..50).for_each(|number| set(server.addr(), "/dir/c", &format!("c{number}")));
    watch.signal(Signal::CONT);
    watch.wait("out", "what was read again", |out| out.ends_with("c49\n"));
    let (out, err) = (watch.read("out"), watch.read("err"));
    assert!(out.contains("[get] /dir/b\n3\n[get] /dir/c\nc49\n"), "{out}");
    assert!(err.contains("are no longer known") && err.contains("reading /dir again"), "{err}");
    // It goes on from there.
    set(server.addr(), "/dir/d", "4");
    watch.wait("out", "the next event", |out| out.ends_with("[set] /dir/d\n4\n"));
    assert_eq!(out.matches("c49").count(), 1, "{out}");
}

#[test]
fn a_watch_for_one_event_ends_with_an_error_as_the_real_tools() {
    let server = Server::start_with(Flavor::Subject, &["--history-events=10"]);
    (0..30).for_each(|number| set(server.addr(), "/a", &format!("{number}")));
    let mut watch = Running::start(server.addr(), &["watch", "--after-index", "5", "/a"]);
    assert_eq!(watch.end(), Some(4));
    assert!(watch.read("err").starts_with("Error:  401: "), "{}", watch.read("err"));
}

#[test]
fn a_program_is_run_for_each_event_also_over_kills() {
    let mut server = Server::start(Flavor::Subject);
    let program = "echo \"$ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE $ETCD_WATCH_MODIFIED_INDEX\" >> said";
    let words =
        ["exec-watch", "--after-index", "1", "--recursive", "/dir", "--", "sh", "-c", program];
    let mut watch = Running::start(server.addr(), &words);
    let made = Request::new("PUT", "/v2/keys/dir?dir=true");
    http::ask_within(server.addr(), &made, PATIENCE).expect("an answer");
    write_around_two_kills(&mut server);
    watch.wait("said", "all programs have run", |said| said.lines().count() >= 3 * EACH);
    let said = watch.read("said");
    let mut lines: Vec<_> = said
        .lines()
        .map(|line| {
            let (rest, index) = line.rsplit_once(' ').expect("it ends with an index");
            (index.parse::<u64>().expect("a number"), rest)
        })
        .collect();
    lines.sort_unstable();
    let expected: Vec<_> = values().map(|value| format!("set /dir/key {value}")).collect();
    assert_eq!(lines.iter().map(|(_, line)| *line).collect::<Vec<_>>(), expected);
    assert!(watch.read("err").contains("Ignored dir /dir change"), "{}", watch.read("err"));
    watch.signal(Signal::INT);
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn a_program_that_is_not_there_ends_the_watch() {
    let server = Server::start(Flavor::Subject);
    set(server.addr(), "/a", "1");
    let mut watch = Running::start(
        server.addr(),
        &["exec-watch", "--after-index", "1", "-r", "/", "--", "/nowhere"],
    );
    assert_eq!(watch.end(), Some(1));
    assert!(watch.read("err").contains("/nowhere"), "{}", watch.read("err"));
}
