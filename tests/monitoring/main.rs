//! What operators watch: metrics, their documentation, probes, alerts, the dashboard.
//!
//! Alerts and dashboard need Prometheus, in the path or where `scripts/test.sh` unpacks it. Without it the tests fail, unless
//! `CAIRN_SKIP_PROMETHEUS=1`.

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod dashboard;
mod documented;
mod latency;
mod page;
mod probes;
mod prometheus;
mod runbooks;
