//! `grpc.health.v1.Health`.

use std::future::ready;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use crate::api::context::Context;
use crate::api::v3::call::{Answers, Call};
use crate::rpc::{Code, HealthCheckRequest, HealthCheckResponse, ServingStatus, Status, status};

/// As in etcd, a server that answers serves.
pub(super) async fn check(
    _: Arc<Context>,
    _: Call,
    request: HealthCheckRequest,
) -> Result<HealthCheckResponse, Status> {
    if !request.service.is_empty() {
        return Err(Status::new(Code::NotFound, "unknown service"));
    }
    Ok(HealthCheckResponse { status: ServingStatus::Serving.into() })
}

/// What [`check`] says, in a stream that stays open until the member stops: nothing changes before. As in etcd, a service that is not
/// known might become known.
pub(super) async fn watch(
    api: Arc<Context>,
    _: Call,
    request: HealthCheckRequest,
) -> Result<Answers<HealthCheckResponse>, Status> {
    let status = match request.service.is_empty() {
        true => ServingStatus::Serving,
        false => ServingStatus::ServiceUnknown,
    };
    let now = HealthCheckResponse { status: status.into() };
    let end = async move {
        api.replica.hub().v3().until_closed().await;
        Err(status::STOPPED)
    };
    Ok(Box::pin(stream::once(ready(Ok(now))).chain(stream::once(end))))
}
