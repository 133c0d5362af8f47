//! Bodies of answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};

/// Up to this size a body is sent whole with its length; beyond it goes out in chunks, as Go does it.
const LENGTH_SHOWN_MAX: usize = 2048;

type Chunks = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of any answer.
pub struct Body(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Chunked(Option<Bytes>),
    Blocks(Option<Bytes>, Chunks),
    Stream(Chunks),
    Routed(axum::body::Body),
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
        matches!(self.0, Kind::Stream(_))
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
            Kind::Routed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Chunked(_) | Kind::Blocks(..) | Kind::Stream(_) => false,
            Kind::Routed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Chunked(_) | Kind::Blocks(..) | Kind::Stream(_) => SizeHint::default(),
            Kind::Routed(body) => body.size_hint(),
        }
    }
}
