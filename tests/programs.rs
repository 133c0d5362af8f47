//! One binary, several programs: what it does under each of its names.

mod support;

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use cairn::model::{CLUSTER_VERSION, ETCD_VERSION};
use support::http::{self, Request};
use support::server::{Flavor, Server};

const CAIRN: &str = env!("CARGO_BIN_EXE_cairn");

/// Runs `program` with these words and variables, and no others of a member.
fn run(program: &str, words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program);
    command.args(words).env_clear().envs(variables.iter().copied());
    command.output().expect("the program can be started")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_link_is_the_program_that_it_is_called() {
    let dir = tempfile::tempdir().expect("a folder");
    let link = |name: &str| {
        let path = dir.path().join(name);
        symlink(CAIRN, &path).expect("a link");
        path.display().to_string()
    };
    let (etcd, etcdctl, cairnctl) = (link("etcd"), link("etcdctl"), link("cairnctl"));
    for (program, words) in [
        (CAIRN, &["--version"][..]),
        (CAIRN, &["etcd", "--version"]),
        (CAIRN, &["/usr/local/bin/etcd", "--version"]),
        (&etcd, &["--version"]),
    ] {
        let output = run(program, words, &[]);
        assert!(said(&output.stdout).starts_with("etcd Version: "), "{words:?}: {output:?}");
        assert!(output.status.success(), "{output:?}");
    }
    for (program, words, name) in [
        (&*etcdctl, &["help"][..], "etcdctl"),
        (&cairnctl, &["help"], "cairnctl"),
        (CAIRN, &["etcdctl", "-C", "http://127.0.0.1:1", "help"], "etcdctl"),
        (CAIRN, &["ctl", "help"], "cairnctl"),
        (&etcd, &["etcdctl"], "etcdctl"),
    ] {
        let output = run(program, words, &[]);
        let begin = format!("NAME:\n   {name} - ");
        assert!(said(&output.stdout).starts_with(&begin), "{words:?}: {output:?}");
        assert!(output.status.success(), "{output:?}");
    }
    for program in ["backup", "restore", "verify", "migrate", "export", "mirror", "copy"] {
        let output = run(CAIRN, &[program, "--help"], &[]);
        assert!(
            said(&output.stdout).starts_with(&format!("Usage: cairn {program} ")),
            "{output:?}"
        );
        let output = run(CAIRN, &[program, "--nonsense"], &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    // What is no name at all is a wrong word of the server, as ever.
    let output = run(CAIRN, &["etcdd", "--version"], &[]);
    assert!(said(&output.stderr).contains("'etcdd' is not a valid flag"), "{output:?}");
}

/// Kubernetes asks for the progress of watches from 3.4.31 on: the third number matters to it.
#[test]
fn all_that_clients_see_says_the_same_release() {
    assert_eq!((ETCD_VERSION, CLUSTER_VERSION), ("3.4.37", "3.4.0"));
    let server = Server::start(Flavor::Subject);
    let ask = |request| http::ask(server.addr(), &request).expect("an answer").text();
    assert_eq!(ask(Request::get("/version")), r#"{"etcdserver":"3.4.37","etcdcluster":"3.4.0"}"#);
    let status = ask(Request::new("POST", "/v3/maintenance/status").body("{}"));
    assert!(status.contains(r#""version":"3.4.37""#), "{status}");
    let metrics = ask(Request::get("/metrics"));
    for line in [
        "etcd_server_version{server_version=\"3.4.37\"} 1\n",
        "etcd_cluster_version{cluster_version=\"3.4\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    let first_line = |words: &[&str], variables: &[(&str, &str)]| {
        let output = run(CAIRN, words, variables);
        said(&output.stdout).lines().next().map(str::to_owned)
    };
    assert_eq!(first_line(&["--version"], &[]).as_deref(), Some("etcd Version: 3.4.37"));
    for (words, api) in [(["etcdctl", "-v"], "2"), (["etcdctl", "version"], "3")] {
        let line = first_line(&words, &[("ETCDCTL_API", api)]);
        assert_eq!(line.as_deref(), Some("etcdctl version: 3.4.37"), "{words:?}");
    }
}

#[test]
fn health_asks_the_member_that_is_meant() {
    let server = Server::start(Flavor::Subject);
    let url = format!("http://{}", server.addr());
    let healthy = |output: Output| {
        assert_eq!(said(&output.stdout), "{\"health\":\"true\"}\n", "{output:?}");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    };
    healthy(run(CAIRN, &["health", "--endpoint", &url], &[]));
    for prefix in ["ETCD", "CAIRN"] {
        let [listen, advertise] =
            ["LISTEN", "ADVERTISE"].map(|word| format!("{prefix}_{word}_CLIENT_URLS"));
        healthy(run(CAIRN, &["health"], &[(&listen, &url), (&advertise, &url)]));
    }
}

#[test]
fn health_says_within_two_seconds_what_is_wrong() {
    let unhealthy = |words: &[&str], text: &str| {
        let asked = Instant::now();
        let output = run(CAIRN, words, &[]);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        assert!(said(&output.stderr).contains(text), "{words:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{words:?}: {output:?}");
        asked.elapsed()
    };
    unhealthy(&["health", "--endpoints"], "Usage: cairn health ");
    unhealthy(&["health", "--endpoint", "https://127.0.0.1:1"], "cannot connect to ");
    // A founder whose others are away is not ready, and lets clients wait.
    let nobody = "http://127.0.0.1:1";
    let args = ["--initial-cluster", &format!("n1={nobody},n2=http://127.0.0.1:2")];
    let args = [&args[..], &["--initial-advertise-peer-urls", nobody]].concat();
    let mut waiting = support::process::Process::cairn(&[&args[..], &["--name=n1"]].concat());
    let line = waiting.line("serving insecure client requests on ");
    let address = line.split(" on ").nth(1).and_then(|rest| rest.split([',', ' ']).next());
    let url = format!("http://{}", address.expect("an address"));
    unhealthy(&["health", "--endpoint", &url], "no answer from ");
    waiting.terminate();
    waiting.end();
    unhealthy(&["health", "--endpoint", &url], "cannot connect to ");
    // A member that hangs: connections are taken, nothing is answered.
    let hung = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", hung.local_addr().expect("an address"));
    let took = unhealthy(&["health", "--endpoint", &url], "no answer from ");
    // The limit is two seconds; a loaded machine starts and ends a process late.
    assert!(took < Duration::from_secs(4), "{took:?}");
}
