//! A client of the gateway: calls, and streams that stay open.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{self, Open, Request};
use crate::support::version_three::{self, post};
pub(crate) use crate::support::version_three::{base64, number};

/// What is not here by then never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What must not happen is given so long.
pub(crate) const NEVER: Duration = Duration::from_millis(700);

const POLL: Duration = Duration::from_millis(10);

pub(crate) fn text(value: &Value) -> String {
    version_three::text(value).expect("the tests write texts")
}

/// Status and body; `None` when there is no answer soon.
pub(crate) fn try_call(addr: SocketAddr, path: &str, body: &Value) -> Option<(u16, Value)> {
    try_request(addr, &post(path, body))
}

/// The same with a token.
pub(crate) fn try_call_with(
    addr: SocketAddr,
    token: &str,
    path: &str,
    body: &Value,
) -> Option<(u16, Value)> {
    try_request(addr, &post(path, body).header("Authorization", token))
}

fn try_request(addr: SocketAddr, request: &Request) -> Option<(u16, Value)> {
    let reply = http::ask_within(addr, request, Duration::from_secs(10)).ok()?;
    Some((reply.status(), serde_json::from_str(&reply.text()).ok()?))
}

/// The answer to a call that must be answered.
pub(crate) fn call(addr: SocketAddr, path: &str, body: &Value) -> Value {
    let reply = http::ask_within(addr, &post(path, body), PATIENCE).expect("an answer");
    assert_eq!(reply.status(), 200, "{path} {body}: {}", reply.text());
    serde_json::from_str(&reply.text()).expect("JSON")
}

/// Repeats a call until it is answered; for what may be done twice.
pub(crate) fn insist(addr: SocketAddr, path: &str, body: &Value) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match try_call(addr, path, body) {
            Some((200, answer)) => return answer,
            other => assert!(Instant::now() < deadline, "{path}: {other:?}"),
        }
        std::thread::sleep(POLL);
    }
}

/// Puts a key; returns the revision.
pub(crate) fn put(addr: SocketAddr, key: &str, value: &str) -> i64 {
    put_on(addr, key, value, 0)
}

/// The same on a lease.
pub(crate) fn put_on(addr: SocketAddr, key: &str, value: &str, lease: i64) -> i64 {
    let body = json!({"key": base64(key), "value": base64(value), "lease": lease.to_string()});
    number(&call(addr, "kv/put", &body)["header"]["revision"])
}

/// A key, if it is there.
pub(crate) fn get(addr: SocketAddr, key: &str) -> Option<Value> {
    call(addr, "kv/range", &json!({"key": base64(key)}))["kvs"].get(0).cloned()
}

pub(crate) fn await_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(POLL);
    }
}

/// An open stream.
pub(crate) struct Stream(Open);

impl Stream {
    pub(crate) fn open(addr: SocketAddr, path: &str, requests: &[Value]) -> Self {
        let body: String = requests.iter().map(Value::to_string).collect();
        let request = Request::new("POST", format!("/v3/{path}")).body(body);
        Self(Open::send(addr, &request).expect("the server accepts"))
    }

    /// One watcher.
    pub(crate) fn watch(addr: SocketAddr, create: &Value) -> Self {
        let stream = Self::open(addr, "watch", &[json!({"create_request": create})]);
        let answers = stream.results(1);
        assert_eq!(answers[0]["created"], true, "{answers:?}");
        stream
    }

    /// The answers so far, once there are so many.
    pub(crate) fn results(&self, count: usize) -> Vec<Value> {
        assert!(self.0.wait(PATIENCE, |progress| progress.lines() >= count), "{count} answers");
        self.so_far()
    }

    pub(crate) fn so_far(&self) -> Vec<Value> {
        let body = self.0.progress().body;
        let whole = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = body[..whole].split_inclusive(|byte| *byte == b'\n');
        lines
            .map(|line| {
                let answer: Value = serde_json::from_slice(line).expect("a line is JSON");
                answer.get("result").cloned().unwrap_or(answer)
            })
            .collect()
    }

    /// Events so far, as text: `revision key=value` or `revision -key`.
    pub(crate) fn events(&self) -> Vec<String> {
        self.so_far().iter().flat_map(events_of).collect()
    }

    /// The events, once the last one is as given.
    pub(crate) fn events_to(&self, last: &str) -> Vec<String> {
        let is_last = || self.events().iter().any(|event| event.ends_with(last));
        await_until(last, is_last);
        self.events()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.progress().ended
    }

    pub(crate) fn close(&self) {
        self.0.close();
    }

    /// Whether more answers than so many come.
    pub(crate) fn exceeds(&self, count: usize) -> bool {
        self.0.wait(NEVER, |progress| progress.lines() > count)
    }
}

pub(crate) fn events_of(answer: &Value) -> Vec<String> {
    let events = answer["events"].as_array().into_iter().flatten();
    events
        .map(|event| {
            let kv = &event["kv"];
            let (revision, key) = (number(&kv["mod_revision"]), text(&kv["key"]));
            match event["type"] == "DELETE" {
                true => format!("{revision} -{key}"),
                false => format!("{revision} {key}={}", text(&kv["value"])),
            }
        })
        .collect()
}

/// A lease; returns its id.
pub(crate) fn grant(addr: SocketAddr, ttl_s: i64) -> i64 {
    let granted = call(addr, "lease/grant", &json!({"TTL": ttl_s.to_string()}));
    assert_eq!(number(&granted["TTL"]), ttl_s);
    number(&granted["ID"])
}

/// The time to live that a lease has again; zero if there is none.
pub(crate) fn keep_alive(addr: SocketAddr, lease: i64) -> i64 {
    let answers = Stream::open(addr, "lease/keepalive", &[json!({"ID": lease.to_string()})]);
    number(&answers.results(1)[0]["TTL"])
}
