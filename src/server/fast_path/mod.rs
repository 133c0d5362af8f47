//! Requests that come whole and plain, served without the HTTP library.
//!
//! Nearly all requests are such: a head without anything odd, a short body, an answer. Here they take one read, one write, a fifth less
//! processor time, and a connection that waits, for a request or for an event, holds no buffer at all. Everything else goes to
//! the library with the bytes that were read, and stays there for the rest of the connection: heads that come in pieces, large
//! bodies, chunks, expectations, `HEAD`, HTTP/1.0, and whatever is wrong. So there is one judge of what is odd, and it is not here.
//!
//! Owns: which requests are fast, and their answers on the wire. Never knows: what is asked for.

mod answer;
#[cfg(test)]
pub(super) mod costs;
mod date;
pub(super) mod head;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::Either;
use http::header::CONNECTION;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;
use tokio_util::sync::WaitForCancellationFuture;

use crate::api::{self, Answer, Body, Plain};
use crate::server::connection::{Progress, Wait};
use crate::server::fast_path::answer::{CHUNK_END, HEAD_BYTES, LAST_CHUNK, Length};
use crate::server::fast_path::head::Head;
use crate::server::guard::{End, Guard};

/// A request with its body, and what its client sent ahead. Longer ones go to the library.
const READ_BYTES_MAX: usize = 8 << 10;

/// Pieces of an answer up to this size are written together.
const WRITE_BYTES: usize = 64 << 10;

/// A request that was read.
#[expect(clippy::large_enum_variant, reason = "one of the key space is about as large")]
enum Taken<R> {
    /// One that was read where it stood.
    InPlace(R),
    /// Any other.
    Request(Request<Full<Bytes>>),
}

/// Headers as bytes, as [`FastPath::common`] wants them.
pub(super) fn rendered(headers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::new();
    answer::fields(&mut out, headers);
    out
}

/// How a connection leaves the fast path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is over.
    Over,
    /// The library goes on with these bytes, which were read and not used; no request came before them.
    First(Vec<u8>),
    /// The same behind requests that were answered.
    Next(Vec<u8>),
}

/// The client has ended or taken too long, or the socket has failed.
struct Gone;

/// One connection, as long as its requests are plain.
pub(super) struct FastPath<'a, 'g, 's, S, E> {
    pub(super) stream: &'a mut S,
    pub(super) guard: &'a mut Guard<'g, E>,
    /// Told when the socket takes bytes out of the store of TLS.
    pub(super) progress: &'a Progress,
    /// Ready when the connection is to end behind the request under way.
    pub(super) stop: Pin<&'a mut WaitForCancellationFuture<'s>>,
    /// As `--max-headers`.
    pub(super) headers_max: usize,
    /// The headers that all successes of the key space have, as they are sent.
    pub(super) common: &'a [u8],
    /// The answer under way is a watch.
    pub(super) watches: bool,
}

