//! A lane: some cases, one after the other, at servers of its own, each reached on one way.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use crate::case::{Play, run};
use crate::improved::Improved;
use crate::support::http::{self, Request};
use crate::support::proxy::Proxy;
use crate::support::rng::Rng;
use crate::support::server::{Flavor, Server};
use crate::value::text;

/// How requests reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As clients send them.
    FastPath,
    /// With a header that the server's fast path hands on, so that it makes the HTTP library's types of them; the answer is the same.
    Types,
    /// With a header that keeps them off the server's fast path and changes nothing else.
    Library,
    /// Through a proxy in front of the server.
    Proxy,
}

impl Way {
    /// What each request has for it.
    pub(crate) fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::FastPath | Self::Proxy => None,
            Self::Types => Some(("Origin", "http://page.example")),
            Self::Library => Some(("TE", "trailers")),
        }
    }
}

/// A server, with a proxy in front of it if that is the way.
struct Site {
    server: Server,
    proxy: Option<Proxy>,
}

impl Site {
    fn start(way: Way, args: &[&str]) -> Self {
        let server = Server::start_with(Flavor::Subject, args);
        let proxy = (way == Way::Proxy).then(|| Proxy::start(&[server.peer_addr()], &[], 1));
        Self { server, proxy }
    }

    fn addr(&self) -> SocketAddr {
        self.proxy.as_ref().map_or(self.server.addr(), |proxy| proxy.addr)
    }

    fn log_tail(&self) -> String {
        let of_proxy = self.proxy.as_ref().map(|proxy| proxy.process.log());
        format!("{}{}", self.server.log_tail(), of_proxy.unwrap_or_default())
    }
}

pub(crate) struct Lane {
    area: String,
    shared: Option<Site>,
    prefixes: Rng,
    played: usize,
    way: Way,
}

impl Lane {
    pub(crate) fn new(area: &str, lane: usize, way: Way) -> Self {
        Self {
            area: area.to_owned(),
            shared: None,
            // Only unlike prefixes of earlier cases matter, not chance.
            prefixes: Rng::new(lane as u64),
            played: 0,
            way,
        }
    }

    pub(crate) fn play(
        mut self,
        cases: &[&Value],
        improved: &BTreeMap<String, Improved>,
    ) -> Vec<String> {
        let mut failures = Vec::new();
        let exactly = Play { improved: false, words: true, prev: true, way: self.way };
        for case in cases {
            // Where pages are told apart, that of another site is answered otherwise.
            if self.way == Way::Types && case["server_args"].to_string().contains("--cors") {
                continue;
            }
            let name = text(case, "name");
            let row = improved.get(name);
            let exact = self.case(case, &Play { improved: row.is_some(), ..exactly });
            let problems = match row {
                None => exact,
                Some(row) if exact.is_empty() && !row.flips => {
                    let table = if row.number == "proxy" { "proxied.csv" } else { "improved.csv" };
                    vec![format!(
                        "no longer differs from etcd: take it out of {table} ({})",
                        row.number
                    )]
                }
                Some(row) if row.only_words() => self.case(case, &Play { words: false, ..exactly }),
                Some(row) if row.only_prev() => self.case(case, &Play { prev: false, ..exactly }),
                Some(_) => Vec::new(),
            };
            if !problems.is_empty() {
                let about = text(case, "about");
                let way = match self.way {
                    Way::FastPath => "",
                    Way::Types => ", as of a page",
                    Way::Library => ", off the fast path",
                    Way::Proxy => ", through a proxy",
                };
                let mut failure = format!("FAIL {name}  ({about}{way})");
                for problem in problems {
                    failure.push_str(&format!("\n    {problem}"));
                }
                failures.push(failure);
            }
        }
        if let (false, Some(site)) = (failures.is_empty(), &self.shared) {
            eprintln!("(a server of {})\n{}", self.area, site.log_tail());
        }
        failures
    }

    fn case(&mut self, case: &Value, play: &Play) -> Vec<String> {
        self.played += 1;
        let letters: String =
            (0..6).map(|_| char::from(*self.prefixes.pick(b"abcdefghjkmnpqrstuvwxyz"))).collect();
        let prefix = format!("/t{letters}-{:04}", self.played);
        if case.get("server").is_some_and(|server| server == "fresh") {
            let args: Vec<&str> = match case.get("server_args") {
                Some(args) => {
                    args.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
                }
                None => Vec::new(),
            };
            let site = Site::start(self.way, &args);
            let mut problems = run(site.addr(), &prefix, case, play);
            if !problems.is_empty() && !play.improved {
                problems.push(site.log_tail());
            }
            return problems;
        }
        let way = self.way;
        let addr = self.shared.get_or_insert_with(|| Site::start(way, &[])).addr();
        let problems = run(addr, &prefix, case, play);
        let cleanup = Request::new("DELETE", format!("/v2/keys{prefix}?recursive=true"));
        match http::ask(addr, &cleanup) {
            Ok(_) => problems,
            Err(e) => {
                [problems, vec![format!("the server does not answer any more: {e}")]].concat()
            }
        }
    }
}
