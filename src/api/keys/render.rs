//! Event, node and refusal → bytes.

use bytes::Bytes;

use crate::api::json;
use crate::model::{KeyPath, LogTime, Refusal, StoreIndex, WallOffset};
use crate::store::{Action, Event, Node, Shown};

/// What deadlines are shown by.
#[derive(Clone, Copy)]
pub(super) struct When {
    /// Seconds are counted from here.
    pub(super) now: LogTime,
    /// Dates are the leader's.
    pub(super) offset: WallOffset,
}

/// An event as its writer and its watchers get it. `ttl` is as it was when the event happened.
pub(crate) fn event(event: &Event) -> Bytes {
    let value = |shown: &Shown| shown.value.as_ref().map_or(0, |value| value.len());
    let size = 300
        + 2 * event.path.as_bytes().len()
        + value(&event.node)
        + event.prev.as_ref().map_or(0, value);
    let mut out = Vec::with_capacity(size);
    open(&mut out, event.action.as_str());
    let when = When { now: event.at, offset: event.offset };
    shown(&mut out, &event.path, &event.node, when);
    if let Some(prev) = &event.prev {
        out.extend_from_slice(b",\"prevNode\":");
        // A node that died of its deadline shows when that was, but no seconds left.
        let left_at = if event.action == Action::Expire { prev.expires } else { None };
        shown(&mut out, &event.path, prev, When { now: left_at.unwrap_or(event.at), ..when });
    }
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}

/// The answer to a read of a file; a directory's is a [`Listing`](super::listing::Listing).
pub(super) fn file(path: &KeyPath, file: &Node, when: When) -> Bytes {
    let value = file.value().map_or(0, |value| value.len());
    let mut out = Vec::with_capacity(200 + path.as_bytes().len() + value);
    open(&mut out, "get");
    node_begin(&mut out, path.as_bytes(), file, when);
    node_end(&mut out, file);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}

/// An event without what stood in the file before, for those who may not read it. Its new value is shown to its writer, who has
/// just sent it; a refresh has sent none.
pub(super) fn event_unseen(event: &Event, to_writer: bool) -> Bytes {
    let mut node = event.node.clone();
    if event.refresh || !to_writer {
        node.value = None;
    }
    self::event(&Event { node, prev: None, ..event.clone() })
}

/// The answer to a write that wants to hear as little as possible.
pub(super) fn terse(action: Action) -> Bytes {
    Bytes::from(format!("{{\"action\":\"{}\"}}\n", action.as_str()))
}

/// An error of the key space.
pub(crate) fn refusal(refusal: &Refusal, index: StoreIndex) -> Bytes {
    let (code, message, _) = refusal.row();
    error(code, message, &refusal.cause(), index)
}

/// An error with any code.
pub(crate) fn error(code: u16, message: &str, cause: &[u8], index: StoreIndex) -> Bytes {
    let mut out = Vec::with_capacity(128 + cause.len());
    out.extend_from_slice(b"{\"errorCode\":");
    json::number(&mut out, code);
    out.extend_from_slice(b",\"message\":");
    json::string(&mut out, message.as_bytes());
    if !cause.is_empty() {
        out.extend_from_slice(b",\"cause\":");
        json::string(&mut out, cause);
    }
    out.extend_from_slice(b",\"index\":");
    json::number(&mut out, index.0);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}

/// How every answer begins.
pub(super) fn open(out: &mut Vec<u8>, action: &str) {
    out.extend_from_slice(b"{\"action\":\"");
    out.extend_from_slice(action.as_bytes());
    out.extend_from_slice(b"\",\"node\":");
}

/// A node of the tree up to its children; `key` is its path.
pub(super) fn node_begin(out: &mut Vec<u8>, key: &[u8], node: &Node, when: When) {
    out.push(b'{');
    head(out, key, node.value(), node.is_dir());
    deadline(out, node.expires, when);
}

/// A node of the tree from its children on.
pub(super) fn node_end(out: &mut Vec<u8>, node: &Node) {
    tail(out, node.modified, node.created);
}

/// A node as an event shows it.
fn shown(out: &mut Vec<u8>, path: &KeyPath, node: &Shown, when: When) {
    out.push(b'{');
    head(out, path.as_bytes(), node.value.as_deref(), node.dir);
    deadline(out, node.expires, when);
    tail(out, node.modified, node.created);
}

/// `"key":…,"value":…` or `"key":…,"dir":true`; the root has no key.
fn head(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>, dir: bool) {
    if !key.is_empty() {
        out.extend_from_slice(b"\"key\":");
        json::string(out, key);
    }
    if let Some(value) = value {
        out.extend_from_slice(b",\"value\":");
        json::string(out, value);
    }
    if dir {
        out.extend_from_slice(if key.is_empty() { b"\"dir\":true" } else { b",\"dir\":true" });
    }
}

fn deadline(out: &mut Vec<u8>, expires: Option<LogTime>, when: When) {
    let Some(at) = expires else { return };
    out.extend_from_slice(b",\"expiration\":\"");
    crate::api::time::rfc3339(out, at.on_the_wall(when.offset));
    out.push(b'"');
    let left = at.seconds_left(when.now);
    if left != 0 {
        out.extend_from_slice(b",\"ttl\":");
        json::number(out, left);
    }
}

/// `,"modifiedIndex":…,"createdIndex":…}`; the root has neither.
fn tail(out: &mut Vec<u8>, modified: StoreIndex, created: StoreIndex) {
    for (name, index) in [("modifiedIndex", modified), ("createdIndex", created)] {
        if index.0 > 0 {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            json::number(out, index.0);
        }
    }
    out.push(b'}');
}
