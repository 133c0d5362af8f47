//! The client of one connection, watched from beside its requests: has it ended, and does it take too long?
//!
//! HTTP reads from the socket only when it can use what it reads. A client that sends one byte too many behind a request would
//! hide its own end behind that byte, so the end is also looked for here: the system tells of it whatever is unread. Only
//! behind more bytes than the system itself takes, about 64 KiB, the end cannot arrive; such a client is gone for keep-alive when
//! its own system has given up sending the rest, after some minutes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, Sleep};

use crate::server::connection::{Progress, Timeouts, Wait};
use crate::server::keep_alive::KeepAlive;

/// A client that has closed its sending half in the middle of a watch gets the end of the answer if it takes it within this time.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It says nothing more, and may still listen.
    HalfClosed,
    /// It is gone.
    Reset,
}

/// Waits for the end of the client, also while there are bytes that it sent before and that are not read yet: those never wake
/// this, because it waits for no data, only for urgent ones, which sockets here do not report.
pub(super) async fn client_end(socket: &OwnedWriteHalf) -> End {
    match socket.ready(Interest::PRIORITY | Interest::ERROR).await {
        Ok(ready) if !ready.is_error() => End::HalfClosed,
        Ok(_) | Err(_) => End::Reset,
    }
}

/// Watches one client. Its futures stand on the stack of the connection's task.
pub(super) struct Guard<'a, E> {
    socket: &'a TcpStream,
    keep_alive: KeepAlive,
    timeouts: Timeouts,
    end: Pin<&'a mut E>,
    /// The client has closed its sending half.
    ended: bool,
    clock: Pin<&'a mut Sleep>,
    wait: Wait,
    /// Moved often, unlike the clock, which only looks at it when it fires.
    at: Option<Instant>,
}

impl<'a, E: Future<Output = End>> Guard<'a, E> {
    /// `end` is [`client_end`] of the same socket; `clock` fires at any time.
    pub(super) fn new(
        timeouts: Timeouts,
        keep_alive: KeepAlive,
        socket: &'a OwnedWriteHalf,
        end: Pin<&'a mut E>,
        clock: Pin<&'a mut Sleep>,
    ) -> Self {
        let at = Some(Instant::now() + timeouts.idle);
        let (socket, wait, ended) = (socket.as_ref(), Wait::Request, false);
        Self { socket, keep_alive, timeouts, end, ended, clock, wait, at }
    }

    /// Has the client closed its sending half, as far as [`Guard::poll_end`] knows?
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Ready once, when the client ends.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.ended {
            return Poll::Pending;
        }
        let end = self.end.as_mut().poll(cx);
        self.ended = end.is_ready();
        end
    }

    /// What it was told to wait for.
    pub(super) fn waits_for(&self) -> Wait {
        self.wait
    }

    /// The time for `wait` begins now.
    pub(super) fn wait_for(&mut self, wait: Wait) {
        self.wait = wait;
        let limit = match wait {
            Wait::Request | Wait::Reader => Some(self.timeouts.idle),
            Wait::Rest => Some(self.timeouts.head),
            Wait::Leave => Some(LEAVE_TIMEOUT),
            // Consensus has its own deadline, and only the client may end a wait for an event.
            Wait::Member => None,
        };
        self.at = limit.map(|limit| Instant::now() + limit);
        if let Some(at) = self.at.filter(|at| *at < self.clock.deadline()) {
            self.clock.as_mut().reset(at);
        }
    }

    /// As [`Guard::wait_for`], if something else is waited for than before or there was progress.
    pub(super) fn follow(&mut self, progress: &Progress) {
        let (wait, moved) = progress.look();
        if moved || wait != self.wait {
            self.wait_for(wait);
        }
    }

    /// Ready when the time is over.
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.clock.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            match self.at {
                Some(at) if at <= now => return Poll::Ready(()),
                Some(at) => self.clock.as_mut().reset(at),
                None => {
                    // A connection that has ended is noticed elsewhere.
                    let _ = self.keep_alive.draw(self.socket);
                    self.clock.as_mut().reset(now + self.keep_alive.kept_for());
                }
            }
        }
        Poll::Pending
    }
}
