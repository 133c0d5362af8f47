//! Every answer that is not a success: refusal, unavailability, transport → status, headers, body.

use http::header::{ALLOW, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};

use crate::api::access::Denied;
use crate::api::body::Body;
use crate::api::json;
use crate::api::keys::render;
use crate::model::{ClusterId, Refusal, StoreIndex, Unavailable, codes};

pub(super) const X_ETCD_INDEX: HeaderName = HeaderName::from_static("x-etcd-index");
pub(super) const X_ETCD_CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The value of `X-Etcd-Cluster-Id`.
pub(super) fn cluster_header(cluster: ClusterId) -> HeaderValue {
    HeaderValue::try_from(cluster.to_string()).expect("hex digits make a header")
}

/// The key space says no.
pub(super) fn refused(refusal: &Refusal, index: StoreIndex) -> Response<Body> {
    let (_, _, status) = refusal.row();
    let status = StatusCode::from_u16(status).expect("the table of refusals holds statuses");
    etcd_error(status, render::refusal(refusal, index), index)
}

/// Consensus has no answer, or is not asked: code 300 with 500, with 503 where there is too much to do, with 507 where there
/// is no room.
pub(super) fn unavailable(why: Unavailable) -> Response<Body> {
    let index = StoreIndex(0);
    let body = render::error(300, "Raft Internal Error", why.to_string().as_bytes(), index);
    etcd_error(status_of(why), body, index)
}

fn status_of(why: Unavailable) -> StatusCode {
    match why {
        Unavailable::TooManyWatchers
        | Unavailable::TooManyPasswords
        | Unavailable::Overloaded { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Unavailable::QuotaExceeded { .. } | Unavailable::DiskFull => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        Unavailable::TimedOut { .. }
        | Unavailable::NotLeader { .. }
        | Unavailable::Stopped
        | Unavailable::Interrupted
        | Unavailable::Regaining => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn etcd_error(status: StatusCode, body: bytes::Bytes, index: StoreIndex) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(X_ETCD_INDEX, HeaderValue::from(index.0));
    response
}

/// The shape of members and statistics: `{"message":"…"}`, no newline.
pub(super) fn message(status: StatusCode, text: &str) -> Response<Body> {
    let mut body = b"{\"message\":".to_vec();
    json::string(&mut body, text.as_bytes());
    body.push(b'}');
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The client may not manage users, roles and members; or it is not known whether it may.
pub(super) fn denied_management(denied: Denied) -> Response<Body> {
    match denied {
        Denied::Insufficient => message(StatusCode::UNAUTHORIZED, "Insufficient credentials"),
        Denied::Unavailable(why) => unavailable_message(why),
    }
}

/// No answer from consensus, for those who expect a message. In etcd the reason is in the log alone.
pub(super) fn unavailable_message(why: Unavailable) -> Response<Body> {
    match status_of(why) {
        StatusCode::SERVICE_UNAVAILABLE => {
            message(StatusCode::SERVICE_UNAVAILABLE, &why.to_string())
        }
        status => {
            tracing::warn!(target: "etcdhttp", code = codes::AUTH_UNANSWERED, "a change of users or roles got no answer: {why}");
            message(status, "Internal Server Error")
        }
    }
}

/// The client may not do this to the key; or it is not known whether it may.
pub(super) fn denied(denied: Denied) -> Response<Body> {
    match denied {
        Denied::Insufficient => refused(&Refusal::NotAllowed, StoreIndex(0)),
        Denied::Unavailable(why) => unavailable(why),
    }
}

/// The shape of everything else: one line of text.
pub(super) fn text(status: StatusCode, line: &str) -> Response<Body> {
    let mut response = Response::new(Body::whole(format!("{line}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Nothing is here.
pub(super) fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found")
}

/// Something is here, but not for this method. `allow` is a comma-separated list; an empty one is left out.
pub(super) fn method_not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if !allow.is_empty() {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}
