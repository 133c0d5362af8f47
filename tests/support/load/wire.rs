//! One call over the wire, and what its answer says about its outcome.
//!
//! Owns: forms, answers, the connection of one client. Never knows: which call comes next. In doubt the outcome is unknown.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::targets::Targets;
use super::{Api, gateway};
use crate::support::history::{Action, Event, Outcome, Seen};
use crate::support::http::{Connection, Reply, Request};

/// One client's connection to one member at a time; after a failure to the next one.
pub(crate) struct Line {
    api: Api,
    targets: Targets,
    /// Whom it asks if nothing is in the way.
    home: usize,
    member: usize,
    connection: Option<Connection>,
    /// How long one request may take, the connection included.
    patience: Duration,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No byte of the request left.
    NotSent,
    /// It may have arrived.
    Broken,
}

impl Line {
    pub(crate) fn new(api: Api, targets: Targets, member: usize, patience: Duration) -> Self {
        Self { api, targets, home: member, member, connection: None, patience }
    }

    /// Whom the next request goes to.
    pub(crate) fn member(&self) -> usize {
        self.member
    }

    /// The next request goes to the next member.
    pub(crate) fn move_on(&mut self) {
        self.connection = None;
        self.member = self.targets.after(self.member);
    }

    /// The next request goes to the member that the first one went to, if that is still there.
    pub(crate) fn go_home(&mut self) {
        if self.member != self.home && self.targets.get(self.home).is_some() {
            self.connection = None;
            self.member = self.home;
        }
    }

    /// Asks once.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        let deadline = Instant::now() + self.patience;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let addr = self.targets.get(self.member).ok_or(Failure::NotSent)?;
                Connection::open_within(addr, self.patience).map_err(|_| Failure::NotSent)?
            }
        };
        connection.send(request).map_err(|_| Failure::Broken)?;
        let reply =
            connection.read_reply(&request.method, deadline).map_err(|_| Failure::Broken)?;
        if connection.is_reusable() {
            self.connection = Some(connection);
        }
        Ok(reply)
    }

    /// Makes one call; after anything but an answer of the store the next one goes to the next member.
    pub(crate) fn call(&mut self, key: &str, action: &Action) -> Answered {
        let member = self.member;
        let api = self.api;
        let request = match api {
            Api::V2 => request(key, action),
            Api::V3 => gateway::request(key, action),
        };
        let understand = |reply: &Reply| match api {
            Api::V2 => outcome(action, reply),
            Api::V3 => gateway::outcome(key, action, reply),
        };
        let (outcome, strange) = match self.ask(&request) {
            Ok(reply) => match understand(&reply) {
                Ok(outcome) => (outcome, None),
                Err(why) => {
                    (Outcome::Unknown, Some(format!("{key} {action} at member {member}: {why}")))
                }
            },
            Err(Failure::NotSent) => (Outcome::Nothing, None),
            Err(Failure::Broken) => (Outcome::Unknown, None),
        };
        if matches!(outcome, Outcome::Unknown | Outcome::Nothing) {
            self.move_on();
        }
        Answered { member, outcome, strange }
    }
}

/// What came of a call.
pub(crate) struct Answered {
    pub(crate) member: usize,
    pub(crate) outcome: Outcome,
    /// An answer that no such call may get, in words.
    pub(crate) strange: Option<String>,
}

/// The request for a call. Keys and values need no escapes.
fn request(key: &str, action: &Action) -> Request {
    let conditions = |if_value: &Option<String>, if_index: &Option<u64>| {
        let value = if_value.iter().map(|value| format!("&prevValue={value}"));
        value.chain(if_index.iter().map(|index| format!("&prevIndex={index}"))).collect::<String>()
    };
    let put = |query: &str, value: &str| {
        Request::new("PUT", format!("/v2/keys{key}?{query}")).form(format!("value={value}"))
    };
    match action {
        Action::Read { quorum } => Request::get(&format!("/v2/keys{key}?quorum={quorum}")),
        Action::Set { value } => put("", value),
        Action::Create { value } => put("prevExist=false", value),
        Action::Swap { value, if_value: None, if_index: None } => put("prevExist=true", value),
        Action::Swap { value, if_value, if_index } => {
            put(conditions(if_value, if_index).trim_start_matches('&'), value)
        }
        Action::Delete => Request::new("DELETE", format!("/v2/keys{key}")),
        Action::DeleteIf { if_value, if_index } => {
            let query = conditions(if_value, if_index);
            Request::new("DELETE", format!("/v2/keys{key}?{}", query.trim_start_matches('&')))
        }
    }
}

/// A node of an answer; only files have a value.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    #[serde(default)]
    pub(crate) key: String,
    value: Option<String>,
    #[serde(default)]
    modified_index: u64,
    #[serde(default)]
    created_index: u64,
    #[serde(default)]
    pub(crate) nodes: Vec<Node>,
}

impl Node {
    pub(crate) fn seen(&self) -> Option<Seen> {
        let (modified, created) = (self.modified_index, self.created_index);
        self.value.clone().map(|value| Seen { value, modified, created })
    }
}

/// An answer or an event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Success {
    pub(crate) action: String,
    pub(crate) node: Node,
    prev_node: Option<Node>,
}

impl Success {
    fn prev(&self) -> Option<Seen> {
        self.prev_node.as_ref().and_then(Node::seen)
    }

    pub(crate) fn event(self) -> Event {
        let (node, prev) = (self.node.seen(), self.prev());
        Event {
            action: self.action,
            key: self.node.key,
            node,
            prev,
            index: self.node.modified_index,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    error_code: u32,
    #[serde(default)]
    cause: String,
    index: u64,
}

/// What an answer says about the call; the error says what is strange about it.
pub(crate) fn outcome(action: &Action, reply: &Reply) -> Result<Outcome, String> {
    let strange = || {
        let text: String = reply.text().chars().take(300).collect();
        format!("answered {} {text}", reply.status())
    };
    let header = reply.index().ok_or_else(strange)?;
    if matches!(reply.status(), 200 | 201) {
        let body: Success = serde_json::from_slice(&reply.body).map_err(|_| strange())?;
        if body.action != action.event() {
            return Err(strange());
        }
        let (node, prev) = (body.node.seen(), body.prev());
        return Ok(Outcome::Done { node, prev, modified: body.node.modified_index, index: header });
    }
    let body: Refusal = serde_json::from_slice(&reply.body).map_err(|_| strange())?;
    match body.error_code {
        code @ (100 | 101 | 105) if body.index == header => {
            Ok(Outcome::Refused { code, index: header })
        }
        300 if says_nothing_happened(&body.cause) => Ok(Outcome::Nothing),
        300 => Ok(Outcome::Unknown),
        _ => Err(strange()),
    }
}

/// Whether a member without an answer says that the write never was and never will be.
fn says_nothing_happened(cause: &str) -> bool {
    cause.ends_with("; nothing was written")
        || matches!(cause, "etcdserver: not leader" | "etcdserver: server stopped")
}

/// Every file of a listing below one directory.
pub(crate) fn files(node: &Node, into: &mut std::collections::BTreeMap<String, Seen>) {
    if let Some(seen) = node.seen() {
        into.insert(node.key.clone(), seen);
    }
    node.nodes.iter().for_each(|node| files(node, into));
}
