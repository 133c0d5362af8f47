//! The wire: parse, do, render.
//!
//! Owns: every path that is served, and the form of every answer. Never knows: sockets, TLS, flags.

mod access;
mod body;
mod context;
mod cors;
#[cfg(test)]
pub(crate) mod costs;
mod debug;
mod discovery;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod health;
mod intake;
mod json;
mod keys;
mod media_type;
mod members;
mod metrics;
mod path;
mod routes;
mod security;
mod stats;
mod time;

pub use access::{ClientAddress, ClientName};
pub use body::Body;
pub use context::Settings;
pub use cors::Cors;
pub use metrics::Metrics;
pub use routes::Api;

/// The version that `/version` shows: the etcd release whose behaviour is served. Tools decide by it what they may use.
pub const ETCD_VERSION: &str = "3.4.23";

/// What `/version` shows for the cluster.
pub const CLUSTER_VERSION: &str = "3.4.0";
