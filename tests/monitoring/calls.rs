//! What is done over version 3 is counted under etcd's names, and as etcd counts it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::page::Page;
use crate::support::http::{self, Open, PATIENCE, Request};
use crate::support::server::{Flavor, Server, etcd_is_there};

fn request(path: &str, body: &Value) -> Request {
    Request::new("POST", format!("/v3/{path}")).body(body.to_string())
}

fn call(addr: SocketAddr, path: &str, body: &Value) -> Value {
    let reply = http::ask(addr, &request(path, body)).expect("an answer");
    assert_eq!(reply.status(), 200, "{path} {body}: {}", reply.text());
    serde_json::from_str(&reply.text()).expect("JSON")
}

/// Waits until a metric without labels has a value.
fn await_value(addr: SocketAddr, name: &str, wanted: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = Page::of(addr).value(name, "");
        if found == Some(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {found:?}, not {wanted}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Keys, leases and watchers; what is left of them is the same each time.
fn work(addr: SocketAddr) {
    let put = |key: &str, value: &str| json!({"key": key, "value": value});
    let watch = request("watch", &json!({"create_request": {"key": "YQ=="}}));
    let watch = Open::send(addr, &watch).expect("the server accepts");
    assert!(watch.wait(PATIENCE, |progress| progress.lines() == 1), "it is created");
    call(addr, "kv/put", &put("YQ==", "YWFh"));
    call(addr, "kv/put", &put("Yg==", "YWFh"));
    call(addr, "kv/range", &json!({"key": "YQ==", "range_end": "AA=="}));
    let ops = json!([{"request_range": {"key": "YQ=="}}, {"request_put": put("Yw==", "YQ==")}]);
    call(addr, "kv/txn", &json!({"success": ops}));
    let read = json!([{"request_range": {"key": "YQ=="}}, {"request_range": {"key": "Yg=="}}]);
    call(addr, "kv/txn", &json!({"success": read}));
    call(addr, "kv/deleterange", &json!({"key": "YQ==", "range_end": "Yw=="}));
    call(addr, "lease/grant", &json!({"ID": 7, "TTL": 100}));
    call(addr, "lease/grant", &json!({"ID": 8, "TTL": 2}));
    for lease in ["7", "7"] {
        let keep_alive = request("lease/keepalive", &json!({"ID": lease}));
        let kept = http::ask(addr, &keep_alive).expect("an answer");
        assert_eq!(kept.status(), 200);
    }
    call(addr, "lease/revoke", &json!({"ID": 7}));
    call(addr, "kv/compaction", &json!({"revision": 4}));
    call(addr, "maintenance/hash", &json!({}));
    assert!(watch.wait(PATIENCE, |progress| progress.lines() == 3), "a put and a deletion");
    await_value(addr, "etcd_debugging_mvcc_watcher_total", 1.0);
    await_value(addr, "etcd_debugging_mvcc_watch_stream_total", 1.0);
    watch.close();
    await_value(addr, "etcd_debugging_mvcc_watch_stream_total", 0.0);
    // The short lease ends by itself.
    await_value(addr, "etcd_debugging_server_lease_expired_total", 1.0);
    await_value(addr, "etcd_debugging_lease_revoked_total", 2.0);
}

/// Numbers that do not depend on how the data is kept.
const COUNTED: &[(&str, f64)] = &[
    ("etcd_debugging_mvcc_current_revision", 5.0),
    ("etcd_debugging_mvcc_compact_revision", 4.0),
    ("etcd_debugging_mvcc_keys_total", 1.0),
    ("etcd_debugging_mvcc_put_total", 3.0),
    ("etcd_debugging_mvcc_delete_total", 1.0),
    ("etcd_debugging_mvcc_range_total", 4.0),
    ("etcd_debugging_mvcc_txn_total", 2.0),
    ("etcd_debugging_mvcc_total_put_size_in_bytes", 10.0),
    ("etcd_debugging_mvcc_events_total", 2.0),
    ("etcd_debugging_mvcc_pending_events_total", 0.0),
    ("etcd_debugging_mvcc_slow_watcher_total", 0.0),
    ("etcd_debugging_mvcc_watcher_total", 0.0),
    ("etcd_debugging_mvcc_watch_stream_total", 0.0),
    ("etcd_mvcc_put_total", 3.0),
    ("etcd_mvcc_delete_total", 1.0),
    ("etcd_mvcc_range_total", 4.0),
    ("etcd_mvcc_txn_total", 2.0),
    ("etcd_debugging_lease_granted_total", 2.0),
    ("etcd_debugging_lease_renewed_total", 2.0),
    ("etcd_debugging_lease_revoked_total", 2.0),
    ("etcd_debugging_server_lease_expired_total", 1.0),
    ("etcd_debugging_auth_revision", 1.0),
];

fn of(service: &str, method: &str, kind: &str) -> String {
    format!("grpc_method=\"{method}\",grpc_service=\"etcdserverpb.{service}\",grpc_type=\"{kind}\"")
}

#[test]
fn what_is_done_is_counted_as_etcd_counts_it() {
    let mut flavors = vec![Flavor::Subject];
    if etcd_is_there() {
        flavors.push(Flavor::Etcd);
    }
    for flavor in flavors {
        let server = Server::start_with(flavor, &["--metrics=extensive"]);
        let addr = server.addr();
        work(addr);
        let page = Page::of(addr);
        for (name, wanted) in COUNTED {
            // etcd reads a range to learn the revision of a compaction.
            let more = flavor == Flavor::Etcd && name.ends_with("_range_total");
            let wanted = if more { wanted + 1.0 } else { *wanted };
            assert_eq!(page.value(name, ""), Some(wanted), "{flavor:?}: {name}");
        }
        let calls = |name: &str, labels: &str| {
            let value = page.value(&format!("grpc_server_{name}_total"), labels);
            value.unwrap_or_else(|| panic!("{flavor:?}: {name} {labels}"))
        };
        for (service, method, kind, count, sent) in [
            ("KV", "Put", "unary", 2.0, 2.0),
            ("KV", "Txn", "unary", 2.0, 2.0),
            ("Lease", "LeaseKeepAlive", "bidi_stream", 2.0, 2.0),
            ("Watch", "Watch", "bidi_stream", 1.0, 3.0),
        ] {
            let labels = of(service, method, kind);
            assert_eq!(calls("started", &labels), count, "{flavor:?}: {labels}");
            assert_eq!(calls("msg_received", &labels), count, "{flavor:?}: {labels}");
            assert_eq!(calls("msg_sent", &labels), sent, "{flavor:?}: {labels}");
            let code = if method == "Watch" { "Canceled" } else { "OK" };
            let handled = calls("handled", &format!("grpc_code=\"{code}\",{labels}"));
            assert_eq!(handled, count, "{flavor:?}: {labels}");
        }
        for name in ["received", "sent"] {
            let bytes = page.value(&format!("etcd_network_client_grpc_{name}_bytes_total"), "");
            assert!(bytes > Some(50.0), "{flavor:?}: {name} {bytes:?}");
        }
        let sums = &page.families["etcd_mvcc_hash_duration_seconds"].samples;
        assert!(sums.iter().any(|(_, value)| *value == 1.0), "{sums:?}");
        let times = &page.families["grpc_server_handling_seconds"];
        assert!(times.samples.iter().any(|(_, value)| *value >= 2.0), "{flavor:?}");
        let requests = &page.families["etcd_server_client_requests_total"].samples;
        assert_eq!(requests.len(), 2, "{requests:?}");
    }
}
