//! `/debug/vars`, `/debug/pprof/` and `/config/local/log`.

use std::sync::Arc;

use axum::extract::{Request, State};
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::{error, intake};
use crate::raft::Role;

pub(super) async fn vars(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if request.method() != Method::GET {
        return error::method_not_allowed("GET");
    }
    let (status, member) = (api.replica.status(), api.replica.member().id);
    let state = match status.leadership.role {
        Role::Leader => "StateLeader",
        Role::Follower | Role::Learner => "StateFollower",
        Role::Candidate => "StateCandidate",
    };
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let arguments: Vec<_> = std::env::args().collect();
    let raft = serde_json::json!({
        "id": member.to_string(),
        "term": status.leadership.term.0,
        "commit": status.committed.0,
        "applied": status.applied.0,
        "lead": status.leadership.leader.unwrap_or_default().to_string(),
        "raftState": state,
    });
    let kept = api.replica.memory();
    let parts = serde_json::json!({
        "nodes": kept.nodes,
        "keys_v3": kept.keys_v3,
        "keys_bytes": kept.keys_bytes,
        "history_events": kept.history_events,
        "history_bytes": kept.history_bytes,
        "log_entries": kept.log_entries,
        "log_bytes": kept.log_bytes,
        "changes_bytes": kept.changes_bytes,
        "checkpoint_cache_bytes": kept.checkpoint_cache_bytes,
    });
    // To size a machine by.
    let (keys, resident) = (kept.nodes + kept.keys_v3, metrics_rss());
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let each = |bytes: u64| (keys > 0).then(|| bytes as f64 / keys as f64);
    let per_key = serde_json::json!({
        "keys": each(kept.keys_bytes),
        "history": each(kept.history_bytes as u64),
        "log": each(kept.log_bytes as u64),
        "changes": each(kept.changes_bytes as u64),
        "checkpoint_cache": each(kept.checkpoint_cache_bytes as u64),
        "resident": each(resident),
    });
    let memory = serde_json::json!({ "Sys": resident });
    let fields = [
        ("cairn.memory", parts),
        ("cairn.memory_per_key", per_key),
        ("cmdline", serde_json::json!(arguments)),
        ("file_descriptor_limit", serde_json::json!(limits.current)),
        ("memstats", memory),
        ("raft.status", raft),
    ];
    let lines: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    let mut response = Response::new(Body::whole(format!("{{\n{}\n}}\n", lines.join(",\n"))));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn metrics_rss() -> u64 {
    crate::api::metrics::resident_bytes().unwrap_or_default()
}

/// The profiles that a program in Rust can answer for: its command line. The others are Go's own.
pub(super) async fn pprof(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if !api.settings.pprof {
        return error::not_found();
    }
    let (content_type, body) = match request.uri().path() {
        "/debug/pprof/" => (
            HeaderValue::from_static("text/html; charset=utf-8"),
            "<html><head><title>/debug/pprof/</title></head><body><a href=\"cmdline\">cmdline</a>\
             </body></html>\n"
                .to_owned(),
        ),
        "/debug/pprof/cmdline" => (error::TEXT, std::env::args().collect::<Vec<_>>().join("\0")),
        _ => return error::not_found(),
    };
    let mut response = Response::new(Body::whole(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Changes the level of the log while the member runs.
pub(super) async fn log_level(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if request.method() != Method::PUT {
        return error::method_not_allowed("PUT");
    }
    let (body, _reserved) = match intake::small(&api, request).await {
        Ok(read) => read,
        Err(response) => return *response,
    };
    // Only the first JSON value counts; what follows it is not looked at.
    let mut values = serde_json::Deserializer::from_slice(&body).into_iter::<serde_json::Value>();
    let Some(Ok(serde_json::Value::Object(fields))) = values.next() else {
        return error::message(StatusCode::BAD_REQUEST, "Invalid json body");
    };
    let level = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("level"));
    let level = level.and_then(|(_, value)| value.as_str()).unwrap_or_default();
    if !(api.settings.set_log_level)(level) {
        return error::message(StatusCode::BAD_REQUEST, &format!("Invalid log level {level}"));
    }
    let mut response = Response::new(Body::whole(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
