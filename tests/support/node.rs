//! Members of clusters on loopback, each with ports and data of its own.
//!
//! Owns: a member's ports, its data directory and its process. Never knows: which start is right; the tests say the flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;
use tempfile::TempDir;

use super::http::{self, Reply, Request};
use super::port::Port;
use super::process::Process;

/// Quick elections: no test here is about their time.
const TIMING: [&str; 2] = ["--heartbeat-interval=30", "--election-timeout=300"];

/// One member, running or not.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    client: Port,
    peer: Port,
    /// Where the others reach it, if that is elsewhere.
    advertised_peer: Option<String>,
    dir: TempDir,
    process: Option<Process>,
}

impl Node {
    pub(crate) fn named(name: &'static str) -> Self {
        let port = || Port::reserve().expect("the system has free ports");
        let dir = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        Self { name, client: port(), peer: port(), advertised_peer: None, dir, process: None }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.client.addr()
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.peer.addr()
    }

    pub(crate) fn peer_url(&self) -> String {
        self.advertised_peer.clone().unwrap_or_else(|| self.peer.url())
    }

    /// The others reach it at this URL, where a proxy stands in front of it.
    pub(crate) fn advertise_peer(&mut self, url: String) {
        self.advertised_peer = Some(url);
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts it with the URLs that are its own, and these flags; `variables` are of its environment.
    pub(crate) fn launch(&mut self, variables: &[&str], flags: &[&str]) {
        assert!(self.process.is_none(), "{} is running", self.name);
        let (client, peer, reached) = (self.client.url(), self.peer.url(), self.peer_url());
        let data_dir = self.data_dir().display().to_string();
        let own = ["--name", self.name, "--data-dir", &data_dir]
            .into_iter()
            .chain(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .chain(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &reached]);
        let words = variables.iter().copied().chain([env!("CARGO_BIN_EXE_cairn")]);
        let words = words.chain(own).chain(TIMING).chain(flags.iter().copied());
        self.process = Some(Process::start("env", &words.map(str::to_owned).collect::<Vec<_>>()));
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    pub(crate) fn wait_until_ready(&mut self) {
        self.process().line("ready to serve client requests");
    }

    pub(crate) fn serve(&mut self, flags: &[&str]) {
        self.launch(&[], flags);
        self.wait_until_ready();
    }

    /// Starts it and waits until it has refused to run; returns what it said.
    pub(crate) fn refusal(&mut self, flags: &[&str]) -> String {
        self.launch(&[], flags);
        let status = self.process().end();
        let said = self.process().log();
        self.process = None;
        assert_eq!(status.code(), Some(1), "{said}");
        said
    }

    /// Waits until it has ended by itself, with success; returns what it said.
    pub(crate) fn farewell(&mut self) -> String {
        let status = self.process().end();
        let said = self.process().log();
        self.process = None;
        assert!(status.success(), "{status}: {said}");
        said
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn lose_data(&mut self) {
        assert!(self.process.is_none(), "{} is running", self.name);
        fs::remove_dir_all(self.data_dir()).expect("its data can be removed");
    }

    pub(crate) fn ask(&self, request: &Request) -> Reply {
        http::ask(self.addr(), request)
            .unwrap_or_else(|e| panic!("{} does not answer: {e}", self.name))
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        self.ask(&Request::get(target))
    }

    /// Writes a key and returns the index that the write took.
    pub(crate) fn put(&self, key: &str, value: &str) -> u64 {
        let request = Request::new("PUT", format!("/v2/keys{key}")).form(format!("value={value}"));
        let reply = self.ask(&request);
        assert!(matches!(reply.status(), 200 | 201), "{}: {}", self.name, reply.text());
        json(&reply)["node"]["modifiedIndex"].as_u64().expect("a write has an index")
    }

    /// The value of a key here, now.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        let body = json(&self.get(&format!("/v2/keys{key}")));
        body["node"]["value"].as_str().map(str::to_owned)
    }

    /// The members as this one knows them, by name; those that were added and have not started have none.
    pub(crate) fn members(&self) -> Vec<Member> {
        let body = json(&self.get("/v2/members"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let member = |member: &Value| Member {
            id: text(&member["id"]),
            name: text(&member["name"]),
            peer_urls: member["peerURLs"].as_array().into_iter().flatten().map(text).collect(),
        };
        let mut members: Vec<_> =
            body["members"].as_array().into_iter().flatten().map(member).collect();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        members
    }

    /// Adds a member with this URL; returns its id.
    pub(crate) fn add(&self, peer_url: &str) -> String {
        let body = format!(r#"{{"peerURLs":["{peer_url}"]}}"#);
        let request =
            Request::new("POST", "/v2/members").header("Content-Type", "application/json");
        let reply = self.ask(&request.body(body));
        assert_eq!(reply.status(), 201, "{}", reply.text());
        json(&reply)["id"].as_str().expect("a member has an id").to_owned()
    }

    pub(crate) fn remove(&self, id: &str) {
        let reply = self.ask(&Request::new("DELETE", format!("/v2/members/{id}")));
        assert_eq!(reply.status(), 204, "{}", reply.text());
    }

    pub(crate) fn leads(&self) -> bool {
        json(&self.get("/v2/stats/self"))["state"] == "StateLeader"
    }
}

/// A member as another one lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) peer_urls: Vec<String>,
}

pub(crate) fn json(reply: &Reply) -> Value {
    serde_json::from_str(&reply.text()).unwrap_or_else(|e| panic!("{e}: {}", reply.text()))
}

/// What `--initial-cluster` says of these members.
pub(crate) fn list(nodes: &[&Node]) -> String {
    let entries: Vec<_> =
        nodes.iter().map(|node| format!("{}={}", node.name, node.peer_url())).collect();
    entries.join(",")
}

/// A cluster of these members, all serving.
pub(crate) fn found<const N: usize>(names: [&'static str; N]) -> [Node; N] {
    found_with(names, &[])
}

/// As [`found`], each with these flags as well.
pub(crate) fn found_with<const N: usize>(names: [&'static str; N], flags: &[&str]) -> [Node; N] {
    let mut nodes = names.map(Node::named);
    let list = list(&nodes.iter().collect::<Vec<_>>());
    for node in &mut nodes {
        node.launch(&[], &[&["--initial-cluster", &list], flags].concat());
    }
    for node in &mut nodes {
        node.wait_until_ready();
    }
    nodes
}

/// The place of the leader.
pub(crate) fn leader(nodes: &[Node]) -> usize {
    let mut place = None;
    wait_until("an election", || {
        place = nodes.iter().position(Node::leads);
        place.is_some()
    });
    place.expect("it was found")
}

/// Waits until all of these list the same members, each with a name.
pub(crate) fn agree(nodes: &[&Node], names: &[&str]) {
    wait_until("the same list of members everywhere", || {
        let mut lists = nodes.iter().map(|node| node.members());
        let Some(first) = lists.next() else { return true };
        let named: Vec<_> = first.iter().map(|member| member.name.as_str()).collect();
        named == names && lists.all(|list| list == first)
    });
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + http::PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}
