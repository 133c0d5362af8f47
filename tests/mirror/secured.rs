//! Users on both sides.

use crate::program::{Mirror, run, send, url};
use crate::support::http::{Request, ask};
use crate::support::node::wait_until;
use crate::support::server::{Flavor, Server};

fn json(server: &Server, target: &str, body: &str) {
    let request = Request::new("PUT", target.to_owned()).header("Content-Type", "application/json");
    let reply = ask(server.addr(), &request.body(body.to_owned())).expect("it answers");
    assert!(matches!(reply.status(), 200 | 201), "{target}: {}", reply.text());
}

/// Users and rights, and nothing for anybody else.
fn secure(server: &Server, rights: &str) {
    json(server, "/v2/auth/users/root", r#"{"user":"root","password":"secret"}"#);
    json(server, "/v2/auth/users/mirror", r#"{"user":"mirror","password":"m:irror"}"#);
    let role = format!(r#"{{"role":"copies","permissions":{{"kv":{rights}}}}}"#);
    json(server, "/v2/auth/roles/copies", &role);
    json(server, "/v2/auth/users/mirror", r#"{"user":"mirror","grant":["copies"]}"#);
    json(server, "/v2/auth/enable", "");
    let root = Request::new("DELETE", "/v2/auth/roles/guest");
    let reply = ask(server.addr(), &root.header("Authorization", ROOT)).expect("it answers");
    assert!(reply.status() < 500, "{}", reply.text());
    let revoke = r#"{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}"#;
    let request = Request::new("PUT", "/v2/auth/roles/guest").header("Authorization", ROOT);
    let request = request.header("Content-Type", "application/json").body(revoke);
    ask(server.addr(), &request).expect("it answers");
}

/// `root:secret`.
const ROOT: &str = "Basic cm9vdDpzZWNyZXQ=";

fn as_root(server: &Server, method: &str, target: &str, form: &str) -> String {
    let request = Request::new(method, format!("/v2/keys{target}")).header("Authorization", ROOT);
    ask(server.addr(), &request.form(form.to_owned())).expect("it answers").text()
}

#[test]
fn a_user_with_the_rights_copies_and_others_are_told_what_is_lacking() {
    let source = crate::program::source();
    let target = Server::start(Flavor::Subject);
    send(source.addr(), "PUT", "/app/a", "value=1");
    secure(&source, r#"{"read":["/app*"],"write":[]}"#);
    secure(
        &target,
        r#"{"read":["/app*","/_cairn_mirror/*"],"write":["/app*","/_cairn_mirror/*"]}"#,
    );
    let both =
        ["mirror", "--once", "--prefix", "/app", "--from", &url(&source), "--to", &url(&target)];
    let said = run(&both);
    assert!(said.code == Some(1) && said.err.contains("--from-username"), "{said:?}");
    let said = run(&[&both[..], &["--from-username", "mirror:m:irror"]].concat());
    assert!(said.code == Some(1) && said.err.contains("--to-username"), "{said:?}");
    let users = [
        "--from-username",
        "mirror:m:irror",
        "--to-username",
        "mirror:m:irror",
        "--prefix",
        "/app",
        "--verify",
    ];
    let mirror = Mirror::follow(&source, &target, &users);
    as_root(&source, "PUT", "/app/b", "value=2");
    wait_until("it comes over", || {
        as_root(&target, "GET", "/app/b", "").contains(r#""value":"2""#)
    });
    let said = mirror.verified();
    assert!(!said.contains("m:irror"), "no secret is told: {said}");
}
