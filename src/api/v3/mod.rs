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
//! | `access` | who calls, and may they |
//! | `leader` | calls that end where there is none |
//! | `refused` | every "no" of the floors below, as a status |
//! | `convert` | messages to and from what the store knows |
//! | `kv`, `watch`, ... | one function for each call, by service |

mod access;
mod auth;
mod call;
mod cluster;
mod convert;
mod dispatch;
mod election;
mod gateway;
mod grpc;
mod health;
mod jwt;
mod kv;
mod leader;
mod lease;
mod lock;
mod maintenance;
mod queue;
mod refused;
mod watch;

use std::sync::Arc;

use http::{Response, Uri};

use crate::api::body::Body;
use crate::api::context::Context;
use crate::model::Unavailable;
use crate::mvcc::{Asker, Command, Reply, Request, Revision};
use crate::raft::Reserved;
use crate::rpc::{ResponseHeader, Status, status};
use crate::store;

pub(super) use access::Kept as KeptTokens;
pub(super) use dispatch::Methods;
pub(super) use gateway::{path as gateway_path, serve as serve_gateway};
pub(super) use grpc::serve as serve_call;
pub use jwt::Jwt;

/// The bytes with which the media type of a call begins.
pub const CALL: &[u8] = b"application/grpc";

/// Does a call wait for other clients? Then it is over when its own client has no more to say, as in etcd.
pub fn ends_with_client(uri: &Uri) -> bool {
    gateway_path(uri.path().as_bytes()).is_some_and(|path| WAITING.contains(&path))
}

/// The answer to a call whose client has given up.
pub fn gone() -> Response<Body> {
    gateway::failed(&status::CANCELED)
}

/// The calls that wait for other clients, below the prefix of their version.
const WAITING: [&str; 2] = ["lock/lock", "election/campaign"];

/// A call may be as much longer than the request in it.
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

/// Bytes of one message of a client.
fn message_bytes_max(api: &Context) -> usize {
    api.settings.request_bytes_max + MESSAGE_OVERHEAD_BYTES
}

/// The header of an answer that is true now.
fn header_now(api: &Context) -> ResponseHeader {
    convert::header(api, api.replica.view().store.mvcc().revision())
}

/// The header of an answer that says nothing of keys.
fn header_of_members(api: &Context) -> ResponseHeader {
    ResponseHeader { revision: 0, ..header_now(api) }
}

/// Sends a change through the log; returns the revision since, and the answer.
async fn write(
    api: &Arc<Context>,
    asker: Asker,
    request: Request,
    held: Option<Arc<Reserved>>,
) -> Result<(Revision, Reply), Status> {
    let command = store::Command::Mvcc(Command { asker, request });
    let answer = match api.replica.write_held(command, held).await {
        // A disk that is nearly full is the matter of this member alone, and over by itself.
        Err(why @ Unavailable::QuotaExceeded { .. }) => {
            maintenance::raise_no_space(api);
            return Err(refused::unavailable(why));
        }
        answer => answer.map_err(refused::unavailable)?,
    };
    let store::Applied::Mvcc(applied) = answer.applied else {
        unreachable!("a change of version 3 came to {:?}", answer.applied)
    };
    Ok((applied.revision, applied.reply.map_err(refused::mvcc)?))
}

/// Each kind of request has a reply of its own.
fn wrong_reply(reply: &Reply) -> ! {
    unreachable!("another request came to {reply:?}")
}
