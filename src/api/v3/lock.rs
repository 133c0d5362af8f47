//! `v3lockpb.Lock`.

use std::sync::Arc;

use crate::api::context::Context;
use crate::api::v3::call::Call;
use crate::api::v3::queue::Queue;
use crate::api::v3::{access, convert, header_now, refused, write};
use crate::model::Value;
use crate::mvcc::{DeleteRange, KeyRange, LeaseId, Request, check_delete};
use crate::rpc::{LockRequest, LockResponse, Status, UnlockRequest, UnlockResponse};

/// A lock, once nobody else holds it. The client that gives up before has no place in the queue any more.
pub(super) async fn lock(
    api: Arc<Context>,
    call: Call,
    request: LockRequest,
) -> Result<LockResponse, Status> {
    let asker = access::asker(&api, &call).await?;
    let queue = Queue::new(Arc::clone(&api), asker, &request.name);
    let (place, _) = queue.join(LeaseId(request.lease), Value::default()).await?;
    queue.wait(&place).await?;
    let place = place.take();
    Ok(LockResponse { header: Some(header_now(&api)), key: place.key.to_vec().into() })
}

/// A lock that is not held any more.
pub(super) async fn unlock(
    api: Arc<Context>,
    call: Call,
    request: UnlockRequest,
) -> Result<UnlockResponse, Status> {
    let delete = DeleteRange { range: KeyRange::Single((*request.key).into()), prev_kv: false };
    check_delete(&delete).map_err(refused::mvcc)?;
    let asker = access::asker(&api, &call).await?;
    let (revision, _) = write(&api, asker, Request::DeleteRange(delete), call.held).await?;
    Ok(UnlockResponse { header: Some(convert::header(&api, revision)) })
}
