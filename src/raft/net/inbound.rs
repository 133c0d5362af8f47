//! Calls of peers to us.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use futures_util::{FutureExt, future};
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::base::lock;
use crate::model::{LogIndex, LogTime, MemberId, Term, Unavailable, codes};
use crate::raft::adapter::types::{self, Origin, Types};
use crate::raft::net::messages::{self, Propose, append, ask, snapshot, vote};
use crate::raft::{Raft, Role};
use crate::transport::{
    AcceptError, Frame, Gate, Incoming, Lane, Link, PeerRefusal, Stream as Bytes,
};

/// Refusals and read indexes on their way to one follower.
const REPLIES_BUFFERED: usize = 65_536;

/// Questions of one follower that the floor above has yet to answer; more are refused, and the follower asks again.
const QUESTIONS_MAX: usize = 4096;

/// A stranger that does not give up is refused each time; the log hears of it less often.
const REFUSALS_LOGGED: Duration = Duration::from_secs(30);

/// The last refusal in the log, and when it was written there.
#[derive(Default)]
pub(in crate::raft) struct LastPeerRefusal(Mutex<Option<(String, Instant)>>);

impl LastPeerRefusal {
    /// Is this one worth a line?
    fn is_news(&self, text: &str) -> bool {
        // It guards one value, which is replaced as a whole.
        let mut last = lock(&self.0);
        let known =
            |(known, at): &(String, Instant)| known == text && at.elapsed() < REFUSALS_LOGGED;
        if last.as_ref().is_some_and(known) {
            return false;
        }
        *last = Some((text.to_owned(), Instant::now()));
        true
    }
}

impl Gate for Raft {
    /// One that was removed is still heard as long as it has a vote: it may lead, and have to hand over.
    fn admit(&self, from: MemberId) -> Result<(), PeerRefusal> {
        if self.view().store.members().was_removed(from) && !self.voting().has(from) {
            return Err(PeerRefusal::Removed);
        }
        Ok(())
    }
}

impl Raft {
    /// Serves a connection that a peer has opened, from behind the preface to its end.
    pub async fn serve_peer(&self, stream: Bytes) {
        let accepted = self.shared.transport.accept(stream, self).await;
        let link = match accepted {
            Ok(link) => link,
            Err(error @ AcceptError::Refused { .. }) => {
                let text = error.to_string();
                if self.shared.last_refusal.is_news(&text) {
                    warn!(target: "rafthttp", code = codes::PEER_REFUSED, "a peer was not let in: {text}");
                }
                return;
            }
            Err(AcceptError::Io(error)) => {
                debug!(target: "rafthttp", "a peer did not introduce itself: {error}");
                return;
            }
        };
        let (peer, lane) = (link.peer, link.lane);
        let served = async {
            match lane {
                Lane::Heartbeat | Lane::Log => self.serve_appends(link).await,
                Lane::Vote => self.serve_votes(link).await,
                Lane::Snapshot => self.serve_snapshot(link).await,
                Lane::Ask => {
                    let Some(served) = self.shared.fences.enter(peer, link.accepted) else {
                        return Ok(());
                    };
                    served.run(self.serve_questions(link)).await.unwrap_or(Ok(()))
                }
            }
        };
        let ended = tokio::select! {
            biased;
            ended = served => ended,
            () = self.shared.stop.cancelled() => Ok(()),
        };
        if let Err(error) = ended {
            if error.kind() == io::ErrorKind::InvalidData {
                self.shared.transport.traffic().of(peer).count_received_failure();
                warn!(target: "rafthttp", code = codes::PEER_NOT_UNDERSTOOD, "peer {peer} said what cannot be understood: {error}");
            } else {
                debug!(target: "rafthttp", "a connection of peer {peer} ended: {error}");
            }
        }
    }

    async fn serve_appends(&self, link: Link) -> io::Result<()> {
        let Link { peer, lane, incoming, mut outgoing, open: _open, .. } = link;
        let requests = self.requests(peer, lane, incoming, self.shared.stop.clone());
        let mut answers = pin!(self.raft.stream_append(requests).fuse());
        while let Some(answer) = answers.next().await {
            let mut next = Some(answer);
            while let Some(answer) = next {
                let appended = answer.map_err(io::Error::other)?;
                if !matches!(appended, Err(StreamAppendError::HigherVote(_))) {
                    self.shared.heard.now();
                }
                outgoing.put(
                    append::ANSWER,
                    &messages::encode_appended(&appended, self.known_time()),
                )?;
                // Whatever else is ready goes with it.
                next = answers.next().now_or_never().flatten();
            }
            outgoing.flush().await?;
        }
        Ok(())
    }

