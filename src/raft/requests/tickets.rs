//! Who waits for which entry.
//!
//! A write is answered by the member that its client is connected to, when that member applies the entry: so the client
//! reads its own write there, whichever member leads, and an answer does not depend on the connection over which the write was
//! forwarded. Each proposal carries a ticket; this is where tickets are redeemed.
//!
//! Holds: a ticket is redeemed once. "It did not happen" is said only when it can never happen, because the writer then proposes
//! it again. A proposal is bound to the leader of one term: no other member may put it into a log. So it can never happen
//!
//! - when that leader refused it, or it was never sent;
//! - when an entry of a later term is applied and the ticket is still open: entries stand in the order of their terms;
//! - behind a fence, if the connection it was sent on broke and that leader still leads.
//!
//! # The fence
//!
//! A follower whose connection broke does not know which of its proposals the leader has read. Once it is connected to the same
//! leader again it first sends a fence. The leader then (1) ends the service of all earlier connections of that follower and
//! waits until their tasks are gone, (2) waits until the proposals that are on their way to openraft's core have been handed over
//! (`handover`), then asks the core, through the queue that proposals wait in, whether it leads the term and what its last entry
//! L is, and (3) answers L. When the follower has applied L, the proposals of that term that were
//! sent before are redeemed or refused. Nothing happens twice:
//!
//! - *What was still on its way*: bytes in the buffers of an earlier connection are read by its task alone, and that is gone
//!   after (1). It does not matter whether the leader had noticed the break, nor whether that task had begun: connections are
//!   numbered before the follower hears that it is let in, so before it could send anything on them and before it dialled the
//!   next one; a task that comes to a connection with a number before the fence does not serve it.
//! - *What was read*: it is on its way to the core before (2), or its task was dropped while it waited for room. What is on its way
//!   is handed over in order, and the core takes its queue in order: when it is asked each proposal is in the leader's log up to
//!   L, or refused.
//! - *What follows*: a member that leads a term when (2) is answered has led it from its beginning, its log has only grown
//!   since, and L is an entry of that term. If L is what the follower applies there, its log up to L is the leader's (log
//!   matching), and all tickets of entries up to L are redeemed before the fence counts. Otherwise an entry of a later term
//!   stands at L or before, and the rule above has refused the tickets already.
//! - *A leader that changed in between* does not lead the term at (2) and refuses the fence; then the rule of the later term
//!   holds. So does a leader that restarted: it is elected in a later term.
//! - *Two breaks in a row*: the next fence covers everything that was sent on any connection before it, the one with the fence
//!   that got no answer among them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::base::lock;
use crate::model::{Fate, LogIndex, MemberId, Random, Term, TimeOut, Unavailable};
use crate::raft::adapter::types::Answer;
use crate::raft::requests::budget::Reserved;

/// The entry may have been applied, but not here.
const LOST: Unavailable =
    Unavailable::TimedOut { why: TimeOut::ConnectionLost, fate: Fate::Unknown };

/// What a ticket is redeemed for.
pub(in crate::raft) type Outcome = Result<Answer, Unavailable>;

/// The tickets of one member.
pub(in crate::raft) struct Tickets {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    tickets: BTreeMap<u64, Ticket>,
    /// Readers by the entry they wait for.
    readers: BTreeMap<LogIndex, Vec<oneshot::Sender<()>>>,
    /// Tickets that are refused behind an entry if they are open then.
    fenced: BTreeMap<LogIndex, Vec<u64>>,
    applied: LogIndex,
    term: Term,
    closed: bool,
}

struct Ticket {
    /// The term whose leader was asked.
    term: Term,
    /// The connection that it was sent on to that leader, and nothing is known of it since.
    sent_on: Option<u64>,
    outcome_tx: oneshot::Sender<Outcome>,
    /// What the write holds of the budget, until it is settled.
    _held: Option<Arc<Reserved>>,
}

impl Ticket {
    /// Was it sent on a connection before this one?
    fn sent_before(&self, connection: u64) -> bool {
        self.sent_on.is_some_and(|sent_on| sent_on < connection)
    }
}

