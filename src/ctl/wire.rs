//! What servers answer, read, and the URLs and forms that they are asked with.
//!
//! Owns: the tool's own picture of the version 2 API; the server's is another one on purpose, so that both cannot be wrong in the
//! same way. Never knows: connections, commands.

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// A node of the key space, with the fields in the order in which etcd's tool prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    /// Its path.
    #[serde(default)]
    pub(super) key: String,
    /// It is a directory.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) dir: bool,
    /// Empty for a directory.
    #[serde(default)]
    pub(super) value: String,
    /// What is in it, where that was asked for.
    #[serde(default)]
    pub(super) nodes: Option<Vec<Node>>,
    /// Where it was created.
    #[serde(default, rename = "createdIndex")]
    pub(super) created_index: u64,
    /// Where it was last changed.
    #[serde(default, rename = "modifiedIndex")]
    pub(super) modified_index: u64,
    /// When it goes, as the server writes times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expiration: Option<String>,
    /// Seconds until then; 0 for never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) ttl: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// What a command did, or a watch saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    /// `set`, `get` and so on.
    #[serde(default)]
    pub(super) action: String,
    /// The node, after it.
    #[serde(default)]
    pub(super) node: Node,
    /// The node as it was before.
    #[serde(default, rename = "prevNode")]
    pub(super) previous: Option<Node>,
    /// Where the store was when the answer began (`X-Etcd-Index`).
    #[serde(skip)]
    pub(super) index: u64,
}

/// A member, as its list has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// In hexadecimal.
    #[serde(default)]
    pub(super) id: String,
    /// Empty until it has started for the first time.
    #[serde(default)]
    pub(super) name: String,
    /// Where its peers reach it.
    #[serde(default, rename = "peerURLs")]
    pub(super) peer_urls: Vec<String>,
    /// Where clients reach it.
    #[serde(default, rename = "clientURLs")]
    pub(super) client_urls: Vec<String>,
}

/// The list of members.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Members {
    /// In the server's order.
    #[serde(default)]
    pub(super) members: Vec<Member>,
}

/// A role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Role {
    /// Its name.
    #[serde(default)]
    pub(super) role: String,
    /// What it may do.
    #[serde(default)]
    pub(super) permissions: Permissions,
    /// What is to be added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) grant: Option<Permissions>,
    /// What is to be taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revoke: Option<Permissions>,
}

/// What a role may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Permissions {
    /// With keys.
    #[serde(default)]
    pub(super) kv: ReadWrite,
}

/// Patterns of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReadWrite {
    /// That may be read.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) read: Vec<String>,
    /// That may be written.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) write: Vec<String>,
}

/// Go writes an empty list as `null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(from)?.unwrap_or_default())
}

/// What is sent about a user.
#[derive(Debug, Default, Serialize)]
pub(super) struct UserChange<'a> {
    /// Its name.
    pub(super) user: &'a str,
    /// A new password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<&'a str>,
    /// All its roles; the tool only adds and takes away, so it stays null.
    pub(super) roles: Option<&'a [String]>,
    /// Roles to be added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grant: Option<&'a [String]>,
    /// Roles to be taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revoke: Option<&'a [String]>,
}

/// A refusal where no keys are concerned.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Message {
    /// In words.
    #[serde(default)]
    pub(super) message: String,
}

/// A question to any endpoint.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// What is done.
    pub(super) method: Method,
    /// Path and query, escaped.
    pub(super) target: String,
    /// Its kind and itself.
    pub(super) body: Option<(&'static str, String)>,
    /// Its answer takes as long as it takes.
    pub(super) waits: bool,
    /// Only one endpoint may be asked: done twice, it would come out another way.
    pub(super) one_shot: bool,
}

/// What a form is called in a header.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
/// What JSON is called in a header.
pub(super) const JSON: &str = "application/json";

impl Request {
    /// One that only reads.
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target)
    }

    /// One without a body.
    pub(super) fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), body: None, waits: false, one_shot: false }
    }

    /// The same with JSON.
    #[must_use]
    pub(super) fn with_json(self, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).expect("names and lists of text are JSON");
        Self { body: Some((JSON, body)), ..self }
    }

    /// The same for one endpoint only.
    #[must_use]
    pub(super) fn once(self) -> Self {
        Self { one_shot: true, ..self }
    }
}

/// What stands for itself in a path, as in Go.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// What stands for itself in a query, as in Go; a blank becomes a plus.
const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

/// A path, escaped.
pub(super) fn path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// `a=b&c=d`, escaped. To print the same as etcd's tool, callers give the names in alphabetical order.
pub(super) fn query(fields: &[(&str, &str)]) -> String {
    let escaped = |text| utf8_percent_encode(text, QUERY).to_string().replace(' ', "+");
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Path and query of a key.
pub(super) fn key_target(key: &str, fields: &[(&str, &str)]) -> String {
    let path = path(&clean(&format!("/v2/keys/{key}")));
    if fields.is_empty() { path } else { format!("{path}?{}", query(fields)) }
}

/// A path without empty parts, `.` and `..`; a slash at its end stays.
pub(super) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_escaped_as_in_go() {
        assert_eq!(key_target("/a b", &[]), "/v2/keys/a%20b");
        assert_eq!(key_target("a", &[]), "/v2/keys/a");
        assert_eq!(key_target("", &[]), "/v2/keys/");
        assert_eq!(key_target("/a//b/./c/../d/", &[]), "/v2/keys/a/b/d/");
        assert_eq!(key_target("/a?b#c%é", &[]), "/v2/keys/a%3Fb%23c%25%C3%A9");
        assert_eq!(query(&[("value", "x y&\"é+")]), "value=x+y%26%22%C3%A9%2B");
    }

    #[test]
    fn a_node_is_written_as_etcds_tool_does() {
        let body = r#"{"action":"get","node":{"key":"/d","dir":true,"nodes":[{"key":"/d/a","value":"1","expiration":"2026-01-01T00:00:00.5Z","ttl":5,"modifiedIndex":7,"createdIndex":6}],"modifiedIndex":3,"createdIndex":2}}"#;
        let event: Event = serde_json::from_str(body).unwrap();
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"action":"get","node":{"key":"/d","dir":true,"value":"","nodes":[{"key":"/d/a","value":"1","nodes":null,"createdIndex":6,"modifiedIndex":7,"expiration":"2026-01-01T00:00:00.5Z","ttl":5}],"createdIndex":2,"modifiedIndex":3},"prevNode":null}"#
        );
    }

    #[test]
    fn lists_that_are_null_are_empty() {
        let role: Role = serde_json::from_str(
            r#"{"role":"r","permissions":{"kv":{"read":null,"write":["/*"]}}}"#,
        )
        .unwrap();
        assert!(role.permissions.kv.read.is_empty());
    }
}
