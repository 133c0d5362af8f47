//! `grpc.health.v1.Health`.

use std::sync::Arc;

use crate::api::context::Context;
use crate::api::v3::call::Call;
use crate::rpc::{Code, HealthCheckRequest, HealthCheckResponse, ServingStatus, Status};

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
