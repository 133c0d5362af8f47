//! Users, roles and rights from outside: real members, a real `etcdctl`, kill -9, watches that are cut, and what gets into logs.

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod etcdctl;
mod guesses;
mod secrets;
mod watches;

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use support::http::{self, Reply, Request};

/// Who asks.
#[derive(Clone, Copy)]
struct User {
    name: &'static str,
    password: &'static str,
}

const ROOT: User = User { name: "root", password: "root-PaSsWoRd-4711" };
const BOB: User = User { name: "bob", password: "bob-PaSsWoRd-0815" };

impl User {
    /// What stands behind `Basic` in its header.
    fn encoded(self) -> String {
        encoded(&format!("{}:{}", self.name, self.password))
    }

    fn signs(self, request: Request) -> Request {
        request.header("Authorization", &format!("Basic {}", self.encoded()))
    }

    fn get(self, addr: SocketAddr, target: &str) -> Reply {
        ask(addr, &self.signs(Request::get(target)))
    }

    fn put_key(self, addr: SocketAddr, key: &str, form: &str) -> Reply {
        ask(addr, &self.signs(Request::new("PUT", format!("/v2/keys{key}")).form(form)))
    }
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

fn ask(addr: SocketAddr, request: &Request) -> Reply {
    http::ask(addr, request).unwrap_or_else(|why| panic!("{request}: {why}"))
}

/// A change by root, which must be taken.
fn change(addr: SocketAddr, method: &str, path: &str, body: &str) -> Reply {
    let request = ROOT.signs(Request::new(method, format!("/v2/auth/{path}")));
    let reply = ask(addr, &request.body(body));
    assert!(matches!(reply.status(), 200 | 201), "{method} {path}: {}", reply.text());
    reply
}

/// Authentication is on, guests may do nothing, and bob may read and write below `/app/`.
fn set_up(addr: SocketAddr) {
    for user in [ROOT, BOB] {
        let (name, password) = (user.name, user.password);
        let body = format!(r#"{{"user":"{name}","password":"{password}"}}"#);
        change(addr, "PUT", &format!("users/{name}"), &body);
    }
    let both = r#"{"kv":{"read":["/app/*"],"write":["/app/*"]}}"#;
    change(addr, "PUT", "roles/app", &format!(r#"{{"role":"app","permissions":{both}}}"#));
    change(addr, "PUT", "users/bob", r#"{"user":"bob","grant":["app"]}"#);
    change(addr, "PUT", "enable", "");
    let all = r#"{"kv":{"read":["/*"],"write":["/*"]}}"#;
    change(addr, "PUT", "roles/guest", &format!(r#"{{"role":"guest","revoke":{all}}}"#));
}
