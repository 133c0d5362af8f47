//! The programs under test, and members with something in them.
//!
//! Owns: how the programs are called, what a state looks like from outside. Never knows: what a test expects.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use cairn::archive::{ArchiveReader, Head};
use cairn::model::KeyPath;
use cairn::store::Store;
use serde_json::Value;

use crate::node::{Node, json};
use crate::support::http::{self, Request};
pub(crate) use crate::support::program::{command, fine, refused, run, text};

pub(crate) fn url(node: &Node) -> String {
    format!("http://{}", node.addr())
}

/// A backup of what this member's cluster holds.
pub(crate) fn backup(node: &Node, file: &Path) -> String {
    fine(&["backup", "--endpoint", &url(node), text(file)])
}

/// What is in a backup file.
pub(crate) fn read(file: &Path) -> (Head, Store) {
    let file = File::open(file).expect("the file is there");
    let reader = ArchiveReader::new(BufReader::new(file)).expect("it is a backup");
    reader.into_store().expect("it is whole")
}

/// The value of a key in a state; none if it is not there.
pub(crate) fn value_in(store: &Store, key: &str) -> Option<String> {
    let node = store.get(&KeyPath::from(key)).outcome.ok()?;
    node.value().map(|value| String::from_utf8_lossy(value).into_owned())
}

/// A member alone, serving.
pub(crate) fn alone(name: &'static str, flags: &[&str]) -> Node {
    let mut node = Node::named(name);
    let list = format!("{name}={}", node.peer_url());
    node.serve(&[&["--initial-cluster", &list], flags].concat());
    node
}

/// Makes the member's directory from a backup, alone or with others as in `list`.
pub(crate) fn restore(node: &Node, from: &Path, list: &str, more: &[&str]) -> String {
    let (dir, peer) = (node.data_dir(), node.peer_url());
    let words = ["restore", text(from), "--data-dir", text(&dir), "--name", node.name];
    let members = ["--initial-cluster", list, "--initial-advertise-peer-urls", &peer];
    fine(&[&words[..], &members, more].concat())
}

/// The same for a member alone.
pub(crate) fn restore_alone(node: &Node, from: &Path, more: &[&str]) -> String {
    restore(node, from, &format!("{}={}", node.name, node.peer_url()), more)
}

/// Keys, directories, hidden keys, lifetimes, keys in order, users and roles; and a history in which some of it was removed.
pub(crate) fn fill(node: &Node) {
    let form = |method: &str, target: &str, body: &str| {
        let reply = node.ask(&Request::new(method, target).form(body));
        assert!(matches!(reply.status(), 200 | 201), "{target}: {}", reply.text());
    };
    for number in 0..30 {
        node.put(&format!("/dir{}/sub/{number}", number % 3), &format!("value {number}"));
    }
    form("PUT", "/v2/keys/empty", "dir=true");
    form("PUT", "/v2/keys/session", "value=s&ttl=1000");
    form("PUT", "/v2/keys/mortal", "dir=true&ttl=2000");
    form("PUT", "/v2/keys/mortal/_hidden/deep", "value=unseen");
    form("PUT", "/v2/keys/_top", "value=hidden");
    form("PUT", "/v2/keys/unicode/%E2%9C%93", "value=%E2%9C%93%00end");
    for _ in 0..3 {
        form("POST", "/v2/keys/queue", "value=job");
    }
    form("PUT", "/v2/keys/dir0/sub/0?prevValue=value%200", "value=swapped");
    form("DELETE", "/v2/keys/dir1?recursive=true", "");
    form("PUT", "/v2/keys/session", "ttl=900&refresh=true&prevExist=true");
    let told = |target: &str, body: &str| {
        let request = Request::new("PUT", target).header("Content-Type", "application/json");
        let reply = node.ask(&request.body(body));
        assert!(matches!(reply.status(), 200 | 201), "{target}: {}", reply.text());
    };
    told("/v2/auth/users/root", r#"{"user":"root","password":"secret"}"#);
    let rights = r#"{"kv":{"read":["/dir*"],"write":["/dir2/*"]}}"#;
    told("/v2/auth/roles/reader", &format!(r#"{{"role":"reader","permissions":{rights}}}"#));
    told("/v2/auth/users/alice", r#"{"user":"alice","password":"a","roles":["reader"]}"#);
}

/// All that a client can see of a state, but for what only the moment says: remaining seconds.
pub(crate) fn seen(node: &Node) -> Vec<(String, Value)> {
    let targets = [
        "/v2/keys/?recursive=true&sorted=true",
        "/v2/keys/_top",
        "/v2/keys/mortal/_hidden?recursive=true",
        "/v2/auth/users",
        "/v2/auth/roles",
        "/v2/auth/users/alice",
        "/v2/auth/enable",
    ];
    let seen = targets.map(|target| {
        let mut body = json(&node.get(target));
        forget_moment(&mut body);
        (target.to_owned(), body)
    });
    seen.into()
}

/// Removes `ttl`; `expiration` stays.
fn forget_moment(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("ttl");
            fields.values_mut().for_each(forget_moment);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_moment),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The event that a watcher from `index` on is told of `key`, or the refusal; without what the moment says.
pub(crate) fn event_at(node: &Node, key: &str, index: u64) -> Value {
    let target = format!("/v2/keys{key}?wait=true&recursive=true&waitIndex={index}");
    let reply = http::ask(node.addr(), &Request::get(&target)).expect("it is in the history");
    let mut event = json(&reply);
    forget_moment(&mut event);
    event
}

/// The store's index here, now.
pub(crate) fn index(node: &Node) -> u64 {
    node.get("/v2/keys/").index().expect("an index")
}
