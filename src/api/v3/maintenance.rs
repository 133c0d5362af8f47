//! `etcdserverpb.Maintenance`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use crate::api::backup;
use crate::api::context::Context;
use crate::api::v3::access::{administrator, asker, manager};
use crate::api::v3::call::{Answers, Call};
use crate::api::v3::{convert, kv, refused, write, wrong_reply};
use crate::model::{ETCD_VERSION, MemberId};
use crate::mvcc::{Alarm, AlarmKind, AlarmRequest, Asker, Reply, Request, Revision};
use crate::raft::Role;
use crate::replica::request_timeout;
use crate::rpc::{
    self, AlarmAction, AlarmMember, AlarmResponse, AlarmType, Code, DefragmentRequest,
    DefragmentResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, Status,
    StatusRequest, StatusResponse, status,
};

/// A snapshot is as many of these, and a check sum.
const SECTOR_BYTES: usize = 512;

/// How this member is. It answers whatever the cluster does.
pub(super) async fn status(
    api: Arc<Context>,
    _: Call,
    _: StatusRequest,
) -> Result<StatusResponse, Status> {
    let state = api.replica.status();
    let leader = state.leadership.leader;
    let view = api.replica.view();
    let file_bytes = (api.settings.checkpoint_bytes)().unwrap_or_default();
    let used_bytes = view.store.bytes();
    let mut errors = Vec::new();
    if leader.is_none() {
        errors.push(status::NO_LEADER.text.into_owned());
    }
    let mvcc = view.store.mvcc();
    errors.extend(mvcc.alarms().map(|alarm| {
        let name = match alarm.kind {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        };
        format!("memberID:{} alarm:{name} ", alarm.member.0)
    }));
    Ok(StatusResponse {
        header: Some(convert::header(&api, mvcc.revision())),
        version: ETCD_VERSION.to_owned(),
        db_size: i64::try_from(file_bytes.max(used_bytes)).unwrap_or(i64::MAX),
        leader: leader.map_or(0, |leader| leader.0),
        raft_index: state.committed.0,
        raft_term: state.leadership.term.0,
        raft_applied_index: state.applied.0,
        errors,
        db_size_in_use: i64::try_from(used_bytes).unwrap_or(i64::MAX),
        is_learner: state.leadership.role == Role::Learner,
    })
}

/// There is nothing to be done: what a checkpoint frees, the next one uses.
pub(super) async fn defragment(
    api: Arc<Context>,
    call: Call,
    _: DefragmentRequest,
) -> Result<DefragmentResponse, Status> {
    manager(&api, &call).await?;
    Ok(DefragmentResponse { header: None })
}

/// A backup file, as `cairn backup` makes it, in the form that clients of etcd check: filled up to whole sectors, and behind it
/// the SHA-256 of all that.
pub(super) async fn snapshot(
    api: Arc<Context>,
    call: Call,
    _: SnapshotRequest,
) -> Result<Answers<SnapshotResponse>, Status> {
    manager(&api, &call).await?;
    let permit = Arc::clone(&api.backups).try_acquire_owned();
    let permit = permit.map_err(|_| status::TOO_MANY_REQUESTS)?;
    api.replica.until_shown().await.map_err(refused::unavailable)?;
    let view = api.replica.view();
    // It has ended when the padding is asked for.
    let blocks = Box::pin(backup::blocks(&api, &view, permit).fuse());
    let state = Some(Sum { blocks, sha: Sha256::new(), bytes: 0, expected: view.store.bytes() });
    Ok(Box::pin(stream::unfold(state, async |state| state?.next().await)))
}

/// A snapshot on its way.
struct Sum<B> {
    blocks: B,
    sha: Sha256,
    bytes: usize,
    /// Roughly: how long the file is shows at its end.
    expected: u64,
}

impl<B: Stream<Item = Bytes> + Unpin> Sum<B> {
    async fn next(mut self) -> Option<(Result<SnapshotResponse, Status>, Option<Self>)> {
        let over = self.bytes % SECTOR_BYTES;
        let blob = match self.blocks.next().await {
            Some(block) => Some(block),
            None if over > 0 => Some(vec![0; SECTOR_BYTES - over].into()),
            None => None,
        };
        let (remaining_bytes, blob, next) = match blob {
            Some(blob) => {
                self.sha.update(&blob);
                self.bytes += blob.len();
                (self.expected.saturating_sub(self.bytes as u64).max(1), blob, Some(self))
            }
            None => (0, self.sha.finalize().to_vec().into(), None),
        };
        Some((Ok(SnapshotResponse { header: None, remaining_bytes, blob }), next))
    }
}

