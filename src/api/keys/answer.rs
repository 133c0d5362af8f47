//! The answer to a request of the key space, before it has a form on the wire.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::api::body::Body;
use crate::api::error::{self, X_ETCD_CLUSTER_ID, X_ETCD_INDEX};
use crate::api::json;
use crate::model::{LogPosition, StoreIndex};

const X_RAFT_INDEX: HeaderName = HeaderName::from_static("x-raft-index");
const X_RAFT_TERM: HeaderName = HeaderName::from_static("x-raft-term");

/// Headers of an answer: the four of a success, the cluster's id, and three for browsers.
const HEADERS_MAX: usize = 8;

/// Digits of a number of 64 bits.
const DIGITS_MAX: usize = 20;

/// What a request of the key space is answered with.
pub enum Answer {
    /// What was asked for.
    Success(Success),
    /// Anything else; an error, nearly always.
    Other(Response<Body>),
}

/// A node, an event, or events as they come.
pub struct Success {
    /// 200, or 201 for a write to a key that was not there.
    pub status: StatusCode,
    /// JSON.
    pub body: Body,
    /// The store's index. Wire: `X-Etcd-Index`.
    pub index: StoreIndex,
    /// The last entry of the log in that state. Wire: `X-Raft-Index`, `X-Raft-Term`.
    pub position: LogPosition,
}

impl Answer {
    /// Wire: the status line.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Success(success) => success.status,
            Self::Other(response) => response.status(),
        }
    }

    /// As the HTTP library takes it. `cluster` is the value of `X-Etcd-Cluster-Id`.
    pub(in crate::api) fn into_response(self, cluster: &HeaderValue) -> Response<Body> {
        let mut response = match self {
            Self::Success(success) => success.into_response(),
            Self::Other(response) => response,
        };
        response.headers_mut().insert(X_ETCD_CLUSTER_ID, cluster.clone());
        response
    }
}

impl Success {
    /// The headers in the order of the wire, as the HTTP library takes them.
    pub fn into_response(self) -> Response<Body> {
        let Self { status, body, index, position } = self;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        set_headers(response.headers_mut(), index, position);
        response
    }
}

fn set_headers(headers: &mut HeaderMap, index: StoreIndex, position: LogPosition) {
    headers.reserve(HEADERS_MAX);
    headers.insert(CONTENT_TYPE, error::JSON);
    let numbers = [index.0, position.index.0, position.term.0];
    // In one piece of memory: each would have two of its own.
    let mut digits = Vec::with_capacity(numbers.len() * DIGITS_MAX);
    let mut begin = 0;
    let places = numbers.map(|number| {
        json::number(&mut digits, number);
        std::mem::replace(&mut begin, digits.len())..digits.len()
    });
    let digits = Bytes::from(digits);
    for (name, place) in [X_ETCD_INDEX, X_RAFT_INDEX, X_RAFT_TERM].into_iter().zip(places) {
        let value = HeaderValue::from_maybe_shared(digits.slice(place));
        headers.insert(name, value.expect("a header may be digits"));
    }
}
