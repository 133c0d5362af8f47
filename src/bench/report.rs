//! The results of a run, as text for people and as JSON for programs.
//!
//! Owns: names, units and order of what is shown. Never knows: how it was measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::bench::plan::{Output, Plan};
use crate::bench::tally::{Durations, Tally};
use crate::bench::usage::Usage;
use crate::bench::watching::Written;

/// Everything that was measured.
pub(super) struct Measured {
    /// Of the requests, those of watchers included.
    pub(super) tally: Tally,
    /// From the beginning to the last answer.
    pub(super) elapsed: Duration,
    /// Requests that were due at fixed times and were not sent before the end.
    pub(super) unsent: u64,
    pub(super) watch: Option<WatchMeasured>,
    pub(super) server: Option<ServerMeasured>,
    /// Processor time of this program.
    pub(super) own_processor: Duration,
    pub(super) interrupted: bool,
}

/// What watchers saw.
pub(super) struct WatchMeasured {
    pub(super) waiting: u64,
    pub(super) events: u64,
    /// From the moment at which a PUT was to be sent to an event of it.
    pub(super) latencies: Durations,
    pub(super) written: Written,
    /// What it took the servers until all waited.
    pub(super) bytes_taken: Option<i64>,
}

/// What the servers' processes took.
pub(super) struct ServerMeasured {
    pub(super) before: Usage,
    pub(super) after: Usage,
}

#[derive(Serialize)]
struct Report {
    load: &'static str,
    endpoints: Vec<String>,
    connections: usize,
    value_bytes: usize,
    keys: u64,
    rate_asked: Option<u64>,
    interrupted: bool,
    seconds: f64,
    requests: Requests,
    /// By status.
    answers: BTreeMap<u16, u64>,
    /// By kind.
    failures: BTreeMap<&'static str, u64>,
    first_trouble: Option<String>,
    latency_ms: Spread,
    watch: Option<Watch>,
    server: Option<Server>,
    generator: Generator,
}

#[derive(Serialize)]
struct Requests {
    sent: u64,
    answered: u64,
    /// Answers that are what the load asks for.
    good: u64,
    failed: u64,
    /// Sent, but neither answered nor failed when the run was cut off.
    unanswered: u64,
    /// Due at fixed times, but not sent before the end.
    unsent: u64,
    /// Answers a second.
    rate: f64,
}

#[derive(Serialize)]
struct Spread {
    count: u64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Serialize)]
struct Watch {
    waiting: u64,
    events: u64,
    missed: u64,
    event_ms: Spread,
    last_event_after_sending_ms: Spread,
    last_event_after_answer_ms: Spread,
    server_bytes_per_watcher: Option<f64>,
}

#[derive(Serialize)]
struct Server {
    /// For each answer, or for each event where the load waits for events.
    cpu_us: Option<f64>,
    /// Processors that were kept busy.
    cpu_cores: f64,
    resident_bytes: u64,
    peak_bytes: u64,
}

#[derive(Serialize)]
struct Generator {
    cpu_us: Option<f64>,
    cpu_cores: f64,
}

