//! `/v2/stats/self`, `/v2/stats/leader`, `/v2/stats/store`.

use std::sync::Arc;

use axum::extract::{Request, State};
use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};

use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::{error, json, time};
use crate::raft::{AppendStats, FollowerStats, Role};
use crate::replica::Moment;
use crate::store::Counter;

pub(super) async fn of_store(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if request.method() != Method::GET {
        return error::method_not_allowed("GET");
    }
    let (gets_success, gets_fail) = api.replica.reads().totals();
    let view = api.replica.view();
    let count = |counter| view.store.counters().get(counter);
    let fields = [
        ("getsSuccess", gets_success),
        ("getsFail", gets_fail),
        ("setsSuccess", count(Counter::SetsSuccess)),
        ("setsFail", count(Counter::SetsFail)),
        ("deleteSuccess", count(Counter::DeleteSuccess)),
        ("deleteFail", count(Counter::DeleteFail)),
        ("updateSuccess", count(Counter::UpdateSuccess)),
        ("updateFail", count(Counter::UpdateFail)),
        ("createSuccess", count(Counter::CreateSuccess)),
        ("createFail", count(Counter::CreateFail)),
        ("compareAndSwapSuccess", count(Counter::CompareAndSwapSuccess)),
        ("compareAndSwapFail", count(Counter::CompareAndSwapFail)),
        ("compareAndDeleteSuccess", count(Counter::CompareAndDeleteSuccess)),
        ("compareAndDeleteFail", count(Counter::CompareAndDeleteFail)),
        ("expireCount", count(Counter::ExpireCount)),
        ("watchers", api.replica.hub().watchers() as u64),
    ];
    let mut out = Vec::with_capacity(400);
    for (place, (name, number)) in fields.into_iter().enumerate() {
        out.push(if place == 0 { b'{' } else { b',' });
        json::string(&mut out, name.as_bytes());
        out.push(b':');
        json::number(&mut out, number);
    }
    out.push(b'}');
    json_answer(out)
}

pub(super) async fn of_self(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if request.method() != Method::GET {
        return error::method_not_allowed("GET");
    }
    let replica = &api.replica;
    let (member, stats) = (replica.member(), replica.stats());
    let state = match replica.status().leadership.role {
        Role::Leader => "StateLeader",
        Role::Follower | Role::Candidate | Role::Learner => "StateFollower",
    };
    let (leader, since) = stats.leader().map_or_else(
        || (String::new(), stats.started()),
        |(leader, since)| (leader.to_string(), since),
    );
    let mut out = Vec::with_capacity(400);
    let mut text = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        json::string(&mut out, value);
    };
    text("{\"name\":", member.name.as_bytes());
    text(",\"id\":", member.id.to_string().as_bytes());
    text(",\"state\":", state.as_bytes());
    text(",\"startTime\":", &moment(stats.started()));
    text(",\"leaderInfo\":{\"leader\":", leader.as_bytes());
    text(",\"uptime\":", time::go_duration(since.instant.elapsed()).as_bytes());
    text(",\"startTime\":", &moment(since));
    out.extend_from_slice(b"},");
    let raft = replica.raft();
    appends(&mut out, "recv", raft.appends_received());
    out.push(b',');
    appends(&mut out, "send", raft.appends_sent());
    out.push(b'}');
    json_answer(out)
}

/// Messages with entries between members. Rates of nothing are left out, as in etcd.
fn appends(out: &mut Vec<u8>, way: &str, stats: AppendStats) {
    out.extend_from_slice(format!("\"{way}AppendRequestCnt\":{}", stats.count).as_bytes());
    for (name, rate) in [("PkgRate", stats.rate), ("BandwidthRate", stats.bandwidth)] {
        if rate > 0.0 {
            out.extend_from_slice(format!(",\"{way}{name}\":").as_bytes());
            json::float(out, rate);
        }
    }
}

pub(super) async fn of_leader(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if request.method() != Method::GET {
        return error::method_not_allowed("GET");
    }
    if api.replica.status().leadership.role != Role::Leader {
        return error::message(StatusCode::FORBIDDEN, "not current leader");
    }
    let leader = api.replica.member().id;
    let raft = api.replica.raft();
    let mut out = format!("{{\"leader\":\"{leader}\",\"followers\":{{").into_bytes();
    // Sorted as texts, as etcd's keys are.
    let mut followers: Vec<_> =
        raft.progress().into_keys().map(|id| (id.to_string(), raft.follower_stats(id))).collect();
    followers.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (place, (id, stats)) in followers.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        follower(&mut out, id, stats);
    }
    out.extend_from_slice(b"}}");
    json_answer(out)
}

/// Latencies in milliseconds.
fn follower(out: &mut Vec<u8>, id: &str, stats: &FollowerStats) {
    json::string(out, id.as_bytes());
    out.extend_from_slice(b":{\"latency\":{");
    for (place, (name, ms)) in [
        ("current", stats.current),
        ("average", stats.average),
        ("standardDeviation", stats.deviation),
        ("minimum", stats.minimum),
        ("maximum", stats.maximum),
    ]
    .into_iter()
    .enumerate()
    {
        if place > 0 {
            out.push(b',');
        }
        json::string(out, name.as_bytes());
        out.push(b':');
        json::float(out, ms);
    }
    out.extend_from_slice(b"},\"counts\":{\"fail\":");
    json::number(out, stats.fail);
    out.extend_from_slice(b",\"success\":");
    json::number(out, stats.success);
    out.extend_from_slice(b"}}");
}

fn moment(at: Moment) -> Vec<u8> {
    let mut text = Vec::new();
    time::rfc3339(&mut text, at.wall);
    text
}

fn json_answer(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response
}
