//! `/version`, `/health` and `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};

use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::error;
use crate::model::ETCD_VERSION;
use crate::mvcc::AlarmKind;
use crate::replica::Replica;

/// A member that cannot confirm a read within this time is not healthy.
const HEALTHY_READ_MAX: Duration = Duration::from_secs(1);

pub(super) async fn version(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if request.method() != Method::GET {
        return error::method_not_allowed("GET");
    }
    let view = api.replica.view();
    let cluster = view.store.members().version().unwrap_or("not_decided");
    let body = format!("{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{cluster}\"}}");
    let mut response = Response::new(Body::whole(body));
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response
}

pub(super) async fn health(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if request.method() != Method::GET {
        return error::method_not_allowed("GET");
    }
    // etcd reads the root of the key space here, and counts that.
    api.replica.reads().count(false, true);
    let healthy = api.replica.status().leadership.leader.is_some()
        && matches!(
            tokio::time::timeout(HEALTHY_READ_MAX, api.replica.read_barrier()).await,
            Ok(Ok(()))
        );
    let alarm = alarm(&api.replica, request.uri().query());
    api.metrics.count_health(healthy && alarm.is_none());
    if !healthy {
        return error::text(StatusCode::SERVICE_UNAVAILABLE, "{\"health\":\"false\"}");
    }
    if let Some(alarm) = alarm {
        let body = format!("{{\"health\":\"false\",\"reason\":\"ALARM {alarm}\"}}");
        return error::text(StatusCode::SERVICE_UNAVAILABLE, &body);
    }
    let mut response = Response::new(Body::whole("{\"health\":\"true\"}"));
    response.headers_mut().insert(CONTENT_TYPE, error::TEXT);
    response
}

/// What is wrong, unless the query asks not to be told of it.
fn alarm(replica: &Replica, query: Option<&str>) -> Option<&'static str> {
    let no_space = replica.shortage().is_some() || replica.has_space_alarm();
    let alarms = [("NOSPACE", no_space), ("CORRUPT", replica.has_alarm(AlarmKind::Corrupt))];
    let told = alarms.into_iter().find(|(alarm, raised)| *raised && !excludes(query, alarm));
    told.map(|(alarm, _)| alarm)
}

/// Whether the query asks not to be told of an alarm: `?exclude=NOSPACE`, as often as there are alarms.
fn excludes(query: Option<&str>, alarm: &str) -> bool {
    let fields = query.unwrap_or_default().split('&');
    fields.filter_map(|field| field.split_once('=')).any(|field| field == ("exclude", alarm))
}

pub(super) async fn metrics(State(api): State<Arc<Context>>) -> Response<Body> {
    let mut response = Response::new(Body::whole(api.metrics.page()));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}
