//! A lane: some cases, one after the other, at servers of its own.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::case::{Play, run};
use crate::improved::Improved;
use crate::support::http::{self, Request};
use crate::support::rng::Rng;
use crate::support::server::{Flavor, Server};
use crate::value::text;

pub(crate) struct Lane {
    area: String,
    shared: Option<Server>,
    prefixes: Rng,
    played: usize,
    off_fast_path: bool,
}

impl Lane {
    pub(crate) fn new(area: &str, lane: usize, off_fast_path: bool) -> Self {
        Self {
            area: area.to_owned(),
            shared: None,
            // Only unlike prefixes of earlier cases matter, not chance.
            prefixes: Rng::new(lane as u64),
            played: 0,
            off_fast_path,
        }
    }

    pub(crate) fn play(
        mut self,
        cases: &[&Value],
        improved: &BTreeMap<String, Improved>,
    ) -> Vec<String> {
        let mut failures = Vec::new();
        let off_fast_path = self.off_fast_path;
        let exactly = Play { improved: false, words: true, prev: true, off_fast_path };
        for case in cases {
            let name = text(case, "name");
            let row = improved.get(name);
            let exact = self.case(case, &Play { improved: row.is_some(), ..exactly });
            let problems = match row {
                None => exact,
                Some(row) if exact.is_empty() && !row.flips => {
                    vec![format!(
                        "no longer differs from etcd: take it out of improved.csv ({})",
                        row.number
                    )]
                }
                Some(row) if row.only_words() => self.case(case, &Play { words: false, ..exactly }),
                Some(row) if row.only_prev() => self.case(case, &Play { prev: false, ..exactly }),
                Some(_) => Vec::new(),
            };
            if !problems.is_empty() {
                let about = text(case, "about");
                let way = if off_fast_path { ", off the fast path" } else { "" };
                let mut failure = format!("FAIL {name}  ({about}{way})");
                for problem in problems {
                    failure.push_str(&format!("\n    {problem}"));
                }
                failures.push(failure);
            }
        }
        if let (false, Some(server)) = (failures.is_empty(), &self.shared) {
            eprintln!("(a server of {})\n{}", self.area, server.log_tail());
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
            let server = Server::start_with(Flavor::Subject, &args);
            let mut problems = run(server.addr(), &prefix, case, play);
            if !problems.is_empty() && !play.improved {
                problems.push(server.log_tail());
            }
            return problems;
        }
        let server = self.shared.get_or_insert_with(|| Server::start(Flavor::Subject));
        let addr = server.addr();
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
