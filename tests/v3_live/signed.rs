//! Tokens that are signed (`--auth-token jwt,...`), and other flags of users of version 3.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{await_until, base64, call, try_call, try_call_with};
use crate::support::cluster::{Cluster, Options};
use crate::support::http::{self, Request};
use crate::support::program;
use crate::support::server::{Flavor, Server};

fn openssl(words: &str, folder: &Path) {
    let made = Command::new("openssl").args(words.split(' ')).current_dir(folder).output();
    let made = made.expect("openssl is there");
    assert!(made.status.success(), "{words}: {}", String::from_utf8_lossy(&made.stderr));
}

/// Users root and alice; alice may do what she wants with `a`.
fn users(addr: SocketAddr) {
    for (path, body) in [
        ("user/add", json!({"name": "root", "password": "pw"})),
        ("user/add", json!({"name": "alice", "password": "al"})),
        ("user/grant", json!({"user": "root", "role": "root"})),
        ("role/add", json!({"name": "app"})),
        (
            "role/grant",
            json!({"name": "app", "perm": {"permType": "READWRITE", "key": base64("a")}}),
        ),
        ("user/grant", json!({"user": "alice", "role": "app"})),
    ] {
        if path == "user/grant" && body["user"] == "root" {
            call(addr, "auth/role/add", &json!({"name": "root"}));
        }
        call(addr, &format!("auth/{path}"), &body);
    }
    call(addr, "auth/enable", &json!({}));
}

fn token(addr: SocketAddr, name: &str, password: &str) -> Option<String> {
    let body = json!({"name": name, "password": password});
    let (status, answer) = try_call(addr, "auth/authenticate", &body)?;
    (status == 200).then(|| answer["token"].as_str().expect("a token").to_owned())
}

fn put(addr: SocketAddr, token: &str, key: &str) -> (u16, Value) {
    let body = json!({"key": base64(key), "value": base64("v")});
    try_call_with(addr, token, "kv/put", &body).expect("an answer")
}

