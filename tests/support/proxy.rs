//! Proxies under test: servers without data in front of members.
//!
//! Owns: the process, and where clients reach it. Never knows: what is asked of it.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::http::{self, Reply, Request};
use super::process::Process;

/// How long a proxy may take to know the members; a loaded machine needs seconds.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// Where a proxy says whom it asks.
pub(crate) const OWN: &str = "/v2/config/local/proxy";

/// One proxy; killed when dropped.
pub(crate) struct Proxy {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
}

impl Proxy {
    /// In front of the members with these peer addresses, once it knows `members` of them.
    pub(crate) fn start(peers: &[SocketAddr], args: &[&str], members: usize) -> Self {
        let proxy = Self::begin(peers, args);
        let begun = Instant::now();
        while proxy.get(OWN).text().matches("http").count() != members {
            assert!(
                begun.elapsed() < PATIENCE,
                "{members} members are not known:\n{}",
                proxy.process.log()
            );
            thread::sleep(POLL);
        }
        proxy
    }

    /// The same, without waiting for anything but its listener.
    pub(crate) fn begin(peers: &[SocketAddr], args: &[&str]) -> Self {
        let list: Vec<_> =
            peers.iter().enumerate().map(|(n, peer)| format!("m{n}=http://{peer}")).collect();
        let list = format!("--initial-cluster={}", list.join(","));
        let mut all = vec!["--proxy=on", &list];
        all.extend(args);
        Self::of(Process::cairn(&all))
    }

    /// A process that is a proxy, or becomes one.
    pub(crate) fn of(mut process: Process) -> Self {
        let line = process.line("v2 proxy started listening on client requests on");
        let addr = line.split("://").nth(1).expect("a URL").trim_end_matches('"');
        let addr = addr.parse().expect("an address");
        Self { process, addr }
    }

    pub(crate) fn ask(&self, request: &Request) -> Reply {
        http::ask(self.addr, request).expect("an answer")
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        self.ask(&Request::get(target))
    }

    pub(crate) fn put(&self, key: &str, form: &str) -> Reply {
        self.ask(&put(key, form))
    }
}

/// A write of a form.
pub(crate) fn put(key: &str, form: &str) -> Request {
    Request::new("PUT", format!("/v2/keys{key}")).form(form)
}
