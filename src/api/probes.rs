//! `/livez` and `/readyz`: whether a member should be restarted, and whether clients should be sent to it.
//!
//! Both are decided here alone, without a question to another member: a cluster without a majority must not make every member of
//! it look dead.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::extract::{Request, State};
use http::{Method, Response, StatusCode};

use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::error;
use crate::raft::LogHealth;

/// A write to the log that has taken this long keeps clients waiting.
const LOG_IS_SLOW: Duration = Duration::from_secs(5);

/// Committed entries that a member may still have to apply; what it shows is older than that of others by as much.
const UNAPPLIED_MAX: u64 = 5000;

/// One thing that must be so; `Err` says what is not.
type Check = (&'static str, fn(&Context) -> Result<(), String>);

/// A disk that stands still is no reason for a restart, however long it does: the next start would need the same disk (ADR 21).
const LIVE: &[Check] = &[("ping", |_| Ok(())), ("log", |api| log(api, Duration::MAX))];

const READY: &[Check] = &[
    ("ping", |_| Ok(())),
    ("log", |api| log(api, LOG_IS_SLOW)),
    ("leader", leader),
    ("applied", applied),
    ("draining", draining),
];

pub(super) async fn livez(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    answer(&api, &request, "livez", LIVE)
}

pub(super) async fn readyz(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    answer(&api, &request, "readyz", READY)
}

fn log(api: &Context, patience: Duration) -> Result<(), String> {
    match api.replica.raft().log_health() {
        LogHealth::Failed(why) => Err(why),
        LogHealth::Works(since) if since > patience => {
            Err(format!("a write has been under way for {:.1} s", since.as_secs_f64()))
        }
        LogHealth::Works(_) => Ok(()),
    }
}

fn leader(api: &Context) -> Result<(), String> {
    match api.replica.status().leadership.leader {
        Some(_) => Ok(()),
        None => Err("no leader is known".to_owned()),
    }
}

/// What was shown before a restart must be there again, and what is committed nearly.
fn applied(api: &Context) -> Result<(), String> {
    let (status, raft) = (api.replica.status(), api.replica.raft());
    let needed = raft.held_at_start().0.max(status.committed.0.saturating_sub(UNAPPLIED_MAX));
    if status.applied.0 >= needed {
        return Ok(());
    }
    let (applied, committed) = (status.applied, status.committed);
    Err(format!("entry {applied} is applied, {committed} is committed, and {needed} is needed"))
}

fn draining(api: &Context) -> Result<(), String> {
    if api.draining.load(Relaxed) { Err("the member stops".to_owned()) } else { Ok(()) }
}

/// As in etcd 3.5: one word, or with `verbose`, or when something is wrong, a line for each check.
fn answer(api: &Context, request: &Request, probe: &str, checks: &[Check]) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return error::method_not_allowed("GET, HEAD");
    }
    let query = request.uri().query().unwrap_or_default();
    let (mut verbose, mut excluded) = (false, Vec::new());
    for field in query.split('&') {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        match name {
            "verbose" => verbose = true,
            "exclude" => excluded.push(value),
            _ => {}
        }
    }
    let (mut lines, mut well) = (String::new(), true);
    for (name, check) in checks {
        // Writing to a String does not fail.
        let _ = if excluded.iter().any(|excluded| excluded == name) {
            writeln!(lines, "[+]{name} excluded: ok")
        } else if let Err(why) = check(api) {
            well = false;
            writeln!(lines, "[-]{name} failed: {why}")
        } else {
            writeln!(lines, "[+]{name} ok")
        };
    }
    let unknown = |name: &&&str| !checks.iter().any(|(check, _)| check == *name);
    for name in excluded.iter().filter(unknown) {
        let _ = writeln!(lines, "[ ]{name} is no check and cannot be excluded");
    }
    let verdict = if well { "passed" } else { "failed" };
    let text =
        if well && !verbose { "ok".to_owned() } else { format!("{lines}{probe} check {verdict}") };
    error::text(if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &text)
}