impl Tickets {
    /// Numbers start at random: an entry from before a restart must not redeem a ticket from after it.
    pub(in crate::raft) fn new(random: &dyn Random) -> Self {
        Self { state: Mutex::new(State { next: random.next(), ..State::default() }) }
    }

    /// A ticket for a proposal to the leader of `term`; it keeps `held` for as long as it is open.
    ///
    /// # Errors
    /// When that term is over, or the member stops: then nothing may be proposed.
    pub(in crate::raft) fn issue(
        &self,
        term: Term,
        held: Option<Arc<Reserved>>,
    ) -> Result<(u64, oneshot::Receiver<Outcome>), Unavailable> {
        let mut state = self.lock();
        if state.closed {
            return Err(Unavailable::Stopped);
        }
        if term < state.term {
            return Err(Unavailable::NotLeader { leader: None });
        }
        let ticket = state.next;
        state.next = state.next.wrapping_add(1);
        let (outcome_tx, outcome_rx) = oneshot::channel();
        state.tickets.insert(ticket, Ticket { term, sent_on: None, outcome_tx, _held: held });
        Ok((ticket, outcome_rx))
    }

    /// The leader refused the proposal, or was never asked.
    pub(in crate::raft) fn refuse(&self, ticket: u64, leader: Option<MemberId>) {
        let ticket = self.lock().tickets.remove(&ticket);
        redeem(ticket, Err(Unavailable::NotLeader { leader }));
    }

    /// Proposals are about to be sent to the leader on a connection. The task that makes connections counts them from 1 on.
    pub(in crate::raft) fn sent(&self, tickets: impl Iterator<Item = u64>, connection: u64) {
        let mut state = self.lock();
        for number in tickets {
            if let Some(ticket) = state.tickets.get_mut(&number) {
                ticket.sent_on = Some(connection);
            }
        }
    }

    /// The latest term of the proposals that were sent on connections before this one, if a writer still waits for one of them
    /// and nothing is known of it.
    pub(in crate::raft) fn unsettled(&self, connection: u64) -> Option<Term> {
        let state = self.lock();
        let unsettled = state
            .tickets
            .values()
            .filter(|ticket| ticket.sent_before(connection) && !ticket.outcome_tx.is_closed());
        unsettled.map(|ticket| ticket.term).max()
    }

    /// The leader of `term` has put up a fence before `connection`, behind the entry `last`: proposals of that term that were
    /// sent on an earlier connection are in the log up to there, or never will be.
    pub(in crate::raft) fn fence(&self, connection: u64, term: Term, last: LogIndex) {
        let mut state = self.lock();
        let mut fenced = Vec::new();
        for (number, ticket) in &mut state.tickets {
            if ticket.term == term && ticket.sent_before(connection) {
                ticket.sent_on = None;
                fenced.push(*number);
            }
        }
        state.fenced.entry(last).or_default().extend(fenced);
        let applied = state.applied;
        state.refuse_fenced(applied);
    }

    /// Entries were applied and published. `answers` are those of this member's own tickets among them.
    pub(in crate::raft) fn applied(
        &self,
        upto: LogIndex,
        term: Term,
        answers: impl Iterator<Item = (u64, Answer)>,
    ) {
        let mut state = self.lock();
        for (ticket, answer) in answers {
            // No ticket is left from before a restart.
            redeem(state.tickets.remove(&ticket), Ok(answer));
        }
        if term > state.term {
            state.term = term;
            // What the leader of an earlier term had taken and did not get into the log before this entry never will be.
            let late = state.tickets.iter().filter(|(_, ticket)| ticket.term < term);
            let late: Vec<_> = late.map(|(number, _)| *number).collect();
            for number in late {
                let refusal = Err(Unavailable::NotLeader { leader: None });
                redeem(state.tickets.remove(&number), refusal);
            }
        }
        state.advance(upto);
    }

    /// A snapshot took the place of the entries up to `upto`. Which tickets were among them can no longer be told.
    pub(in crate::raft) fn skipped(&self, upto: LogIndex, term: Term) {
        let mut state = self.lock();
        for (_, ticket) in std::mem::take(&mut state.tickets) {
            redeem(Some(ticket), Err(LOST));
        }
        state.fenced.clear();
        state.term = state.term.max(term);
        state.advance(upto);
    }