    /// Appends as they come in; ends with the connection, with what cannot be understood, and with the member.
    fn requests(
        &self,
        leader: MemberId,
        lane: Lane,
        incoming: Incoming,
        stop: CancellationToken,
    ) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send + use<> {
        let (followers, clock) =
            (Arc::clone(&self.shared.followers), Arc::clone(&self.shared.clock));
        let requests = stream::unfold(incoming, move |mut incoming| {
            let (followers, clock) = (Arc::clone(&followers), Arc::clone(&clock));
            async move {
                let frame = incoming.next().await.ok()??;
                let request = messages::expect(&frame, append::REQUEST)
                    .and_then(|()| messages::decode_append(&frame.payload));
                match request {
                    Ok((request, reading)) => {
                        if let Some(reading) = reading {
                            clock.heard(reading.at);
                            if lane == Lane::Heartbeat {
                                clock.compare(leader, reading.wall);
                            }
                        }
                        followers.received(!request.entries.is_empty(), frame.payload.len());
                        Some((request, incoming))
                    }
                    Err(error) => {
                        warn!(target: "rafthttp", code = codes::PEER_NOT_UNDERSTOOD, "log entries cannot be understood: {error}");
                        None
                    }
                }
            }
        });
        requests.take_until(stop.cancelled_owned())
    }

    /// For a leader that has just started and knows less.
    fn known_time(&self) -> Option<LogTime> {
        self.shared.clock.reading().map(|reading| reading.at)
    }

    async fn serve_votes(&self, mut link: Link) -> io::Result<()> {
        while let Some(frame) = link.incoming.next().await? {
            match frame.kind {
                vote::VOTE | vote::PRE_VOTE => {
                    let request =
                        messages::decode_vote_request(&frame.payload).map_err(malformed)?;
                    let answer = if frame.kind == vote::VOTE {
                        self.raft.vote(request).await
                    } else {
                        self.raft.pre_vote(request).await
                    };
                    let answer = answer.map_err(io::Error::other)?;
                    link.outgoing.put(vote::VOTED, &messages::encode_vote_answer(&answer))?;
                }
                vote::TRANSFER => {
                    let request = messages::decode_transfer(&frame.payload).map_err(malformed)?;
                    let answer = self.raft.handle_transfer_leader(request).await;
                    if let Err(refusal) = answer.map_err(io::Error::other)? {
                        warn!(target: "raft", code = codes::LEADERSHIP_REFUSED, "leadership was not taken over: {refusal}");
                    }
                    link.outgoing.put(vote::TRANSFERRED, &[])?;
                }
                _ => return Err(unknown(&frame)),
            }
            link.outgoing.flush().await?;
        }
        Ok(())
    }

    async fn serve_snapshot(&self, mut link: Link) -> io::Result<()> {
        let arrived =
            self.shared.arrivals.receive(&mut link, self.shared.history, self.shared.io).await?;
        let installing = self.shared.arrivals.installs();
        let installed = self.raft.install_full_snapshot(arrived.vote, arrived.snapshot).await;
        drop(installing);
        match installed {
            Ok(answer) => {
                let vote = messages::encode_one_vote(&answer.vote);
                link.outgoing.put(snapshot::INSTALLED, &vote)?;
            }
            Err(error) => link.outgoing.put(snapshot::FAILED, error.to_string().as_bytes())?,
        }
        link.outgoing.flush().await
    }

    /// Writes and read indexes that a follower asks for, for as long as it does.
    async fn serve_questions(&self, link: Link) -> io::Result<()> {
        let Link { peer, accepted, mut incoming, mut outgoing, open: _open, .. } = link;
        let (replies_tx, mut replies_rx) = mpsc::channel::<(u8, Vec<u8>)>(REPLIES_BUFFERED);
        let open = Arc::new(Semaphore::new(QUESTIONS_MAX));
        let questions = async {
            while let Some(frame) = incoming.next().await? {
                match frame.kind {
                    ask::PROPOSE => {
                        let propose = Propose::decode(&frame.payload).map_err(malformed)?;
                        let bytes = frame.payload.len();
                        self.propose_for(peer, propose, bytes, &replies_tx).await;
                    }
                    ask::READ => {
                        let (round, _) =
                            messages::decode_read(&frame.payload).map_err(malformed)?;
                        self.read_for(round, &replies_tx);
                    }
                    ask::PROGRESS => {
                        let (round, _) =
                            messages::decode_progress(&frame.payload).map_err(malformed)?;
                        self.progress_for(round, &replies_tx).await;
                    }
                    ask::FENCE => {
                        let (term, _) =
                            messages::decode_fence(&frame.payload).map_err(malformed)?;
                        self.fence_for(peer, accepted, term, &replies_tx).await;
                    }
                    ask::QUESTION => {
                        let (round, words) =
                            messages::decode_question(&frame.payload).map_err(malformed)?;
                        self.answer_for(round, words, &open, &replies_tx);
                    }
                    _ => return Err(unknown(&frame)),
                }
            }
            Ok::<_, io::Error>(())
        };
        let replies = async {
            while let Some((kind, payload)) = replies_rx.recv().await {
                outgoing.put(kind, &payload)?;
                while let Ok((kind, payload)) = replies_rx.try_recv() {
                    outgoing.put(kind, &payload)?;
                }
                outgoing.flush().await?;
            }
            Ok::<_, io::Error>(())
        };
        let (questions, replies) = (pin!(questions), pin!(replies));
        future::select(questions, replies).await.factor_first().0
    }

