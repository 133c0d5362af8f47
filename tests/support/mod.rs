//! What the integration tests share: server processes, a raw HTTP client, exact JSON, random numbers.
//!
//! Owns: processes, sockets and deadlines of the tests. Never knows: the inside of the crate under
//! test; everything goes over the wire, so that the real etcd can take its place.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod cluster;
pub(crate) mod debian;
pub(crate) mod disk;
pub(crate) mod dns;
pub(crate) mod docker;
pub(crate) mod faults;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod load;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod page;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod rng;
pub(crate) mod server;
pub(crate) mod template;
pub(crate) mod time;
pub(crate) mod usage;
pub(crate) mod version_three;