    /// Waits until the entry at `index` is applied and published. `false` when the member stops before.
    pub(in crate::raft) async fn reach(&self, index: LogIndex) -> bool {
        let reached = {
            let mut state = self.lock();
            if state.applied >= index {
                return true;
            }
            if state.closed {
                return false;
            }
            let (reached_tx, reached_rx) = oneshot::channel();
            state.readers.entry(index).or_default().push(reached_tx);
            reached_rx
        };
        reached.await.is_ok()
    }

    /// The member stops: no ticket gets an answer any more.
    pub(in crate::raft) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.readers.clear();
        for (_, ticket) in std::mem::take(&mut state.tickets) {
            redeem(Some(ticket), Err(Unavailable::Interrupted));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below panics half-way, so a poisoned lock still guards whole maps.
        lock(&self.state)
    }
}

impl State {
    fn refuse_fenced(&mut self, upto: LogIndex) {
        while let Some(first) = self.fenced.first_entry() {
            if *first.key() > upto {
                break;
            }
            for number in first.remove() {
                let refusal = Err(Unavailable::NotLeader { leader: None });
                redeem(self.tickets.remove(&number), refusal);
            }
        }
    }

    /// Tasks that wait for an entry up to `upto` go on. The tickets of those entries are redeemed already.
    fn advance(&mut self, upto: LogIndex) {
        self.applied = upto;
        self.refuse_fenced(upto);
        while let Some(first) = self.readers.first_entry() {
            if *first.key() > upto {
                break;
            }
            for reader in first.remove() {
                // A reader that hung up misses nothing.
                let _ = reader.send(());
            }
        }
    }
}

