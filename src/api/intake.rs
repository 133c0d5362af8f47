//! Bodies of requests: how much is read, and what it takes of the member's byte budget meanwhile.

use std::sync::Arc;

use axum::extract::Request;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;

use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::error;
use crate::api::metrics::Limit;
use crate::model::Unavailable;
use crate::raft::{ByteBudget, Reserved};

/// Bodies of everything but `/v2/keys`: a list of URLs, a log level.
const SMALL_BODY_BYTES_MAX: usize = 64 * 1024;

/// Why a body was not read.
#[derive(Debug)]
pub enum Unread {
    /// It is longer than what is allowed.
    TooLarge,
    /// The budget has no room for it.
    Overloaded(Unavailable),
    /// Its client stopped in the middle.
    CutOff,
}

/// Reads bodies for a server that has no member: each up to a limit, and all of them together up to another.
pub struct Intake {
    budget: Arc<ByteBudget>,
    bytes_max: usize,
}

impl Intake {
    /// Bodies of up to `bytes_max`, and `inflight_bytes_max` of all that are under way.
    pub fn new(bytes_max: usize, inflight_bytes_max: usize) -> Self {
        Self { budget: ByteBudget::new(inflight_bytes_max), bytes_max }
    }

    /// Bytes of a body.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes of all bodies that are under way, and what requests take beside them.
    pub fn used(&self) -> usize {
        self.budget.used()
    }

    /// Reads a body whole. What is returned beside it is to be held for as long as the body is.
    ///
    /// # Errors
    /// See [`Unread`].
    pub async fn read<B>(&self, body: B, headers: &HeaderMap) -> Result<(Bytes, Reserved), Unread>
    where
        B: http_body::Body<Data = Bytes> + Send,
    {
        collect(&self.budget, body, headers, self.bytes_max).await
    }
}

/// Reads a body of up to `bytes_max`, and takes what it needs of the budget while it comes in.
///
/// # Errors
/// As soon as the body is known to be too large for the limit or for the budget; the rest of it is not read then.
pub(super) async fn collect<B>(
    budget: &Arc<ByteBudget>,
    body: B,
    headers: &HeaderMap,
    bytes_max: usize,
) -> Result<(Bytes, Reserved), Unread>
where
    B: http_body::Body<Data = Bytes> + Send,
{
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > bytes_max) {
        return Err(Unread::TooLarge);
    }
    // What is announced is only looked at: a client takes as much of the budget as it has sent.
    budget.check(announced.unwrap_or_default()).map_err(Unread::Overloaded)?;
    let mut reserved = budget.reserve(0).map_err(Unread::Overloaded)?;
    let mut body = std::pin::pin!(body);
    // Most bodies come in one piece. Those of many are joined as they come: a piece may be a single byte, and a list of such
    // pieces takes thirty times what they hold.
    let (mut whole, mut joined, mut length) = (Bytes::new(), Vec::new(), 0);
    while let Some(frame) = body.as_mut().frame().await {
        // Trailers say nothing here.
        let Ok(piece) = frame.map_err(|_| Unread::CutOff)?.into_data() else { continue };
        length += piece.len();
        if length > bytes_max {
            return Err(Unread::TooLarge);
        }
        reserved.grow(piece.len()).map_err(Unread::Overloaded)?;
        if whole.is_empty() {
            whole = piece;
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&whole);
        }
        joined.extend_from_slice(&piece);
    }
    let whole = if joined.is_empty() { whole } else { Bytes::from(joined) };
    Ok((whole, reserved))
}

/// Reads a short body, for everything but `/v2/keys`.
///
/// # Errors
/// The answer that says why it was not read.
pub(super) async fn small(
    api: &Context,
    request: Request,
) -> Result<(Bytes, Reserved), Box<Response<Body>>> {
    let (head, body) = request.into_parts();
    let read = collect(api.replica.budget(), body, &head.headers, SMALL_BODY_BYTES_MAX).await;
    read.map_err(|unread| {
        Box::new(match unread {
            Unread::TooLarge => {
                api.metrics.hit(Limit::Body);
                let text = format!("the body is longer than {SMALL_BODY_BYTES_MAX} bytes");
                error::message(StatusCode::PAYLOAD_TOO_LARGE, &text)
            }
            Unread::Overloaded(why) => {
                error::message(StatusCode::SERVICE_UNAVAILABLE, &why.to_string())
            }
            Unread::CutOff => error::message(StatusCode::BAD_REQUEST, "the body was cut off"),
        })
    })
}
