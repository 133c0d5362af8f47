//! What can be seen of version 3 from outside, over the gateway of either server.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::{self, Open, Request};
use crate::support::version_three::post;
pub(crate) use crate::support::version_three::{base64, number};

/// What is not here by then never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that is asked, with a token if one is known.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) addr: SocketAddr,
    pub(crate) token: Option<String>,
}

/// Every key.
fn all() -> (Value, Value) {
    (json!(base64([0])), json!(base64([0])))
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

impl Gateway {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        Self { addr, token: None }
    }

    /// As this user.
    pub(crate) fn login(addr: SocketAddr, name: &str, password: &str) -> Self {
        let login = json!({"name": name, "password": password});
        let answer = Self::of(addr).call("auth/authenticate", &login);
        let token = answer["token"].as_str().expect("a token").to_owned();
        Self { addr, token: Some(token) }
    }

    fn request(&self, path: &str, body: &Value) -> Request {
        let request = post(path, body);
        match &self.token {
            Some(token) => request.header("Authorization", token),
            None => request,
        }
    }

    /// Status and body.
    pub(crate) fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.request(path, body);
        let reply = http::ask_within(self.addr, &request, PATIENCE).expect("an answer");
        (reply.status(), serde_json::from_str(&reply.text()).expect("JSON"))
    }

    /// The answer to a call that is not refused.
    pub(crate) fn call(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(path, body);
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    pub(crate) fn put(&self, key: &str, value: &str) -> i64 {
        let body = json!({"key": base64(key), "value": base64(value)});
        number(&self.call("kv/put", &body)["header"]["revision"])
    }

    pub(crate) fn revision(&self) -> i64 {
        let (key, range_end) = all();
        let body = json!({"key": key, "range_end": range_end, "count_only": true});
        number(&self.call("kv/range", &body)["header"]["revision"])
    }

    /// All keys as of a revision, zero for now; or why they cannot be read.
    pub(crate) fn keys(&self, revision: i64) -> Value {
        let (key, range_end) = all();
        let body = json!({"key": key, "range_end": range_end, "revision": revision.to_string()});
        match self.ask("kv/range", &body) {
            (200, answer) => answer["kvs"].clone(),
            (_, refused) => refused["message"].clone(),
        }
    }

    /// All leases with their lives and keys, by id.
    pub(crate) fn leases(&self) -> Vec<Value> {
        let mut leases = Vec::new();
        for lease in list(&self.call("lease/leases", &json!({}))["leases"]) {
            let body = json!({"ID": lease["ID"], "keys": true});
            let answer = self.call("lease/timetolive", &body);
            let mut keys: Vec<_> = list(&answer["keys"]).iter().map(Value::to_string).collect();
            keys.sort();
            leases.push(json!({"ID": lease["ID"], "granted": answer["grantedTTL"], "keys": keys}));
        }
        leases.sort_by_key(|lease| number(&lease["ID"]));
        leases
    }

    /// All users with their roles, and all roles with what they may do.
    pub(crate) fn users(&self) -> Vec<Value> {
        let mut found = Vec::new();
        for (list_path, names, get_path, field) in [
            ("auth/user/list", "users", "auth/user/get", "name"),
            ("auth/role/list", "roles", "auth/role/get", "role"),
        ] {
            let mut all = list(&self.call(list_path, &json!({}))[names]);
            all.sort_by_key(Value::to_string);
            for name in all {
                let mut answer = self.call(get_path, &json!({field: name}));
                answer.as_object_mut().expect("an object").remove("header");
                found.push(json!([name, answer]));
            }
        }
        found
    }

    /// All changes from a revision on, up to the one that is named.
    pub(crate) fn events(&self, from: i64, last: i64) -> Vec<Value> {
        let (key, range_end) = all();
        let create = json!({"key": key, "range_end": range_end, "start_revision": from.to_string(), "prev_kv": true});
        let request = self.request("watch", &json!({"create_request": create}));
        let stream = Open::send(self.addr, &request).expect("the server accepts");
        let events = |body: &[u8]| {
            let whole = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines = body[..whole].split_inclusive(|byte| *byte == b'\n');
            let answers = lines.map(|line| serde_json::from_slice(line).expect("JSON"));
            answers.flat_map(|answer: Value| list(&answer["result"]["events"])).collect::<Vec<_>>()
        };
        let has_last = |events: &[Value]| {
            events.iter().any(|event| number(&event["kv"]["mod_revision"]) >= last)
        };
        let came = stream.wait(PATIENCE, |progress| has_last(&events(&progress.body)));
        let found = events(&stream.progress().body);
        assert!(came, "revision {last} in {found:?}");
        stream.close();
        found
    }
}
