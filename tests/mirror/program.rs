//! The program under test, and servers that it copies.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::support::http::{Reply, Request, ask};
use crate::support::process::Process;
pub(crate) use crate::support::program::{Said, run};
use crate::support::server::{Flavor, Server, etcd_is_there};

/// How long a server takes to stop.
pub(crate) const STOP: Duration = Duration::from_secs(20);

/// Whether the real etcd takes part; its absence is told, and allowed only where that was said.
pub(crate) fn etcd_takes_part() -> bool {
    if std::env::var_os("CAIRN_SKIP_ETCD").is_some_and(|value| value == "1") {
        return false;
    }
    assert!(etcd_is_there(), "no etcd to copy: set ETCD_BIN, or CAIRN_SKIP_ETCD=1");
    true
}

/// The kinds of servers that a test is run with, source and target.
pub(crate) fn pairs() -> Vec<(Flavor, Flavor)> {
    let all = [
        (Flavor::Subject, Flavor::Subject),
        (Flavor::Etcd, Flavor::Subject),
        (Flavor::Subject, Flavor::Etcd),
    ];
    let etcd = etcd_takes_part();
    all.into_iter().filter(|(from, to)| etcd || (*from, *to) == all[0]).collect()
}

/// A server that is not the target under test where there is an etcd.
pub(crate) fn source() -> Server {
    Server::start(if etcd_takes_part() { Flavor::Etcd } else { Flavor::Subject })
}

pub(crate) fn url(server: &Server) -> String {
    format!("http://{}", server.addr())
}

/// A running mirror.
pub(crate) struct Mirror {
    process: Process,
}

impl Mirror {
    /// One that has copied everything and follows.
    pub(crate) fn follow(from: &Server, to: &Server, more: &[&str]) -> Self {
        let mut mirror = Self::start(&url(from), &url(to), more);
        mirror.process.line("are copied");
        mirror
    }

    pub(crate) fn start(from: &str, to: &str, more: &[&str]) -> Self {
        Self::of(&[&["mirror", "--from", from, "--to", to], more].concat())
    }

    /// Whatever goes on until it is told to end.
    pub(crate) fn of(words: &[&str]) -> Self {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Self { process: Process::start(env!("CARGO_BIN_EXE_cairn"), &words) }
    }

    /// Waits for a line with these words.
    pub(crate) fn line(&mut self, words: &str) -> String {
        self.process.line(words)
    }

    /// Tells it to end, which it must do well; returns what it said.
    pub(crate) fn end(mut self) -> String {
        self.process.terminate();
        self.farewell(0)
    }

    pub(crate) fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits until it has ended with this code.
    pub(crate) fn farewell(&mut self, code: i32) -> String {
        let status = self.process.end();
        let said = self.process.log();
        assert_eq!(status.code(), Some(code), "{said}");
        said
    }

    /// Tells it to end, and both sides must be the same.
    pub(crate) fn verified(self) -> String {
        let said = self.end();
        assert!(said.contains("verified: "), "{said}");
        said
    }
}

/// A write, or a removal, that must succeed.
pub(crate) fn send(addr: SocketAddr, method: &str, target: &str, form: &str) -> Value {
    let reply = tried(addr, method, target, form);
    assert!(matches!(reply.status(), 200 | 201), "{method} {target} {form}: {}", reply.text());
    serde_json::from_str(&reply.text()).expect("JSON")
}

pub(crate) fn tried(addr: SocketAddr, method: &str, target: &str, form: &str) -> Reply {
    let request = Request::new(method, format!("/v2/keys{target}")).form(form.to_owned());
    ask(addr, &request).expect("it answers")
}

pub(crate) fn set(server: &Server, key: &str, value: &str) {
    send(server.addr(), "PUT", key, &format!("value={value}"));
}

pub(crate) fn get(server: &Server, key: &str) -> Value {
    let reply = ask(server.addr(), &Request::get(&format!("/v2/keys{key}"))).expect("it answers");
    serde_json::from_str(&reply.text()).expect("JSON")
}

/// The value of a key; `None` when it is not there.
pub(crate) fn value(server: &Server, key: &str) -> Option<String> {
    get(server, key)["node"]["value"].as_str().map(str::to_owned)
}

/// Every visible key and directory with its value, and whether it has a lifetime.
pub(crate) fn tree(server: &Server, scope: &str) -> Vec<(String, Option<String>, bool)> {
    fn walk(node: &Value, all: &mut Vec<(String, Option<String>, bool)>) {
        if let Some(key) = node["key"].as_str() {
            let value = node["value"].as_str().map(str::to_owned);
            all.push((key.to_owned(), value, node["expiration"].is_string()));
        }
        for node in node["nodes"].as_array().into_iter().flatten() {
            walk(node, all);
        }
    }
    let mut all = Vec::new();
    walk(&get(server, &format!("{scope}?recursive=true&quorum=true"))["node"], &mut all);
    all.sort();
    all
}
