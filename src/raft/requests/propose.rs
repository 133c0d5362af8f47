//! A write's way into the log.

use std::sync::Arc;

use openraft::error::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::vote::RaftLeaderId;

use crate::model::{MemberId, Term, Unavailable};
use crate::raft::Raft;
use crate::raft::adapter::types::{Answer, Callback, Origin, Proposal, Types};
use crate::raft::requests::budget::Reserved;
use crate::raft::requests::handover::{Bursts, Ended, Waiting};
use crate::raft::requests::tickets::Tickets;
use crate::store::Command;

type LeaderId = openraft::type_config::alias::LeaderIdOf<Types>;
type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<Types>;

impl Raft {
    /// As [`Raft::propose_held`], of a command of this member's own, which is small.
    ///
    /// # Errors
    /// As there.
    pub async fn propose(&self, command: Command) -> Result<Answer, Unavailable> {
        self.propose_held(command, None).await
    }

    /// Puts a command into the log, here or on the leader, and waits until this member has applied it. There is no deadline
    /// here. Dropping the future does not take a command back; `held` is kept until its fate is known.
    ///
    /// # Errors
    /// [`Unavailable::NotLeader`] when it did not enter the log and never will; [`Unavailable::Stopped`]; otherwise the
    /// outcome is unknown.
    pub async fn propose_held(
        &self,
        command: Command,
        held: Option<Arc<Reserved>>,
    ) -> Result<Answer, Unavailable> {
        let (leader, term) = self.leader()?;
        self.propose_to(leader, term, command, held).await
    }

    /// As [`Raft::propose`], only if this member leads `term`: what follows from what that leader alone knows must not be done in
    /// the name of a later one.
    ///
    /// # Errors
    /// As there.
    pub async fn propose_in(&self, term: Term, command: Command) -> Result<Answer, Unavailable> {
        let me = self.shared.member;
        match self.leader()? {
            (leader, now) if (leader, now) == (me, term) => {
                self.propose_to(me, term, command, None).await
            }
            (leader, _) => Err(Unavailable::NotLeader { leader: Some(leader) }),
        }
    }

    async fn propose_to(
        &self,
        leader: MemberId,
        term: Term,
        command: Command,
        held: Option<Arc<Reserved>>,
    ) -> Result<Answer, Unavailable> {
        let shared = &self.shared;
        let (ticket, outcome_rx) = shared.tickets.issue(term, held.clone())?;
        let mut unsent = Unsent { tickets: &shared.tickets, ticket: Some(ticket) };
        if leader == shared.member {
            let origin = Origin { member: shared.member, ticket };
            let tickets = Arc::clone(&shared.tickets);
            let refused = move |leader| tickets.refuse(ticket, leader);
            self.put_into_log(term, origin, command, held, refused).await?;
        } else {
            shared.asker.write(leader, term, ticket, command).await?;
        }
        unsent.ticket = None;
        outcome_rx.await.unwrap_or(Err(Unavailable::Stopped))
    }

    /// Puts a command into the log if this member leads `term`; else `refused` is called, with the leader if this member knows it.
    ///
    /// # Errors
    /// When consensus has ended; then `refused` is not called. `held` is kept until the entry is applied or dropped.
    pub(in crate::raft) async fn put_into_log(
        &self,
        term: Term,
        origin: Origin,
        command: Command,
        held: Option<Arc<Reserved>>,
        refused: impl FnOnce(Option<MemberId>) + Send + 'static,
    ) -> Result<(), Unavailable> {
        let Some(stamp) = self.shared.clock.stamp() else {
            // It has been elected, but has not heard from its followers yet.
            refused(None);
            return Ok(());
        };
        let proposal = Proposal { stamp, origin, command };
        let counted = self.shared.handover.count();
        let became = move |result: ClientWriteResult<Types>| {
            drop((held, counted));
            match result {
                // The writer sees it when it is applied.
                Ok(_) => {}
                Err(ClientWriteError::ForwardToLeader(forward)) => {
                    refused(forward.leader_id.map(MemberId));
                }
                // It was in the log and is no more; a later leader may have it all the same. The log will tell.
                Err(ClientWriteError::LogEntryDiscarded(_)) => {}
                Err(
                    ClientWriteError::ChangeMembershipError(_)
                    | ClientWriteError::PreconditionFailed(_),
                ) => unreachable!("no command changes the voters"),
            }
        };
        let leader = LeaderId::new(term.0, self.shared.member.0).to_committed();
        let on_way = OnWay { proposal, leader, became: Callback(Box::new(became)) };
        self.shared.handover.put(on_way).await.map_err(|Ended| Unavailable::Stopped)
    }

    /// Hands proposals over to openraft's core, for as long as there is one.
    pub(in crate::raft) async fn hand_over_proposals(self, mut bursts: Bursts<OnWay>) {
        let mut burst = Vec::new();
        while bursts.next(&mut burst).await {
            for waiting in burst.drain(..) {
                match waiting {
                    Waiting::Proposal(OnWay { proposal, leader, became }) => {
                        let write = self.raft.write(proposal).with_leader(leader);
                        // The core has ended: what waits is dropped, and whoever waits for it is told by others.
                        if write.responder(became).await.is_err() {
                            return;
                        }
                    }
                    Waiting::Emptied(emptied_tx) => {
                        // The follower that asked may be gone.
                        let _ = emptied_tx.send(());
                    }
                }
            }
        }
    }
}

/// A proposal on its way to openraft's core: what the log gets, the leader that it is meant for, and what is to be called then.
pub(in crate::raft) struct OnWay {
    proposal: Proposal,
    leader: CommittedLeaderId,
    became: Callback<ClientWriteResult<Types>>,
}

/// A ticket whose proposal has not left yet. The writer may go away before that; then the ticket is given back.
struct Unsent<'a> {
    tickets: &'a Tickets,
    ticket: Option<u64>,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.tickets.refuse(ticket, None);
        }
    }
}
