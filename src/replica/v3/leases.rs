//! What clients ask about leases: through the log, or of the leader, which alone knows how long they live.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::model::{DecodeError, Fate, LogTime, Reader, Term, Unavailable, Writer};
use crate::mvcc::{self, Lease, LeaseId};
use crate::raft::Answerer;
use crate::replica::v3::lessor::Renewal;
use crate::replica::{Inner, Replica, request_timeout};
use crate::store::{self, Applied};

/// How long a lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLife {
    /// In all, in seconds.
    pub granted_s: i64,
    /// What is left of it.
    pub left: Duration,
}

/// What a member asks its leader about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    KeepAlive(LeaseId),
    TimeToLive(LeaseId),
}

const KEEP_ALIVE: u8 = 1;
const TIME_TO_LIVE: u8 = 2;

impl Question {
    fn encode(self) -> Vec<u8> {
        let (kind, lease) = match self {
            Self::KeepAlive(lease) => (KEEP_ALIVE, lease),
            Self::TimeToLive(lease) => (TIME_TO_LIVE, lease),
        };
        let mut out = Writer::default();
        out.u8(kind).u64(lease.0.cast_unsigned());
        out.finish()
    }

    /// What a newer member has to add follows behind, and is not for us.
    fn decode(words: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(words);
        let kind = input.u8("question")?;
        let lease = LeaseId(input.u64("lease")?.cast_signed());
        match kind {
            KEEP_ALIVE => Ok(Self::KeepAlive(lease)),
            TIME_TO_LIVE => Ok(Self::TimeToLive(lease)),
            found => Err(DecodeError::Unknown { what: "question", found: found.into() }),
        }
    }
}

/// The leader's answer to either; `None`: there is no such lease.
fn encode_answer(life: Option<LeaseLife>) -> Vec<u8> {
    let mut out = Writer::default();
    out.u8(u8::from(life.is_some()));
    if let Some(LeaseLife { granted_s, left }) = life {
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        out.u64(granted_s.cast_unsigned()).varint(left_ms);
    }
    out.finish()
}

fn decode_answer(words: &[u8]) -> Result<Option<LeaseLife>, DecodeError> {
    let mut input = Reader::new(words);
    if input.u8("lease is there")? == 0 {
        return Ok(None);
    }
    let granted_s = input.u64("granted seconds")?.cast_signed();
    let left = Duration::from_millis(input.varint("milliseconds left")?);
    Ok(Some(LeaseLife { granted_s, left }))
}

impl Replica {
    /// The shortest life of a lease, in seconds: who keeps one alive must be able to live through an election.
    pub fn lease_ttl_min_s(&self) -> i64 {
        let ms = (self.inner.member.election * 3 / 2).as_millis();
        i64::try_from(ms.div_ceil(1000)).unwrap_or(i64::MAX)
    }

    /// How often this member has kept a lease alive while it led.
    pub fn leases_renewed(&self) -> u64 {
        self.inner.hub.lessor().renewed()
    }

    /// How many leases whose time was over this member has ended while it led.
    pub fn leases_expired(&self) -> u64 {
        self.inner.hub.lessor().expired_count()
    }

    /// Keeps a lease alive, and says how long it lives from now on. `None`: there is no such lease. One whose time is over has its
    /// end awaited.
    ///
    /// # Errors
    /// When no leader answers in time.
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<Option<LeaseLife>, Unavailable> {
        self.ask_about_lease(Question::KeepAlive(lease)).await
    }

    /// How long a lease lives. `None`: there is no such lease.
    ///
    /// # Errors
    /// When no leader answers in time.
    pub async fn time_to_live(&self, lease: LeaseId) -> Result<Option<LeaseLife>, Unavailable> {
        self.ask_about_lease(Question::TimeToLive(lease)).await
    }

    async fn ask_about_lease(&self, question: Question) -> Result<Option<LeaseLife>, Unavailable> {
        let deadline = self.deadline();
        loop {
            let asked = self.inner.raft.ask_leader(question.encode());
            match deadline.limit(asked, Fate::Read).await {
                Err(Unavailable::NotLeader { .. }) => deadline.pause(Fate::Read).await?,
                Err(why) => return Err(why),
                Ok(words) => match decode_answer(&words) {
                    Ok(life) => return Ok(life),
                    // It speaks another language; the next leader may not.
                    Err(_) => deadline.pause(Fate::Read).await?,
                },
            }
        }
    }

