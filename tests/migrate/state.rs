//! What can be seen of a key space from outside, without what a clock changes.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::http::{self, Reply, Request};
use std::net::SocketAddr;

/// A server that is asked, as root if a password is known.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) addr: SocketAddr,
    pub(crate) login: Option<(String, String)>,
}

impl Asker {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        Self { addr, login: None }
    }

    pub(crate) fn with(addr: SocketAddr, user: &str, password: &str) -> Self {
        Self { addr, login: Some((user.to_owned(), password.to_owned())) }
    }

    pub(crate) fn ask(&self, request: Request) -> Reply {
        let request = match &self.login {
            Some((user, password)) => {
                let login = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
                request.header("Authorization", &format!("Basic {login}"))
            }
            None => request,
        };
        http::ask(self.addr, &request).expect("it answers")
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        self.ask(Request::get(target))
    }

    pub(crate) fn json(&self, target: &str) -> Value {
        let reply = self.get(target);
        serde_json::from_str(&reply.text()).unwrap_or_else(|_| panic!("{target}: {}", reply.text()))
    }

    /// The index and the listing of all keys.
    pub(crate) fn listing(&self) -> (u64, Value) {
        let reply = self.get("/v2/keys/?recursive=true&quorum=true&sorted=true");
        assert_eq!(reply.status(), 200, "{}", reply.text());
        let listing = serde_json::from_str(&reply.text()).expect("JSON");
        (reply.index().expect("an index"), timeless(listing))
    }

    /// Events from an index on, up to another, each the answer of a watch.
    pub(crate) fn events(&self, from: u64, to: u64) -> Vec<Value> {
        let (mut next, mut events) = (from, Vec::new());
        while next <= to {
            let target = format!("/v2/keys/?wait=true&recursive=true&waitIndex={next}");
            let limit = std::time::Duration::from_millis(500);
            // Behind the last visible event there is none.
            let Ok(reply) =
                http::ask_within(self.addr, &self.dressed(Request::get(&target)), limit)
            else {
                break;
            };
            let event: Value = serde_json::from_str(&reply.text()).expect("JSON");
            let Some(index) = event["node"]["modifiedIndex"].as_u64() else {
                panic!("{target}: {event}")
            };
            if index > to {
                break;
            }
            events.push(short(timeless(event)));
            next = index + 1;
        }
        events
    }

    fn dressed(&self, request: Request) -> Request {
        match &self.login {
            Some((user, password)) => {
                let login = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
                request.header("Authorization", &format!("Basic {login}"))
            }
            None => request,
        }
    }
}

/// Without `ttl`, which counts down.
pub(crate) fn timeless(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("ttl");
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    strip(&mut value);
    value
}

/// Long values as the recordings have them.
pub(crate) fn short(mut event: Value) -> Value {
    for node in ["node", "prevNode"] {
        if let Some(value) =
            event[node]["value"].as_str().filter(|value| value.chars().count() > 300)
        {
            let count = value.chars().count();
            let first: String = value.chars().take(40).collect();
            event[node]["value"] = json!(format!("{first}...({count} chars)"));
        }
    }
    event
}

/// Without the nodes that expire before this date; how many were left out.
pub(crate) fn without_dying_before(listing: &Value, date: &str) -> (Value, u64) {
    fn strip(node: &mut Value, date: &str, gone: &mut u64) {
        let Some(nodes) = node.get_mut("nodes").and_then(Value::as_array_mut) else { return };
        nodes.retain(|node| {
            let dies = node["expiration"].as_str().is_some_and(|at| at < date);
            *gone += u64::from(dies);
            !dies
        });
        nodes.iter_mut().for_each(|node| strip(node, date, gone));
    }
    let (mut listing, mut gone) = (listing.clone(), 0);
    strip(&mut listing["node"], date, &mut gone);
    (listing, gone)
}

/// Is the event one of a key that listings leave out?
pub(crate) fn is_hidden(event: &Value) -> bool {
    event["node"]["key"].as_str().is_some_and(|key| key.contains("/_"))
}
