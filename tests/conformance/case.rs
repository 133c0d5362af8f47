//! A case, step by step.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lane::Way;
use crate::seen::{await_fewer_watchers, await_no_watchers, index, metrics, stats};
use crate::support::http::{self, Open, Reply, Request};
use crate::support::json::Json;
use crate::support::template::{Values, now};
use crate::value::{cut, describe, list, lossy, number, object, shown, strings, text};

/// Headers that must be absent unless a case names them.
const TRACKED: [&str; 9] = [
    "Content-Type",
    "X-Etcd-Index",
    "X-Raft-Index",
    "X-Raft-Term",
    "X-Etcd-Cluster-Id",
    "Location",
    "Allow",
    "X-Content-Type-Options",
    "Www-Authenticate",
];
/// How long an open request may take to end or to bring its events.
const JOIN_MAX: Duration = Duration::from_secs(8);
/// The same for a case that we expect to fail: it need not be waited out.
const JOIN_MAX_IMPROVED: Duration = Duration::from_millis(1500);
/// How long the headers of an open request may take.
const HEAD_MAX: Duration = Duration::from_secs(2);
/// How long events that must not come are waited for.
const SILENCE: Duration = Duration::from_millis(150);

/// How long counters may lag behind the answers.
const COUNTERS_MAX: Duration = Duration::from_secs(2);

/// How a case is played.
pub(crate) struct Play {
    /// It is expected to fail.
    pub(crate) improved: bool,
    /// The words of messages and causes are compared.
    pub(crate) words: bool,
    /// What an answer shows of the time before is compared.
    pub(crate) prev: bool,
    /// How requests reach the server.
    pub(crate) way: Way,
}

impl Play {
    fn join_max(&self) -> Duration {
        if self.improved { JOIN_MAX_IMPROVED } else { JOIN_MAX }
    }
}

/// A request that a case left open.
struct Background {
    open: Open,
    sent_at: f64,
}

struct Run<'a> {
    addr: SocketAddr,
    play: &'a Play,
    values: Values,
    open: BTreeMap<String, Background>,
    stats: BTreeMap<String, f64>,
    metrics: BTreeMap<String, f64>,
}

/// Runs a case and returns what did not fit; empty when all did.
pub(crate) fn run(addr: SocketAddr, prefix: &str, case: &Value, play: &Play) -> Vec<String> {
    let steps = list(case, "steps");
    let uses = |op: &str| steps.iter().any(|step| text(step, "op") == op);
    let start = || -> Result<Run<'_>, String> {
        Ok(Run {
            addr,
            play,
            values: Values::new(prefix, index(addr)?),
            open: BTreeMap::new(),
            stats: if uses("stats") { stats(addr)? } else { BTreeMap::new() },
            metrics: if uses("metrics") { metrics(addr)? } else { BTreeMap::new() },
        })
    };
    let mut run = match start() {
        Ok(run) => run,
        Err(why) => return vec![why],
    };
    let mut problems = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let mut found = Vec::new();
        if let Err(why) = run.step(step, &mut found) {
            found.push(why);
        }
        for problem in found {
            problems.push(format!("step {} ({}): {problem}", n + 1, describe(step)));
        }
    }
    if !run.open.is_empty() {
        run.open.clear();
        await_no_watchers(addr);
    }
    problems
}

