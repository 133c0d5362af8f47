//! Outgoing calls to peers, as openraft wants them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use openraft::error::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RPCTypes,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use crate::model::{DecodeError, MemberId};
use crate::raft::adapter::types::{Types, Vote};
use crate::raft::clock::LogClock;
use crate::raft::net::followers::Followers;
use crate::raft::net::messages::{self, append, vote};
use crate::raft::net::transfer;
use crate::raft::storage::checkpoint::{Checkpoint, Checkpoints};
use crate::raft::storage::log::Log;
use crate::transport::{ConnectError, Frame, Lane, Link, PeerRefusal, Transport};

/// Appends that may be on their way to one follower. More would make each smaller, not the whole faster.
const IN_FLIGHT_MAX: usize = 4;

/// Bytes of them.
const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;

/// Pauses between attempts to reach a peer: short at first, for one that restarts, and never long.
const BACKOFF_MS: [u64; 6] = [10, 20, 50, 100, 200, 300];

/// Makes connections to peers.
#[derive(Clone)]
pub(in crate::raft) struct Peers {
    pub(in crate::raft) transport: Arc<Transport>,
    pub(in crate::raft) log: Log,
    pub(in crate::raft) checkpoints: Arc<Checkpoints>,
    pub(in crate::raft) followers: Arc<Followers>,
    pub(in crate::raft) clock: Arc<LogClock>,
    /// A follower that answers no append within this time is taken for lost.
    pub(in crate::raft) patience: Duration,
    /// A peer told this member that it is no longer a member.
    pub(in crate::raft) removed: Arc<Notify>,
}

/// A way to one peer on one lane. The connection is made when it is needed, and kept.
pub(in crate::raft) struct Peer {
    peers: Peers,
    target: MemberId,
    lane: Lane,
    link: Option<Link>,
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &()) -> Peer {
        self.peer(target, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &()) -> Peer {
        self.peer(target, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, _node: &()) -> Peer {
        self.peer(target, Lane::Snapshot)
    }
}

impl Peers {
    fn peer(&self, target: u64, lane: Lane) -> Peer {
        Peer { peers: self.clone(), target: MemberId(target), lane, link: None }
    }
}

impl Peer {
    async fn connect(&self, lane: Lane) -> Result<Link, Unreachable<Types>> {
        let connected = self.peers.transport.connect(self.target, lane).await;
        connected.map_err(|error| {
            if let ConnectError::Refused { refusal: PeerRefusal::Removed, .. } = &error {
                self.peers.removed.notify_one();
            }
            Unreachable::new(&error)
        })
    }

    /// One question on a connection of its own, and its answer.
    async fn ask(&self, kind: u8, payload: &[u8], expected: u8) -> Result<Frame, RPCError<Types>> {
        let mut link = self.connect(Lane::Vote).await?;
        let answer = async {
            link.outgoing.put(kind, payload)?;
            link.outgoing.flush().await?;
            let answer = link.incoming.next().await?;
            answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        let answer = answer.await.map_err(|error| NetworkError::new(&error))?;
        messages::expect(&answer, expected).map_err(malformed)?;
        Ok(answer)
    }
}

fn malformed(error: DecodeError) -> RPCError<Types> {
    NetworkError::new(&error).into()
}

impl NetBackoff<Types> for Peer {
    fn backoff(&self) -> Option<Backoff> {
        let last = BACKOFF_MS[BACKOFF_MS.len() - 1];
        let pauses = BACKOFF_MS.into_iter().chain(std::iter::repeat(last));
        Some(Backoff::new(pauses.map(Duration::from_millis)))
    }
}

impl NetVote<Types> for Peer {
    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer =
            self.ask(vote::VOTE, &messages::encode_vote_request(&rpc), vote::VOTED).await?;
        messages::decode_vote_answer(&answer.payload).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = messages::encode_vote_request(&rpc);
        let answer = self.ask(vote::PRE_VOTE, &request, vote::VOTED).await?;
        messages::decode_vote_answer(&answer.payload).map_err(malformed)
    }
}

impl NetTransferLeader<Types> for Peer {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.ask(vote::TRANSFER, &messages::encode_transfer(&req), vote::TRANSFERRED).await?;
        // Whether it worked shows in who leads next; there is nothing else to do about it.
        Ok(Ok(()))
    }
}

impl NetSnapshot<Types> for Peer {
    type SnapshotData = Checkpoint;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<Types, Checkpoint>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let mut link = self.connect(Lane::Snapshot).await?;
        let sending = transfer::send(&mut link, vote, &snapshot, &self.peers.checkpoints);
        let sent = tokio::select! {
            biased;
            sent = sending => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => {
                    let text = format!("sending a snapshot to {}: {error}", self.target);
                    // With a pause before the next attempt: whatever it was, it need not be over yet.
                    Err(Unreachable::from_string(text).into())
                }
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        };
        // By now it may be the last that holds this state.
        self.peers.checkpoints.let_go(Some(snapshot));
        sent
    }
}