/// Another member is to lead.
pub(super) async fn move_leader(
    api: Arc<Context>,
    call: Call,
    request: MoveLeaderRequest,
) -> Result<MoveLeaderResponse, Status> {
    manager(&api, &call).await?;
    let raft = api.replica.raft();
    let (me, heir) = (api.replica.member().id, MemberId(request.target_id));
    if api.replica.status().leadership.role != Role::Leader {
        return Err(status::NOT_LEADER);
    }
    if heir == me {
        return Ok(MoveLeaderResponse { header: None });
    }
    if !raft.voting().voters.contains(&heir) {
        return Err(status::BAD_TRANSFEREE);
    }
    let patience = request_timeout(api.replica.member().election);
    if !raft.hand_over_to(heir, patience).await {
        return Err(status::TIMEOUT_LEADER_FAILED);
    }
    Ok(MoveLeaderResponse { header: None })
}

/// Lists, raises or clears alarms.
pub(super) async fn alarm(
    api: Arc<Context>,
    call: Call,
    request: rpc::AlarmRequest,
) -> Result<AlarmResponse, Status> {
    let unknown = |what: &str, number: i32| {
        Status::with(Code::InvalidArgument, format!("etcdserver: no alarm has {what} {number}"))
    };
    let kind = match AlarmType::try_from(request.alarm) {
        Ok(AlarmType::None) => None,
        Ok(AlarmType::NoSpace) => Some(AlarmKind::NoSpace),
        Ok(AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
        Err(_) => return Err(unknown("type", request.alarm)),
    };
    // As etcd takes it: zero is a member like any other, not all of them.
    let member = MemberId(request.member_id);
    let change = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => {
            // In etcd this goes through the log: whoever lists alarms to clear them misses none.
            api.replica.read_barrier().await.map_err(refused::unavailable)?;
            let view = api.replica.view();
            let asked = |alarm: &Alarm| kind.is_none_or(|kind| kind == alarm.kind);
            let alarms = view.store.mvcc().alarms().filter(asked).map(alarm_member).collect();
            return Ok(AlarmResponse { header: None, alarms });
        }
        Ok(AlarmAction::Activate) => {
            let kind = kind.ok_or_else(|| unknown("type", request.alarm))?;
            AlarmRequest::Activate(Alarm { member, kind })
        }
        Ok(AlarmAction::Deactivate) => match kind {
            Some(_) => AlarmRequest::Deactivate { member: Some(member), kind },
            // No alarm is of no kind.
            None => {
                asker(&api, &call).await?;
                return Ok(AlarmResponse { header: None, alarms: Vec::new() });
            }
        },
        Err(_) => return Err(unknown("action", request.action)),
    };
    let asker = asker(&api, &call).await?;
    let (_, reply) = write(&api, asker, Request::Alarm(change), call.held).await?;
    let Reply::Alarm(alarms) = reply else { wrong_reply(&reply) };
    Ok(AlarmResponse { header: None, alarms: alarms.into_iter().map(alarm_member).collect() })
}

fn alarm_member(alarm: Alarm) -> AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => AlarmType::NoSpace,
        AlarmKind::Corrupt => AlarmType::Corrupt,
    };
    AlarmMember { member_id: alarm.member.0, alarm: kind.into() }
}

/// This member had to refuse a write for want of room: from now on every member does, until someone has made room and says so.
pub(super) fn raise_no_space(api: &Arc<Context>) {
    let alarm = Alarm { member: api.replica.member().id, kind: AlarmKind::NoSpace };
    if api.replica.view().store.mvcc().alarms().any(|raised| raised == alarm) {
        return;
    }
    let api = Arc::clone(api);
    tokio::spawn(async move {
        let request = Request::Alarm(AlarmRequest::Activate(alarm));
        // If it fails, the next write that is refused raises it.
        let _ = write(&api, Asker::Internal, request, None).await;
    });
}

/// A check sum of this member's state.
pub(super) async fn hash(
    api: Arc<Context>,
    call: Call,
    _: HashRequest,
) -> Result<HashResponse, Status> {
    manager(&api, &call).await?;
    let (header, hash, _) = sum(&api, 0, false).await?;
    Ok(HashResponse { header: Some(header), hash })
}

/// The check sum of the keys up to a revision, as etcd makes it.
pub(super) async fn hash_kv(
    api: Arc<Context>,
    call: Call,
    request: HashKvRequest,
) -> Result<HashKvResponse, Status> {
    administrator(&api, &call).await?;
    let (header, hash, compacted) = sum(&api, request.revision, true).await?;
    let hash_revision = if request.revision > 0 { request.revision } else { header.revision };
    // So etcd says that nothing was ever compacted.
    let compact_revision = compacted.map_or(-1, convert::revision);
    Ok(HashKvResponse { header: Some(header), hash, compact_revision, hash_revision })
}

/// Walks everything, away from the threads that serve.
async fn sum(
    api: &Arc<Context>,
    revision: i64,
    by_revision: bool,
) -> Result<(rpc::ResponseHeader, u32, Option<Revision>), Status> {
    let view = api.replica.view();
    kv::apart(api, move |api| {
        let mvcc = view.store.mvcc();
        let begun = Instant::now();
        let summed = mvcc.hash(convert::revision_of(revision));
        let (hash, compacted) = summed.map_err(refused::mvcc)?;
        api.metrics.hashed(by_revision, begun.elapsed());
        Ok((convert::header(api, mvcc.revision()), hash, compacted))
    })
    .await
}