impl<S, E> FastPath<'_, '_, '_, S, E>
where
    S: AsyncRead + AsyncWrite + Unpin,
    E: Future<Output = End>,
{
    /// Serves requests while they are plain. `read_in_place` takes those that need not become types of the HTTP
    /// library, and `answer_in_place` answers them; `answer` answers all others.
    pub(super) async fn serve<R, D, F>(
        mut self,
        mut read_in_place: impl FnMut(&Plain<'_>) -> Option<R>,
        mut answer_in_place: impl FnMut(R) -> D,
        mut answer: impl FnMut(Request<Full<Bytes>>) -> F,
    ) -> Outcome
    where
        D: Future<Output = Answer>,
        F: Future<Output = Response<Body>>,
    {
        let mut read = Vec::new();
        let mut has_answered = false;
        loop {
            let request = match self.request(&mut read, &mut read_in_place).await {
                Ok(Some(request)) => request,
                Ok(None) if has_answered => return Outcome::Next(read),
                Ok(None) => return Outcome::First(read),
                Err(Gone) => return Outcome::Over,
            };
            has_answered = true;
            self.guard.wait_for(Wait::Member);
            // In places of their own, which are gone when a long poll begins to wait; and so is the request, for which the
            // connection would keep room.
            let answered = match begun(request, &mut answer_in_place, &mut answer) {
                Either::Left(answer) => self.beside_the_end(answer).await,
                Either::Right(answer) => self.beside_the_end(answer).await.map(Answer::Other),
            };
            let sent = match answered {
                Ok(answer) => self.send(answer).await,
                Err(Gone) => Err(Gone),
            };
            if !matches!(sent, Ok(true)) {
                return Outcome::Over;
            }
        }
    }

    /// Reads the next request and takes it out of `read`; `None` when it is one for the library.
    async fn request<R>(
        &mut self,
        read: &mut Vec<u8>,
        read_in_place: &mut impl FnMut(&Plain<'_>) -> Option<R>,
    ) -> Result<Option<Taken<R>>, Gone> {
        if read.is_empty() {
            self.guard.wait_for(Wait::Request);
            if self.read(read).await? == 0 {
                return Err(Gone);
            }
        }
        let mut waits = false;
        loop {
            let Some(head) = Head::read(read, self.headers_max) else { return Ok(None) };
            let bytes = head.request_bytes();
            if bytes <= read.len() {
                let request = match head.plain(read).and_then(|plain| read_in_place(&plain)) {
                    Some(request) => Some(Taken::InPlace(request)),
                    None => head
                        .request(&Bytes::copy_from_slice(&read[..bytes]))
                        // The library looks for the end of a client while it waits for others.
                        .filter(|request| !api::ends_with_client(request.uri()))
                        .map(Taken::Request),
                };
                if request.is_some() {
                    read.drain(..bytes);
                    if read.is_empty() {
                        give_back(std::mem::take(read));
                    }
                }
                return Ok(request);
            }
            if bytes > READ_BYTES_MAX || !head.needs_body(read) {
                return Ok(None);
            }
            // Each piece of a body must come in time. What the library would find, it shall find.
            if !std::mem::replace(&mut waits, true) {
                self.guard.wait_for(Wait::Rest);
            }
            if self.read(read).await? == 0 {
                return Ok(None);
            }
            waits = false;
        }
    }

    /// Reads what has come, or waits for it. While nothing comes the connection holds no buffer. 0 at the end.
    async fn read(&mut self, read: &mut Vec<u8>) -> Result<usize, Gone> {
        poll_fn(|cx| {
            if read.capacity() == 0 {
                *read = take_buffer();
            }
            match poll_read_buf(Pin::new(&mut *self.stream), cx, read) {
                Poll::Ready(result) => return Poll::Ready(result.map_err(|_| Gone)),
                Poll::Pending => {}
            }
            // What TLS itself has to say to what it has read, such as a new key.
            if matches!(Pin::new(&mut *self.stream).poll_flush(cx), Poll::Ready(Err(_))) {
                return Poll::Ready(Err(Gone));
            }
            if read.is_empty() {
                give_back(std::mem::take(read));
                if self.stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Gone));
                }
            }
            self.guard.poll_overdue(cx).map(|()| Err(Gone))
        })
        .await
    }

    /// Waits for what this member does, as long as the client is there.
    async fn beside_the_end<T>(
        &mut self,
        mut work: impl Future<Output = T> + Unpin,
    ) -> Result<T, Gone> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = Pin::new(&mut work).poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if self.guard.poll_end(cx) == Poll::Ready(End::Reset) {
                return Poll::Ready(Err(Gone));
            }
            self.guard.poll_overdue(cx).map(|()| Err(Gone))
        })
        .await
    }

    /// Sends an answer; `false` when no other request is served behind it.
    async fn send(&mut self, answer: Answer) -> Result<bool, Gone> {
        let last = poll_fn(|cx| Poll::Ready(self.stop.as_mut().poll(cx).is_ready())).await;
        let (mut out, mut body, length, closes) = head_of(answer, self.common, last);
        self.watches = body.streams_on();
        while let Some(piece) = self.piece(&mut body, &mut out).await? {
            if length == Length::Chunked {
                answer::chunk_head(&mut out, piece.len());
            }
            if piece.len() > WRITE_BYTES {
                self.write(&std::mem::take(&mut out)).await?;
                self.write(&piece).await?;
            } else {
                out.extend_from_slice(&piece);
            }
            if length == Length::Chunked {
                out.extend_from_slice(CHUNK_END);
            }
            if out.len() >= WRITE_BYTES {
                self.write(&std::mem::take(&mut out)).await?;
            }
        }
        if length == Length::Chunked {
            out.extend_from_slice(LAST_CHUNK);
        }
        self.write(&out).await?;
        Ok(!closes)
    }

    /// The next piece of an answer. `out` is sent before one is waited for.
    async fn piece(&mut self, body: &mut Body, out: &mut Vec<u8>) -> Result<Option<Bytes>, Gone> {
        let poll = |body: &mut Body, cx: &mut Context<'_>| {
            Pin::new(body).poll_frame(cx).map(|frame| match frame {
                None => Ok(None),
                // There are no trailers.
                Some(Ok(frame)) => Ok(frame.into_data().ok()),
                Some(Err(_)) => Err(Gone),
            })
        };
        let there = poll_fn(|cx| Poll::Ready(poll(body, cx))).await;
        if let Poll::Ready(piece) = there {
            return piece;
        }
        self.write(&std::mem::take(out)).await?;
        self.guard.wait_for(Wait::Member);
        poll_fn(|cx| {
            if let Poll::Ready(piece) = poll(body, cx) {
                return Poll::Ready(piece);
            }
            if self.guard.poll_end(cx) == Poll::Ready(End::Reset) {
                return Poll::Ready(Err(Gone));
            }
            // As in etcd, a watch whose client has closed its sending half gets what there is, and a proper end.
            if self.watches && self.guard.ended() {
                return Poll::Ready(Ok(None));
            }
            self.guard.poll_overdue(cx).map(|()| Err(Gone))
        })
        .await
    }

    /// Writes all of `bytes`. The client has to take some of them from time to time.
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        let mut waits = false;
        poll_fn(|cx| {
            let result = poll_all(self.stream, cx, &mut bytes, &mut waits);
            if let Poll::Ready(result) = result {
                return Poll::Ready(result.map_err(|_| Gone));
            }
            let (_, mut moved) = self.progress.look();
            match self.guard.poll_end(cx) {
                Poll::Ready(End::Reset) => return Poll::Ready(Err(Gone)),
                Poll::Ready(End::HalfClosed) => moved |= self.watches,
                Poll::Pending => {}
            }
            if !std::mem::replace(&mut waits, true) || moved {
                let leaves = self.watches && self.guard.ended();
                self.guard.wait_for(if leaves { Wait::Leave } else { Wait::Reader });
            }
            self.guard.poll_overdue(cx).map(|()| Err(Gone))
        })
        .await
    }
}

