//! `etcdserverpb.Maintenance`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use crate::api::context::Context;
use crate::api::v3::call::{Answers, Call};
use crate::api::v3::{header, refused};
use crate::api::{ETCD_VERSION, backup};
use crate::model::MemberId;
use crate::raft::Role;
use crate::replica::request_timeout;
use crate::rpc::{
    DefragmentRequest, DefragmentResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest,
    SnapshotResponse, Status, StatusRequest, StatusResponse, status,
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
    Ok(StatusResponse {
        header: Some(header(&api, &view)),
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
    _: Arc<Context>,
    _: Call,
    _: DefragmentRequest,
) -> Result<DefragmentResponse, Status> {
    Ok(DefragmentResponse { header: None })
}

/// A backup file, as `cairn backup` makes it, in the form that clients of etcd check: filled up to whole sectors, and behind it
/// the SHA-256 of all that.
pub(super) async fn snapshot(
    api: Arc<Context>,
    _: Call,
    _: SnapshotRequest,
) -> Result<Answers<SnapshotResponse>, Status> {
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
    _: Call,
    request: MoveLeaderRequest,
) -> Result<MoveLeaderResponse, Status> {
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
