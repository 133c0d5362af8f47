//! A member that goes on without the others: they are lost for good, and with them the majority.
//!
//! An entry is appended, before consensus starts, that makes this member the only voter. Everything in its log counts from
//! there on: it may hold what was acknowledged, and no other member is left that could tell.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, RaftLogStorage};
use tracing::warn;

use crate::model::{MemberId, codes};
use crate::raft::StartError;
use crate::raft::adapter::types::{Entry, Membership, Vote};
use crate::raft::storage::checkpoint::Checkpoint;
use crate::raft::storage::encoding;
use crate::raft::storage::log::Log;

/// Makes `member` the only voter.
///
/// # Errors
/// When the log cannot be read or written, or there is nothing in it.
pub(in crate::raft) async fn go_alone(
    member: MemberId,
    log: &mut Log,
    start: &Checkpoint,
) -> Result<(), StartError> {
    let fail = |error: std::io::Error| StartError::Raft(error.to_string());
    let state = log.get_log_state().await.map_err(fail)?;
    let last = state.last_log_id.max(start.applied);
    let Some(last) = last else {
        let text = "--force-new-cluster: this member has no log to go on with";
        return Err(StartError::Raft(text.to_owned()));
    };
    let voted = log.read_vote().await.map_err(fail)?.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.leader_id.term) + 1;
    let voters = vec![BTreeSet::from([member.0])];
    let membership = Membership::new(voters, BTreeMap::from([(member.0, ())]))
        .expect("one voter is a membership");
    let log_id = encoding::log_id(term, last.index + 1);
    let entry = Entry { log_id, payload: EntryPayload::Membership(membership) };
    log.save_vote(&Vote::new(term, member.0)).await.map_err(fail)?;
    log.append([entry], IOFlushed::noop()).await.map_err(fail)?;
    // Whatever is asked of the log next waits until the entry is safe: once more the vote.
    log.save_vote(&Vote::new(term, member.0)).await.map_err(fail)?;
    warn!(
        target: "etcdserver",
        code = codes::ALONE,
        "going on alone from entry {} of the log: the other members are no longer part of the cluster",
        last.index + 1
    );
    Ok(())
}
