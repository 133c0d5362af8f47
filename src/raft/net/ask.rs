//! What a follower asks of its leader: to put writes into the log, how far the log is, and what the floor above wants to know.
//!
//! There is one connection, to the leader; a task of its own owns it. Questions that were never sent are refused at once
//! and may be asked again. When the connection breaks with writes under way, it is made again at once, and begins with a fence
//! that settles them: see `requests/tickets.rs`.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::model::{LogIndex, MemberId, Term, Unavailable};
use crate::raft::Progress;
use crate::raft::net::messages::{self, Propose, ask};
use crate::raft::requests::tickets::Tickets;
use crate::store::Command;
use crate::transport::{Frame, Lane, Link, Transport};

/// Questions that wait for the connection; beyond that, callers wait as well.
const QUESTIONS_BUFFERED: usize = 4096;

/// Questions that go out with one write.
const BATCH_MAX: usize = 256;

/// Pause after a connection could not be made; questions that come meanwhile wait.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest pause when no question waits, but writes are under way to a leader that cannot be reached: the pause doubles up
/// to this.
const PAUSE_MAX: Duration = Duration::from_millis(300);

/// Version of the protocol that knows fences.
const FENCE_SINCE: u8 = 2;

/// Version of the protocol that knows questions of the floor above.
const QUESTIONS_SINCE: u8 = 3;

enum Question {
    Write { leader: MemberId, term: Term, ticket: u64, command: Command },
    Read { leader: MemberId, index_tx: AnswerTx<LogIndex> },
    Progress { leader: MemberId, progress_tx: AnswerTx<BTreeMap<MemberId, Progress>> },
    Above { leader: MemberId, words: Vec<u8>, answer_tx: AnswerTx<Vec<u8>> },
}

/// Dropped without a word, it says that the leader could not be asked.
type AnswerTx<T> = oneshot::Sender<Result<T, Unavailable>>;

impl Question {
    fn leader(&self) -> MemberId {
        match self {
            Self::Write { leader, .. }
            | Self::Read { leader, .. }
            | Self::Progress { leader, .. }
            | Self::Above { leader, .. } => *leader,
        }
    }
}

/// The way to the leader.
#[derive(Clone)]
pub(in crate::raft) struct Asker {
    questions_tx: mpsc::Sender<Question>,
}

impl Asker {
    /// Starts the task; it ends with the last handle, or with `stop`.
    pub(in crate::raft) fn start(
        transport: Arc<Transport>,
        tickets: Arc<Tickets>,
        stop: CancellationToken,
    ) -> Self {
        let (questions_tx, questions_rx) = mpsc::channel(QUESTIONS_BUFFERED);
        let (connections, rounds, owed) = (0, 0, None);
        let task = Task { transport, tickets, questions_rx, connections, rounds, owed };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = task.run() => {}
                () = stop.cancelled() => {}
            }
        });
        Self { questions_tx }
    }

    /// Hands a write to the leader of `term`. Its ticket is refused, or redeemed when the entry is applied here.
    ///
    /// # Errors
    /// [`Unavailable::Stopped`].
    pub(in crate::raft) async fn write(
        &self,
        leader: MemberId,
        term: Term,
        ticket: u64,
        command: Command,
    ) -> Result<(), Unavailable> {
        let question = Question::Write { leader, term, ticket, command };
        self.questions_tx.send(question).await.map_err(|_| Unavailable::Stopped)
    }

    /// Asks the leader up to where the log must be applied before a read is not stale.
    ///
    /// # Errors
    /// [`Unavailable::NotLeader`] when it cannot tell.
    pub(in crate::raft) async fn read_index(
        &self,
        leader: MemberId,
    ) -> Result<LogIndex, Unavailable> {
        let (index_tx, index_rx) = oneshot::channel();
        let question = Question::Read { leader, index_tx };
        self.questions_tx.send(question).await.map_err(|_| Unavailable::Stopped)?;
        index_rx.await.unwrap_or(Err(Unavailable::NotLeader { leader: None }))
    }

    /// Asks the leader how far the followers are.
    ///
    /// # Errors
    /// [`Unavailable::NotLeader`] when it cannot tell.
    pub(in crate::raft) async fn progress(
        &self,
        leader: MemberId,
    ) -> Result<BTreeMap<MemberId, Progress>, Unavailable> {
        let (progress_tx, progress_rx) = oneshot::channel();
        let question = Question::Progress { leader, progress_tx };
        self.questions_tx.send(question).await.map_err(|_| Unavailable::Stopped)?;
        progress_rx.await.unwrap_or(Err(Unavailable::NotLeader { leader: None }))
    }

    /// Asks the leader what the floor above wants to know.
    ///
    /// # Errors
    /// [`Unavailable::NotLeader`] when it cannot tell.
    pub(in crate::raft) async fn question(
        &self,
        leader: MemberId,
        words: Vec<u8>,
    ) -> Result<Vec<u8>, Unavailable> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let question = Question::Above { leader, words, answer_tx };
        self.questions_tx.send(question).await.map_err(|_| Unavailable::Stopped)?;
        answer_rx.await.unwrap_or(Err(Unavailable::NotLeader { leader: None }))
    }
}

