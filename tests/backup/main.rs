//! Backups, from outside: real members, `cairn backup`, `restore`, `verify` and `etcdctl backup` as processes.

#[path = "../support/mod.rs"]
mod support;

use support::node;

mod consistent;
mod damaged;
mod directory;
mod disaster;
mod edges;
mod program;
mod refused;
mod restored;
