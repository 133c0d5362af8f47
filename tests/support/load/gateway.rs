//! Version 3's part of the load: the same calls as ranges and transactions, over the JSON gateway.
//!
//! Owns: requests, answers and events of that key space, in the words of `support::history`. Never knows: which call comes next.
//! A key that ends in an even digit has a twin elsewhere: each transaction writes or reads both, and they are never seen to differ.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::history::{Action, Event, Outcome, Seen};
use crate::support::http::{Reply, Request};
use crate::support::version_three::{base64, number, post, text};

/// What a put is called in a history: the answer does not say whether a key was there.
const PUT: &str = "put";
/// What a deletion is called.
const REMOVE: &str = "remove";

/// The key of the twin, for keys that have one.
fn twin(key: &str) -> Option<String> {
    let is_even = key.bytes().last().is_some_and(|last| last.is_ascii_digit() && last % 2 == 0);
    is_even.then(|| format!("/twins{key}"))
}

/// Asks for all below a directory.
fn below(prefix: &str) -> Value {
    json!({"key": base64(format!("{prefix}/")), "range_end": base64(format!("{prefix}0"))})
}

/// The request for a call.
pub(super) fn request(key: &str, action: &Action) -> Request {
    let name = base64(key);
    let compare = |target: &str, result: &str, field: &str, value: &str| json!({"key": name, "target": target, "result": result, field: value});
    let is_there = || compare("CREATE", "GREATER", "create_revision", "0");
    let conditions = |value: &Option<String>, index: &Option<u64>| {
        let value = value.iter().map(|it| compare("VALUE", "EQUAL", "value", &base64(it)));
        let index = index.iter().map(|it| compare("MOD", "EQUAL", "mod_revision", &it.to_string()));
        [is_there()].into_iter().chain(value).chain(index).collect::<Vec<_>>()
    };
    let twin = twin(key).map(|twin| base64(&twin));
    let each = |op: &dyn Fn(&String) -> Value| {
        [Some(&name), twin.as_ref()].into_iter().flatten().map(op).collect::<Vec<_>>()
    };
    let put = |value: &str| {
        let value = base64(value);
        each(&|key| json!({"request_put": {"key": key, "value": value, "prev_kv": true}}))
    };
    let delete = || each(&|key| json!({"request_delete_range": {"key": key, "prev_kv": true}}));
    let txn = |compare: Vec<Value>, success: Vec<Value>| {
        let failure = [json!({"request_range": {"key": name}})];
        post("kv/txn", &json!({"compare": compare, "success": success, "failure": failure}))
    };
    match action {
        Action::Read { quorum } => {
            let range = |key: &String| json!({"key": key, "serializable": !quorum});
            match twin {
                None => post("kv/range", &range(&name)),
                Some(_) => txn(vec![], each(&|key| json!({"request_range": range(key)}))),
            }
        }
        Action::Set { value } if twin.is_none() => {
            post("kv/put", &json!({"key": name, "value": base64(value), "prev_kv": true}))
        }
        Action::Set { value } => txn(vec![], put(value)),
        Action::Create { value } => {
            txn(vec![compare("CREATE", "EQUAL", "create_revision", "0")], put(value))
        }
        Action::Swap { value, if_value, if_index } => {
            txn(conditions(if_value, if_index), put(value))
        }
        Action::Delete if twin.is_none() => {
            post("kv/deleterange", &json!({"key": name, "prev_kv": true}))
        }
        Action::Delete => txn(vec![is_there()], delete()),
        Action::DeleteIf { if_value, if_index } => txn(conditions(if_value, if_index), delete()),
    }
}

fn revision(value: &Value) -> u64 {
    number(value).unsigned_abs()
}

fn seen(kv: &Value) -> Option<Seen> {
    let (modified, created) = (revision(&kv["mod_revision"]), revision(&kv["create_revision"]));
    let value = text(&kv["value"])?;
    (modified > 0).then_some(Seen { value, modified, created })
}