/// Each way of signing: who has a token may do what its user may, on every member, until users change.
#[test]
fn a_signed_token_says_who_its_bearer_is() {
    let folder = tempfile::tempdir().expect("a folder");
    openssl("genrsa -out rsa.pem 2048", folder.path());
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.pem", folder.path());
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem", folder.path());
    std::fs::write(folder.path().join("hs.pem"), "0123456789abcdef".repeat(4)).expect("a file");
    for (method, key) in [
        ("HS256", "hs"),
        ("HS512", "hs"),
        ("RS256", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
    ] {
        let key = folder.path().join(format!("{key}.pem"));
        let flag = format!("--auth-token=jwt,sign-method={method},priv-key={}", key.display());
        let server = Server::start_with(Flavor::Subject, &[&flag, "--bcrypt-cost=4"]);
        let addr = server.addr();
        users(addr);
        assert_eq!(token(addr, "alice", "wrong"), None);
        let alice = token(addr, "alice", "al").expect("a token");
        assert_eq!(alice.split('.').count(), 3, "{alice}");
        assert_eq!(put(addr, &alice, "a").0, 200, "{method}");
        let (status, answer) = put(addr, &alice, "b");
        assert_eq!(
            (status, &answer["message"]),
            (403, &json!("etcdserver: permission denied")),
            "{method}"
        );
        // Another claim under the same signature, and none.
        let parts: Vec<_> = alice.split('.').collect();
        let root = token(addr, "root", "pw").expect("a token");
        let claims = root.split('.').nth(1).expect("claims");
        for forged in
            [format!("{}.{claims}.{}", parts[0], parts[2]), format!("{}.{claims}.", parts[0])]
        {
            let (status, answer) = put(addr, &forged, "b");
            assert_eq!(
                (status, &answer["message"]),
                (401, &json!("etcdserver: invalid auth token")),
                "{method}"
            );
        }
        // Users change: what was signed before counts no more.
        let add = json!({"name": "bob", "password": "b"});
        assert_eq!(try_call_with(addr, &root, "auth/user/add", &add).expect("an answer").0, 200);
        let (status, answer) = put(addr, &alice, "a");
        assert_eq!(
            (status, &answer["message"]),
            (400, &json!("etcdserver: revision of auth store is old")),
            "{method}"
        );
        let alice = token(addr, "alice", "al").expect("a token");
        assert_eq!(put(addr, &alice, "a").0, 200, "{method}");
    }
}

/// One member signs; the others have but the public key.
#[test]
fn members_believe_what_one_of_them_has_signed() {
    let folder = tempfile::tempdir().expect("a folder");
    openssl("genrsa -out rsa.pem 2048", folder.path());
    openssl("rsa -in rsa.pem -pubout -out public.pem", folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let flag = format!("--auth-token=jwt,sign-method=RS256,pub-key={},ttl=2s", path("public.pem"));
    let server = Server::start_with(Flavor::Subject, &[&flag, "--bcrypt-cost=4"]);
    users(server.addr());
    let body = json!({"name": "root", "password": "pw"});
    let (status, answer) = try_call(server.addr(), "auth/authenticate", &body).expect("an answer");
    assert_eq!(
        (status, &answer["message"]),
        (500, &json!("auth: token signing attempted with verify-only key"))
    );
    let flag = format!(
        "--auth-token=jwt,sign-method=RS256,priv-key={},pub-key={},ttl=2s",
        path("rsa.pem"),
        path("public.pem")
    );
    let args = vec![flag, "--bcrypt-cost=4".to_owned()];
    let mut cluster = Cluster::start(Options { args, ..Options::members(3) });
    cluster.await_leader();
    users(cluster.member(0).addr());
    let alice = token(cluster.member(0).addr(), "alice", "al").expect("a token");
    for member in 0..3 {
        assert_eq!(put(cluster.member(member).addr(), &alice, "a").0, 200, "member {member}");
    }
    await_until("its time is over", || put(cluster.member(1).addr(), &alice, "a").0 == 401);
}

#[test]
fn keys_that_do_not_fit_are_refused_with_the_fix() {
    let folder = tempfile::tempdir().expect("a folder");
    openssl("genrsa -out rsa.pem 2048", folder.path());
    openssl("genrsa -out other.pem 2048", folder.path());
    openssl("rsa -in other.pem -pubout -out other-public.pem", folder.path());
    openssl("ecparam -name prime256v1 -genkey -noout -out sec1.pem", folder.path());
    for (name, bytes) in [("empty", 0), ("short", 63)] {
        std::fs::write(folder.path().join(name), vec![b'x'; bytes]).expect("a file");
    }
    let place = folder.path().display().to_string();
    for (options, said) in [
        ("HS257,priv-key=@/rsa.pem", "is none of HS256"),
        ("RS256", "priv-key or pub-key is missing"),
        ("HS256,pub-key=@/rsa.pem", "priv-key is missing"),
        ("HS256,priv-key=@/empty", "it has 0 bytes, not 32"),
        ("HS512,priv-key=@/short", "it has 63 bytes, not 64"),
        ("RS256,priv-key=@/none.pem", "must name a file that this member may read"),
        ("RS256,priv-key=@/rsa.pem,pub-key=@/other-public.pem", "it is another one"),
        ("RS256,priv-key=@/sec1.pem", "it is no RSA key"),
        ("ES256,priv-key=@/sec1.pem", "openssl pkcs8 -topk8"),
        ("ES256,priv-key=@/rsa.pem", "PKCS#8"),
        ("RS256,pub-key=@/rsa.pem", "openssl pkey"),
        ("RS256,priv-key=@/rsa.pem,ttl=0s", "ttl \"0s\" is no such time"),
        ("RS256,priv-key=@/rsa.pem,color=red", "there is no option \"color\""),
        ("RS256,priv-key", "has no value"),
    ] {
        let data = tempfile::tempdir().expect("a folder");
        let options = options.replace('@', &place);
        let data = data.path().join("m");
        let flag = format!("--auth-token=jwt,sign-method={options}");
        let ended = program::run(&["--data-dir", program::text(&data), &flag]);
        let checked = program::run(&["config", "check", "--data-dir", program::text(&data), &flag]);
        assert!(checked.code != Some(0) && checked.err.contains(said), "{options}: {checked:?}");
        assert!(ended.code != Some(0) && ended.err.contains(said), "{options}: {ended:?}");
        assert!(!data.exists(), "{options}: nothing is made");
    }
}

#[test]
fn the_gateway_can_be_left_out() {
    let server = Server::start_with(Flavor::Subject, &["--enable-grpc-gateway=false"]);
    let request = Request::new("POST", "/v3/kv/range").body(r#"{"key":"AA=="}"#);
    let reply = http::ask_within(server.addr(), &request, Duration::from_secs(10));
    assert_eq!(reply.expect("an answer").status(), 404);
}

/// Each step of the cost takes twice as long; the hash says which it has.
#[test]
fn the_cost_of_a_password_is_what_is_said() {
    let took = |cost: u32| {
        let flag = format!("--bcrypt-cost={cost}");
        let server = Server::start_with(Flavor::Subject, &[&flag]);
        let begun = Instant::now();
        call(server.addr(), "auth/user/add", &json!({"name": "u", "password": "pw"}));
        begun.elapsed()
    };
    let (cheap, dear) = (took(4), took(12));
    assert!(dear > 5 * cheap, "{cheap:?}, {dear:?}");
    let said = program::run(&["--bcrypt-cost=32"]);
    assert!(said.code != Some(0) && said.err.contains("bcrypt-cost"), "{said:?}");
}
