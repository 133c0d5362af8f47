//! Requests to consensus: writes, and reads that must not be stale.
//!
//! A write stamps the time and is proposed; both wait for their answer until the request's deadline.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Fate, TimeOut, Unavailable};
use crate::raft::{Answer, ByteBudget, Reserved};
use crate::replica::Replica;
use crate::store::{AuthCommand, Command};

/// etcd waits this long for consensus, and two elections more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause before another try while there is no leader; an election takes much longer.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// How long a write or a quorum read may take: 5 s and two election timeouts, as in etcd.
pub fn request_timeout(election: Duration) -> Duration {
    PATIENCE + 2 * election
}

impl Replica {
    /// As [`Replica::write_held`], of a command of this member's own.
    ///
    /// # Errors
    /// As there.
    pub async fn write(&self, command: Command) -> Result<Answer, Unavailable> {
        self.write_held(command, None).await
    }

    /// Changes users, roles or the flag.
    ///
    /// # Errors
    /// As [`Replica::write_held`].
    pub async fn change_auth(&self, command: AuthCommand) -> Result<Answer, Unavailable> {
        self.write(Command::Auth(command)).await
    }

    /// What requests that are under way may hold of this member's memory.
    pub fn budget(&self) -> &Arc<ByteBudget> {
        self.inner.raft.budget()
    }

    /// Proposes a command through the leader and waits until this member has applied it.
    ///
    /// Dropping the future does not take the command back once it is proposed. `held` is what its request holds of the budget;
    /// it is given back when the fate of the command is known.
    ///
    /// # Errors
    /// After the request's time-out; the error says whether the outcome is known. At once where there is no room for the command.
    pub async fn write_held(
        &self,
        command: Command,
        held: Option<Arc<Reserved>>,
    ) -> Result<Answer, Unavailable> {
        self.check_room(&command)?;
        let _pending = self.inner.stats.pending();
        let deadline = self.deadline();
        loop {
            // A refused proposal has not entered the log and never will, so proposing it again cannot do it twice.
            // Pinned here: it is large, and would be moved twice.
            let attempt = pin!(self.inner.raft.propose_held(command.clone(), held.clone()));
            match deadline.limit(attempt, Fate::Unknown).await {
                Err(Unavailable::NotLeader { .. }) => deadline.pause(Fate::NotWritten).await?,
                done => return done,
            }
        }
    }

    /// Waits until this member's state holds every write that was acknowledged before the call, by whatever member. Puts
    /// nothing into the log.
    ///
    /// # Errors
    /// After the request's time-out.
    pub async fn read_barrier(&self) -> Result<(), Unavailable> {
        let deadline = self.deadline();
        loop {
            match deadline.limit(self.inner.raft.read_barrier(), Fate::Read).await {
                Err(Unavailable::NotLeader { .. }) => deadline.pause(Fate::Read).await?,
                done => {
                    self.inner.stats.count_barrier(done.is_ok());
                    return done;
                }
            }
        }
    }

    /// Waits until this member holds everything that was acknowledged before the call, however long that takes.
    ///
    /// # Errors
    /// [`Unavailable::Stopped`].
    pub async fn catch_up(&self) -> Result<(), Unavailable> {
        loop {
            match self.inner.raft.read_barrier().await {
                Err(Unavailable::NotLeader { .. }) => tokio::time::sleep(RETRY_PAUSE).await,
                done => return done,
            }
        }
    }

    pub(super) fn deadline(&self) -> Deadline<'_> {
        let begun = Instant::now();
        Deadline {
            replica: self,
            begun,
            until: begun + request_timeout(self.inner.member.election),
        }
    }
}

/// How long a request waits for consensus.
pub(super) struct Deadline<'a> {
    replica: &'a Replica,
    begun: Instant,
    until: Instant,
}

impl Deadline<'_> {
    /// Awaits `attempt` until the request's deadline; `fate` is what became of it if that passes.
    pub(super) async fn limit<T>(
        &self,
        attempt: impl Future<Output = Result<T, Unavailable>>,
        fate: Fate,
    ) -> Result<T, Unavailable> {
        let result = match tokio::time::timeout_at(self.until, attempt).await {
            Ok(done) => done,
            Err(_) => Err(self.late(fate)),
        };
        if result.as_ref().is_err_and(|why| !matches!(why, Unavailable::NotLeader { .. })) {
            self.replica.inner.stats.count_failed_proposal();
        }
        result
    }

    /// There is no leader: waits a moment, or until there is one.
    pub(super) async fn pause(&self, fate: Fate) -> Result<(), Unavailable> {
        if Instant::now() + RETRY_PAUSE > self.until {
            self.replica.inner.stats.count_failed_proposal();
            return Err(self.late(fate));
        }
        let mut leadership = self.replica.inner.raft.leadership();
        leadership.mark_unchanged();
        // Either is a reason to try again.
        let _ = tokio::time::timeout(RETRY_PAUSE, leadership.changed()).await;
        Ok(())
    }

    /// Which of etcd's three texts fits.
    fn late(&self, fate: Fate) -> Unavailable {
        let two_elections = 2 * self.replica.inner.member.election;
        let why = match self.replica.inner.stats.leader_since() {
            None => TimeOut::Unclear,
            Some(since) if since > self.begun && since <= self.begun + two_elections => {
                TimeOut::LeaderFailed
            }
            Some(_) => TimeOut::ConnectionLost,
        };
        Unavailable::TimedOut { why, fate }
    }
}
