//! One client connection: HTTP/1 on a stream that knows when to lose timeouts.
//!
//! A connection may idle for long between requests and wait for ever for an event, but the head of a request must come
//! quickly and its body must not stall. The stream sees the bytes, the service sees the requests; together they know
//! which of these it is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a connection waits for its client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// From the first byte of a request to the end of its head; also the longest pause inside a body.
    pub(super) head: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// The next request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body, which may have come already.
    Body,
    /// The rest of a body, and whoever reads it has read all that came.
    BodyWanted,
    /// Nothing from the client: it waits for our answer.
    Answer,
    /// Nothing from the client: it waits for events, for as long as it wants.
    Events,
}

/// The phase of one connection, shared by its stream and its requests.
#[derive(Debug, Default)]
pub(super) struct Phases {
    phase: AtomicU8,
    /// The stream, while the client has closed its sending half and HTTP must not hear of it yet.
    deaf: AtomicWaker,
}

impl Phases {
    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        self.deaf.wake();
    }

    fn get(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Body,
            3 => Phase::BodyWanted,
            4 => Phase::Answer,
            _ => Phase::Events,
        }
    }

    /// A request's head is complete. Called before anything else is read.
    pub(super) fn request(self: &Arc<Self>, body: Incoming) -> TrackedBody {
        self.set(if body.is_end_stream() { Phase::Answer } else { Phase::Body });
        TrackedBody { body, phases: Arc::clone(self) }
    }

    /// The answer's head is complete. Whatever comes next from the client is another request.
    pub(super) fn answered(&self, streams_on: bool) {
        self.set(if streams_on { Phase::Events } else { Phase::Idle });
    }
}

/// A request's body that notes when it has been read.
pub(super) struct TrackedBody {
    body: Incoming,
    phases: Arc<Phases>,
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.phases.set(Phase::BodyWanted);
            return Poll::Pending;
        };
        if frame.is_none() || self.body.is_end_stream() {
            self.phases.set(Phase::Answer);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose reads fail when the client takes too long.
pub(super) struct TimedStream<S> {
    stream: S,
    phases: Arc<Phases>,
    timeouts: Timeouts,
    /// When the present phase runs out; moved often, unlike the timer, which only looks at it when it fires.
    deadline: Instant,
    waiting_for: Phase,
    /// The client has closed its sending half.
    half_closed: bool,
    timer: Pin<Box<Sleep>>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, timeouts: Timeouts) -> (Self, Arc<Phases>) {
        let phases = Arc::new(Phases::default());
        let deadline = Instant::now() + timeouts.idle;
        let stream = Self {
            stream,
            phases: Arc::clone(&phases),
            timeouts,
            deadline,
            waiting_for: Phase::Idle,
            half_closed: false,
            timer: Box::pin(tokio::time::sleep(timeouts.head.min(timeouts.idle))),
        };
        (stream, phases)
    }

    /// Bytes came: what is waited for now, and until when?
    fn read_some(&mut self) {
        let phase = match self.phases.get() {
            Phase::Idle => {
                self.phases.set(Phase::Head);
                Phase::Head
            }
            Phase::BodyWanted => {
                self.phases.set(Phase::Body);
                Phase::Body
            }
            phase @ (Phase::Head | Phase::Body | Phase::Answer | Phase::Events) => phase,
        };
        // A head has its time as a whole; a body only must not stall.
        if phase != self.waiting_for || phase == Phase::Body {
            self.wait_for(phase);
        }
    }

    fn wait_for(&mut self, phase: Phase) {
        self.waiting_for = phase;
        let timeouts = match phase {
            Phase::Head | Phase::Body | Phase::BodyWanted => self.timeouts.head,
            Phase::Idle | Phase::Answer | Phase::Events => self.timeouts.idle,
        };
        self.deadline = Instant::now() + timeouts;
    }

    /// The client has said all it has to say. It still gets the answer to what it said; hyper, which looks for the end
    /// while it serves a request, would hang up at once. A head or a body that is cut ends here, and so does a watch: nobody
    /// listens any more, most likely.
    fn end(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.phases.deaf.register(cx.waker());
        match self.phases.get() {
            Phase::Body | Phase::Answer => Poll::Pending,
            Phase::Idle | Phase::Head | Phase::BodyWanted | Phase::Events => Poll::Ready(Ok(())),
        }
    }

    /// No bytes: is the timeouts over?
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let phase = self.phases.get();
        if phase != self.waiting_for {
            self.wait_for(phase);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now < self.deadline {
                self.timer.as_mut().reset(self.deadline);
            } else if matches!(phase, Phase::Answer | Phase::Events) {
                // Consensus has its own deadline, and only the client may end a wait for an event.
                self.wait_for(phase);
                self.timer.as_mut().reset(self.deadline);
            } else {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the client took too long"));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.half_closed {
            return self.end(cx);
        }
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() == before && buffer.remaining() > 0 => {
                self.half_closed = true;
                self.end(cx)
            }
            Poll::Ready(Ok(())) => {
                self.read_some();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match self.check(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
