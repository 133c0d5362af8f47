//! What of the v3 API lives beside the replicated state: watchers, leases that end, locks and elections.
//!
//! Over the JSON gateway, which speaks with the same functions as gRPC does; so the real etcd can take a member's place. And calls
//! over gRPC by the real tool, of one chosen member.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod alarm;
mod client;
mod differential;
mod etcdctl;
mod kubernetes;
mod lease;
mod lock;
mod signed;
mod streams;
mod tokens;
mod watch;
