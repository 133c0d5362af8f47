//! What of the v3 API lives beside the replicated state: watchers, leases that end, locks and elections.
//!
//! Over the JSON gateway, which speaks with the same functions as gRPC does; so the real etcd can take a member's place.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod lease;
mod lock;
mod streams;
mod tokens;
mod watch;