fn redeem(ticket: Option<Ticket>, outcome: Outcome) {
    if let Some(ticket) = ticket {
        // A writer that hung up misses nothing.
        let _ = ticket.outcome_tx.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LogPosition, StoreIndex};
    use crate::store::Applied;

    struct Fixed(u64);

    impl Random for Fixed {
        fn next(&self) -> u64 {
            self.0
        }
    }

    fn answer(index: u64, term: u64) -> Answer {
        let position = LogPosition { term: Term(term), index: LogIndex(index) };
        Answer { applied: Applied::Recorded, index: StoreIndex(index), position }
    }

    fn unavailable(outcome: Outcome) -> Unavailable {
        outcome.expect_err("no answer")
    }

    #[tokio::test]
    async fn a_ticket_is_redeemed_when_its_entry_is_applied() {
        let tickets = Tickets::new(&Fixed(u64::MAX));
        let (first, first_rx) = tickets.issue(Term(1), None).unwrap();
        let (second, second_rx) = tickets.issue(Term(1), None).unwrap();
        assert_eq!((first, second), (u64::MAX, 0), "numbers may wrap");
        tickets.applied(LogIndex(5), Term(1), [(second, answer(5, 1))].into_iter());
        assert_eq!(second_rx.await.unwrap().unwrap().index, StoreIndex(5));
        tickets.refuse(first, Some(MemberId(3)));
        let refusal = unavailable(first_rx.await.unwrap());
        assert_eq!(refusal, Unavailable::NotLeader { leader: Some(MemberId(3)) });
    }

    #[tokio::test]
    async fn what_a_later_term_left_behind_did_not_happen() {
        let tickets = Tickets::new(&Fixed(1));
        let (old, old_rx) = tickets.issue(Term(1), None).unwrap();
        let (_, new_rx) = tickets.issue(Term(2), None).unwrap();
        // An entry of the old term, applied in the same batch as one of the new term, still counts.
        let (kept, kept_rx) = tickets.issue(Term(1), None).unwrap();
        tickets.applied(LogIndex(9), Term(2), [(kept, answer(8, 1))].into_iter());
        assert!(kept_rx.await.unwrap().is_ok());
        let refusal = unavailable(old_rx.await.unwrap());
        assert_eq!(refusal, Unavailable::NotLeader { leader: None });
        // Too late for the old leader; the ticket is gone, and no other is to be had from that term.
        tickets.applied(LogIndex(10), Term(2), [(old, answer(10, 1))].into_iter());
        assert!(tickets.issue(Term(1), None).is_err());
        tickets.close();
        assert_eq!(unavailable(new_rx.await.unwrap()), Unavailable::Interrupted);
    }

    #[tokio::test]
    async fn behind_a_fence_what_was_sent_before_did_not_happen() {
        let tickets = Tickets::new(&Fixed(1));
        let (first, first_rx) = tickets.issue(Term(2), None).unwrap();
        let (second, second_rx) = tickets.issue(Term(2), None).unwrap();
        let (later, mut later_rx) = tickets.issue(Term(2), None).unwrap();
        let (other_term, mut other_term_rx) = tickets.issue(Term(3), None).unwrap();
        let (_unsent, mut unsent_rx) = tickets.issue(Term(2), None).unwrap();
        assert_eq!(tickets.unsettled(9), None);
        tickets.sent([first, second, other_term].into_iter(), 1);
        tickets.sent([later].into_iter(), 2);
        assert_eq!((tickets.unsettled(1), tickets.unsettled(2)), (None, Some(Term(3))));
        tickets.fence(2, Term(2), LogIndex(7));
        tickets.applied(LogIndex(6), Term(2), std::iter::empty());
        // The one that is in the log at the fence is redeemed with the batch that reaches it.
        tickets.applied(LogIndex(8), Term(2), [(second, answer(7, 2))].into_iter());
        let refusal = unavailable(first_rx.await.unwrap());
        assert_eq!(refusal, Unavailable::NotLeader { leader: None });
        assert!(second_rx.await.unwrap().is_ok());
        for open in [&mut later_rx, &mut other_term_rx, &mut unsent_rx] {
            assert!(open.try_recv().is_err(), "that one may still happen");
        }
        // A fence behind what is applied already counts at once; it covers all connections before it.
        tickets.fence(3, Term(2), LogIndex(8));
        assert!(unavailable(later_rx.await.unwrap()) == refusal);
        assert_eq!(tickets.unsettled(3), Some(Term(3)));
        drop(other_term_rx);
        assert_eq!(tickets.unsettled(3), None, "no writer waits for it");
    }

    #[tokio::test]
    async fn a_fence_that_is_not_reached_in_its_term_leaves_it_to_the_later_term() {
        let tickets = Tickets::new(&Fixed(1));
        let (old, old_rx) = tickets.issue(Term(1), None).unwrap();
        tickets.sent([old].into_iter(), 1);
        tickets.fence(2, Term(1), LogIndex(9));
        assert_eq!(tickets.unsettled(2), None, "a fence is enough");
        tickets.applied(LogIndex(5), Term(2), std::iter::empty());
        let refusal = unavailable(old_rx.await.unwrap());
        assert_eq!(refusal, Unavailable::NotLeader { leader: None });
        tickets.applied(LogIndex(9), Term(2), std::iter::empty());
    }

    #[tokio::test]
    async fn the_outcome_of_what_a_snapshot_covers_is_unknown() {
        let tickets = Tickets::new(&Fixed(1));
        let (_, outcome_rx) = tickets.issue(Term(1), None).unwrap();
        tickets.skipped(LogIndex(100), Term(1));
        assert_eq!(unavailable(outcome_rx.await.unwrap()), LOST);
        assert!(tickets.reach(LogIndex(100)).await);
    }

    #[tokio::test]
    async fn readers_wait_for_their_entry() {
        let tickets = Tickets::new(&Fixed(1));
        let reader = tickets.reach(LogIndex(7));
        tokio::pin!(reader);
        tickets.applied(LogIndex(6), Term(1), std::iter::empty());
        assert!(futures_util::poll!(reader.as_mut()).is_pending());
        tickets.applied(LogIndex(8), Term(1), std::iter::empty());
        assert!(reader.await);
        let late = tickets.reach(LogIndex(9));
        tokio::pin!(late);
        assert!(futures_util::poll!(late.as_mut()).is_pending());
        tickets.close();
        assert!(!late.await);
    }
}
