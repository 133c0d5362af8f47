//! Who may manage the cluster, where only users of version 2 count.

use serde_json::json;

use crate::client::{base64, call, try_call};
use crate::support::http::{self, Request};
use crate::support::server::{Flavor, Server};

/// What takes the role of root in either version, and no key to change.
const MANAGING: [&str; 5] = [
    "maintenance/snapshot",
    "maintenance/defragment",
    "maintenance/hash",
    "maintenance/transfer-leadership",
    "cluster/member/add",
];

#[test]
fn where_only_users_of_version_2_count_version_3_has_its_keys_and_manages_nothing() {
    let server = Server::start_with(Flavor::Subject, &[]);
    let addr = server.addr();
    let put = json!({"key": base64("a"), "value": base64("1")});
    call(addr, "kv/put", &put);
    let sum = call(addr, "maintenance/hashkv", &json!({}))["hash"].clone();
    call(addr, "maintenance/hash", &json!({}));
    let ask = |target: &str, body: &str| {
        http::ask(addr, &Request::new("PUT", target).body(body)).expect("an answer").status()
    };
    assert_eq!(ask("/v2/auth/users/root", r#"{"user":"root","password":"pw"}"#), 201);
    assert_eq!(ask("/v2/auth/enable", ""), 200);
    for path in MANAGING {
        let (status, answer) = try_call(addr, path, &json!({})).expect("an answer");
        let message = &answer["message"];
        assert_eq!((status, message), (403, &json!("etcdserver: permission denied")), "{path}");
    }
    // Its keys have users of their own, who do not count yet.
    assert_eq!(call(addr, "maintenance/hashkv", &json!({}))["hash"], sum);
    call(addr, "kv/put", &put);
    call(addr, "maintenance/status", &json!({}));
}
