//! The words of the v3 wire: messages, status codes and the texts that clients match on.
//!
//! Owns: what stands under which number in which message, how a message reads as JSON, and every error text of v3. Never knows:
//! what a message does, connections, the state.
//!
//! | file | messages of |
//! |---|---|
//! | `kv`, `txn` | `etcdserverpb.KV`, and what a key is (`mvccpb`) |
//! | `watch`, `lease`, `cluster`, `maintenance`, `auth` | the services of these names |
//! | `concurrency` | `v3lockpb.Lock` and `v3electionpb.Election` |
//! | `health` | `grpc.health.v1.Health` |
//!
//! A message is declared once, with the macro `message`: that makes the struct, its protobuf form and its JSON form.

#[macro_use]
mod message;

mod auth;
mod cluster;
mod concurrency;
mod frame;
mod health;
pub mod json;
mod kv;
mod lease;
mod maintenance;
pub mod status;
#[cfg(test)]
mod tests;
mod txn;
mod watch;

pub use auth::*;
pub use cluster::*;
pub use concurrency::*;
pub use frame::{Frames, HEAD_BYTES, framed, framed_with, message_bytes};
pub use health::*;
pub use json::Json;
pub use kv::*;
pub use lease::*;
pub use maintenance::*;
pub use status::{Code, Status};
pub use txn::*;
pub use watch::*;

/// What a client sends and gets: in protobuf, and in JSON.
pub trait Message: prost::Message + Json + Default + Send + 'static {}

impl<M: prost::Message + Json + Default + Send + 'static> Message for M {}

/// A message as it is on the wire.
pub fn encoded(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}
