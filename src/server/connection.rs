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

use bytes::Bytes;
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
    /// HTTP/2: no request is under way.
    Quiet,
    /// HTTP/2: requests are under way beside each other.
    Beside,
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
    /// Some bytes have come, the first of which was this.
    has_read: bool,
    begins_with: Option<u8>,
    /// The client may still be sending when the connection ends.
    lingers: bool,
    /// HTTP/2: requests under way.
    requests: usize,
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

    /// HTTP/2: a request is under way beside others.
    pub(super) fn request_begins(&self) {
        let mut state = lock(&self.0);
        state.requests += 1;
        state.set(Phase::Beside);
    }

    /// HTTP/2: a request is over.
    pub(super) fn request_ends(&self) {
        let mut state = lock(&self.0);
        state.requests -= 1;
        if state.requests == 0 {
            state.set(Phase::Quiet);
        }
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
        state.moved |= state.blocked;
        state.blocked = false;
        if matches!(state.phase, Phase::Flushing | Phase::Leaving) {
            let begun = std::mem::take(&mut state.ahead);
            state.set(if begun { Phase::Head } else { Phase::Idle });
        }
    }

    /// Bytes came.
    fn read(&self, bytes: &[u8]) {
        let mut state = lock(&self.0);
        if !std::mem::replace(&mut state.has_read, true) {
            state.begins_with = bytes.first().copied();
        }
        match state.phase {
            Phase::Idle => state.set(Phase::Head),
            Phase::Head => {}
            Phase::Body | Phase::BodyWanted => {
                state.set(Phase::Body);
                state.moved = true;
            }
            Phase::Unread | Phase::Quiet | Phase::Beside => {}
            Phase::Answer | Phase::Sending | Phase::Events | Phase::Flushing | Phase::Leaving => {
                state.ahead = true
            }
        }
    }

    fn wrote(&self, blocked: bool) {
        let mut state = lock(&self.0);
        state.moved |= state.blocked != blocked;
        state.blocked = blocked;
    }

    /// The client takes bytes.
    fn moves(&self) {
        lock(&self.0).moved = true;
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
            Phase::Idle
            | Phase::Head
            | Phase::BodyWanted
            | Phase::Unread
            | Phase::Quiet
            | Phase::Beside => true,
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
            Phase::Idle | Phase::Quiet => Wait::Request,
            Phase::Head | Phase::BodyWanted => Wait::Rest,
            Phase::Body
            | Phase::Answer
            | Phase::Unread
            | Phase::Sending
            | Phase::Events
            | Phase::Flushing
            | Phase::Beside => Wait::Member,
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

    /// The first byte of all.
    pub(super) fn begins_with(&self) -> Option<u8> {
        lock(&self.0).begins_with
    }

    /// The connection ends with this answer, and its client may still be sending.
    pub(super) fn linger(&self) {
        lock(&self.0).lingers = true;
    }

    pub(super) fn lingers(&self) -> bool {
        lock(&self.0).lingers
    }
}

/// A socket's bytes. The other half belongs to `serve`, which closes the connection.
pub(super) struct RawSocket {
    socket: OwnedReadHalf,
    /// Told of bytes that the socket takes from the store of TLS, which HTTP does not see.
    progress: Option<Arc<Progress>>,
}

impl RawSocket {
    pub(super) fn plain(socket: OwnedReadHalf) -> Self {
        Self { socket, progress: None }
    }

    pub(super) fn below_tls(socket: OwnedReadHalf, progress: Arc<Progress>) -> Self {
        Self { socket, progress: Some(progress) }
    }

    fn write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket: &TcpStream = self.socket.as_ref();
        loop {
            std::task::ready!(socket.poll_write_ready(cx))?;
            match write(socket) {
                // It was ready no more: this has taken note of it, and the next round waits.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    if let Some(progress) = &self.progress {
                        progress.moves();
                    }
                    return Poll::Ready(result);
                }
            }
        }
    }
}

impl AsyncRead for RawSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for RawSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |socket| socket.try_write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
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

/// A connection's stream, plain or in TLS, as HTTP sees it.
pub(super) struct ClientStream<S> {
    stream: S,
    /// What the fast path has read and not used; it comes first.
    ahead: Bytes,
    progress: Arc<Progress>,
    /// All that the client sends has been read.
    ended: bool,
}

impl<S> ClientStream<S> {
    pub(super) fn new(stream: S, ahead: Vec<u8>, progress: Arc<Progress>) -> Self {
        Self { stream, ahead: Bytes::from(ahead), progress, ended: false }
    }

    fn end(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.hears_the_end(cx) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if !self.ahead.is_empty() {
            let fits = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(fits));
            self.progress.read(&buffer.filled()[before..]);
            return Poll::Ready(Ok(()));
        }
        if self.ended {
            return self.end(cx);
        }
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() == before && buffer.remaining() > 0 => {
                self.ended = true;
                self.end(cx)
            }
            Poll::Ready(Ok(())) => {
                self.progress.read(&buffer.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            unread @ (Poll::Ready(Err(_)) | Poll::Pending) => unread,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress.wrote(result.is_pending());
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        match &result {
            Poll::Ready(Ok(())) => self.progress.flushed(),
            // TLS has taken what the socket does not take yet.
            Poll::Pending => self.progress.wrote(true),
            Poll::Ready(Err(_)) => {}
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.progress.wrote(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
