//! A program: random requests, one after the other, to both servers.

mod counters;
mod expiring;
mod requests;
mod users;
mod watches;

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use crate::OPS_DEFAULT;
use crate::event_log::unescape;
use crate::pair::Pair;
use crate::support::http::{Open, Reply, Request};
use crate::support::json::Json;
use crate::support::rng::Rng;
use crate::support::server::Flavor;
use crate::tally::Tally;

/// How long both sides may take to show the same events or counters.
const SETTLE_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// The number of the program about users and rights.
pub(crate) const USERS: u64 = u64::MAX - 1;

/// An open request on both sides.
pub(crate) struct Watch {
    line: String,
    pub(crate) key: String,
    pub(crate) recursive: bool,
    pub(crate) stream: bool,
    /// It was opened with an index that lay in the history.
    pub(crate) past: bool,
    /// The first index of interest.
    pub(crate) from: u64,
    theirs: Open,
    ours: Open,
}

pub(crate) struct Program {
    rng: Rng,
    pub(crate) pair: Pair,
    watches: Vec<Watch>,
    lines: Vec<String>,
    counters: [BTreeMap<String, i64>; 2],
    /// The number of watchers may differ: a stream that etcd has forgotten is alive at our side.
    watchers_differ: bool,
    pub(crate) tally: Tally,
    wait_long: bool,
}

impl Program {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        Self::on(Pair::start(Flavor::Subject), seed, number)
    }

    pub(crate) fn on(pair: Pair, seed: u64, number: u64) -> Self {
        // Neighbouring programs must not be shifted copies of one another.
        let rng = Rng::new(Rng::new(seed ^ number.rotate_left(32)).next());
        Self {
            rng,
            pair,
            watches: Vec::new(),
            lines: Vec::new(),
            counters: Default::default(),
            watchers_differ: false,
            tally: Tally::default(),
            wait_long: number == 0,
        }
    }

    pub(crate) fn report(&self, seed: u64, number: u64, why: &str) -> String {
        let lines: Vec<String> =
            self.lines.iter().enumerate().map(|(n, line)| format!("{:4} {line}", n + 1)).collect();
        let (again, test) = match number {
            u64::MAX => (format!("DIFF_SEED={seed}"), "keys_expire"),
            USERS => (format!("DIFF_SEED={seed}"), "users_and_rights"),
            _ => {
                let ops = env::var("DIFF_OPS").unwrap_or_else(|_| OPS_DEFAULT.to_string());
                (
                    format!("DIFF_SEED={seed} DIFF_OPS={ops} DIFF_PROGRAM={number}"),
                    "random_programs",
                )
            }
        };
        format!(
            "unexplained difference in program {number}:\n{}\n>>>> {why}\nagain: {again} cargo test --test differential {test}\nours: {}",
            lines.join("\n"),
            self.pair.subject.server.log_tail()
        )
    }

    pub(crate) fn run(&mut self, ops: u64) -> Result<(), String> {
        self.counters = self.read_counters()?;
        if self.wait_long {
            self.wait_long = false;
            // One program has more events than the history keeps.
            for n in 0..1000 {
                self.ask(&Request::new("PUT", format!("/v2/keys/fill/{}", n % 7)).form("value=x"))?;
            }
            // Around the oldest event that is kept: cleared, or just not.
            for from in 1..=8 {
                self.open_from(from)?;
                self.settle_all()?;
            }
        }
        for _ in 0..ops {
            self.operation()?;
        }
        self.settle_all()?;
        self.check_counters()?;
        self.parting_shot()
    }

    pub(crate) fn operation(&mut self) -> Result<(), String> {
        match self.rng.below(100) {
            0..=34 => {
                let request = self.put();
                self.ask(&request)
            }
            35..=39 => {
                let request = self.post();
                self.ask(&request)
            }
            40..=54 => {
                let request = self.delete();
                self.ask(&request)
            }
            55..=74 => {
                let request = self.get();
                self.ask(&request)
            }
            75..=80 => {
                let request = self.bad();
                self.ask(&request)
            }
            81..=83 => {
                let request = self.elsewhere();
                self.ask(&request)
            }
            84..=92 => self.open(),
            93..=96 => self.join(),
            97 => self.check_counters(),
            _ => self.close(),
        }
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Result<(), String> {
        self.lines.push(request.to_string());
        let (theirs, ours) = self.pair.ask(request);
        if let Some(number) = self.pair.compare(request, &theirs, &ours)? {
            self.tally.count(&format!("improvement {number}"));
        }
        let Ok(reply) = theirs else { return Ok(()) };
        self.tally.count(&format!("{} {}", request.method, reply.status()));
        self.learn(request, &reply)
    }

    pub(crate) fn learn(&mut self, request: &Request, reply: &Reply) -> Result<(), String> {
        let no_value = reply.status() / 100 == 2
            && matches!(request.method.as_str(), "PUT" | "POST")
            && Json::parse(&reply.text()).is_some_and(|json| json.get("node").is_none());
        if !no_value {
            self.pair.events.learn(request, reply);
            return Ok(());
        }
        // The answer does not tell what was written, so look.
        let Some(index) = reply.index() else { return Ok(()) };
        let target = String::from_utf8_lossy(&request.target).into_owned();
        let path = target.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        let path = match request.method.as_str() {
            "POST" => format!("{path}/{index:020}"),
            _ => path,
        };
        let look = Request::get(&path);
        self.lines.push(look.to_string());
        let (theirs, ours) = self.pair.ask(&look);
        self.pair.compare(&look, &theirs, &ours)?;
        let json = theirs.ok().and_then(|reply| Json::parse(&reply.text()));
        let node = json.as_ref().and_then(|json| json.get("node")).ok_or("nothing was written")?;
        let key = unescape(node.get("key").and_then(Json::text).unwrap_or_default());
        self.pair.events.index = index;
        self.pair.events.written(key, index, node, false);
        Ok(())
    }
}