impl Run<'_> {
    fn step(&mut self, step: &Value, problems: &mut Vec<String>) -> Result<(), String> {
        match text(step, "op") {
            "request" => {
                let request = self.request(&step["request"])?;
                let sent_at = now();
                let reply = http::ask(self.addr, &request).map_err(shown)?;
                self.compare(&step["response"], &reply, sent_at, problems);
            }
            "background" => self.background(step)?,
            "join" => {
                let background = self.background_of(step)?;
                if !background.open.wait(self.play.join_max(), |p| p.ended) {
                    let body = background.open.progress().body;
                    return Err(format!("it did not end; so far: {}", cut(&lossy(&body))));
                }
                let (progress, sent_at) = (background.open.progress(), background.sent_at);
                let none = || format!("no headers came: {:?}", progress.error);
                let reply = progress.reply().ok_or_else(none)?;
                self.compare(&step["response"], &reply, sent_at, problems);
            }
            "events" => self.events(step, problems)?,
            "pending" => {
                let have = step.get("events").map_or(0, |_| number(step, "events"));
                let limit = if step.get("ms").is_some() { number(step, "ms") } else { 300 };
                let open = &self.background_of(step)?.open;
                let more =
                    open.wait(Duration::from_millis(limit), |p| p.ended || p.lines() as u64 > have);
                let progress = open.progress();
                if more || progress.lines() as u64 != have {
                    return Err(format!(
                        "expected {have} events and an open answer, got {}{}",
                        cut(&lossy(&progress.body)),
                        if progress.ended { " and the end" } else { "" }
                    ));
                }
            }
            "close" => {
                self.background_of(step)?.open.close();
                await_fewer_watchers(self.addr);
            }
            "sleep" => thread::sleep(Duration::from_millis(number(step, "ms"))),
            "repeat" => self.repeat(step)?,
            "stats" | "metrics" => self.counters(step)?,
            "rebase" => self.values.index = index(self.addr)?,
            op => return Err(format!("unknown op {op}")),
        }
        Ok(())
    }

    fn request(&self, request: &Value) -> Result<Request, String> {
        let target = self.values.expand(text(request, "target"))?;
        let mut out = Request::new(text(request, "method"), target);
        let mut own = object(request, "headers");
        if let Some((name, value)) = self.play.way.header()
            && own.all(|(own, _)| !own.eq_ignore_ascii_case(name))
        {
            out = out.header(name, value);
        }
        for (name, value) in object(request, "headers") {
            out = out.header(name, &self.values.expand(value.as_str().unwrap_or_default())?);
        }
        Ok(match request.get("body").and_then(Value::as_str) {
            Some(body) => out.body(self.values.expand(body)?),
            None => out,
        })
    }

    fn background(&mut self, step: &Value) -> Result<(), String> {
        let request = self.request(&step["request"])?;
        let sent_at = now();
        let open = Open::send(self.addr, &request).map_err(shown)?;
        let started = open.wait(HEAD_MAX, |p| p.head.is_some() || p.ended);
        self.open.insert(text(step, "id").to_owned(), Background { open, sent_at });
        if started { Ok(()) } else { Err(format!("no headers within {HEAD_MAX:?}")) }
    }

    fn background_of(&self, step: &Value) -> Result<&Background, String> {
        let id = text(step, "id");
        self.open.get(id).ok_or_else(|| format!("no open request {id}"))
    }

    fn events(&mut self, step: &Value, problems: &mut Vec<String>) -> Result<(), String> {
        let count = number(step, "count");
        let open = &self.background_of(step)?.open;
        if !open.wait(self.play.join_max(), |p| p.lines() as u64 >= count || p.ended) {
            let body = open.progress().body;
            return Err(format!("expected {count} events, got {}", cut(&lossy(&body))));
        }
        open.wait(SILENCE, |p| p.ended || p.lines() as u64 > count);
        let progress = open.progress();
        let reply = progress.reply().ok_or("no headers came")?;
        self.compare(&step["response"], &reply, now(), problems);
        let stay = step.get("open").and_then(Value::as_bool).unwrap_or(true);
        match (stay, progress.ended) {
            (true, true) => Err("the stream ended early".to_owned()),
            (false, false) => Err("the stream should have ended".to_owned()),
            (true, false) | (false, true) => Ok(()),
        }
    }

    fn repeat(&self, step: &Value) -> Result<(), String> {
        for n in 0..number(step, "count") {
            let request = step["request"].to_string().replace("${n}", &n.to_string());
            let request: Value = serde_json::from_str(&request).map_err(|e| e.to_string())?;
            let reply = http::ask(self.addr, &self.request(&request)?).map_err(shown)?;
            if reply.status() / 100 != 2 {
                return Err(format!("repetition {n}: {} {}", reply.status(), cut(&reply.text())));
            }
        }
        Ok(())
    }

    /// Compares what the counters have moved since the start of the case.
    fn counters(&self, step: &Value) -> Result<(), String> {
        let expected: BTreeMap<String, f64> = object(step, "delta")
            .map(|(name, value)| (name.clone(), value.as_f64().unwrap_or(f64::NAN)))
            .collect();
        let ignored: Vec<&str> = match step.get("ignore") {
            Some(names) => {
                names.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
            }
            None => Vec::new(),
        };
        let is_metrics = text(step, "op") == "metrics";
        // A watcher that has gone, or an event that was just sent, may be counted a moment later.
        let deadline = Instant::now() + COUNTERS_MAX;
        loop {
            let mut wrong = Vec::new();
            let (before, after) = match is_metrics {
                true => (&self.metrics, metrics(self.addr)?),
                false => (&self.stats, stats(self.addr)?),
            };
            let names: Vec<String> = match is_metrics {
                true => strings(step, "names").map(str::to_owned).collect(),
                false => after.keys().filter(|n| !ignored.contains(&n.as_str())).cloned().collect(),
            };
            let at =
                |map: &BTreeMap<String, f64>, name: &str| map.get(name).copied().unwrap_or(0.0);
            for name in names.iter().chain(expected.keys().filter(|n| !names.contains(n))) {
                let (want, got) = (at(&expected, name), at(&after, name) - at(before, name));
                if (want - got).abs() > 1e-9 {
                    wrong.push(format!("{name} expected {want:+} got {got:+}"));
                }
            }
            if wrong.is_empty() {
                return Ok(());
            }
            if self.play.improved || Instant::now() > deadline {
                return Err(wrong.join("; "));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn compare(&mut self, expect: &Value, reply: &Reply, sent_at: f64, problems: &mut Vec<String>) {
        compare(&mut self.values, expect, reply, sent_at, self.play, problems);
    }
}

/// Compares an answer with what is expected of it.
pub(crate) fn compare(
    values: &mut Values,
    expect: &Value,
    reply: &Reply,
    sent_at: f64,
    play: &Play,
    problems: &mut Vec<String>,
) {
    if let Some(status) = expect.get("status").and_then(Value::as_u64)
        && status != u64::from(reply.status())
    {
        problems.push(format!("status: expected {status}, got {}", reply.status()));
    }
    let listed = |name: &str| object(expect, "headers").any(|(k, _)| k.eq_ignore_ascii_case(name));
    for name in TRACKED.into_iter().filter(|name| !listed(name)) {
        if let Some(got) = reply.get(name) {
            problems.push(format!("header {name}: expected none, got {got:?}"));
        }
    }
    for (name, template) in object(expect, "headers") {
        let template = template.as_str().unwrap_or_default();
        match reply.get(name) {
            None => problems.push(format!("header {name}: expected {template:?}, got none")),
            Some(got) => {
                if let Err(why) = values.fit(template, &got, sent_at) {
                    problems
                        .push(format!("header {name}: expected {template:?}, got {got:?}: {why}"));
                }
            }
        }
    }
    let Some(template) = expect.get("body").and_then(Value::as_str) else { return };
    let mut template = if play.words { template.to_owned() } else { without_words(template) };
    let mut body = reply.text();
    if !play.prev {
        (template, body) = (without_prev(&template), without_prev(&body));
    }
    if expect.get("unordered").is_some_and(|v| v == true)
        && let Some(mut json) = Json::parse(&body)
    {
        json.sort_nodes();
        body = json.write() + if body.ends_with('\n') { "\n" } else { "" };
    }
    if let Err(why) = values.fit(&template, &body, sent_at) {
        problems.push(format!(
            "body {why}\n      expected {:?}\n      got      {:?}",
            cut(&values.show(&template)),
            cut(&body)
        ));
    }
}

/// The answer to a write without its last part, `prevNode`.
fn without_prev(body: &str) -> String {
    body.split_once(r#","prevNode":"#).map_or(body.to_owned(), |(start, _)| format!("{start}}}\n"))
}

/// The body of an error in which the words of a parser stand for any words.
pub(crate) fn without_words(template: &str) -> String {
    let (start, end) = match template.contains(r#""errorCode":210"#) {
        true => (r#""cause":""#, r#"","index""#),
        false => (r#"{"message":""#, r#""}"#),
    };
    if let (Some(from), Some(to)) = (template.find(start), template.rfind(end)) {
        return format!("{}${{any}}{}", &template[..from + start.len()], &template[to..]);
    }
    template.to_owned()
}
