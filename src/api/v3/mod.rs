//! The v3 API: calls of gRPC, and the same as JSON over HTTP.
//!
//! Owns: which calls there are, how they come in and go out, and what each does with the member. Never knows: sockets, HTTP/2.
//! Holds: a call does the same whichever way it came.
//!
//! | file | what is in it |
//! |---|---|
//! | `dispatch` | the table of calls |
//! | `call` | what is known of a call beside its message, and what comes in and goes out of streams |
//! | `grpc` | calls as gRPC |
//! | `gateway` | calls as JSON |
//! | `leader` | calls that end where there is none |
//! | `refused` | every "no" of the floors below, as a status |
//! | `convert` | messages to and from what the store knows |
//! | `kv`, `watch`, ... | one function for each call, by service |

mod call;
mod cluster;
mod dispatch;
mod gateway;
mod grpc;
mod health;
mod leader;
mod maintenance;
mod refused;

use crate::api::context::Context;
use crate::raft::View;
use crate::rpc::ResponseHeader;

pub(super) use dispatch::Methods;
pub(super) use gateway::{path as gateway_path, serve as serve_gateway};
pub(super) use grpc::serve as serve_call;

/// The bytes with which the media type of a call begins.
pub const CALL: &[u8] = b"application/grpc";

/// A call may be as much longer than the request in it.
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

/// Bytes of one message of a client.
fn message_bytes_max(api: &Context) -> usize {
    api.settings.request_bytes_max + MESSAGE_OVERHEAD_BYTES
}

/// The header of an answer that comes from this state.
fn header(api: &Context, _: &View) -> ResponseHeader {
    header_of_members(api)
}

/// The header of an answer that says nothing of keys.
fn header_of_members(api: &Context) -> ResponseHeader {
    let member = api.replica.member();
    ResponseHeader {
        cluster_id: member.cluster.0,
        member_id: member.id.0,
        revision: 0,
        raft_term: api.replica.status().leadership.term.0,
    }
}
