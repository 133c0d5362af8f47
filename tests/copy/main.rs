//! `cairn copy v2-to-v3`, from outside: between cairn and the real etcd, both ways, and within one of them, while they serve.

#[path = "../support/mod.rs"]
mod support;

#[path = "../v3_live/client.rs"]
#[expect(dead_code, reason = "a part of what speaks version 3")]
mod client;
#[path = "../mirror/program.rs"]
#[expect(dead_code, reason = "a part of what speaks version 2 and runs programs")]
mod program;

mod breaks;
mod copies;
mod copying;
mod lifetimes;
mod moving;
mod refused;
mod secured;
