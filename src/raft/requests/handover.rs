//! Proposals on their way to openraft's core, which get there in bursts (ADR 34).
//!
//! For whatever wakes it the core makes a round: it writes to the log, publishes its figures, wakes others. A connection's task that
//! hands over its own proposal makes the core run next, for that proposal alone. So proposals wait here until all tasks that are
//! ready have run, and one round takes them all. A proposal without company waits for none.
//!
//! Owns: the order of proposals. Never knows: what is proposed. Holds: what is put in comes out in that order, and
//! [`Handover::emptied`] returns when everything that was put in before it has been handed over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

/// Proposals that wait; beyond that they wait to wait. What they hold of memory counts against the budget of requests.
const WAITING_MAX: usize = 1024;

/// Proposals of one burst.
const BURST_MAX: usize = 256;

/// Where proposals are put in.
pub(in crate::raft) struct Handover<T> {
    waiting_tx: mpsc::Sender<Waiting<T>>,
    under_way: Arc<AtomicUsize>,
}

/// Where bursts come out.
pub(in crate::raft) struct Bursts<T> {
    waiting_rx: mpsc::Receiver<Waiting<T>>,
    under_way: Arc<AtomicUsize>,
}

/// What stands in the queue.
pub(in crate::raft) enum Waiting<T> {
    /// A proposal.
    Proposal(T),
    /// To be told that all before it have been handed over.
    Emptied(oneshot::Sender<()>),
}

/// A proposal whose fate is not known yet, as long as this lives.
pub(in crate::raft) struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The task that hands over has ended, and consensus with it.
#[derive(Debug)]
pub(in crate::raft) struct Ended;

impl<T> Handover<T> {
    /// Both ends.
    pub(in crate::raft) fn new() -> (Self, Bursts<T>) {
        let (waiting_tx, waiting_rx) = mpsc::channel(WAITING_MAX);
        let under_way = Arc::new(AtomicUsize::new(0));
        let bursts = Bursts { waiting_rx, under_way: Arc::clone(&under_way) };
        (Self { waiting_tx, under_way }, bursts)
    }

    /// Counts a proposal, from before it is put in until its fate is known.
    pub(in crate::raft) fn count(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.under_way))
    }

    /// Puts a proposal in; waits while there is no room. It was not put in if the future is dropped before that.
    ///
    /// # Errors
    /// [`Ended`].
    pub(in crate::raft) async fn put(&self, proposal: T) -> Result<(), Ended> {
        self.waiting_tx.send(Waiting::Proposal(proposal)).await.map_err(|_| Ended)
    }

    /// Waits until everything that was put in before the call has been handed over.
    ///
    /// # Errors
    /// [`Ended`].
    pub(in crate::raft) async fn emptied(&self) -> Result<(), Ended> {
        let (emptied_tx, emptied_rx) = oneshot::channel();
        self.waiting_tx.send(Waiting::Emptied(emptied_tx)).await.map_err(|_| Ended)?;
        emptied_rx.await.map_err(|_| Ended)
    }
}

impl<T> Bursts<T> {
    /// Waits for the next burst and adds it to `burst`; `false` when no more can come.
    pub(in crate::raft) async fn next(&mut self, burst: &mut Vec<Waiting<T>>) -> bool {
        if self.waiting_rx.recv_many(burst, BURST_MAX).await == 0 {
            return false;
        }
        if self.under_way.load(Ordering::Relaxed) > 1 {
            // Behind every task that is ready to run, some of which are about to propose.
            tokio::task::yield_now().await;
            while burst.len() < BURST_MAX
                && let Ok(more) = self.waiting_rx.try_recv()
            {
                burst.push(more);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(bursts: &mut Bursts<usize>) -> Vec<usize> {
        let mut burst = Vec::new();
        assert!(bursts.next(&mut burst).await);
        let number = |waiting| match waiting {
            Waiting::Proposal(number) => Some(number),
            Waiting::Emptied(emptied_tx) => {
                emptied_tx.send(()).expect("a task waits for it");
                None
            }
        };
        burst.into_iter().filter_map(number).collect()
    }

    #[tokio::test]
    async fn proposals_of_tasks_that_are_ready_come_out_together_and_in_order() {
        let (handover, mut bursts) = Handover::new();
        let handover = Arc::new(handover);
        let tasks: Vec<_> = (0..10)
            .map(|number| {
                let handover = Arc::clone(&handover);
                tokio::spawn(async move {
                    let counted = handover.count();
                    handover.put(number).await.expect("it is taken");
                    std::future::pending::<()>().await;
                    drop(counted);
                })
            })
            .collect();
        // The first wakes this task, which runs when all have put theirs in.
        assert_eq!(next(&mut bursts).await, (0..10).collect::<Vec<_>>());
        for task in tasks {
            task.abort();
        }
    }

    #[tokio::test]
    async fn a_proposal_without_company_does_not_wait() {
        let (handover, mut bursts) = Handover::new();
        let counted = handover.count();
        handover.put(7).await.expect("it is taken");
        let mut burst = Vec::new();
        let taken = futures_util::FutureExt::now_or_never(bursts.next(&mut burst));
        assert_eq!((taken, burst.len()), (Some(true), 1));
        drop(counted);
        assert_eq!(handover.under_way.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn emptied_means_that_all_before_it_are_out() {
        let (handover, mut bursts) = Handover::new();
        handover.put(1).await.expect("it is taken");
        let mut emptied = std::pin::pin!(handover.emptied());
        assert!(futures_util::poll!(emptied.as_mut()).is_pending());
        assert_eq!(next(&mut bursts).await, [1]);
        emptied.await.expect("it is told");
        drop(bursts);
        assert!(handover.put(2).await.is_err());
        assert!(handover.emptied().await.is_err());
    }
}
