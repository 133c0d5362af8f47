//! What is known of a call beside its message, and what goes in and out of streams.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::api::access::ClientName;
use crate::raft::Reserved;
use crate::rpc::Status;

/// A call wants a leader or an error at once.
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");

const TOKEN: HeaderName = HeaderName::from_static("token");

/// What is known of a call beside its message.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    /// Who the client says it is.
    pub(super) token: Option<HeaderValue>,
    /// Who its certificate says it is. Not of a call in JSON, as in etcd: there the gateway would show its own.
    pub(super) certificate: Option<ClientName>,
    /// It fails at once where there is no leader.
    pub(super) needs_leader: bool,
    /// How long its client waits.
    pub(super) timeout: Option<Duration>,
    /// What the call holds of the member's byte budget; a write passes it on.
    pub(super) held: Option<Arc<Reserved>>,
}

impl Call {
    /// As the headers say.
    pub(super) fn of(headers: &HeaderMap, certificate: Option<ClientName>) -> Self {
        let token = headers.get(TOKEN).or_else(|| headers.get(AUTHORIZATION)).cloned();
        let needs_leader = headers.get(HAS_LEADER).is_some_and(|value| value == "true");
        Self { token, certificate, needs_leader, timeout: None, held: None }
    }
}

/// What a stream is asked; it ends when its client has no more to ask, and fails when the client is gone.
pub(super) type Requests<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// What a stream answers; an error is the last answer.
pub(super) type Answers<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;
