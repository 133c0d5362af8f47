//! The server seen from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::http::{self, Request};
use crate::value::shown;

/// How long a server may take to notice that a watcher has gone.
const GONE_MAX: Duration = Duration::from_millis(500);

pub(crate) fn index(addr: SocketAddr) -> Result<u64, String> {
    let reply = http::ask(addr, &Request::get("/v2/keys/")).map_err(shown)?;
    reply.index().ok_or_else(|| "GET /v2/keys/ has no X-Etcd-Index".to_owned())
}

pub(crate) fn stats(addr: SocketAddr) -> Result<BTreeMap<String, f64>, String> {
    let reply = http::ask(addr, &Request::get("/v2/stats/store")).map_err(shown)?;
    serde_json::from_slice(&reply.body).map_err(|e| format!("/v2/stats/store: {e}"))
}

pub(crate) fn metrics(addr: SocketAddr) -> Result<BTreeMap<String, f64>, String> {
    let reply = http::ask(addr, &Request::get("/metrics")).map_err(shown)?;
    let samples = reply.text();
    let samples = samples.lines().filter(|line| !line.starts_with('#'));
    Ok(samples
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect())
}

pub(crate) fn watchers(addr: SocketAddr) -> f64 {
    stats(addr).ok().and_then(|stats| stats.get("watchers").copied()).unwrap_or(0.0)
}

/// Waits until the server has noticed that a client went away; it need not.
pub(crate) fn await_fewer_watchers(addr: SocketAddr) {
    let before = watchers(addr);
    await_watchers(addr, |now| now < before);
}

pub(crate) fn await_no_watchers(addr: SocketAddr) {
    await_watchers(addr, |now| now == 0.0);
}

pub(crate) fn await_watchers(addr: SocketAddr, done: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + GONE_MAX;
    while !done(watchers(addr)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
}