/// The results, written as the plan asks.
pub(super) fn show(plan: &Plan, measured: &Measured) -> String {
    let report = report(plan, measured);
    match plan.output {
        Output::Text => text(plan, &report),
        Output::Json => {
            let json = serde_json::to_string(&report);
            json.expect("it has neither odd keys nor odd numbers") + "\n"
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn report(plan: &Plan, measured: &Measured) -> Report {
    let Measured { tally, elapsed, .. } = measured;
    let (answered, failed) = (tally.answers(), tally.failed.values().sum());
    let seconds = elapsed.as_secs_f64();
    let each = |total: f64, count: u64| (count > 0).then(|| total / count as f64);
    let part = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
    // Of a watch it is the events that cost.
    let units = measured.watch.as_ref().map_or(answered, |watch| watch.events);
    let cpu_us = |time: Duration| each(time.as_secs_f64() * 1e6, units);
    Report {
        load: plan.load.name(),
        endpoints: plan.endpoints.iter().map(ToString::to_string).collect(),
        connections: plan.connections,
        value_bytes: plan.value_bytes,
        keys: plan.keys,
        rate_asked: plan.rate.map(std::num::NonZeroU64::get),
        interrupted: measured.interrupted,
        seconds,
        requests: Requests {
            sent: tally.sent,
            answered,
            good: tally.good,
            failed,
            unanswered: tally.sent.saturating_sub(answered + failed),
            unsent: measured.unsent,
            rate: part(answered as f64),
        },
        answers: tally.answered.clone(),
        failures: tally.failed.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
        first_trouble: tally.first_trouble.clone(),
        latency_ms: spread(match &measured.watch {
            Some(watch) => &watch.written.tally.latencies,
            None => &tally.latencies,
        }),
        watch: measured.watch.as_ref().map(|watch| Watch {
            waiting: watch.waiting,
            events: watch.events,
            missed: watch.written.expected.saturating_sub(watch.events),
            event_ms: spread(&watch.latencies),
            last_event_after_sending_ms: spread(&watch.written.after_sending),
            last_event_after_answer_ms: spread(&watch.written.after_answer),
            server_bytes_per_watcher: watch
                .bytes_taken
                .and_then(|bytes| each(bytes as f64, watch.waiting)),
        }),
        server: measured.server.as_ref().map(|server| {
            let processor = server.after.processor.saturating_sub(server.before.processor);
            Server {
                cpu_us: cpu_us(processor),
                cpu_cores: part(processor.as_secs_f64()),
                resident_bytes: server.after.resident_bytes,
                peak_bytes: server.after.peak_bytes,
            }
        }),
        generator: Generator {
            cpu_us: cpu_us(measured.own_processor),
            cpu_cores: part(measured.own_processor.as_secs_f64()),
        },
    }
}

fn spread(durations: &Durations) -> Spread {
    Spread {
        count: durations.count(),
        p50: durations.quantile_ms(0.5),
        p99: durations.quantile_ms(0.99),
        p999: durations.quantile_ms(0.999),
        max: durations.max_ms(),
    }
}

impl Spread {
    fn text(&self) -> String {
        let Self { p50, p99, p999, max, .. } = self;
        format!("p50 {p50:.2} ms   p99 {p99:.2} ms   p99.9 {p999:.2} ms   max {max:.2} ms")
    }
}

fn text(plan: &Plan, report: &Report) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push(format!("{name:<12} {text}"));
    let Report { requests, .. } = report;
    let cut = if report.interrupted { ", interrupted" } else { "" };
    line(
        report.load,
        format!(
            "{} connections to {}, values of {} bytes, {} keys, {:.1} s{cut}",
            report.connections,
            report.endpoints.join(" "),
            report.value_bytes,
            report.keys,
            report.seconds,
        ),
    );
    if !plan.load.only_watches() {
        let mut text = format!("{:.0} a second; {} sent", requests.rate, requests.sent);
        for (name, count) in [
            ("without an answer", requests.failed),
            ("cut off", requests.unanswered),
            ("due and not sent in time", requests.unsent),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} {name}");
            }
        }
        line("requests", text);
    }
    let counts = |counts: Vec<String>| counts.join("   ");
    if !report.answers.is_empty() {
        let each = report.answers.iter().map(|(status, count)| format!("{status}: {count}"));
        line("answers", counts(each.collect()));
    }
    if !report.failures.is_empty() {
        let each = report.failures.iter().map(|(kind, count)| format!("{kind}: {count}"));
        line("failures", counts(each.collect()));
    }
    if let Some(trouble) = &report.first_trouble {
        line("first", trouble.clone());
    }
    if report.latency_ms.count > 0 {
        line("latency", report.latency_ms.text());
    }
    if let Some(watch) = &report.watch {
        let missed =
            if watch.missed > 0 { format!(", {} missed", watch.missed) } else { String::new() };
        line("watchers", format!("{} wait, {} events{missed}", watch.waiting, watch.events));
        for (name, spread) in [
            ("event", &watch.event_ms),
            ("last, sent", &watch.last_event_after_sending_ms),
            ("last, answer", &watch.last_event_after_answer_ms),
        ] {
            if spread.count > 0 {
                line(name, spread.text());
            }
        }
    }
    let unit = if report.watch.is_some() { "an event" } else { "a request" };
    let each =
        |cpu: Option<f64>| cpu.map(|us| format!("{us:.1} us CPU {unit}, ")).unwrap_or_default();
    if let Some(server) = &report.server {
        let watcher = report.watch.as_ref().and_then(|watch| watch.server_bytes_per_watcher);
        let watcher = watcher.map(|bytes| format!(", {:.1} KiB a watcher", bytes / 1024.0));
        line(
            "server",
            format!(
                "{}{:.2} processors, {:.1} MiB resident, {:.1} MiB at most{}",
                each(server.cpu_us),
                server.cpu_cores,
                mebibytes(server.resident_bytes),
                mebibytes(server.peak_bytes),
                watcher.unwrap_or_default(),
            ),
        );
    }
    let generator = &report.generator;
    line("generator", format!("{}{:.2} processors", each(generator.cpu_us), generator.cpu_cores));
    lines.join("\n") + "\n"
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
