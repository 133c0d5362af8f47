//! Bodies of answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

/// Up to this size a body is sent whole with its length; beyond it goes out in chunks, as Go does it.
const LENGTH_SHOWN_MAX: usize = 2048;

type Chunks = Pin<Box<dyn Stream<Item = Bytes> + Send>>;
type Frames = Pin<Box<dyn Stream<Item = Frame<Bytes>> + Send>>;

/// The body of any answer.
pub struct Body(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Chunked(Option<Bytes>),
    Blocks(Option<Bytes>, Chunks),
    Stream(Chunks),
    Routed(axum::body::Body),
    /// The answer to a call and how it ended.
    Call(Option<Bytes>, Option<HeaderMap>),
    Calls(Frames),
    /// And whether it goes on until something happens.
    PassedOn(axum::body::Body, bool),
}

impl Body {
    /// A body that is all there; empty ones too.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.len() > LENGTH_SHOWN_MAX {
            return Self(Kind::Chunked(Some(bytes)));
        }
        Self(Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// A body that does not say how long it is, however short.
    pub(super) fn whole_in_chunks(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Chunked(Some(bytes.into())))
    }

    /// A body whose first block is there and whose others are made as the client takes them.
    pub(super) fn blocks(first: Bytes, rest: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Kind::Blocks(Some(first), Box::pin(rest)))
    }

    /// A body whose blocks are all made as the client takes them.
    pub(super) fn made_as_taken(blocks: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Kind::Blocks(None, Box::pin(blocks)))
    }

    /// A body whose chunks come when something happens.
    pub(super) fn stream(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Kind::Stream(Box::pin(chunks)))
    }

    /// Does it go on until something happens?
    pub fn streams_on(&self) -> bool {
        matches!(self.0, Kind::Stream(_) | Kind::PassedOn(_, true))
    }

    /// The body of another server's answer. `watches`: it goes on until something happens.
    pub fn passed_on(body: axum::body::Body, watches: bool) -> Self {
        Self(Kind::PassedOn(body, watches))
    }

    /// A message, and behind it what a call came to.
    pub(super) fn call(message: Bytes, trailers: HeaderMap) -> Self {
        Self(Kind::Call(Some(message), Some(trailers)))
    }

    /// Messages as they are made, and behind them what a call came to.
    pub(super) fn calls(frames: impl Stream<Item = Frame<Bytes>> + Send + 'static) -> Self {
        Self(Kind::Calls(Box::pin(frames)))
    }

    /// A body made behind the router.
    pub(super) fn routed(body: axum::body::Body) -> Self {
        Self(Kind::Routed(body))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.0 {
            Kind::Whole(bytes) | Kind::Chunked(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            Kind::Blocks(first, rest) => match first.take() {
                Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
                None => rest
                    .as_mut()
                    .poll_next(cx)
                    .map(|block| block.map(|block| Ok(Frame::data(block)))),
            },
            Kind::Stream(chunks) => {
                chunks.as_mut().poll_next(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
            Kind::Call(message, trailers) => Poll::Ready(match message.take() {
                Some(message) => Some(Ok(Frame::data(message))),
                None => trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            }),
            Kind::Calls(frames) => frames.as_mut().poll_next(cx).map(|frame| frame.map(Ok)),
            Kind::Routed(body) | Kind::PassedOn(body, _) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Call(_, trailers) => trailers.is_none(),
            Kind::Chunked(_) | Kind::Blocks(..) | Kind::Stream(_) | Kind::Calls(_) => false,
            Kind::Routed(body) | Kind::PassedOn(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Chunked(_)
            | Kind::Blocks(..)
            | Kind::Stream(_)
            | Kind::Call(..)
            | Kind::Calls(_) => SizeHint::default(),
            Kind::Routed(body) | Kind::PassedOn(body, _) => body.size_hint(),
        }
    }
}
