//! Plays the recorded corpus of `tests/conformance/` against the program under test.
//!
//! One test per area, each with servers of its own. Where we differ from etcd on purpose a row of
//! `improved.csv` says so. The variables and the format are explained in the README beside the data.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use serde_json::Value;
use support::http::{self, Open, Reply, Request};
use support::json::Json;
use support::rng::Rng;
use support::server::{Flavor, Server, subject_is_etcd};
use support::template::{Values, now};

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
/// How long a server may take to notice that a watcher has gone.
const GONE_MAX: Duration = Duration::from_millis(500);
/// How long counters may lag behind the answers.
const COUNTERS_MAX: Duration = Duration::from_secs(2);

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

// ---------------------------------------------------------------- the areas

macro_rules! areas {
    ($($test:ident $file:literal $lanes:literal;)*) => {
        mod areas {
            $(#[test]
            fn $test() {
                super::play($file, $lanes);
            })*
        }
        const AREAS: &[&str] = &[$($file),*];
    };
}

// The number is that of servers among which the cases are dealt out: areas that wait a lot have more.
areas! {
    keys_ttl "keys-ttl" 8;
    watch "watch" 4;
    watch_actions "watch-actions" 3;
    stats "stats" 3;
    members "members" 2;
    limits "limits" 1;
    watch_history "watch-history" 2;
    keys_badinput "keys-badinput" 1;
    keys_basic "keys-basic" 1;
    keys_cas_matrix "keys-cas-matrix" 1;
    keys_cas "keys-cas" 1;
    keys_delete_matrix "keys-delete-matrix" 1;
    keys_dir_matrix "keys-dir-matrix" 1;
    keys_dir "keys-dir" 1;
    keys_hidden "keys-hidden" 1;
    keys_inorder "keys-inorder" 1;
    keys_paths "keys-paths" 1;
    headers "headers" 1;
    version_health "version-health" 1;
}

/// Plays one file, its cases dealt out to `lanes` servers, and fails with the list of what failed.
fn play(area: &str, lanes: usize) {
    let improved = if subject_is_etcd() { BTreeMap::new() } else { improved() };
    let only = env::var("CONFORMANCE_ONLY").unwrap_or_default();
    let cases: Vec<Value> =
        load(area).into_iter().filter(|case| text(case, "name").contains(&only)).collect();
    let failures: Vec<String> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes)
            .map(|lane| {
                let cases = cases.iter().skip(lane).step_by(lanes).collect::<Vec<_>>();
                let improved = &improved;
                scope.spawn(move || Lane::new(area, lane).play(&cases, improved))
            })
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("a lane does not panic")).collect()
    });
    for failure in &failures {
        eprintln!("{failure}");
    }
    let names: Vec<&str> = failures.iter().filter_map(|f| f.lines().next()).collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases of {area} failed (again: CONFORMANCE_ONLY=NAME cargo test --test conformance):\n{}",
        failures.len(),
        cases.len(),
        names.join("\n")
    );
}

fn load(area: &str) -> Vec<Value> {
    let file = corpus().join(format!("{area}.json"));
    let data = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let doc: Value = serde_json::from_slice(&data).expect("the corpus is JSON");
    assert_eq!(doc["format"], "etcd-v2-conformance/1", "{}", file.display());
    list(&doc, "cases").to_vec()
}

// ---------------------------------------------------------------- where we differ

/// A row of `improved.csv`.
#[derive(Clone, Debug)]
struct Improved {
    /// Number of the improvement in the reference.
    number: String,
    /// Whether it differs only now and then, so that passing is no surprise.
    flips: bool,
}

impl Improved {
    /// Only the words of a parser differ: status, code and headers must stay.
    fn only_words(&self) -> bool {
        self.number == "26"
    }
}

