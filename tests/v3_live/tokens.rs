//! Tokens: what one member has given out is known to all, and clients replace what is not taken any more.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cairn::client::{Client, Endpoint, Settings, Terms};
use cairn::rpc::{Code, RangeRequest, SnapshotRequest};
use futures_util::stream;
use serde_json::json;

use crate::client::{PATIENCE, base64, call, try_call, try_call_with};
use crate::support::cluster::{Cluster, Options};
use crate::support::http::{self, Request};
use crate::support::server::{Flavor, Server};

/// Users count from now on; `root` has the password `pw`.
fn secure(addr: SocketAddr) {
    call(addr, "auth/user/add", &json!({"name": "root", "password": "pw"}));
    call(addr, "auth/role/add", &json!({"name": "root"}));
    call(addr, "auth/user/grant", &json!({"user": "root", "role": "root"}));
    call(addr, "auth/enable", &json!({}));
}

fn token(addr: SocketAddr) -> String {
    let answer = call(addr, "auth/authenticate", &json!({"name": "root", "password": "pw"}));
    answer["token"].as_str().expect("a token").to_owned()
}

#[test]
fn a_token_is_known_to_all_members_as_soon_as_its_client_has_it() {
    let mut cluster = Cluster::start(Options::members(3));
    let leader = cluster.await_leader();
    let addrs: Vec<_> = cluster.members().iter().map(|member| member.addr()).collect();
    secure(addrs[leader]);
    let look = json!({"key": base64("a"), "serializable": true});
    for round in 0..20 {
        let token = token(addrs[leader]);
        for (member, addr) in addrs.iter().enumerate().filter(|(member, _)| *member != leader) {
            let (status, answer) =
                try_call_with(*addr, &token, "kv/range", &look).expect("an answer");
            assert_eq!(status, 200, "round {round}, member {member}: {answer}");
        }
    }
    let (status, answer) = try_call_with(addrs[0], "no.token", "kv/range", &look).expect("one");
    assert_eq!((status, &answer["message"]), (401, &json!("etcdserver: invalid auth token")));
    let (_, answer) = try_call(addrs[0], "kv/range", &look).expect("an answer");
    assert_eq!(answer["message"], "etcdserver: user name is empty");
}

fn client(addr: SocketAddr) -> Client {
    Client::new(Settings {
        endpoints: vec![Endpoint::parse(&addr.to_string(), false).expect("an address")],
        tls: None,
        certified_name: None,
        user: Some(("root".to_owned(), "pw".to_owned())),
        dial: PATIENCE,
        keep_alive: (Duration::ZERO, PATIENCE),
    })
}

/// How many tokens were asked for.
fn authenticated(addr: SocketAddr) -> u64 {
    let page = http::ask(addr, &Request::get("/metrics")).expect("an answer").text();
    let labels =
        "{grpc_method=\"Authenticate\",grpc_service=\"etcdserverpb.Auth\",grpc_type=\"unary\"} ";
    let name = format!("grpc_server_started_total{labels}");
    let value = page.lines().find_map(|line| line.strip_prefix(&name)).expect("it is counted");
    value.parse().expect("a number")
}

/// A user's tokens are gone with its password; clients that know the new one, here the same again, do not notice.
#[test]
fn a_client_replaces_a_token_that_is_refused_once_and_asks_again() {
    let server = Server::start_with(Flavor::Subject, &[]);
    let addr = server.addr();
    secure(addr);
    let own = token(addr);
    let forget_tokens = || {
        let body = json!({"name": "root", "password": "pw"});
        let fresh = token(addr);
        let done = try_call_with(addr, &fresh, "auth/user/changepw", &body).expect("an answer");
        assert_eq!(done.0, 200, "{done:?}");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = client(addr);
        let range = RangeRequest { key: "a".into(), ..RangeRequest::default() };
        let terms = || Terms::within(PATIENCE);
        client.ask(&range, terms()).await.expect("root may read");
        for _ in 0..2 {
            forget_tokens();
            let before = authenticated(addr);
            client.ask(&range, terms()).await.expect("root may read");
            client.ask(&range, terms()).await.expect("root may read");
            assert_eq!(authenticated(addr), before + 1, "one new token is enough");
            forget_tokens();
            let before = authenticated(addr);
            let asks = || Box::pin(stream::once(async { SnapshotRequest {} }));
            let mut answers = client.stream(asks, terms()).await.expect("root may copy");
            assert!(answers.next().await.expect("it has a beginning").is_some());
            assert_eq!(authenticated(addr), before + 1);
        }
        // Where the password is another one, that is the answer, at once.
        let body = json!({"name": "root", "password": "other"});
        let fresh = token(addr);
        assert_eq!(try_call_with(addr, &fresh, "auth/user/changepw", &body).expect("one").0, 200);
        let refused = client.ask(&range, terms()).await.expect_err("the password is another one");
        assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
    });
    let (status, _) = try_call_with(addr, &own, "kv/range", &json!({"key": "AA=="})).expect("one");
    assert_eq!(status, 401, "it was the old password's");
}

#[test]
fn a_token_lives_so_long_after_its_last_use_as_said() {
    let server = Server::start_with(Flavor::Subject, &["--auth-token-ttl=1"]);
    let addr = server.addr();
    secure(addr);
    let (used, unused) = (token(addr), token(addr));
    let status_of = |token: &str| {
        try_call_with(addr, token, "kv/range", &json!({"key": base64("a")})).expect("an answer").0
    };
    assert_eq!((status_of(&used), status_of(&unused)), (200, 200));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(status_of(&used), 200, "after {:?}", begun.elapsed());
    }
    assert_eq!((status_of(&used), status_of(&unused)), (200, 401));
}