/// What an answer says about the call; the error says what is strange about it.
pub(super) fn outcome(key: &str, action: &Action, reply: &Reply) -> Result<Outcome, String> {
    let strange = |why: &str| {
        let text: String = reply.text().chars().take(300).collect();
        format!("{why}: answered {} {text}", reply.status())
    };
    let body: Value = serde_json::from_slice(&reply.body).map_err(|_| strange("no JSON"))?;
    if reply.status() != 200 {
        // A member without a leader or without time says so; whether the write is done, it does not say.
        let is_fault = matches!(reply.status(), 500 | 503 | 504) && body["message"].is_string();
        return if is_fault { Ok(Outcome::Unknown) } else { Err(strange("refused")) };
    }
    let index = revision(&body["header"]["revision"]);
    if index == 0 {
        return Err(strange("no revision"));
    }
    let (is_done, parts) = match body.get("responses").and_then(Value::as_array) {
        None => (true, vec![&body]),
        Some(parts) => {
            let inside = |part: &&Value| part.as_object().is_some_and(|part| part.len() == 1);
            if !parts.iter().all(|part| inside(&part)) {
                return Err(strange("parts without an answer"));
            }
            let inner = parts.iter().flat_map(|part| part.as_object().into_iter().flatten());
            (body["succeeded"] == true, inner.map(|(_, part)| part).collect())
        }
    };
    let first = *parts.first().ok_or_else(|| strange("no parts"))?;
    if !is_done {
        let code = match (seen(&first["kvs"][0]), action) {
            (None, _) => 100,
            (Some(_), Action::Create { .. }) => 105,
            (Some(_), _) => 101,
        };
        return Ok(Outcome::Refused { code, index });
    }
    let of_part = |part: &Value| match action {
        Action::Read { .. } => seen(&part["kvs"][0]),
        Action::Delete | Action::DeleteIf { .. } => seen(&part["prev_kvs"][0]),
        Action::Set { .. } | Action::Create { .. } | Action::Swap { .. } => seen(&part["prev_kv"]),
    };
    if twin(key).is_some() && (parts.len() != 2 || of_part(first) != of_part(parts[1])) {
        return Err(strange("a key and its twin differ"));
    }
    let found = of_part(first);
    Ok(match action {
        Action::Read { .. } => match found {
            Some(node) => {
                let modified = node.modified;
                Outcome::Done { node: Some(node), prev: None, modified, index }
            }
            None => Outcome::Refused { code: 100, index },
        },
        Action::Delete | Action::DeleteIf { .. } => match found {
            Some(_) => Outcome::Done { node: None, prev: found, modified: index, index },
            None => Outcome::Refused { code: 100, index },
        },
        Action::Set { value } | Action::Create { value } | Action::Swap { value, .. } => {
            let created = found.as_ref().map_or(index, |prev| prev.created);
            let node = Seen { value: value.clone(), modified: index, created };
            Outcome::Done { node: Some(node), prev: found, modified: index, index }
        }
    })
}

/// Opens a watcher of all below a directory from a revision on.
pub(super) fn watch(prefix: &str, from: u64) -> Request {
    let mut create = below(prefix);
    create["start_revision"] = json!(from.to_string());
    create["prev_kv"] = json!(true);
    post("watch", &json!({"create_request": create}))
}

/// The events of one line of a watcher; the error says why there are no more.
pub(super) fn events(line: &[u8]) -> Result<Vec<Event>, String> {
    let told = || String::from_utf8_lossy(line).into_owned();
    let answer: Value = serde_json::from_slice(line).map_err(|_| told())?;
    let result = answer.get("result").ok_or_else(told)?;
    if result["canceled"] == true {
        return Err(told());
    }
    let events = result["events"].as_array().into_iter().flatten();
    let events = events.map(|event| {
        let kv = &event["kv"];
        let removes = event["type"] == "DELETE";
        let action = if removes { REMOVE } else { PUT }.to_owned();
        let node = if removes { None } else { Some(seen(kv)?) };
        let (key, index) = (text(&kv["key"])?, revision(&kv["mod_revision"]));
        Some(Event { action, key, node, prev: seen(&event["prev_kv"]), index })
    });
    events.collect::<Option<_>>().ok_or_else(told)
}

/// Asks for the revision, and all keys below a directory.
pub(super) fn list(prefix: &str, quorum: bool) -> Request {
    let mut range = below(prefix);
    range["serializable"] = json!(!quorum);
    post("kv/range", &range)
}

/// The revision and the keys of such an answer.
pub(super) fn listed(reply: &Reply) -> Option<(u64, BTreeMap<String, Seen>)> {
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    let kvs = body["kvs"].as_array().into_iter().flatten();
    let files = kvs.map(|kv| Some((text(&kv["key"])?, seen(kv)?))).collect::<Option<_>>()?;
    Some((revision(&body["header"]["revision"]), files)).filter(|(revision, _)| *revision > 0)
}
