//! `etcdserverpb.Lease`.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use crate::api::context::Context;
use crate::api::v3::call::{Answers, Call, Requests};
use crate::api::v3::{access, convert, header_now, refused, write, wrong_reply};
use crate::base::system_random;
use crate::model::Unavailable;
use crate::mvcc::{Asker, Intent, KeyRange, LeaseId, Reply, Request, Revision, check_lease_grant};
use crate::raft::Reserved;
use crate::replica::v3::LeaseLife;
use crate::rpc::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Status, status,
};

/// The time of a lease that is not there.
const NO_LEASE: i64 = -1;

/// A lease, on which keys can hang from now on.
pub(super) async fn grant(
    api: Arc<Context>,
    call: Call,
    request: LeaseGrantRequest,
) -> Result<LeaseGrantResponse, Status> {
    check_lease_grant(request.ttl).map_err(refused::mvcc)?;
    let asker = access::asker(&api, &call).await?;
    let granted = grant_to(&api, &asker, LeaseId(request.id), request.ttl, call.held).await?;
    Ok(LeaseGrantResponse {
        header: Some(convert::header(&api, granted.revision)),
        id: granted.id.0,
        ttl: granted.ttl_s,
        error: String::new(),
    })
}

/// A lease that was granted.
pub(super) struct Granted {
    pub(super) id: LeaseId,
    ttl_s: i64,
    revision: Revision,
}

/// Grants a lease; one whose life would be too short lives for as long as it must. Zero for `id` lets this member choose.
pub(super) async fn grant_to(
    api: &Arc<Context>,
    asker: &Asker,
    id: LeaseId,
    ttl_s: i64,
    held: Option<Arc<Reserved>>,
) -> Result<Granted, Status> {
    let ttl_s = ttl_s.max(api.replica.lease_ttl_min_s());
    loop {
        let chosen = if id.is_none() { LeaseId((system_random() >> 1).cast_signed()) } else { id };
        let request = Request::LeaseGrant { id: chosen, ttl_s };
        match write(api, asker.clone(), request, held.clone()).await {
            // One was there by chance.
            Err(status) if status == status::LEASE_EXISTS && id.is_none() => {}
            Err(status) => return Err(status),
            Ok((revision, Reply::LeaseGrant { id, ttl_s })) => {
                return Ok(Granted { id, ttl_s, revision });
            }
            Ok((_, reply)) => wrong_reply(&reply),
        }
    }
}

/// The end of a lease and of the keys that hang on it.
pub(super) async fn revoke(
    api: Arc<Context>,
    call: Call,
    request: LeaseRevokeRequest,
) -> Result<LeaseRevokeResponse, Status> {
    let asker = access::asker(&api, &call).await?;
    let request = Request::LeaseRevoke(LeaseId(request.id));
    let (revision, _) = write(&api, asker, request, call.held).await?;
    Ok(LeaseRevokeResponse { header: Some(convert::header(&api, revision)) })
}

/// Leases that are to live on. Answers come in the order of the requests, and end with them, or when the member stops.
pub(super) async fn keep_alive(
    api: Arc<Context>,
    _: Call,
    requests: Requests<LeaseKeepAliveRequest>,
) -> Result<Answers<LeaseKeepAliveResponse>, Status> {
    Ok(Box::pin(stream::unfold(Some(requests), move |requests| {
        let api = Arc::clone(&api);
        async move {
            let mut requests = requests?;
            let request = tokio::select! {
                request = requests.next() => request?,
                () = api.replica.hub().v3().until_closed() => Err(status::STOPPED),
            };
            let answer = match request {
                Ok(LeaseKeepAliveRequest { id }) => keep(&api, id).await,
                Err(status) => Err(status),
            };
            let next = answer.is_ok().then_some(requests);
            Some((answer, next))
        }
    })))
}

async fn keep(api: &Context, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
    let life = api.replica.keep_alive(LeaseId(id)).await.map_err(no_leader)?;
    let ttl = life.map_or(0, |life| life.granted_s);
    Ok(LeaseKeepAliveResponse { header: Some(header_now(api)), id, ttl })
}

/// How long a lease lives.
pub(super) async fn time_to_live(
    api: Arc<Context>,
    call: Call,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, Status> {
    let id = LeaseId(request.id);
    if request.keys {
        // What hangs on it by now is known here as well.
        api.replica.read_barrier().await.map_err(no_leader)?;
    }
    let life = api.replica.time_to_live(id).await.map_err(no_leader)?;
    let view = api.replica.view();
    let lease = view.store.mvcc().lease(id).filter(|_| request.keys && life.is_some());
    let mut keys = Vec::new();
    if let Some(lease) = lease {
        let asker = access::asker(&api, &call).await?;
        for key in lease.keys() {
            access::check(&api, &asker, Intent::Read, &KeyRange::Single(key.clone()))?;
            keys.push(key.to_vec().into());
        }
    }
    Ok(LeaseTimeToLiveResponse {
        header: Some(header_now(&api)),
        id: request.id,
        ttl: life.map_or(NO_LEASE, whole_seconds_left),
        granted_ttl: life.map_or(0, |life| life.granted_s),
        keys,
    })
}

/// Which leases there are.
pub(super) async fn leases(
    api: Arc<Context>,
    _: Call,
    _: LeaseLeasesRequest,
) -> Result<LeaseLeasesResponse, Status> {
    let view = api.replica.view();
    let leases = view.store.mvcc().leases().map(|(id, _)| LeaseStatus { id: id.0 }).collect();
    Ok(LeaseLeasesResponse { header: Some(header_now(&api)), leases })
}

/// Some of the second that runs is over already, however little.
fn whole_seconds_left(life: LeaseLife) -> i64 {
    let left_ms = u64::try_from(life.left.as_millis()).unwrap_or(u64::MAX);
    i64::try_from(left_ms.saturating_sub(1) / 1000).unwrap_or(i64::MAX)
}

/// Only the leader knows how long leases live.
fn no_leader(why: Unavailable) -> Status {
    if matches!(why, Unavailable::TimedOut { .. } | Unavailable::NotLeader { .. }) {
        return status::NO_LEADER;
    }
    refused::unavailable(why)
}
