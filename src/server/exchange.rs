//! One request and its answer, as far as they are HTTP and not the API: expectations, bodies that are not read, and whether the
//! connection goes on behind them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::api::{self, Body};
use crate::server::connection::{Phase, Progress};
use crate::server::listen::{Face, Site};

/// An answer that did not need its request's body waits for the rest of it up to this size, so that the connection can take
/// another request; etcd does so too. Behind a longer one the connection ends.
const UNREAD_BYTES_MAX: u64 = 256 << 10;

/// A request's body that reports how far it was read.
pub(super) struct RequestBody {
    /// Until it has been read to its end.
    body: Option<Incoming>,
    expectation: Expectation,
    /// The client sends it only when it is asked for, and it was not.
    held_back: bool,
    progress: Arc<Progress>,
}

impl RequestBody {
    /// The head of a request is complete. To be called before anything else is read.
    pub(super) fn track(request: Request<Incoming>, progress: &Arc<Progress>) -> Request<Self> {
        let expectation = Expectation::of(request.headers());
        let expects = request.version() == Version::HTTP_11 && expectation == Expectation::Continue;
        request.map(|body| {
            let body = Some(body).filter(|body| !body.is_end_stream());
            progress.set(if body.is_none() { Phase::Answer } else { Phase::Body });
            let held_back = expects && body.is_some();
            Self { body, expectation, held_back, progress: Arc::clone(progress) }
        })
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.held_back = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            self.progress.set(Phase::BodyWanted);
            return Poll::Pending;
        };
        if body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            self.body = None;
            self.progress.set(Phase::Answer);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            self.progress.leave_unread(body, self.held_back);
        }
    }
}

/// The body of an answer, which reports how far it was sent and ends with its client.
pub(super) struct AnswerBody {
    body: Body,
    progress: Arc<Progress>,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // As in etcd, a watch whose client has closed its sending half gets what there is, and a proper end.
        if frame.is_pending() && self.body.streams_on() && self.progress.leaves() {
            return Poll::Ready(None);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.progress.handed_over();
    }
}

/// What a client waits for before it sends a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expectation {
    Nothing,
    Continue,
    Unknown,
}

impl Expectation {
    /// The first header counts, and one word in it that is known is enough, as in Go.
    fn of(headers: &HeaderMap) -> Self {
        let expected = headers.get(EXPECT).map(HeaderValue::as_bytes).unwrap_or_default();
        let mut words = expected.split(|byte| matches!(byte, b',' | b' ' | b'\t'));
        if words.any(|word| word.eq_ignore_ascii_case(b"100-continue")) {
            Self::Continue
        } else if expected.is_empty() {
            Self::Nothing
        } else {
            Self::Unknown
        }
    }
}

/// Answers a request. `patience` bounds how long the answer waits for a body that it does not need.
pub(super) async fn exchange(
    site: &Site,
    face: Face,
    request: Request<RequestBody>,
    progress: Arc<Progress>,
    patience: Duration,
) -> Response<AnswerBody> {
    let mut response = match request.body().expectation {
        Expectation::Unknown => {
            drop(request);
            expectation_failed()
        }
        Expectation::Nothing | Expectation::Continue if api::ends_with_client(request.uri()) => {
            let mut answer = pin!(site.answer(face, request));
            // The task that looks for the client's end is the one that polls this.
            poll_fn(|cx| {
                let answered = answer.as_mut().poll(cx);
                let given_up = answered.is_pending() && progress.leaves();
                if given_up { Poll::Ready(api::gone()) } else { answered }
            })
            .await
        }
        Expectation::Nothing | Expectation::Continue => site.answer(face, request).await,
    };
    let closes = response.headers().get(CONNECTION).is_some_and(|header| header == "close");
    if !read_rest(&progress, closes, patience).await {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        progress.linger();
    }
    progress.set(if response.body().streams_on() { Phase::Events } else { Phase::Sending });
    response.map(|body| AnswerBody { body, progress })
}

/// Reads what an answer left unread of its request's body, if the connection is to go on; `false` when some is left.
async fn read_rest(progress: &Progress, closes: bool, patience: Duration) -> bool {
    let Some((body, held_back)) = progress.take_unread() else { return true };
    let too_long = body.size_hint().exact().is_some_and(|bytes| bytes >= UNREAD_BYTES_MAX);
    if closes || held_back || too_long {
        return false;
    }
    progress.set(Phase::Unread);
    tokio::time::timeout(patience, discard(body)).await.unwrap_or(false)
}

async fn discard(mut body: Incoming) -> bool {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if bytes > UNREAD_BYTES_MAX {
            return false;
        }
    }
    true
}

/// As etcd says it.
fn expectation_failed() -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.status_mut() = StatusCode::EXPECTATION_FAILED;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_known_word_of_the_first_header_is_enough() {
        for (headers, wanted) in [
            (&[][..], Expectation::Nothing),
            (&[""], Expectation::Nothing),
            (&["100-Continue"], Expectation::Continue),
            (&["other, 100-continue"], Expectation::Continue),
            (&["100-continue", "other"], Expectation::Continue),
            (&["other", "100-continue"], Expectation::Unknown),
            (&["100-continued"], Expectation::Unknown),
        ] {
            let mut map = HeaderMap::new();
            for header in headers {
                map.append(EXPECT, HeaderValue::from_static(header));
            }
            assert_eq!(Expectation::of(&map), wanted, "{headers:?}");
        }
    }
}
