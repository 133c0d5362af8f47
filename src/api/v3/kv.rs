//! `etcdserverpb.KV`.

use std::sync::Arc;

use crate::api::context::Context;
use crate::api::v3::call::Call;
use crate::api::v3::{access, convert, refused, write, wrong_reply};
use crate::mvcc::{
    self, AlarmKind, Asker, Intent, RangeQuery, Reply, Tally, TxnLimits, check_delete, check_put,
    check_range, check_txn,
};
use crate::raft::View;
use crate::rpc::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, Message,
    PutRequest, PutResponse, RangeRequest, RangeResponse, Status, TxnRequest, TxnResponse, status,
};

/// Reads of more keys leave the threads that serve.
const KEYS_READ_HERE: u64 = 1000;

/// Reads a key or a range.
pub(super) async fn range(
    api: Arc<Context>,
    call: Call,
    request: RangeRequest,
) -> Result<RangeResponse, Status> {
    let query = convert::range(&request);
    check_range(&query).map_err(refused::mvcc)?;
    let asker = access::asker(&api, &call).await?;
    up_to_date(&api, query.serializable).await?;
    let view = api.replica.view();
    let auth = view.store.mvcc().auth();
    auth.check(&asker, Intent::Read, &query.range).map_err(refused::mvcc)?;
    readable(&view)?;
    let may_be_long = query.limit == 0 || query.limit > KEYS_READ_HERE;
    let is_range = !matches!(query.range, mvcc::KeyRange::Single(_));
    if is_range && may_be_long && view.store.mvcc().keys_count() > KEYS_READ_HERE {
        return apart(&api, move |api| read(api, &view, &query)).await;
    }
    read(&api, &view, &query)
}

fn read(api: &Context, view: &View, query: &RangeQuery) -> Result<RangeResponse, Status> {
    let mvcc = view.store.mvcc();
    let reply = mvcc.range(query).map_err(refused::mvcc)?;
    api.metrics.read(Tally { ranges: 1, ..Tally::default() });
    Ok(convert::range_response(Some(convert::header(api, mvcc.revision())), query, &reply))
}

/// Does what may take long where it keeps nobody waiting; so many at a time as there are processors.
pub(super) async fn apart<T: Send + 'static>(
    api: &Arc<Context>,
    work: impl FnOnce(&Context) -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let renderer = Arc::clone(&api.renderers).acquire_owned().await;
    let renderer = renderer.map_err(|_| status::STOPPED)?;
    let api = Arc::clone(api);
    let work = tokio::task::spawn_blocking(move || {
        let _held = renderer;
        work(&api)
    });
    // It ends early only with the runtime.
    work.await.map_err(|_| status::STOPPED)?
}

/// A read sees everything that was acknowledged before it, unless this member's own state will do.
async fn up_to_date(api: &Context, serializable: bool) -> Result<(), Status> {
    let ready = match serializable {
        true => api.replica.until_shown().await,
        false => api.replica.read_barrier().await,
    };
    ready.map_err(refused::unavailable)
}

fn readable(view: &View) -> Result<(), Status> {
    if view.store.mvcc().has_alarm(AlarmKind::Corrupt) { Err(status::CORRUPT) } else { Ok(()) }
}

/// What goes into the log must not be too large for it.
fn small_enough(api: &Context, request: &impl Message) -> Result<(), Status> {
    let fits = request.encoded_len() <= api.settings.request_bytes_max;
    if fits { Ok(()) } else { Err(status::REQUEST_TOO_LARGE) }
}

/// Writes a key.
pub(super) async fn put(
    api: Arc<Context>,
    call: Call,
    request: PutRequest,
) -> Result<PutResponse, Status> {
    let put = convert::put(&request);
    check_put(&put).map_err(refused::mvcc)?;
    small_enough(&api, &request)?;
    drop(request);
    let asker = access::asker(&api, &call).await?;
    let (at, reply) = write(&api, asker, mvcc::Request::Put(put), call.held).await?;
    let Reply::Put { prev } = reply else { wrong_reply(&reply) };
    Ok(convert::put_response(Some(convert::header(&api, at)), prev.as_deref()))
}

/// Deletes keys.
pub(super) async fn delete_range(
    api: Arc<Context>,
    call: Call,
    request: DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Status> {
    let delete = convert::delete(&request);
    check_delete(&delete).map_err(refused::mvcc)?;
    small_enough(&api, &request)?;
    let asker = access::asker(&api, &call).await?;
    let (at, reply) = write(&api, asker, mvcc::Request::DeleteRange(delete), call.held).await?;
    let Reply::DeleteRange { deleted, prev_kvs } = reply else { wrong_reply(&reply) };
    Ok(convert::delete_response(Some(convert::header(&api, at)), deleted, &prev_kvs))
}

/// Does several things at once. What writes nothing needs no place in the log.
pub(super) async fn txn(
    api: Arc<Context>,
    call: Call,
    request: TxnRequest,
) -> Result<TxnResponse, Status> {
    let txn = convert::txn(&request)?;
    let limits = TxnLimits { ops_max: api.settings.txn_ops_max };
    check_txn(&txn, limits).map_err(refused::mvcc)?;
    let asker = access::asker(&api, &call).await?;
    if txn.is_read_only() {
        return read_only(&api, &asker, &txn).await;
    }
    small_enough(&api, &request)?;
    drop(request);
    let (at, reply) = write(&api, asker, mvcc::Request::Txn(txn.clone()), call.held).await?;
    let Reply::Txn(reply) = reply else { wrong_reply(&reply) };
    Ok(convert::txn_response(Some(convert::header(&api, at)), &txn, &reply))
}

async fn read_only(
    api: &Arc<Context>,
    asker: &Asker,
    txn: &mvcc::Txn,
) -> Result<TxnResponse, Status> {
    up_to_date(api, txn.is_serializable()).await?;
    let view = api.replica.view();
    let mvcc = view.store.mvcc();
    mvcc.permit_txn(asker, txn).map_err(refused::mvcc)?;
    readable(&view)?;
    let reply = mvcc.txn_read(txn).map_err(refused::mvcc)?;
    api.metrics.read(reply.tally());
    Ok(convert::txn_response(Some(convert::header(api, mvcc.revision())), txn, &reply))
}

/// Forgets what was superseded.
pub(super) async fn compact(
    api: Arc<Context>,
    call: Call,
    request: CompactionRequest,
) -> Result<CompactionResponse, Status> {
    if request.revision < 0 {
        return Err(status::COMPACTED);
    }
    let asker = access::asker(&api, &call).await?;
    let to = convert::revision_of(request.revision);
    let (at, _) = write(&api, asker, mvcc::Request::Compact(to), call.held).await?;
    Ok(CompactionResponse { header: Some(convert::header(&api, at)) })
}