struct Task {
    transport: Arc<Transport>,
    tickets: Arc<Tickets>,
    questions_rx: mpsc::Receiver<Question>,
    /// Connections that were made.
    connections: u64,
    /// Questions that want an answer on the connection.
    rounds: u64,
    /// The leader to whom writes may be under way on a connection that broke.
    owed: Option<MemberId>,
}

/// Who waits for an answer, by the number of the question.
#[derive(Default)]
struct Unanswered {
    readers: BTreeMap<u64, AnswerTx<LogIndex>>,
    progress: BTreeMap<u64, AnswerTx<BTreeMap<MemberId, Progress>>>,
    above: BTreeMap<u64, AnswerTx<Vec<u8>>>,
}

impl Task {
    async fn run(mut self) {
        let mut waiting = Vec::new();
        let mut pause = PAUSE;
        loop {
            if self.questions_rx.is_closed() && self.questions_rx.is_empty() {
                return;
            }
            let Some(leader) = self.whom_to_ask(&waiting) else {
                if self.questions_rx.recv_many(&mut waiting, BATCH_MAX).await == 0 {
                    return;
                }
                continue;
            };
            let mut outdated = waiting.extract_if(.., |question| question.leader() != leader);
            outdated.by_ref().for_each(|question| self.refuse(question));
            drop(outdated);
            let transport = Arc::clone(&self.transport);
            let connected = self.while_the_leader_is_the_same(
                leader,
                &mut waiting,
                transport.connect(leader, Lane::Ask),
            );
            match connected.await {
                Some(Ok(link)) => {
                    pause = PAUSE;
                    self.converse(link, &mut waiting).await;
                }
                Some(Err(_)) => {
                    let asked = !waiting.is_empty();
                    waiting.drain(..).for_each(|question| self.refuse(question));
                    pause = if asked { PAUSE } else { PAUSE_MAX.min(2 * pause) };
                    let sleep = tokio::time::sleep(pause);
                    if asked {
                        sleep.await;
                    } else {
                        self.while_the_leader_is_the_same(leader, &mut waiting, sleep).await;
                    }
                }
                // Another leader is to be asked.
                None => {}
            }
        }
    }

    /// The latest question names the leader best; the others may ask again. When no question waits, the leader that may have taken
    /// writes on a connection that broke.
    fn whom_to_ask(&mut self, waiting: &[Question]) -> Option<MemberId> {
        if let Some(question) = waiting.last() {
            return Some(question.leader());
        }
        if self.tickets.unsettled(self.connections + 1).is_none() {
            self.owed = None;
        }
        self.owed
    }

