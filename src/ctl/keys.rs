//! Commands on keys as requests, and what comes of them.
//!
//! Owns: which field goes where in a URL or a form. Never knows: options of commands, formats.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::base::{JSON_DEPTH_MAX, json_depth};
use crate::ctl::client::Client;
use crate::ctl::failure::{CtlError, KeyRefusal};
use crate::ctl::wire::{Event, FORM, Request, key_target, query};

/// How a key is to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// What is below it too.
    pub(super) recursive: bool,
    /// In the order of the alphabet.
    pub(super) sorted: bool,
    /// What a majority agrees on.
    pub(super) quorum: bool,
}

/// What a write depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Writing<'a> {
    /// It becomes a directory.
    pub(super) dir: bool,
    /// Seconds until it goes; 0 for never.
    pub(super) ttl: i64,
    /// It has to be there, or must not be.
    pub(super) exists: Option<bool>,
    /// The value it has to have; empty for any.
    pub(super) previous_value: &'a str,
    /// The index it has to have; 0 for any.
    pub(super) previous_index: u64,
}

/// What a removal depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removal<'a> {
    /// An empty directory goes too.
    pub(super) dir: bool,
    /// A directory goes with everything below.
    pub(super) recursive: bool,
    /// The value it has to have; empty for any.
    pub(super) previous_value: &'a str,
    /// The index it has to have; 0 for any.
    pub(super) previous_index: u64,
}

/// Reads a key.
pub(super) fn get(key: &str, reading: Reading) -> Request {
    let word = |flag: bool| if flag { "true" } else { "false" };
    Request::get(key_target(
        key,
        &[
            ("quorum", word(reading.quorum)),
            ("recursive", word(reading.recursive)),
            ("sorted", word(reading.sorted)),
        ],
    ))
}

/// Waits for the next event, or for the first from `index` on.
pub(super) fn wait(key: &str, recursive: bool, index: u64) -> Request {
    let fields = [
        ("recursive", if recursive { "true" } else { "false" }),
        ("wait", "true"),
        ("waitIndex", &index.to_string()),
    ];
    Request { waits: true, ..Request::get(key_target(key, &fields)) }
}

/// Writes a key or a directory.
pub(super) fn put(key: &str, value: &str, writing: &Writing<'_>) -> Request {
    let index = writing.previous_index.to_string();
    let mut fields = Vec::new();
    if writing.dir {
        fields.push(("dir", "true"));
    }
    if let Some(exists) = writing.exists {
        fields.push(("prevExist", if exists { "true" } else { "false" }));
    }
    if writing.previous_index != 0 {
        fields.push(("prevIndex", index.as_str()));
    }
    if !writing.dir && !writing.previous_value.is_empty() {
        fields.push(("prevValue", writing.previous_value));
    }
    let form = form((!writing.dir).then_some(value), writing.ttl);
    let request = Request::new(Method::PUT, key_target(key, &fields));
    Request { body: Some(form), one_shot: writing.exists == Some(false), ..request }
}

/// Writes a key under a name in the order of creation.
pub(super) fn post(dir: &str, value: &str, ttl: i64) -> Request {
    let request = Request::new(Method::POST, key_target(dir, &[]));
    Request { body: Some(form(Some(value), ttl)), ..request }
}

fn form(value: Option<&str>, ttl: i64) -> (&'static str, String) {
    let ttl = (ttl > 0).then(|| ttl.to_string());
    let fields = [ttl.as_deref().map(|ttl| ("ttl", ttl)), value.map(|value| ("value", value))];
    (FORM, query(&fields.into_iter().flatten().collect::<Vec<_>>()))
}

/// Removes a key or a directory.
pub(super) fn delete(key: &str, removal: &Removal<'_>) -> Request {
    let index = removal.previous_index.to_string();
    let mut fields = Vec::new();
    if removal.dir {
        fields.push(("dir", "true"));
    }
    if removal.previous_index != 0 {
        fields.push(("prevIndex", index.as_str()));
    }
    if !removal.previous_value.is_empty() {
        fields.push(("prevValue", removal.previous_value));
    }
    if removal.recursive {
        fields.push(("recursive", "true"));
    }
    Request::new(Method::DELETE, key_target(key, &fields)).once()
}

/// Asks, and reads the answer.
///
/// # Errors
/// See [`CtlError`].
pub(super) async fn ask(client: &mut Client, request: &Request) -> Result<Event, CtlError> {
    let answer = client.ask(request).await?;
    read(answer.status, &answer.headers, &answer.body)
}

/// Reads an answer.
///
/// # Errors
/// The refusal in it; or that it is no answer to a command on keys.
pub(super) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Event, CtlError> {
    let invalid = || {
        let text = "client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint";
        CtlError::Plain(text.to_owned())
    };
    if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
        let refusal: KeyRefusal = serde_json::from_slice(body).map_err(|_| invalid())?;
        return Err(CtlError::Key(refusal));
    }
    if body.is_empty() {
        return Err(CtlError::Plain("client: response body is empty".to_owned()));
    }
    if json_depth(body) > JSON_DEPTH_MAX {
        return Err(invalid());
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    reader.disable_recursion_limit();
    let mut event: Event = serde::Deserialize::deserialize(&mut reader).map_err(|_| invalid())?;
    event.index = index(headers).unwrap_or(0);
    Ok(event)
}

/// Where the store was (`X-Etcd-Index`).
pub(super) fn index(headers: &HeaderMap) -> Option<u64> {
    headers.get("x-etcd-index")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_say_what_they_depend_on() {
        let target = |request: Request| (request.target, request.body.map(|(_, text)| text));
        let text = |text: &str| Some(text.to_owned());
        let plain = Writing::default();
        assert_eq!(target(put("/a", "v", &plain)), ("/v2/keys/a".to_owned(), text("value=v")));
        let all =
            Writing { ttl: 5, previous_value: "o", previous_index: 7, exists: Some(true), ..plain };
        let expected = "/v2/keys/a?prevExist=true&prevIndex=7&prevValue=o";
        assert_eq!(target(put("/a", "v", &all)), (expected.to_owned(), text("ttl=5&value=v")));
        let dir = Writing { dir: true, exists: Some(false), ..plain };
        let request = put("/d", "", &dir);
        assert!(request.one_shot);
        assert_eq!(target(request), ("/v2/keys/d?dir=true&prevExist=false".to_owned(), text("")));
    }

    #[test]
    fn what_is_nested_too_deep_is_no_answer() {
        let nested = |levels: usize| {
            let open = r#"{"key":"/a","dir":true,"nodes":["#.repeat(levels);
            Bytes::from(format!(r#"{{"action":"get","node":{open}{}}}"#, "]}".repeat(levels)))
        };
        let read = |body| read(StatusCode::OK, &HeaderMap::new(), &body);
        assert!(read(nested(1000)).is_ok());
        assert!(read(nested(3000)).is_err());
    }

    #[test]
    fn a_refusal_is_read_from_the_body() {
        let body = r#"{"errorCode":100,"message":"Key not found","cause":"/a","index":4}"#;
        let error = read(StatusCode::NOT_FOUND, &HeaderMap::new(), &body.into()).unwrap_err();
        assert_eq!(error.to_string(), "100: Key not found (/a) [4]");
        let error = read(StatusCode::BAD_REQUEST, &HeaderMap::new(), &"no".into()).unwrap_err();
        assert!(error.to_string().starts_with("client: response is invalid json"));
    }
}
