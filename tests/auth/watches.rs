//! A watch ends when the right to it does, on whatever member that is changed.

use std::net::SocketAddr;

use super::support::cluster::{Cluster, Options};
use super::support::http::{Open, PATIENCE, Request};
use super::support::server::{Flavor, Server};
use super::{BOB, ROOT, ask, change, set_up};

/// A request that waits; its headers have come.
fn open(addr: SocketAddr, request: &Request) -> Open {
    let open = Open::send(addr, request).expect("the server accepts");
    assert!(open.wait(PATIENCE, |progress| progress.head.is_some()), "headers come at once");
    let status = open.progress().head.map(|head| head.status);
    assert_eq!(status, Some(200), "{request}");
    open
}

fn poll(key: &str) -> Request {
    Request::get(&format!("/v2/keys{key}?wait=true"))
}

fn stream(key: &str) -> Request {
    Request::get(&format!("/v2/keys{key}?wait=true&stream=true&recursive=true"))
}

fn assert_cut(open: &Open, why: &str) {
    assert!(open.wait(PATIENCE, |progress| progress.ended), "{why}: the watch goes on");
    let progress = open.progress();
    assert!(progress.error.is_none(), "{why}: {:?}", progress.error);
    assert_eq!(progress.lines(), 0, "{why}");
}

