//! `scripts/cluster.sh`: three members on loopback, for people.

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use support::http::{self, Reply, Request};
use support::process::Process;
use support::rng::Rng;

/// How often ports are chosen that another process takes before the members do.
const STARTS_MAX: usize = 5;
/// What the clients' ports of the members have more than the first.
const OFFSETS: [u16; 3] = [0, 20_000, 30_000];

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A first port with which all six are free at this moment.
fn free_port(rng: &mut Rng) -> u16 {
    loop {
        let port = 5_000 + u16::try_from(rng.below(25_000)).expect("a number below that");
        let free = |port| TcpListener::bind(address(port)).is_ok();
        if OFFSETS.iter().all(|offset| free(port + offset) && free(port + offset + 1)) {
            return port;
        }
    }
}

/// The script at work; it gets the time to stop its members however a test ends.
struct Script(Process);

impl Script {
    /// `None` when it ends before all members serve.
    fn start(dir: &str, port: u16, args: &[&str]) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cluster.sh");
        let program = format!("CAIRN_BIN={}", env!("CARGO_BIN_EXE_cairn"));
        let port = port.to_string();
        let mut words = vec![program.as_str(), script, "--dir", dir, "--port", &port];
        words.extend(args);
        let words: Vec<_> = words.into_iter().map(str::to_owned).collect();
        let mut script = Self(Process::start("env", &words));
        script.0.wait_for("Ctrl-C stops all").map(|_| script)
    }

    fn stop(mut self) {
        self.0.terminate();
        assert_eq!(self.0.end().code(), Some(0), "{}", self.0.log());
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if self.0.is_alive() {
            self.0.terminate();
            self.0.end();
        }
    }
}

fn ask(port: u16, method: &str, target: &str) -> Reply {
    http::ask(address(port), &Request::new(method, target)).expect("an answer")
}

#[test]
fn three_members_start_stop_and_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cluster").display().to_string();
    let mut rng = Rng::new(std::process::id().into());
    let attempt = |_| {
        let port = free_port(&mut rng);
        Script::start(&path, port, &["--fresh"]).map(|script| (script, port))
    };
    let (script, port) = (0..STARTS_MAX).find_map(attempt).expect("members that start");
    let [a, b, c] = OFFSETS.map(|offset| port + offset);
    assert_eq!(ask(a, "PUT", "/v2/keys/message?value=hello").status(), 201);
    for member in [b, c] {
        let reply = ask(member, "GET", "/v2/keys/message?quorum=true");
        assert!(reply.text().contains("hello"), "{}", reply.text());
    }
    // Other ports would not be where the members look for each other.
    assert!(Script::start(&path, port + 2, &[]).is_none());
    script.stop();
    for member in [a, b, c] {
        assert!(TcpStream::connect(address(member)).is_err(), "{member} still listens");
    }

    // Meanwhile another process may have had one of the ports, for a connection of its own.
    let mut attempts = (0..STARTS_MAX).map(|_| Script::start(&path, port, &[]));
    let script = attempts.find_map(|script| script).expect("members that go on");
    let reply = ask(b, "GET", "/v2/keys/message?quorum=true");
    assert!(reply.text().contains("hello"), "{}", reply.text());
    script.stop();

    let mut attempts = (0..STARTS_MAX).map(|_| Script::start(&path, port, &["--fresh"]));
    let script = attempts.find_map(|script| script).expect("members that start anew");
    assert_eq!(ask(c, "GET", "/v2/keys/message?quorum=true").status(), 404);
    script.stop();
}
