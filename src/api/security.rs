//! `/v2/auth`: what a member without authentication says of it.
//!
//! This version has none, so there are no users but those that etcd has from the start, and nothing can be changed.

use std::sync::Arc;

use axum::extract::{Request, State};
use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};

use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::error::{self, X_ETCD_CLUSTER_ID};

/// The role that may do everything; it is there from the start.
const ROOT: &str =
    "{\"role\":\"root\",\"permissions\":{\"kv\":{\"read\":[\"/*\"],\"write\":[\"/*\"]}}}";

pub(super) async fn serve(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    let path = request.uri().path().strip_prefix("/v2/auth/").unwrap_or_default();
    api.replica.reads().count_auth_lookup();
    let allow = match path.trim_end_matches('/') {
        "users" | "roles" => "GET",
        _ => "GET,PUT,DELETE",
    };
    let mut response = match *request.method() {
        Method::GET => read(path.trim_end_matches('/')),
        Method::PUT | Method::DELETE if allow != "GET" => error::message(
            StatusCode::NOT_IMPLEMENTED,
            "authentication is not supported yet: protect the client address by a firewall or a proxy",
        ),
        _ => return error::method_not_allowed(allow),
    };
    response.headers_mut().insert(X_ETCD_CLUSTER_ID, api.cluster_header.clone());
    response
}

fn read(path: &str) -> Response<Body> {
    let body = match path {
        "enable" => "{\"enabled\":false}\n".to_owned(),
        "users" => "{\"users\":null}\n".to_owned(),
        "roles" => format!("{{\"roles\":[{ROOT}]}}\n"),
        "roles/root" => format!("{ROOT}\n"),
        _ => {
            let missing = match path.split_once('/') {
                Some(("users", name)) => format!("auth: User {name} does not exist."),
                Some(("roles", name)) => format!("auth: Role {name} does not exist."),
                _ => return error::not_found(),
            };
            return error::message(StatusCode::NOT_FOUND, &missing);
        }
    };
    let mut response = Response::new(Body::whole(body));
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response
}
