//! The wire: parse, do, render.
//!
//! Owns: every path that is served, and the form of every answer. Never knows: sockets, TLS, flags.

mod access;
mod backup;
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
mod probes;
mod routes;
mod security;
mod stats;
mod time;
mod v3;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, ORIGIN};

pub use access::{ClientAddress, ClientName};
pub use body::Body;
pub use context::Settings;
pub use cors::Cors;
pub use intake::{Intake, Unread};
pub use keys::{Answer, Asked, FORM, Plain, Success};
pub use metrics::{
    ConnectionMeter, Handshake, Limit, LogLines, Metrics, OpenConnection, ProxyMetrics,
    Surroundings,
};
pub use routes::Api;
pub use v3::{CALL, Jwt, ends_with_client, gone};

/// The headers of requests that anything here looks at, but for those that say how a message is framed. Others need not be kept.
pub static HEADERS_READ: [HeaderName; 5] =
    [HOST, CONTENT_TYPE, CONTENT_LENGTH, AUTHORIZATION, ORIGIN];
