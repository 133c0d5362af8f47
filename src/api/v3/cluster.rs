//! `etcdserverpb.Cluster`: the same members as under `/v2/members`.

use std::sync::Arc;

use crate::api::context::Context;
use crate::api::members::peer_url;
use crate::api::v3::access::manager;
use crate::api::v3::call::Call;
use crate::api::v3::{header_of_members, refused};
use crate::model::MemberId;
use crate::rpc::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, Status, status,
};
use crate::store::MemberRecord;

/// Who belongs to the cluster.
pub(super) async fn list(
    api: Arc<Context>,
    _: Call,
    request: MemberListRequest,
) -> Result<MemberListResponse, Status> {
    if request.linearizable {
        api.replica.read_barrier().await.map_err(refused::unavailable)?;
    }
    Ok(MemberListResponse { header: Some(header_of_members(&api)), members: members(&api) })
}

/// A member may join.
pub(super) async fn add(
    api: Arc<Context>,
    call: Call,
    request: MemberAddRequest,
) -> Result<MemberAddResponse, Status> {
    manager(&api, &call).await?;
    let urls = urls(&request.peer_urls)?;
    let added = api.replica.add_member(urls, api.settings.strict_reconfig).await;
    let (id, record) = added.map_err(refused::member)?;
    Ok(MemberAddResponse {
        header: Some(header_of_members(&api)),
        member: Some(member(id, &record)),
        members: members(&api),
    })
}

/// A member leaves for good.
pub(super) async fn remove(
    api: Arc<Context>,
    call: Call,
    request: MemberRemoveRequest,
) -> Result<MemberRemoveResponse, Status> {
    manager(&api, &call).await?;
    let removed = api.replica.remove_member(MemberId(request.id), api.settings.strict_reconfig);
    removed.await.map_err(refused::member)?;
    Ok(MemberRemoveResponse { header: Some(header_of_members(&api)), members: members(&api) })
}

/// A member has moved.
pub(super) async fn update(
    api: Arc<Context>,
    call: Call,
    request: MemberUpdateRequest,
) -> Result<MemberUpdateResponse, Status> {
    manager(&api, &call).await?;
    let urls = urls(&request.peer_urls)?;
    let updated = api.replica.update_member(MemberId(request.id), urls);
    updated.await.map_err(refused::member)?;
    Ok(MemberUpdateResponse { header: Some(header_of_members(&api)), members: members(&api) })
}

/// A member is to have a vote. The leader gives one to each that has started and caught up, so nothing is left to do: either that has
/// happened, or the member is not as far.
pub(super) async fn promote(
    api: Arc<Context>,
    call: Call,
    request: MemberPromoteRequest,
) -> Result<MemberPromoteResponse, Status> {
    manager(&api, &call).await?;
    api.replica.read_barrier().await.map_err(refused::unavailable)?;
    let id = MemberId(request.id);
    if api.replica.view().store.members().get(id).is_none() {
        return Err(status::MEMBER_NOT_FOUND);
    }
    match api.replica.raft().voting().voters.contains(&id) {
        true => Err(status::NOT_LEARNER),
        false => Err(status::LEARNER_NOT_READY),
    }
}

/// At least one, all of them good.
fn urls(texts: &[String]) -> Result<Vec<String>, Status> {
    if texts.is_empty() {
        return Err(status::BAD_MEMBER_URLS);
    }
    let urls = texts.iter().map(|text| peer_url(text).map_err(|_| status::BAD_MEMBER_URLS));
    urls.collect()
}

/// In the order of their ids.
fn members(api: &Context) -> Vec<Member> {
    let view = api.replica.view();
    view.store.members().iter().map(|(id, record)| member(id, record)).collect()
}

fn member(id: MemberId, record: &MemberRecord) -> Member {
    Member {
        id: id.0,
        name: record.name.clone(),
        peer_urls: record.peer_urls.clone(),
        client_urls: record.client_urls.clone(),
        is_learner: false,
    }
}
