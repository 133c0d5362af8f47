//! The checkpoint that is on its way to a follower.
//!
//! Owns: which one that is, and for how long after its last piece got through. Never knows: how it is sent, what is on disk.
//! Holds: a follower whose connection broke is sent the rest of the same one; one that has arrived is not sent again.

use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::lock;
use crate::disk::IoMode;
use crate::raft::adapter::types::LogId;
use crate::raft::storage::blocking;
use crate::raft::storage::checkpoint::Checkpoint;

/// A follower whose connection broke gets the rest of the same checkpoint if it is back within this time.
const RESUME: Duration = Duration::from_secs(20);

/// What followers are being sent.
pub(in crate::raft) struct Outgoing {
    sending: Mutex<Option<Sending>>,
    io: IoMode,
}

/// A checkpoint that is on its way to a follower. If the connection breaks, the rest of the same one is sent.
struct Sending {
    checkpoint: Checkpoint,
    until: Instant,
}

impl Outgoing {
    /// Nothing yet.
    pub(in crate::raft) fn new(io: IoMode) -> Self {
        Self { sending: Mutex::default(), io }
    }

    /// The state to send to a follower: `now`, or the one that was being sent a moment ago.
    pub(in crate::raft) fn to_send(&self, now: impl FnOnce() -> Checkpoint) -> Checkpoint {
        let mut sending = lock(&self.sending);
        if let Some(sending) = sending.as_ref().filter(|sending| sending.until > Instant::now()) {
            return sending.checkpoint.clone();
        }
        let before = sending.take();
        drop(sending);
        self.let_go(before);
        now()
    }

    /// A part of it got through. Until then nothing is lost when a later state is sent instead, and to a follower that is away for
    /// long an old one would be sent for nothing.
    pub(in crate::raft) fn got_through(&self, checkpoint: &Checkpoint) {
        let until = Instant::now() + RESUME;
        let mut sending = lock(&self.sending);
        let before = match &mut *sending {
            Some(sending) if sending.checkpoint.applied == checkpoint.applied => {
                sending.until = until;
                None
            }
            // Another follower gets that one.
            Some(sending) if sending.until > Instant::now() => None,
            sending => sending.replace(Sending { checkpoint: checkpoint.clone(), until }),
        };
        drop(sending);
        self.let_go(before);
    }

    /// Waits for `installed`; until then it is not there.
    pub(in crate::raft) async fn while_it_is_on_its_way<T>(
        &self,
        checkpoint: &Checkpoint,
        installed: impl Future<Output = T>,
    ) -> T {
        let mut installed = pin!(installed);
        loop {
            self.got_through(checkpoint);
            if let Ok(done) = tokio::time::timeout(RESUME / 2, &mut installed).await {
                return done;
            }
        }
    }

    /// Is a follower about to get one?
    pub(in crate::raft) fn is_on_its_way(&self) -> bool {
        lock(&self.sending).as_ref().is_some_and(|sending| sending.until > Instant::now())
    }

    /// The receiver has it. The next follower gets a later one: the log may no longer reach back to this one, and then it would be
    /// sent for ever.
    pub(in crate::raft) fn arrived(&self, applied: Option<LogId>) {
        let sent = lock(&self.sending).take_if(|sending| sending.checkpoint.applied == applied);
        self.let_go(sent);
    }

    /// Drops a checkpoint that no follower has asked for lately: it holds on to the memory of an older state.
    pub(in crate::raft) fn forget(&self) {
        let sent = lock(&self.sending).take_if(|sending| sending.until <= Instant::now());
        self.let_go(sent);
    }

    /// Not under the lock, and not on a thread that serves others.
    fn let_go(&self, sent: Option<Sending>) {
        if sent.is_some() {
            blocking::let_go(self.io, sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::storage::checkpoint::tests::checkpoint;

    /// A member joined while the log was long. The leader sent its checkpoint, wrote the next one and purged the log behind
    /// that; the member needed a checkpoint again, and got the first one again, for as long as it asked.
    #[test]
    fn what_has_arrived_is_not_sent_again() {
        let outgoing = Outgoing::new(IoMode::Inline);
        let sent_at = |now| outgoing.to_send(|| checkpoint(now)).applied.unwrap().index;
        outgoing.got_through(&checkpoint(1));
        assert_eq!(sent_at(2), 1, "its connection broke, and the rest is sent");
        outgoing.got_through(&checkpoint(2));
        assert_eq!(sent_at(2), 1, "another follower gets that one");
        outgoing.arrived(checkpoint(1).applied);
        assert_eq!(sent_at(2), 2);
        outgoing.got_through(&checkpoint(2));
        outgoing.arrived(checkpoint(1).applied);
        assert_eq!(sent_at(3), 2, "that was another one");
    }

    /// A member that was away for long was sent the checkpoint that the leader had at the first attempt, installed it, and then
    /// needed the latest one all the same.
    #[test]
    fn a_follower_that_is_away_gets_the_latest() {
        let outgoing = Outgoing::new(IoMode::Inline);
        // The first attempt, which reaches no follower.
        outgoing.to_send(|| checkpoint(1));
        assert_eq!(outgoing.to_send(|| checkpoint(2)).applied, checkpoint(2).applied);
    }
}