#[test]
fn a_watch_ends_with_the_right_to_it_at_every_member() {
    let mut cluster = Cluster::start(Options::members(3));
    let addrs: Vec<_> = (0..3).map(|member| cluster.member(member).addr()).collect();
    let guests: Vec<_> = addrs.iter().map(|addr| open(*addr, &stream("/app/"))).collect();
    set_up(addrs[0]);
    for guest in &guests {
        assert_cut(guest, "authentication is on and guests may do nothing");
    }
    type Change = (&'static str, &'static str, &'static str);
    let changes: [(&str, Change, Change); 5] = [
        (
            "the role is revoked",
            ("PUT", "users/bob", r#"{"user":"bob","revoke":["app"]}"#),
            ("PUT", "users/bob", r#"{"user":"bob","grant":["app"]}"#),
        ),
        (
            "the pattern is revoked",
            ("PUT", "roles/app", r#"{"role":"app","revoke":{"kv":{"read":["/app/*"]}}}"#),
            ("PUT", "roles/app", r#"{"role":"app","grant":{"kv":{"read":["/app/*"]}}}"#),
        ),
        (
            "the role is deleted",
            ("DELETE", "roles/app", ""),
            ("PUT", "roles/app", r#"{"role":"app","permissions":{"kv":{"read":["/app/*"]}}}"#),
        ),
        (
            "the password is another one",
            ("PUT", "users/bob", r#"{"user":"bob","password":"other"}"#),
            ("PUT", "users/bob", r#"{"user":"bob","password":"bob-PaSsWoRd-0815"}"#),
        ),
        (
            "the user is deleted",
            ("DELETE", "users/bob", ""),
            ("PUT", "users/bob", r#"{"user":"bob","password":"p"}"#),
        ),
    ];
    for (why, (method, path, body), back) in changes {
        let waiting = |addr: &SocketAddr| {
            let requests = [poll("/app/a"), stream("/app/")];
            requests.map(|request| open(*addr, &BOB.signs(request)))
        };
        let watches: Vec<_> = addrs.iter().flat_map(waiting).collect();
        let others: Vec<_> =
            addrs.iter().map(|addr| open(*addr, &ROOT.signs(poll("/app/other")))).collect();
        change(addrs[0], method, path, body);
        for watch in &watches {
            assert_cut(watch, why);
        }
        for addr in &addrs {
            cluster.wait_until("a new request is refused", |_| {
                ask(*addr, &BOB.signs(Request::get("/v2/keys/app/a"))).status() == 401
            });
        }
        assert!(others.iter().all(|other| !other.progress().ended), "{why}: root was cut off");
        change(addrs[0], back.0, back.1, back.2);
        let right = |addr: &SocketAddr| BOB.get(*addr, "/v2/keys/app/a").status();
        if why != "the user is deleted" {
            for addr in &addrs {
                cluster.wait_until("the right is back", |_| right(addr) == 404);
            }
        }
    }
}

#[test]
fn a_watch_goes_on_while_its_right_does() {
    let server = Server::start(Flavor::Subject);
    let addr = server.addr();
    set_up(addr);
    let watch = open(addr, &BOB.signs(stream("/app/")));
    change(addr, "PUT", "users/eve", r#"{"user":"eve","password":"p"}"#);
    change(addr, "PUT", "users/bob", r#"{"user":"bob","grant":["more"]}"#);
    change(addr, "PUT", "roles/app", r#"{"role":"app","grant":{"kv":{"read":["/app/x"]}}}"#);
    change(addr, "DELETE", "enable", "");
    change(addr, "PUT", "enable", "");
    assert_eq!(BOB.put_key(addr, "/app/a", "value=1").status(), 201);
    assert!(watch.wait(PATIENCE, |progress| progress.lines() == 1));
    assert!(!watch.progress().ended);
}

/// A pattern for what is below a directory matches its key with a slash behind it. A file that takes its place is not shown.
#[test]
fn a_watch_on_a_directory_does_not_show_a_file_in_its_place() {
    let server = Server::start(Flavor::Subject);
    let addr = server.addr();
    set_up(addr);
    let watch = open(addr, &BOB.signs(stream("/app/")));
    assert_eq!(ROOT.put_key(addr, "/app/a", "value=seen").status(), 201);
    let delete = Request::new("DELETE", "/v2/keys/app?recursive=true");
    assert_eq!(ask(addr, &ROOT.signs(delete)).status(), 200);
    assert_eq!(ROOT.put_key(addr, "/app", "value=hidden").status(), 201);
    assert_eq!(ROOT.put_key(addr, "/app", "value=hidden").status(), 200);
    assert!(watch.wait(PATIENCE, |progress| progress.lines() == 4));
    let body = String::from_utf8_lossy(&watch.progress().body).into_owned();
    assert!(body.contains("seen") && !body.contains("hidden"), "{body}");
    assert_eq!(BOB.get(addr, "/v2/keys/app/").status(), 401);
    assert_eq!(BOB.put_key(addr, "/app/", "value=1").status(), 401);
}

#[test]
fn a_writer_without_the_right_to_read_does_not_see_what_stood_there() {
    let server = Server::start(Flavor::Subject);
    let addr = server.addr();
    set_up(addr);
    let less = r#"{"role":"app","revoke":{"kv":{"read":["/app/*"]}}}"#;
    change(addr, "PUT", "roles/app", less);
    assert_eq!(ROOT.put_key(addr, "/app/a", "value=hidden").status(), 201);
    for (method, query, form, status) in [
        ("PUT", "", "value=mine&prevValue=guess", 412),
        ("PUT", "", "refresh=true&ttl=100", 200),
        ("PUT", "?prevExist=true", "refresh=true&ttl=100", 200),
        ("DELETE", "?prevValue=guess", "", 412),
        ("PUT", "", "value=mine", 200),
        ("DELETE", "", "", 200),
    ] {
        let request = BOB.signs(Request::new(method, format!("/v2/keys/app/a{query}")));
        let request = if form.is_empty() { request } else { request.form(form) };
        let reply = ask(addr, &request);
        let body = reply.text();
        assert_eq!(reply.status(), status, "{body}");
        assert!(!body.contains("hidden") && !body.contains("prevNode"), "{request}: {body}");
    }
    let cause = "[guess != (another value, which you may not read)]";
    assert_eq!(ROOT.put_key(addr, "/app/a", "value=hidden").status(), 201);
    let body = BOB.put_key(addr, "/app/a", "value=mine&prevValue=guess").text();
    assert!(body.contains(cause), "{body}");
}