    /// Answers as leader. `None` when this member does not lead, or is not sure.
    async fn answer_about_lease(&self, question: Question) -> Option<Option<LeaseLife>> {
        let (lease, renew) = match question {
            Question::KeepAlive(lease) => (lease, true),
            Question::TimeToLive(lease) => (lease, false),
        };
        let mut passes = self.inner.hub.lessor().passes();
        let mut knows_all = false;
        loop {
            passes.mark_unchanged();
            let term = self.inner.raft.leads_for_sure()?;
            if !self.lead_leases(term) {
                // It has been elected a moment ago.
                self.inner.raft.read_barrier().await.ok()?;
                knows_all = true;
                if !self.lead_leases(term) {
                    return None;
                }
            }
            let granted_s = self.view().store.mvcc().lease(lease).map(Lease::ttl_s);
            let Some(granted_s) = granted_s else {
                if knows_all {
                    return Some(None);
                }
                // It may have been granted a moment ago, and the client heard of it from another member.
                self.inner.raft.read_barrier().await.ok()?;
                knows_all = true;
                continue;
            };
            let (lessor, ttl) = (self.inner.hub.lessor(), seconds(granted_s));
            if !renew {
                return Some(Some(LeaseLife { granted_s, left: lessor.left(lease, ttl) }));
            }
            let life = LeaseLife { granted_s, left: ttl };
            match lessor.renew(lease, ttl) {
                Renewal::Renewed => return Some(Some(life)),
                Renewal::Recorded(end) => {
                    if self.lift_deadline(term, lease, end).await? {
                        return Some(Some(life));
                    }
                }
                Renewal::Over => passes.changed().await.ok()?,
            }
        }
    }

    /// Has the log say that the lease does not end then. `None` when this member leads no more; `false` when there is no such lease
    /// any more.
    async fn lift_deadline(&self, term: Term, id: LeaseId, end: LogTime) -> Option<bool> {
        let keep_alive = mvcc::Command::internal(mvcc::Request::LeaseKeepAlive { id, end });
        let proposed = self.inner.raft.propose_in(term, store::Command::Mvcc(keep_alive));
        let applied = proposed.await.ok()?.applied;
        let Applied::Mvcc(applied) = applied else {
            unreachable!("a keep-alive came to {applied:?}")
        };
        let is_there = applied.reply.is_ok();
        if is_there {
            self.inner.hub.lessor().lifted(id, end);
        }
        Some(is_there)
    }
}

pub(in crate::replica) fn seconds(ttl_s: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl_s).unwrap_or_default())
}

impl Answerer for Inner {
    fn answer(self: Arc<Self>, question: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> {
        Box::pin(async move {
            // What a newer member asks is for a newer leader.
            let question = Question::decode(&question).ok()?;
            let patience = request_timeout(self.member.election);
            let replica = Replica { inner: self };
            let answer = tokio::time::timeout(patience, replica.answer_about_lease(question));
            Some(encode_answer(answer.await.ok()??))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_members_ask_and_answer_is_read_as_it_was_said() {
        for lease in [LeaseId(1), LeaseId(-1), LeaseId(i64::MAX), LeaseId(i64::MIN)] {
            for question in [Question::KeepAlive(lease), Question::TimeToLive(lease)] {
                let mut words = question.encode();
                assert_eq!(Question::decode(&words).unwrap(), question);
                words.push(7);
                assert_eq!(Question::decode(&words).unwrap(), question, "of a newer member");
            }
        }
        assert!(Question::decode(&[9, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(Question::decode(&[]).is_err());
        let life = LeaseLife { granted_s: 9_000_000_000, left: Duration::from_millis(1234) };
        for answer in [None, Some(life)] {
            assert_eq!(decode_answer(&encode_answer(answer)).unwrap(), answer);
        }
    }
}
