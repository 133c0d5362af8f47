//! `cairn migrate`, from outside: data directories of a real etcd, recorded and fresh, whole and broken.

#[path = "../support/mod.rs"]
mod support;

use support::node;

mod back;
mod broken;
mod cluster;
mod fresh;
mod gateway;
mod program;
mod recorded;
mod scale;
mod state;
mod three;