/// The table by case name. Its columns: case, number of the improvement, `flips` or nothing, reason.
fn improved() -> BTreeMap<String, Improved> {
    let file = corpus().join("improved.csv");
    let table = fs::read_to_string(&file).expect("improved.csv is there");
    let rows = table.lines().skip(1).filter(|line| !line.trim().is_empty());
    rows.map(|line| {
        let columns: Vec<&str> = line.splitn(4, ',').collect();
        let &[case, number, flips, reason] = columns.as_slice() else {
            panic!("improved.csv: four columns wanted: {line}");
        };
        assert!(!reason.is_empty() && matches!(flips, "" | "flips"), "improved.csv: {line}");
        (case.to_owned(), Improved { number: number.to_owned(), flips: flips == "flips" })
    })
    .collect()
}

#[test]
fn every_improved_case_is_a_quirk_of_the_corpus() {
    let cases: Vec<Value> = AREAS.iter().flat_map(|area| load(area)).collect();
    for name in improved().keys() {
        let case = cases.iter().find(|case| text(case, "name") == name);
        let case = case.unwrap_or_else(|| panic!("improved.csv names {name}, which is no case"));
        assert!(case.get("quirk").is_some(), "improved.csv names {name}, which is not a quirk");
    }
}

#[test]
fn every_file_of_the_corpus_is_played() {
    let mut files: Vec<String> = fs::read_dir(corpus())
        .expect("the corpus is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    files.sort_unstable();
    let mut areas = AREAS.to_vec();
    areas.sort_unstable();
    assert_eq!(files, areas);
}

// ---------------------------------------------------------------- a wrong expectation must fail

/// Whether `got` fits `template` in a case with the prefix `/p` and the index 7, sent at 1970.
fn fits(template: &str, got: &str) -> bool {
    Values::new("/p", 7).fit(template, got, 0.0).is_ok()
}

#[test]
fn a_template_fits_what_it_stands_for() {
    for (template, got) in [
        ("", ""),
        ("a.b", "a.b"),
        ("${P}/a ${i} ${i+3} ${i-1} ${i+3:020}", "/p/a 7 10 6 00000000000000000010"),
        ("${rep:x*3}|", "xxx|"),
        ("${uint}${uint}", "12"),
        ("${float} ${float} ${float}", "1 -2.5 1e-06"),
        ("${hex}", "00ffaa"),
        ("${hex:m}=${hex:m}", "ab=ab"),
        (r#""${str}""#, r#""x y""#),
        ("<${any}>", "<a>b>"),
        ("${time} ${time}", "2024-02-29T23:59:59Z 2024-02-29T23:59:59.123456789Z"),
        ("${time+100}", "1970-01-01T00:01:42.9Z"),
        ("${time-5}", "1969-12-31T23:59:55Z"),
        ("${ttl~100} ${ttl~100}", "98 100"),
        ("${duration} ${duration}", "1m3.5s 12.5µs"),
    ] {
        assert!(fits(template, got), "{template:?} should fit {got:?}");
    }
}

#[test]
fn a_template_does_not_fit_anything_else() {
    for (template, got) in [
        ("", "a"),
        ("a", ""),
        ("a.b", "axb"),
        ("a", "a\n"),
        ("a\n", "a"),
        ("${P}", "/q"),
        ("${i}", "8"),
        ("${i+1}", "7"),
        ("${i+1:020}", "8"),
        ("${rep:x*3}", "xx"),
        ("${rep:x*3}", "xxxx"),
        ("${uint}", ""),
        ("${uint}", "-1"),
        ("${uint}", "1.5"),
        ("${uint}${uint}", "1"),
        ("${float}", "1."),
        ("${float}", "x"),
        ("${hex}", "AB"),
        ("${hex}", "01234567890123456"),
        ("${hex:m}=${hex:m}", "ab=ac"),
        (r#""${str}""#, r#""a"b""#),
        ("<${any}>", "<a>b"),
        ("${time}", "2024-02-29T23:59:59+00:00"),
        ("${time}", "2024-02-29T23:59:59.Z"),
        ("${time}", "2024-02-29T23:59:59.1234567890Z"),
        ("${time+100}", "1970-01-01T00:01:44Z"),
        ("${time+100}", "1970-01-01T00:01:36Z"),
        ("${ttl~100}", "97"),
        ("${ttl~100}", "101"),
        ("${duration}", "5"),
        ("${nonsense}", "nonsense"),
    ] {
        assert!(!fits(template, got), "{template:?} should not fit {got:?}");
    }
}

#[test]
fn a_bound_name_holds_for_later_answers() {
    let mut values = Values::new("/p", 7);
    assert_eq!(values.fit("${hex:cluster}", "ab12", 0.0), Ok(()));
    assert_eq!(values.fit("${hex:cluster}", "ab12", 0.0), Ok(()));
    assert!(values.fit("${hex:cluster}", "ab13", 0.0).is_err());
    assert_eq!(values.expand("/${cluster}"), Ok("/ab12".to_owned()));
    assert!(values.expand("/${other}").is_err());
}

/// What is wrong with an answer of 201, `X-Etcd-Index: 8`, `Date` and the body `{"a":1}`.
fn wrong_with(expect: &str) -> Vec<String> {
    let headers = [("x-etcd-index", "8"), ("Date", "today")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let head = http::Head { status: 201, reason: String::new(), headers };
    let reply = Reply { head, body: b"{\"a\":1}".to_vec() };
    let expect = serde_json::from_str(expect).expect("an expectation is JSON");
    let mut problems = Vec::new();
    compare(&mut Values::new("/p", 7), &expect, &reply, 0.0, true, &mut problems);
    problems
}

#[test]
fn a_wrong_answer_is_found() {
    let right = r#"{"status":201,"headers":{"X-Etcd-Index":"${i+1}"},"body":"{\"a\":1}"}"#;
    assert_eq!(wrong_with(right), Vec::<String>::new());
    for (from, to) in [
        ("201", "200"),
        ("${i+1}", "${i}"),
        ("X-Etcd-Index", "X-Raft-Index"),
        (r#""X-Etcd-Index":"${i+1}""#, ""),
        (r#":"${i+1}""#, r#":"${i+1}","Allow":"GET""#),
        (r#"1}""#, r#"1}\n""#),
        (r#"1}""#, r#"2}""#),
    ] {
        let wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right, "{from} is in it");
        assert!(!wrong_with(&wrong).is_empty(), "{wrong} should not be met");
    }
}

#[test]
fn words_of_a_parser_stand_for_any_words() {
    assert_eq!(
        without_words(r#"{"errorCode":210,"message":"m","cause":"mime: x","index":0}"#),
        r#"{"errorCode":210,"message":"m","cause":"${any}","index":0}"#
    );
    assert_eq!(without_words(r#"{"message":"a \"b\""}"#), r#"{"message":"${any}"}"#);
    let other = r#"{"errorCode":100,"message":"m","cause":"/a","index":0}"#;
    assert_eq!(without_words(other), other);
}

// ---------------------------------------------------------------- a lane: some cases, one after the other

struct Lane {
    area: String,
    shared: Option<Server>,
    prefixes: Rng,
    played: usize,
}

impl Lane {
    fn new(area: &str, lane: usize) -> Self {
        Self {
            area: area.to_owned(),
            shared: None,
            // Only unlike prefixes of earlier cases matter, not chance.
            prefixes: Rng::new(lane as u64),
            played: 0,
        }
    }

    fn play(mut self, cases: &[&Value], improved: &BTreeMap<String, Improved>) -> Vec<String> {
        let mut failures = Vec::new();
        for case in cases {
            let name = text(case, "name");
            let row = improved.get(name);
            let exact = self.case(case, &Play { improved: row.is_some(), words: true });
            let problems = match row {
                None => exact,
                Some(row) if exact.is_empty() && !row.flips => {
                    vec![format!(
                        "no longer differs from etcd: take it out of improved.csv ({})",
                        row.number
                    )]
                }
                Some(row) if row.only_words() => {
                    self.case(case, &Play { improved: false, words: false })
                }
                Some(_) => Vec::new(),
            };
            if !problems.is_empty() {
                let about = text(case, "about");
                let mut failure = format!("FAIL {name}  ({about})");
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

/// How a case is played.
struct Play {
    /// It is expected to fail.
    improved: bool,
    /// The words of messages and causes are compared.
    words: bool,
}

impl Play {
    fn join_max(&self) -> Duration {
        if self.improved { JOIN_MAX_IMPROVED } else { JOIN_MAX }
    }
}

// ---------------------------------------------------------------- a case

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
fn run(addr: SocketAddr, prefix: &str, case: &Value, play: &Play) -> Vec<String> {
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
        compare(&mut self.values, expect, reply, sent_at, self.play.words, problems);
    }
}

/// Compares an answer with what is expected of it.
fn compare(
    values: &mut Values,
    expect: &Value,
    reply: &Reply,
    sent_at: f64,
    words: bool,
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
    let template = if words { template.to_owned() } else { without_words(template) };
    let mut body = reply.text();
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

/// The body of an error in which the words of a parser stand for any words.
fn without_words(template: &str) -> String {
    let (start, end) = match template.contains(r#""errorCode":210"#) {
        true => (r#""cause":""#, r#"","index""#),
        false => (r#"{"message":""#, r#""}"#),
    };
    if let (Some(from), Some(to)) = (template.find(start), template.rfind(end)) {
        return format!("{}${{any}}{}", &template[..from + start.len()], &template[to..]);
    }
    template.to_owned()
}

// ---------------------------------------------------------------- the server seen from outside

fn index(addr: SocketAddr) -> Result<u64, String> {
    let reply = http::ask(addr, &Request::get("/v2/keys/")).map_err(shown)?;
    reply.index().ok_or_else(|| "GET /v2/keys/ has no X-Etcd-Index".to_owned())
}

fn stats(addr: SocketAddr) -> Result<BTreeMap<String, f64>, String> {
    let reply = http::ask(addr, &Request::get("/v2/stats/store")).map_err(shown)?;
    serde_json::from_slice(&reply.body).map_err(|e| format!("/v2/stats/store: {e}"))
}

fn metrics(addr: SocketAddr) -> Result<BTreeMap<String, f64>, String> {
    let reply = http::ask(addr, &Request::get("/metrics")).map_err(shown)?;
    let samples = reply.text();
    let samples = samples.lines().filter(|line| !line.starts_with('#'));
    Ok(samples
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect())
}

fn watchers(addr: SocketAddr) -> f64 {
    stats(addr).ok().and_then(|stats| stats.get("watchers").copied()).unwrap_or(0.0)
}

/// Waits until the server has noticed that a client went away; it need not.
fn await_fewer_watchers(addr: SocketAddr) {
    let before = watchers(addr);
    await_watchers(addr, |now| now < before);
}

fn await_no_watchers(addr: SocketAddr) {
    await_watchers(addr, |now| now == 0.0);
}

fn await_watchers(addr: SocketAddr, done: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + GONE_MAX;
    while !done(watchers(addr)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
}

// ---------------------------------------------------------------- small things

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {name}: {value}"))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).unwrap_or_else(|| panic!("no list {name}: {value}"))
}

fn strings<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    list(value, name).iter().filter_map(Value::as_str)
}

fn object<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(name).and_then(Value::as_object).into_iter().flatten()
}

fn describe(step: &Value) -> String {
    let request = &step["request"];
    match request.is_object() {
        true => cut(&format!(
            "{} {} {}",
            text(request, "method"),
            text(request, "target"),
            text(request, "body")
        )),
        false => format!("{} {}", text(step, "op"), text(step, "id")),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn shown(e: io::Error) -> String {
    format!("{:?}: {e}", e.kind())
}

/// A long text with its middle left out.
fn cut(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() < 1500 {
        return text.to_owned();
    }
    let (head, tail) = (&chars[..700], &chars[chars.len() - 300..]);
    format!("{} ... {}", head.iter().collect::<String>(), tail.iter().collect::<String>())
}
