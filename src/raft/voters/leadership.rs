//! Who leads, in our words.
//!
//! openraft says whose vote counts; it goes on saying so when that leader is long gone. Here a leader is one that is heard
//! of: by its followers through heartbeats, by itself through their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::model::{MemberId, Term};
use crate::raft::adapter::types::Types;
use crate::raft::clock::LogClock;
use crate::raft::storage::machine::{Machine, View};

/// What a member is to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It orders the log.
    Leader,
    /// It follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows and has no vote.
    Learner,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// This member's role.
    pub role: Role,
    /// The term.
    pub term: Term,
    /// The leader of that term, if this member knows one.
    pub leader: Option<MemberId>,
}

/// When the leader was last heard of.
#[derive(Debug)]
pub(in crate::raft) struct Heard {
    start: Instant,
    /// Milliseconds from `start`, and one; zero for never.
    last: AtomicU64,
    /// Silence that ends is news.
    patience: Duration,
    news: Notify,
}

impl Heard {
    /// After `patience` without a word the leader is taken for gone.
    pub(in crate::raft) fn new(patience: Duration) -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), patience, news: Notify::new() }
    }

    /// The leader has just sent something.
    pub(in crate::raft) fn now(&self) {
        let was_silent = !self.lately();
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last.store(ms + 1, Ordering::Relaxed);
        if was_silent {
            self.news.notify_one();
        }
    }

    fn lately(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && self.start.elapsed() <= Duration::from_millis(last - 1) + self.patience
    }
}

/// What is needed to tell who leads.
pub(in crate::raft) struct Follower {
    pub(in crate::raft) member: MemberId,
    pub(in crate::raft) raft: openraft::Raft<Types, Machine>,
    pub(in crate::raft) heard: Arc<Heard>,
    pub(in crate::raft) view: Arc<ArcSwap<View>>,
    pub(in crate::raft) clock: Arc<LogClock>,
    /// How often to look whether the leader is still there.
    pub(in crate::raft) heartbeat: Duration,
}

/// A new leader waits for its first answers; they come within moments.
const FIRST_ANSWERS: Duration = Duration::from_millis(5);

impl Follower {
    fn read(&self) -> Leadership {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched().clone();
        let role = match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Follower | ServerState::Shutdown => Role::Follower,
        };
        // The vote here is the one on disk; the leader may be of a later term, whose vote is still on its way there.
        let vote = &metrics.vote;
        let leader = metrics.current_leader.filter(|leader| *leader == vote.leader_id.voted_for);
        let leader = leader.filter(|_| vote.committed).map(MemberId);
        let term = Term(vote.leader_id.term);
        let heard_of = match role {
            Role::Leader => self.is_followed() && self.takes_over(term),
            Role::Follower | Role::Candidate | Role::Learner => self.heard.lately(),
        };
        match (heard_of, role) {
            (true, _) => Leadership { role, term, leader },
            (false, Role::Leader) => Leadership { role: Role::Follower, term, leader: None },
            (false, _) => Leadership { role, term, leader: None },
        }
    }

    /// As leader: has a majority answered lately?
    fn is_followed(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config.membership().voter_ids().eq([self.member.0]) {
            return true;
        }
        let acked = metrics.last_quorum_acked;
        acked.is_some_and(|acked| openraft::Instant::elapsed(&*acked) <= self.heard.patience)
    }

    /// As leader that is followed: has this member applied what leaders before it put into the log? Then it knows the log's
    /// time as well as any member, and may put something there itself.
    fn takes_over(&self, term: Term) -> bool {
        let has_all = self.view.load().position.term >= term;
        if has_all {
            self.clock.lead();
        }
        has_all
    }

    /// Who leads, for as long as consensus runs; `ended` is called when it does not any more.
    pub(in crate::raft) fn follow(
        self,
        ended: impl FnOnce() + Send + 'static,
    ) -> watch::Receiver<Leadership> {
        let (leadership_tx, leadership_rx) = watch::channel(self.read());
        tokio::spawn(async move {
            let mut metrics = self.raft.server_metrics();
            loop {
                let leads = metrics.borrow_watched().state == ServerState::Leader;
                let waits = leads && leadership_tx.borrow().leader.is_none();
                let pause = if waits { FIRST_ANSWERS } else { self.heartbeat };
                tokio::select! {
                    biased;
                    changed = metrics.changed() => if changed.is_err() { break },
                    () = self.heard.news.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
                let now = self.read();
                leadership_tx.send_if_modified(|before| {
                    let changed = *before != now;
                    *before = now;
                    changed
                });
            }
            ended();
        });
        leadership_rx
    }
}
