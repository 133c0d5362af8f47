//! Users on both sides: those of version 2, and those of version 3.

use serde_json::json;

use crate::client::{base64, call, try_call_with};
use crate::copying::Both;
use crate::support::http::{Request, ask};
use crate::support::node::wait_until;
use crate::support::server::{Flavor, Server};

/// `root:secret`.
const ROOT: &str = "Basic cm9vdDpzZWNyZXQ=";

fn set(server: &Server, target: &str, body: &str, root: bool) {
    let mut request =
        Request::new("PUT", target.to_owned()).header("Content-Type", "application/json");
    if root {
        request = request.header("Authorization", ROOT);
    }
    let reply = ask(server.addr(), &request.body(body.to_owned())).expect("it answers");
    assert!(matches!(reply.status(), 200 | 201), "{target}: {}", reply.text());
}

/// Users of version 2 who may only read below `/app`, and nothing for anybody else.
fn secure_v2(server: &Server) {
    set(server, "/v2/auth/users/root", r#"{"user":"root","password":"secret"}"#, false);
    set(server, "/v2/auth/users/copy", r#"{"user":"copy","password":"c:opy"}"#, false);
    let role = r#"{"role":"reads","permissions":{"kv":{"read":["/app*"],"write":[]}}}"#;
    set(server, "/v2/auth/roles/reads", role, false);
    set(server, "/v2/auth/users/copy", r#"{"user":"copy","grant":["reads"]}"#, false);
    set(server, "/v2/auth/enable", "", false);
    let revoke = r#"{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}"#;
    set(server, "/v2/auth/roles/guest", revoke, true);
}

fn as_root(server: &Server, key: &str, value: &str) {
    let request = Request::new("PUT", format!("/v2/keys{key}")).header("Authorization", ROOT);
    let reply = ask(server.addr(), &request.form(format!("value={value}"))).expect("it answers");
    assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
}

/// Users of version 3, one of whom may read and write below `/app`.
fn secure_v3(server: &Server) {
    let addr = server.addr();
    for (user, password) in [("root", "pw"), ("copy", "w:rites"), ("other", "o")] {
        call(addr, "auth/user/add", &json!({"name": user, "password": password}));
        call(addr, "auth/role/add", &json!({"name": user}));
        call(addr, "auth/user/grant", &json!({"user": user, "role": user}));
    }
    let perm = json!({"permType": 2, "key": base64("/app"), "range_end": base64("/app0")});
    call(addr, "auth/role/grant", &json!({"name": "copy", "perm": perm}));
    call(addr, "auth/enable", &json!({}));
}

fn token(server: &Server) -> String {
    let answer =
        call(server.addr(), "auth/authenticate", &json!({"name": "root", "password": "pw"}));
    answer["token"].as_str().expect("a token").to_owned()
}

fn there(server: &Server, key: &str) -> String {
    let token = token(server);
    let look = json!({"key": base64(key)});
    let (_, answer) = try_call_with(server.addr(), &token, "kv/range", &look).expect("an answer");
    crate::client::text(&answer["kvs"][0]["value"])
}

#[test]
fn users_with_the_rights_copy_and_others_are_told_what_is_lacking() {
    let mut all = vec![Both::alone(Flavor::Subject)];
    if crate::program::etcd_takes_part() {
        all.extend([
            Both::of(Flavor::Etcd, Flavor::Subject),
            Both::of(Flavor::Subject, Flavor::Etcd),
        ]);
    }
    for both in all {
        crate::program::set(&both.source, "/app/a", "1");
        secure_v2(&both.source);
        secure_v3(both.target());
        let prefix = ["--prefix", "/app"];
        both.refused(&prefix, 1, &["--from-username"]);
        let from = [&prefix[..], &["--from-username", "copy:c:opy"]].concat();
        both.refused(&from, 1, &["--to-username"]);
        for wrong in ["copy:wrong", "other:o"] {
            both.refused(&[&from[..], &["--to-username", wrong]].concat(), 1, &["--to-username"]);
        }
        let users = [&from[..], &["--to-username", "copy:w:rites", "--verify"]].concat();
        let copy = both.follow(&users);
        as_root(&both.source, "/app/b", "2");
        wait_until("it comes over", || there(both.target(), "/app/b") == "2");
        // A new password, here the same again, ends all tokens of its user.
        let token = token(both.target());
        let again = json!({"name": "copy", "password": "w:rites"});
        let (status, answer) =
            try_call_with(both.v3(), &token, "auth/user/changepw", &again).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        as_root(&both.source, "/app/c", "3");
        wait_until("it comes over", || there(both.target(), "/app/c") == "3");
        let said = copy.verified();
        assert!(!said.contains("c:opy") && !said.contains("w:rites"), "no secret is told: {said}");
    }
}
