//! One client connection: its bytes, and how far its present request is.
//!
//! A connection may idle for long between requests and wait for ever for an event, but the head of a request must come
//! quickly, its body must not stall, and the answer must be taken. The stream sees the bytes, the exchange sees requests and
//! answers; together they know which of these is waited for. `serve` acts on it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::base::lock;

/// How long a connection waits for its client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// From the first byte of a request to the end of its head; also the longest pause inside a body.
    pub(super) head: Duration,
    /// Between two requests; also the longest time in which a client takes nothing of its answer.
    pub(super) idle: Duration,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// No byte of the next request has come.
    #[default]
    Idle,
    /// The rest of a head has to come.
    Head,
    /// The rest of a body has to come, or has come already and waits for its reader.
    Body,
    /// The rest of a body has to come; its reader has read all that came.
    BodyWanted,
    /// The answer is being made.
    Answer,
    /// The answer is made; the rest of a body that it did not need has to come.
    Unread,
    /// The body of the answer is being handed to HTTP.
    Sending,
    /// As `Sending`, and the next piece comes when there is an event.
    Events,
    /// HTTP has all of the answer, the socket perhaps not.
    Flushing,
    /// As `Flushing`; it was a watch whose client has closed its sending half.
    Leaving,
}

/// What a connection waits for, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The client begins a request.
    Request,
    /// The client completes a head or goes on with a body.
    Rest,
    /// The client takes bytes.
    Reader,
    /// The end of a watch whose client is gone.
    Leave,
    /// This member: consensus, an event.
    Member,
}

/// How far the present request of one connection is, as its stream, its requests and its answers report it.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// What is waited for has changed, or has moved.
    moved: bool,
    /// The socket takes no more bytes for now.
    blocked: bool,
    /// Bytes came that belong to the next request.
    ahead: bool,
    /// The client has closed its sending half.
    ended: bool,
    /// The stream, while HTTP must not hear yet of the end of what the client sends.
    deaf: Option<Waker>,
    /// What the answer left unread of its request's body, and whether its client holds it back until it is asked for.
    unread: Option<(Incoming, bool)>,
    /// The client may still be sending when the connection ends.
    lingers: bool,
}

impl State {
    fn set(&mut self, phase: Phase) {
        if self.phase == phase {
            return;
        }
        self.phase = phase;
        self.moved = true;
        if let Some(deaf) = self.deaf.take() {
            deaf.wake();
        }
    }
}

impl Progress {
    pub(super) fn set(&self, phase: Phase) {
        lock(&self.0).set(phase);
    }

    /// The head of an answer is made, or the last piece of its body.
    pub(super) fn handed_over(&self) {
        let mut state = lock(&self.0);
        if matches!(state.phase, Phase::Sending | Phase::Events) {
            state.set(Phase::Flushing);
        }
    }

    /// Everything that HTTP had to write is written.
    fn flushed(&self) {
        let mut state = lock(&self.0);
        if matches!(state.phase, Phase::Flushing | Phase::Leaving) {
            let begun = std::mem::take(&mut state.ahead);
            state.set(if begun { Phase::Head } else { Phase::Idle });
        }
    }

    /// Bytes came.
    fn read(&self) {
        let mut state = lock(&self.0);
        match state.phase {
            Phase::Idle => state.set(Phase::Head),
            Phase::Head => {}
            Phase::Body | Phase::BodyWanted => {
                state.set(Phase::Body);
                state.moved = true;
            }
            Phase::Unread => {}
            Phase::Answer | Phase::Sending | Phase::Events | Phase::Flushing | Phase::Leaving => {
                state.ahead = true
            }
        }
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        let mut state = lock(&self.0);
        state.moved |= state.blocked != result.is_pending();
        state.blocked = result.is_pending();
    }

    /// The client has closed its sending half.
    pub(super) fn end(&self) {
        let mut state = lock(&self.0);
        state.ended = true;
        state.moved |= state.phase == Phase::Events;
    }

    /// Has the client closed its sending half? Then a watch is over.
    pub(super) fn leaves(&self) -> bool {
        let mut state = lock(&self.0);
        if state.ended {
            state.set(Phase::Leaving);
        }
        state.ended
    }

    /// May HTTP hear of the end of what the client sends? It would give up the request under way: a client that has said all
    /// it has to say still gets its answer. A head or a body that is cut ends there; a watch ends by itself.
    fn hears_the_end(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.0);
        match state.phase {
            Phase::Idle | Phase::Head | Phase::BodyWanted | Phase::Unread => true,
            Phase::Body
            | Phase::Answer
            | Phase::Sending
            | Phase::Events
            | Phase::Flushing
            | Phase::Leaving => {
                state.deaf = Some(cx.waker().clone());
                false
            }
        }
    }

    /// What is waited for, and whether its time begins now.
    pub(super) fn look(&self) -> (Wait, bool) {
        let mut state = lock(&self.0);
        let wait = match state.phase {
            Phase::Leaving => Wait::Leave,
            Phase::Events if state.ended => Wait::Leave,
            _ if state.blocked => Wait::Reader,
            Phase::Idle => Wait::Request,
            Phase::Head | Phase::BodyWanted => Wait::Rest,
            Phase::Body
            | Phase::Answer
            | Phase::Unread
            | Phase::Sending
            | Phase::Events
            | Phase::Flushing => Wait::Member,
        };
        (wait, std::mem::take(&mut state.moved))
    }

    /// The answer does not need the rest of this body. `held_back`: its client sends it only when it is asked for.
    pub(super) fn leave_unread(&self, body: Incoming, held_back: bool) {
        lock(&self.0).unread = Some((body, held_back));
    }

    pub(super) fn take_unread(&self) -> Option<(Incoming, bool)> {
        lock(&self.0).unread.take()
    }

    /// The connection ends with this answer, and its client may still be sending.
    pub(super) fn linger(&self) {
        lock(&self.0).lingers = true;
    }

    pub(super) fn lingers(&self) -> bool {
        lock(&self.0).lingers
    }
}

/// The socket as HTTP sees it. The other half belongs to `serve`, which closes the connection.
pub(super) struct ClientStream {
    socket: OwnedReadHalf,
    progress: Arc<Progress>,
    /// All that the client sends has been read.
    ended: bool,
}

impl ClientStream {
    pub(super) fn new(socket: OwnedReadHalf, progress: Arc<Progress>) -> Self {
        Self { socket, progress, ended: false }
    }

    fn end(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.hears_the_end(cx) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket: &TcpStream = self.socket.as_ref();
        let result = loop {
            match socket.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
            match write(socket) {
                // It was ready no more: this has taken note of it, and the next round waits.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => break Poll::Ready(result),
            }
        };
        self.progress.wrote(&result);
        result
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.ended {
            return self.end(cx);
        }
        match Pin::new(&mut self.socket).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() == before && buffer.remaining() > 0 => {
                self.ended = true;
                self.end(cx)
            }
            Poll::Ready(Ok(())) => {
                self.progress.read();
                Poll::Ready(Ok(()))
            }
            unread @ (Poll::Ready(Err(_)) | Poll::Pending) => unread,
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |socket| socket.try_write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.progress.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |socket| socket.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