    /// Waits for `work`. Gives it up, and returns `None`, when a question is for another leader, or no question is left.
    async fn while_the_leader_is_the_same<T>(
        &mut self,
        leader: MemberId,
        waiting: &mut Vec<Question>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                count = self.questions_rx.recv_many(waiting, BATCH_MAX), if waiting.len() < BATCH_MAX => {
                    if count == 0 || waiting.iter().any(|question| question.leader() != leader) {
                        return None;
                    }
                }
            }
        }
    }

    /// Talks to one leader until the connection breaks or another leader is to be asked. Leaves what was not
    /// sent in `waiting`.
    async fn converse(&mut self, mut link: Link, waiting: &mut Vec<Question>) {
        self.connections += 1;
        let mut asked = Unanswered::default();
        self.owed = None;
        if link.version >= FENCE_SINCE {
            self.owed = Some(link.peer);
            if let Some(term) = self.tickets.unsettled(self.connections) {
                let fence = messages::encode_fence(term, LogIndex(0));
                if link.outgoing.put(ask::FENCE, &fence).is_err() {
                    return;
                }
            }
        }
        loop {
            if waiting.iter().any(|question| question.leader() != link.peer) {
                return;
            }
            if self.put_all(waiting, &mut link, &mut asked).is_err() {
                return;
            }
            let more = tokio::select! {
               biased;
                answer = link.incoming.next() => match answer {
                    Ok(Some(frame)) => self.hear(&frame, &mut asked).is_ok(),
                    Ok(None) | Err(_) => false,
                },
                // What is cut off here goes on the next time around.
                sent = link.outgoing.flush(), if link.outgoing.is_waiting() => sent.is_ok(),
                count = self.questions_rx.recv_many(waiting, BATCH_MAX) => count > 0,
            };
            if !more {
                // Readers hear of it when their senders are dropped; writers behind the fence of the next connection.
                return;
            }
        }
    }

    fn hear(&self, frame: &Frame, asked: &mut Unanswered) -> io::Result<()> {
        let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        match frame.kind {
            ask::REFUSED => {
                let (ticket, leader) =
                    messages::decode_refused(&frame.payload).map_err(malformed)?;
                self.tickets.refuse(ticket, leader);
            }
            ask::FENCED => {
                let (term, last) = messages::decode_fence(&frame.payload).map_err(malformed)?;
                self.tickets.fence(self.connections, term, last);
            }
            // It does not lead that term any more: an entry of a later term will settle those writes.
            ask::FENCE_REFUSED => {}
            ask::READ_AT | ask::READ_REFUSED => {
                let (round, at) = messages::decode_read(&frame.payload).map_err(malformed)?;
                let answer = if frame.kind == ask::READ_AT {
                    Ok(at)
                } else {
                    Err(Unavailable::NotLeader { leader: None })
                };
                if let Some(index_tx) = asked.readers.remove(&round) {
                    // The reader may have given up.
                    let _ = index_tx.send(answer);
                }
            }
            ask::PROGRESS_IS | ask::PROGRESS_REFUSED => {
                let (round, progress) =
                    messages::decode_progress(&frame.payload).map_err(malformed)?;
                let answer = if frame.kind == ask::PROGRESS_IS {
                    Ok(progress)
                } else {
                    Err(Unavailable::NotLeader { leader: None })
                };
                if let Some(progress_tx) = asked.progress.remove(&round) {
                    // The caller may have given up.
                    let _ = progress_tx.send(answer);
                }
            }
            ask::ANSWER | ask::NO_ANSWER => {
                let (round, words) =
                    messages::decode_question(&frame.payload).map_err(malformed)?;
                let answer = if frame.kind == ask::ANSWER {
                    Ok(words)
                } else {
                    Err(Unavailable::NotLeader { leader: None })
                };
                if let Some(answer_tx) = asked.above.remove(&round) {
                    // The caller may have given up.
                    let _ = answer_tx.send(answer);
                }
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    /// It was sent to no leader.
    fn refuse(&self, question: Question) {
        match question {
            Question::Write { ticket, .. } => self.tickets.refuse(ticket, None),
            // Dropping their senders refuses them.
            Question::Read { .. } | Question::Progress { .. } | Question::Above { .. } => {}
        }
    }

    fn put_all(
        &mut self,
        waiting: &mut Vec<Question>,
        link: &mut Link,
        asked: &mut Unanswered,
    ) -> io::Result<()> {
        let ticket = |question: &Question| match question {
            Question::Write { ticket, .. } => Some(*ticket),
            Question::Read { .. } | Question::Progress { .. } | Question::Above { .. } => None,
        };
        // Before the first byte of them can leave.
        self.tickets.sent(waiting.iter().filter_map(ticket), self.connections);
        for question in waiting.drain(..) {
            self.put(question, link, asked)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        question: Question,
        link: &mut Link,
        asked: &mut Unanswered,
    ) -> io::Result<()> {
        match question {
            Question::Write { term, ticket, command, .. } => {
                let propose = Propose { ticket, term, command };
                link.outgoing.put(ask::PROPOSE, &propose.encode())?;
            }
            Question::Read { index_tx, .. } => {
                self.rounds += 1;
                let read = messages::encode_read(self.rounds, LogIndex(0));
                link.outgoing.put(ask::READ, &read)?;
                asked.readers.insert(self.rounds, index_tx);
            }
            Question::Progress { progress_tx, .. } => {
                self.rounds += 1;
                let question = messages::encode_progress(self.rounds, &BTreeMap::new());
                link.outgoing.put(ask::PROGRESS, &question)?;
                asked.progress.insert(self.rounds, progress_tx);
            }
            // An older leader would not understand it; dropping the sender says that it cannot be asked.
            Question::Above { .. } if link.version < QUESTIONS_SINCE => {}
            Question::Above { words, answer_tx, .. } => {
                self.rounds += 1;
                let question = messages::encode_question(self.rounds, &words);
                link.outgoing.put(ask::QUESTION, &question)?;
                asked.above.insert(self.rounds, answer_tx);
            }
        }
        Ok(())
    }
}
