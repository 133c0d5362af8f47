//! What openraft is told about us.

use std::fmt;

use openraft::RaftTypeConfig;
use openraft::impls::leader_id_std;
use openraft::raft::responder::Responder;

use crate::model::{LogIndex, LogPosition, MemberId, Stamp, StoreIndex, Term};
use crate::raft::adapter::runtime::Runtime;
use crate::store::{Applied, Command};

/// openraft's parameters, spelled out so that a change of its defaults changes nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::raft) struct Types;

impl RaftTypeConfig for Types {
    type D = Proposal;
    /// Writers get their answer when their own member applies the entry, see `requests/tickets.rs`; not from here.
    type R = ();
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
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Callback<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(in crate::raft) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(in crate::raft) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(in crate::raft) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(in crate::raft) type Membership = openraft::Membership<u64, ()>;
pub(in crate::raft) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(in crate::raft) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;

/// openraft counts log entries from 0; the rest of cairn, and etcd, from 1.
pub(in crate::raft) fn log_index(openraft_index: u64) -> LogIndex {
    LogIndex(openraft_index + 1)
}

/// A log id as the floors above know it.
pub(in crate::raft) fn position(log_id: &LogId) -> LogPosition {
    LogPosition { term: Term(log_id.leader_id.term), index: log_index(log_id.index) }
}

/// Calls back with what became of a proposal in the leader's log. Dropped without a call when consensus ends before.
pub(in crate::raft) struct Callback<T>(pub(in crate::raft) Box<dyn FnOnce(T) + Send>);

impl<T: openraft::OptionalSend + 'static> Responder<Types, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// Who waits for the outcome of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) struct Origin {
    /// The member that its client is connected to.
    pub(in crate::raft) member: MemberId,
    /// That member's own number for it; never used again, also not after a restart.
    pub(in crate::raft) ticket: u64,
}

/// What a log entry carries: the moment the leader gave it, who wants to know, and a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::raft) struct Proposal {
    pub(in crate::raft) stamp: Stamp,
    pub(in crate::raft) origin: Origin,
    pub(in crate::raft) command: Command,
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
