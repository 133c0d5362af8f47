//! What servers of version 2 answer, read, and the requests that they are asked with.
//!
//! Owns: the mirror's own picture of the API; the server's is another one on purpose, so that both cannot be wrong in the same way.
//! Never knows: connections, what is copied.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::DateTime;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::base::{JSON_DEPTH_MAX, json_depth};

/// Refusals of etcd that the mirror acts upon.
pub(crate) mod code {
    pub(crate) const NOT_FOUND: u32 = 100;
    pub(crate) const COMPARE_FAILED: u32 = 101;
    pub(crate) const NOT_A_FILE: u32 = 102;
    pub(crate) const NOT_A_DIRECTORY: u32 = 104;
    pub(crate) const EXISTS: u32 = 105;
    pub(crate) const ROOT: u32 = 107;
    pub(crate) const NOT_EMPTY: u32 = 108;
    pub(crate) const UNAUTHORIZED: u32 = 110;
    pub(crate) const CLEARED: u32 = 401;
}

/// A key or a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Node {
    #[serde(default)]
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) dir: bool,
    #[serde(default)]
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) nodes: Vec<Node>,
    #[serde(default, rename = "modifiedIndex")]
    pub(crate) modified: u64,
    /// When it goes, as the server writes times.
    #[serde(default)]
    pub(crate) expiration: Option<String>,
    /// Seconds until then, when the server wrote this.
    #[serde(default)]
    pub(crate) ttl: i64,
}

impl Node {
    /// When it goes, in milliseconds since 1970 of the server's clock.
    pub(crate) fn ends_ms(&self) -> Option<i64> {
        let date = DateTime::parse_from_rfc3339(self.expiration.as_deref()?).ok()?;
        Some(date.timestamp_millis())
    }

    /// Is it the same to a client, but for its lifetime?
    pub(crate) fn is_as(&self, other: &Node) -> bool {
        self.dir == other.dir && (self.dir || self.value == other.value)
    }
}

/// What a request did, or a watch saw.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Event {
    #[serde(default)]
    pub(crate) action: String,
    #[serde(default)]
    pub(crate) node: Node,
}

impl Event {
    /// Is the node gone?
    pub(crate) fn removes(&self) -> bool {
        matches!(&*self.action, "delete" | "compareAndDelete" | "expire")
    }
}

/// A server's no.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Refusal {
    #[serde(rename = "errorCode")]
    pub(crate) code: u32,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) cause: String,
    #[serde(default)]
    pub(crate) index: u64,
}

/// JSON, however deep keys are, but no deeper.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    if json_depth(body) > JSON_DEPTH_MAX {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    reader.disable_recursion_limit();
    T::deserialize(&mut reader).ok()
}

/// A question.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query, escaped.
    pub(crate) target: String,
    /// A form.
    pub(crate) body: Bytes,
}

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

fn target(key: &str, query: &str) -> String {
    let path = utf8_percent_encode(key, PATH);
    // The root has no name.
    let slash = if key.is_empty() { "/" } else { "" };
    format!("/v2/keys{path}{slash}?{query}")
}

impl Request {
    /// Reads a key or a directory, as a majority has it.
    pub(crate) fn get(key: &str, recursive: bool) -> Self {
        let query =
            if recursive { "quorum=true&recursive=true&sorted=true" } else { "quorum=true" };
        Self { method: Method::GET, target: target(key, query), body: Bytes::new() }
    }

    /// Waits for the first change from an index on.
    pub(crate) fn wait(key: &str, from: u64) -> Self {
        let target = target(key, &format!("wait=true&recursive=true&waitIndex={from}"));
        Self { method: Method::GET, target, body: Bytes::new() }
    }

    /// Writes a key under conditions, `a=b&c=d`.
    pub(crate) fn put(key: &str, conditions: &str, value: &str, ttl: Option<u64>) -> Self {
        let mut body = format!("value={}", utf8_percent_encode(value, UNRESERVED));
        if let Some(ttl) = ttl {
            body.push_str(&format!("&ttl={ttl}"));
        }
        Self { method: Method::PUT, target: target(key, conditions), body: body.into() }
    }

    /// Gives a key or a directory another lifetime and nothing else, under conditions.
    pub(crate) fn renew(key: &str, conditions: &str, ttl: Option<u64>) -> Self {
        let body = ttl.map(|ttl| format!("ttl={ttl}")).unwrap_or_default();
        Self { method: Method::PUT, target: target(key, conditions), body: body.into() }
    }

    /// Removes, under conditions.
    pub(crate) fn delete(key: &str, conditions: &str) -> Self {
        Self { method: Method::DELETE, target: target(key, conditions), body: Bytes::new() }
    }
}

/// Everything in a listing by its path, without the root of the key space.
pub(crate) fn flat(root: Node) -> BTreeMap<String, Node> {
    let (mut all, mut left) = (BTreeMap::new(), vec![root]);
    while let Some(mut node) = left.pop() {
        left.append(&mut node.nodes);
        if !node.key.is_empty() && node.key != "/" {
            all.insert(node.key.clone(), node);
        }
    }
    all
}

/// Is `path` this directory or something in it? The root is the empty path.
pub(crate) fn is_within(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path without empty parts; empty for the root.
pub(crate) fn clean(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect()
}

/// Does a listing of `scope` leave out this path below it?
pub(crate) fn is_hidden(path: &str, scope: &str) -> bool {
    path.strip_prefix(scope).is_some_and(|rest| rest.contains("/_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_escaped() {
        assert!(Request::get("", true).target.starts_with("/v2/keys/?quorum=true&"));
        assert_eq!(
            Request::wait("/a b/é?", 7).target,
            "/v2/keys/a%20b/%C3%A9%3F?wait=true&recursive=true&waitIndex=7"
        );
        let put = Request::put("/a", "prevIndex=3", "x y&=", Some(5));
        assert_eq!(
            (&*put.target, &put.body[..]),
            ("/v2/keys/a?prevIndex=3", &b"value=x%20y%26%3D&ttl=5"[..])
        );
    }

    #[test]
    fn paths_are_compared_by_their_parts() {
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a") && is_within("/a", ""));
        assert!(!is_within("/ab", "/a") && !is_within("/a", "/a/b"));
        assert_eq!((clean("/"), clean("a//b/")), (String::new(), "/a/b".to_owned()));
        assert!(is_hidden("/a/_b/c", "/a") && !is_hidden("/a/b_/c", "/a"));
        assert!(!is_hidden("/a/_b/c", "/a/_b"), "what is asked for is shown");
    }

    #[test]
    fn a_listing_is_read_with_its_lifetimes() {
        let body = br#"{"action":"get","node":{"dir":true,"nodes":[{"key":"/d","dir":true,"nodes":[{"key":"/d/a","value":"1","expiration":"1970-01-01T00:00:02.5Z","ttl":3,"modifiedIndex":7,"createdIndex":6}],"modifiedIndex":3,"createdIndex":2}]}}"#;
        let all = flat(read::<Event>(body).unwrap().node);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["/d", "/d/a"]);
        assert_eq!((all["/d/a"].ends_ms(), all["/d"].ends_ms()), (Some(2500), None));
        assert!(read::<Event>("[".repeat(10_000).as_bytes()).is_none());
    }
}
