//! cairn: etcd's v2 HTTP+JSON API on Raft and redb.
//!
//! A module imports only from floors below it; `tests/tidy.rs` checks that. From the top:
//!
//! | floor | what it is | look here for |
//! |---|---|---|
//! | [`server`] | starts a member bottom-up, runs it, drains it | listeners, time-outs, signals, the log's lines, the only clock |
//! | [`api`] | the wire: parse, do, render | `/v2/keys` in `api/keys`, every other path in `api/routes.rs`, who asks in `api/access`, metrics |
//! | [`replica`] | one member at work, without HTTP | deadlines of requests, live watchers, expiry, members, ids |
//! | [`raft`] | consensus; no other floor names openraft | log storage, state machine, checkpoints, recovery |
//! | [`disk`] | bytes that survive a crash, without meaning | the write-ahead log, redb, the data directory |
//! | [`archive`] | a store as the bytes of a backup file | the format, its checksums |
//! | [`etcd`] | what etcd keeps on disk, as bytes | its log and snapshots, what its entries do to a store |
//! | [`rpc`] | the words of the v3 wire | messages in protobuf and JSON, status codes, etcd's texts |
//! | [`store`] | the key space as a pure value | what each command does, history, who sees which event, who may do what in `store/auth` |
//! | [`mvcc`] | the v3 key space as a pure value, beside v2's | revisions, transactions, leases, compaction, its own users in `mvcc/auth` |
//! | [`model`] | words that all share | paths, indexes, log time, every "no" a client can get |
//! | [`base`] | what all use of the machine | locks, random numbers |
//!
//! Beside them [`config`]: flags, variables and file, in one table; and [`discovery`]: how founders find each other, in a
//! directory of another cluster or by DNS, with the HTTP client for asking other members; and [`tls`]: certificates, and who may
//! connect as far as they say it; and [`proxy`]: a server without data, in front of a cluster; and [`client`]: asks servers over gRPC. The binary is several programs:
//! [`program`] tells them apart, [`health`] is the one that a container's health check calls, [`configuration`] is `cairn config`,
//! [`ctl`] is `etcdctl`: commands and options in `ctl/table`, what each does in `ctl/commands`, who is asked in `ctl/client`;
//! [`backup`] makes backups, restores and verifies them; [`migrate`] makes a data directory from one of etcd; [`mirror`] copies a running server into another, [`copy`] keys of version 2 into version 3; and [`bench`](mod@bench) puts load on servers and measures them.
//!
//! For tests alone: `costs` counts what work takes in instructions, `fuzz` reads what strangers can send.
//!
//! A write goes down and up again:
//!
//! ```text
//! socket ─ server/fast_path ─ api/keys/parse ─ replica/consensus ─ raft ─┬─ disk/wal: one sync for many
//!                                                                        └─ raft/storage/machine: store.apply ─ publish ─ watchers
//! socket ────────────────────── api/keys/render ◄───────────────────────────────────────────────────────── answer
//! ```
//!
//! A read loads one pointer and walks the tree: no lock, no consensus, unless the client asks for `quorum=true`.

pub mod api;
pub mod archive;
pub mod backup;
pub mod base;
pub mod bench;
pub mod client;
pub mod config;
pub mod configuration;
pub mod copy;
#[cfg(test)]
mod costs;
pub mod ctl;
pub mod discovery;
pub mod disk;
pub mod etcd;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod health;
pub mod migrate;
pub mod mirror;
pub mod model;
pub mod mvcc;
pub mod program;
pub mod proxy;
pub mod raft;
pub mod replica;
pub mod rpc;
pub mod server;
pub mod store;
pub mod tls;
pub mod transport;