impl NetStreamAppend<Types> for Peer {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.lane == Lane::Log {
            self.peers.log.lag().follows(self.target);
        }
        Box::pin(async move {
            let link = match self.link.take() {
                Some(link) => link,
                None => {
                    let connected = self.connect(self.lane).await;
                    connected
                        .inspect_err(|_| self.peers.followers.failed(self.target, self.lane))?
                }
            };
            Ok(Exchange::new(self, link, input).boxed())
        })
    }
}

/// Appends going out and their answers coming in, in the same order.
///
/// The connection goes back to its peer only when every append has had a good answer; after anything else this end cannot say
/// which answer belongs to what.
struct Exchange<'s, S> {
    peer: &'s mut Peer,
    link: Option<Link>,
    input: S,
    input_ended: bool,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    late: Pin<Box<Sleep>>,
}

struct InFlight {
    term: u64,
    sent: Instant,
    bytes: usize,
}

impl<'s, S> Exchange<'s, S>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    fn new(peer: &'s mut Peer, link: Link, input: S) -> Self {
        let late = Box::pin(tokio::time::sleep(peer.peers.patience));
        let (in_flight, in_flight_bytes) = (VecDeque::new(), 0);
        Self { peer, link: Some(link), input, input_ended: false, in_flight, in_flight_bytes, late }
    }

    /// Takes requests in as long as there is room.
    fn take_in(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        while !self.input_ended
            && self.in_flight.len() < IN_FLIGHT_MAX
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
        {
            let request = match self.input.poll_next_unpin(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => {
                    self.input_ended = true;
                    return Ok(());
                }
                Poll::Ready(Some(request)) => request,
            };
            let encoded = self.peer.peers.log.encoded(&request.entries);
            let payload = messages::encode_append(
                &request,
                encoded.as_deref(),
                self.peer.peers.clock.reading(),
            );
            link.outgoing.put(append::REQUEST, &payload)?;
            let bytes = payload.len();
            self.peer.peers.followers.sent(!request.entries.is_empty(), bytes);
            let term = request.vote.leader_id.term;
            self.in_flight.push_back(InFlight { term, sent: Instant::now(), bytes });
            self.in_flight_bytes += bytes;
        }
        Ok(())
    }

    /// An answer, if one is there.
    fn take_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamAppendResult<Types>, RPCError<Types>>> {
        let Some(link) = &mut self.link else { return Poll::Pending };
        let frame = match link.incoming.poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Some(frame))) => frame,
            Poll::Ready(Ok(None)) => {
                let error = NetworkError::from_string("the other end hung up");
                return Poll::Ready(Err(error.into()));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(NetworkError::new(&error).into())),
        };
        let appended = messages::expect(&frame, append::ANSWER)
            .and_then(|()| messages::decode_appended(&frame.payload));
        let appended = match appended {
            Ok((appended, now)) => {
                if let Some(now) = now {
                    self.peer.peers.clock.told(now);
                }
                appended
            }
            Err(error) => return Poll::Ready(Err(malformed(error))),
        };
        let Some(first) = self.in_flight.pop_front() else {
            let error = NetworkError::from_string("an answer to nothing");
            return Poll::Ready(Err(error.into()));
        };
        self.in_flight_bytes -= first.bytes;
        let peer = &self.peer;
        peer.peers.followers.answered(peer.target, peer.lane, first.sent.elapsed());
        if let (Lane::Log, Ok(Some(matched))) = (peer.lane, &appended) {
            let lag = peer.peers.log.lag();
            for took in lag.acknowledged(peer.target, first.term, matched.index + 1) {
                peer.peers.followers.replicated(peer.target, took);
            }
        }
        Poll::Ready(Ok(appended))
    }

    /// Has the oldest append waited too long?
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(first) = self.in_flight.front() else { return false };
        let deadline = first.sent + self.peer.peers.patience;
        while self.late.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            self.late.as_mut().reset(deadline);
        }
        false
    }

    fn fail(
        &mut self,
        error: RPCError<Types>,
    ) -> Poll<Option<Result<StreamAppendResult<Types>, RPCError<Types>>>> {
        self.link = None;
        self.peer.peers.followers.failed(self.peer.target, self.peer.lane);
        Poll::Ready(Some(Err(error)))
    }
}

impl<S> Stream for Exchange<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    type Item = Result<StreamAppendResult<Types>, RPCError<Types>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.link.is_none() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(answer) = this.take_answer(cx) {
            match answer {
                Ok(appended) => {
                    if appended.is_err() {
                        // The follower has ended its side as well.
                        this.link = None;
                    }
                    return Poll::Ready(Some(Ok(appended)));
                }
                Err(error) => return this.fail(error),
            }
        }
        if let Err(error) = this.take_in(cx) {
            return this.fail(NetworkError::new(&error).into());
        }
        if let Some(link) = &mut this.link
            && let Poll::Ready(Err(error)) = link.outgoing.poll_flush(cx)
        {
            return this.fail(NetworkError::new(&error).into());
        }
        if this.is_late(cx) {
            let timeout = Timeout {
                action: RPCTypes::AppendEntries,
                id: this.peer.peers.transport.identity().member.0,
                target: this.peer.target.0,
                timeout: this.peer.peers.patience,
            };
            return this.fail(timeout.into());
        }
        if this.input_ended && this.in_flight.is_empty() {
            this.peer.link = this.link.take();
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}
