//! What openraft is told about us.

use std::fmt;

use openraft::RaftTypeConfig;
use openraft::impls::{OneshotResponder, TokioRuntime, leader_id_std};

use crate::model::{LogIndex, LogPosition, LogTime, StoreIndex, Term};
use crate::store::{Applied, Command};

/// openraft's parameters, spelled out so that a change of its defaults changes nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Types;

impl RaftTypeConfig for Types {
    type D = Proposal;
    type R = Answer;
    type NodeId = u64;
    /// Where a member is reached stands in the store, which has one place for it.
    type Node = ();
    type Term = u64;
    /// At most one leader in a term, as in the Raft paper.
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Proposal, u64, ()>;
    type Entry =
        openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(super) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(super) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(super) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(super) type Membership = openraft::Membership<u64, ()>;
pub(super) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;

/// openraft counts log entries from 0, everybody else from 1.
pub(super) fn log_index(openraft_index: u64) -> LogIndex {
    LogIndex(openraft_index + 1)
}

/// A log id as the floors above know it.
pub(super) fn position(log_id: &LogId) -> LogPosition {
    LogPosition { term: Term(log_id.leader_id.term), index: log_index(log_id.index) }
}

/// What a log entry carries: a command, and the moment the leader gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) at: LogTime,
    pub(super) command: Command,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.command)
    }
}

/// What came of a proposal.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The outcome.
    pub applied: Applied,
    /// The store's index afterwards.
    pub index: StoreIndex,
    /// Where the entry stands in the log.
    pub position: LogPosition,
}