/// Begins to answer.
fn begun<R, D, F>(
    request: Taken<R>,
    answer_in_place: &mut impl FnMut(R) -> D,
    answer: &mut impl FnMut(Request<Full<Bytes>>) -> F,
) -> Either<Pin<Box<D>>, Pin<Box<F>>> {
    match request {
        Taken::InPlace(request) => Either::Left(Box::pin(answer_in_place(request))),
        Taken::Request(request) => Either::Right(Box::pin(answer(request))),
    }
}

/// The head of an answer as bytes, with room for a short body behind it; the body and how it is sent; and whether it is the last.
fn head_of(answer: Answer, common: &[u8], last: bool) -> (Vec<u8>, Body, Length, bool) {
    let room = |body: &Body| {
        let size = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        Vec::with_capacity(HEAD_BYTES + size.unwrap_or_default())
    };
    match answer {
        Answer::Success(success) => {
            let length = Length::of(success.status, &success.body);
            let mut out = room(&success.body);
            answer::success_head(&mut out, &success, common, length, last);
            (out, success.body, length, last)
        }
        Answer::Other(response) => {
            let (mut parts, body) = response.into_parts();
            let length = Length::of(parts.status, &body);
            let mut out = room(&body);
            answer::head(&mut out, &mut parts, length, last);
            let closes = parts.headers.get(CONNECTION).is_some_and(|value| value == "close");
            (out, body, length, closes)
        }
    }
}

/// Writes and flushes `bytes`; `waits` becomes false when some are taken.
fn poll_all<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    bytes: &mut &[u8],
    waits: &mut bool,
) -> Poll<io::Result<()>> {
    while !bytes.is_empty() {
        let written = ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *bytes = &bytes[written..];
        *waits = false;
    }
    Pin::new(stream).poll_flush(cx)
}

thread_local! {
    /// A buffer that no connection of this thread holds at the moment.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn take_buffer() -> Vec<u8> {
    let spare = SPARE.take();
    if spare.capacity() == 0 { Vec::with_capacity(READ_BYTES_MAX) } else { spare }
}

fn give_back(buffer: Vec<u8>) {
    debug_assert!(buffer.is_empty(), "bytes of one client must not reach another");
    SPARE.set(buffer);
}
