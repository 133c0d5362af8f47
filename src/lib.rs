//! cairn: etcd's v2 HTTP+JSON API on Raft and redb.

pub mod api;
pub mod config;
pub mod disk;
pub mod model;
pub mod raft;
pub mod replica;
pub mod server;
pub mod store;