    /// Puts a follower's write into the log, if this member still leads the term it is meant for. The follower sees the
    /// entry when it applies it, so only a refusal is answered.
    async fn propose_for(
        &self,
        peer: MemberId,
        propose: Propose,
        bytes: usize,
        replies: &mpsc::Sender<(u8, Vec<u8>)>,
    ) {
        let Propose { ticket, term, command } = propose;
        let Ok(held) = self.shared.budget.reserve(bytes) else {
            // The follower proposes it again, until its client's deadline.
            let _ = replies.try_send((ask::REFUSED, messages::encode_refused(ticket, None)));
            return;
        };
        let origin = Origin { member: peer, ticket };
        let replies_on_refusal = replies.clone();
        let refused = move |leader: Option<MemberId>| {
            let reply = (ask::REFUSED, messages::encode_refused(ticket, leader));
            // With so many replies waiting the follower does not read any more, and the connection is about to break. Its writer
            // learns of the refusal behind the fence, or when the follower applies an entry of a later term.
            let _ = replies_on_refusal.try_send(reply);
        };
        // A member that is ending cannot even refuse: the connection ends with it.
        let _ = self.put_into_log(term, origin, command, Some(Arc::new(held)), refused).await;
    }

    /// Finds out how far the log is, for readers on a follower.
    fn read_for(&self, round: u64, replies: &mpsc::Sender<(u8, Vec<u8>)>) {
        let (this, replies) = (self.clone(), replies.clone());
        tokio::spawn(async move {
            let reply = match this.read_index().await {
                Ok(at) => (ask::READ_AT, messages::encode_read(round, at)),
                Err(_) => (ask::READ_REFUSED, messages::encode_read(round, LogIndex(0))),
            };
            // The follower may be gone.
            let _ = replies.send(reply).await;
        });
    }

    /// Hands a question to the floor above.
    fn answer_for(
        &self,
        round: u64,
        words: Vec<u8>,
        open: &Arc<Semaphore>,
        replies: &mpsc::Sender<(u8, Vec<u8>)>,
    ) {
        let place = Arc::clone(open).try_acquire_owned();
        let (this, replies) = (self.clone(), replies.clone());
        tokio::spawn(async move {
            let answer = match place.is_ok() {
                true => this.answer_here(words).await,
                false => None,
            };
            let reply = match answer {
                Some(words) => (ask::ANSWER, messages::encode_question(round, &words)),
                None => (ask::NO_ANSWER, messages::encode_question(round, &[])),
            };
            drop(place);
            // The follower may be gone.
            let _ = replies.send(reply).await;
        });
    }

    async fn progress_for(&self, round: u64, replies: &mpsc::Sender<(u8, Vec<u8>)>) {
        let leads = self.leadership.borrow().role == Role::Leader;
        let kind = if leads { ask::PROGRESS_IS } else { ask::PROGRESS_REFUSED };
        // The follower may be gone.
        let _ = replies.send((kind, messages::encode_progress(round, &self.progress()))).await;
    }

    /// A follower is back on connection `accepted` after an earlier one broke: nothing more is taken from those, and the follower
    /// is told behind which entry nothing of theirs can be, if this member leads `term`.
    async fn fence_for(
        &self,
        peer: MemberId,
        accepted: u64,
        term: Term,
        replies: &mpsc::Sender<(u8, Vec<u8>)>,
    ) {
        let last = if self.voting().has(peer) {
            self.shared.fences.fence_off(peer, accepted).await;
            self.last_of_term(term).await
        } else {
            None
        };
        let kind = if last.is_some() { ask::FENCED } else { ask::FENCE_REFUSED };
        // The follower may be gone again.
        let _ = replies.send((kind, messages::encode_fence(term, last.unwrap_or_default()))).await;
    }

    /// The last entry in this member's log behind everything that was proposed before the call; `None` unless it leads `term`.
    pub(in crate::raft) async fn last_of_term(&self, term: Term) -> Option<LogIndex> {
        let me = self.shared.member;
        // Proposals that wait to be handed over come first. Then the question waits in the same queue as they do, so those before it are
        // in the log by then, or refused. The member that leads the term at that moment has led it from its beginning, and no entry was taken out of its log.
        let last = move |state: &openraft::RaftState<Types>| {
            let vote = state.vote_ref();
            let leads =
                vote.committed && (vote.leader_id.term, vote.leader_id.voted_for) == (term.0, me.0);
            let last = state.log_ids.last().filter(|_| leads)?;
            (last.leader_id.term == term.0).then(|| types::log_index(last.index))
        };
        self.shared.handover.emptied().await.ok()?;
        self.raft.with_raft_state(last).await.ok().flatten()
    }

    /// Up to where the log must be applied before a read is not stale. Only the leader can tell.
    pub(in crate::raft) async fn read_index(&self) -> Result<LogIndex, Unavailable> {
        if self.leadership().borrow().role != Role::Leader {
            return Err(Unavailable::NotLeader { leader: None });
        }
        self.linear_read_index().await
    }
}

fn malformed(error: crate::model::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn unknown(frame: &Frame) -> io::Error {
    let text = format!("an unknown message of kind {}", frame.kind);
    io::Error::new(io::ErrorKind::InvalidData, text)
}
