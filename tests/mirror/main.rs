//! `cairn mirror`, from outside: between cairn and the real etcd, both ways, while both serve.

#[path = "../support/mod.rs"]
mod support;

mod breaks;
mod circles;
mod copies;
mod exact;
mod lifetimes;
mod moving;
mod program;
mod secured;
