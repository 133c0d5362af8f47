//! No room: the quota of the key space, and a disk that is nearly full. Reads, deletes and leases go on.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::{Value, json};
use support::disk::{SmallDisk, is_root};
use support::http::{self, Client, Reply, Request};
use support::server::{Flavor, Server};

/// Of version 3.
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

const PATIENCE: Duration = Duration::from_secs(20);

fn put(client: &mut Client, key: &str, form: &str) -> Reply {
    let request = Request::new("PUT", format!("/v2/keys{key}")).form(form);
    client.ask(&request).expect("an answer")
}

fn delete(client: &mut Client, target: &str) -> Reply {
    client.ask(&Request::new("DELETE", format!("/v2/keys{target}"))).expect("an answer")
}

fn get(client: &mut Client, target: &str) -> Reply {
    client.ask(&Request::get(target)).expect("an answer")
}

fn metric(client: &mut Client, name: &str) -> String {
    let text = get(client, "/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
}

fn assert_refused(reply: &Reply, because: &str) {
    let text = reply.text();
    assert_eq!(reply.status(), 507, "{text}");
    assert!(text.starts_with(r#"{"errorCode":300,"message":"Raft Internal Error","cause":""#));
    assert!(text.contains(because) && text.contains("nothing was written"), "{text}");
}

/// Whether a condition holds before patience ends.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_kept_in_memory_is_told_part_by_part_and_for_each_key() {
    let server = Server::start(Flavor::Subject);
    let client = &mut Client::new(server.addr());
    for n in 0..50 {
        let reply = put(client, &format!("/many/{n:02}"), &format!("value={}", "x".repeat(1000)));
        assert_eq!(reply.status(), 201, "{}", reply.text());
    }
    // Of both versions.
    for key in ["YQ==", "Yg==", "Yw=="] {
        let body = format!(r#"{{"key":"{key}","value":"eHg="}}"#);
        let reply = client.ask(&Request::new("POST", "/v3/kv/put").body(body)).expect("an answer");
        assert_eq!(reply.status(), 200, "{}", reply.text());
    }
    let vars: Value = serde_json::from_str(&get(client, "/debug/vars").text()).expect("JSON");
    let number = |at: &str| vars.pointer(at).and_then(Value::as_f64).expect(at);
    let (nodes, keys) = (number("/cairn.memory/nodes"), number("/cairn.memory/keys_bytes"));
    assert!(nodes >= 51.0, "{vars}");
    assert!((number("/cairn.memory/keys_v3") - 3.0).abs() < 0.1, "{vars}");
    let all = nodes + 3.0;
    assert!((50_000.0..100_000.0).contains(&keys), "{vars}");
    assert_eq!(metric(client, "cairn_storage_size_bytes "), format!("{keys}"));
    let parts = [
        ("keys", keys),
        ("history", number("/cairn.memory/history_bytes")),
        ("log", number("/cairn.memory/log_bytes")),
        ("changes", number("/cairn.memory/changes_bytes")),
        ("checkpoint_cache", number("/cairn.memory/checkpoint_cache_bytes")),
    ];
    for (part, bytes) in parts {
        let each = number(&format!("/cairn.memory_per_key/{part}"));
        assert!((each - bytes / all).abs() < 0.001 * each.max(1.0), "{part}: {vars}");
    }
    assert!(number("/cairn.memory_per_key/resident") > 1000.0, "{vars}");
}

#[test]
fn at_the_quota_only_writes_go_on_that_need_no_room() {
    let server = Server::start_with(Flavor::Subject, &["--quota-bytes=4096"]);
    let client = &mut Client::new(server.addr());
    assert_eq!(put(client, "/leader", "value=node-1&ttl=60").status(), 201);
    let refused = (0..100)
        .map(|n| put(client, &format!("/many/{n}"), "value=0123456789"))
        .find(|reply| reply.status() != 201)
        .expect("a quota of four kilobytes");
    assert_refused(&refused, "--quota-bytes allows (4096)");
    let listing = get(client, "/v2/keys/?recursive=true").text();
    let index = get(client, "/v2/keys/").index();
    for (key, form) in [
        ("/new", "value="),
        ("/new", "dir=true"),
        ("/many/0", "value=01234567890"),
        ("/leader", "prevValue=node-1&value=node-22&ttl=60"),
    ] {
        assert_refused(&put(client, key, form), "key space");
    }
    let in_order = Request::new("POST", "/v2/keys/queue").form("value=x");
    assert_refused(&client.ask(&in_order).expect("an answer"), "key space");
    assert_eq!(get(client, "/v2/keys/?recursive=true").text(), listing);
    assert_eq!(get(client, "/v2/keys/").index(), index, "a refusal takes no index");
    // A refusal of the key space says more than one for want of room.
    assert_eq!(put(client, "/leader", "prevExist=false&value=node-22").status(), 412);
    assert_eq!(put(client, "/absent", "prevExist=true&value=x").status(), 404);
    // What holds a lease keeps it.
    assert_eq!(put(client, "/leader", "prevExist=true&refresh=true&ttl=60").status(), 200);
    assert_eq!(put(client, "/leader", "prevValue=node-1&value=node-2&ttl=60").status(), 200);
    assert_eq!(put(client, "/many/0", "value=9876543210").status(), 200);

    let health = get(client, "/health");
    assert_eq!(health.status(), 503);
    assert!(health.text().contains(r#""reason":"ALARM NOSPACE""#), "{}", health.text());
    assert_eq!(get(client, "/health?exclude=NOSPACE").status(), 200);
    assert_eq!(metric(client, r#"cairn_alarm{kind="nospace"}"#), "1");
    assert_eq!(metric(client, "cairn_storage_quota_bytes"), "4096");
    assert_eq!(metric(client, "etcd_server_quota_backend_bytes"), "4096");
    let weighs: u64 = metric(client, "cairn_storage_size_bytes").parse().expect("a number");
    assert!((4096..4600).contains(&weighs), "{weighs}");
    wait_until("the log says so", || server.log_tail().contains("alarm NOSPACE: the key space"));

    assert_eq!(delete(client, "/many?recursive=true").status(), 200);
    assert_eq!(put(client, "/new", "value=x").status(), 201);
    assert_eq!(get(client, "/health").status(), 200);
    assert_eq!(metric(client, r#"cairn_alarm{kind="nospace"}"#), "0");
    wait_until("the log says so", || server.log_tail().contains("alarm NOSPACE is over"));
}

/// Asks the gateway of version 3.
fn call(client: &mut Client, path: &str, body: &Value) -> (u16, Value) {
    let request = Request::new("POST", format!("/v3/{path}")).body(body.to_string());
    let reply = client.ask(&request).expect("an answer");
    (reply.status(), serde_json::from_str(&reply.text()).expect("JSON"))
}

/// The keys of these tests stand for themselves in Base64.
fn put_v3(client: &mut Client, key: &str, value: &str) -> (u16, Value) {
    call(client, "kv/put", &json!({"key": key, "value": value}))
}

fn alarms(client: &mut Client) -> Value {
    call(client, "maintenance/alarm", &json!({})).1
}

fn assert_no_space((status, answer): (u16, Value)) {
    let wanted = json!({"error": NO_SPACE, "message": NO_SPACE, "code": 8});
    assert_eq!((status, answer), (429, wanted));
}

#[test]
fn a_write_of_version_3_beyond_the_quota_raises_an_alarm_that_stays() {
    let server = Server::start_with(Flavor::Subject, &["--quota-backend-bytes=4096"]);
    let client = &mut Client::new(server.addr());
    assert_eq!(metric(client, "etcd_server_quota_backend_bytes"), "4096");
    assert_eq!(alarms(client), json!({}));
    let value = "0123".repeat(64);
    let keys: Vec<_> = (1000..1100).map(|n| n.to_string()).collect();
    let refused = keys.iter().map(|key| put_v3(client, key, &value));
    assert_no_space(refused.into_iter().find(|(status, _)| *status != 200).expect("a quota"));
    let status = call(client, "maintenance/status", &json!({})).1;
    let me = status["header"]["member_id"].clone();
    wait_until("the alarm", || {
        alarms(client) == json!({"alarms": [{"memberID": me, "alarm": "NOSPACE"}]})
    });
    let status = call(client, "maintenance/status", &json!({})).1;
    let raised = format!("memberID:{} alarm:NOSPACE ", me.as_str().expect("an id"));
    assert_eq!(status["errors"], json!([raised]));
    let health = get(client, "/health");
    assert_eq!(health.status(), 503);
    assert!(health.text().contains(r#""reason":"ALARM NOSPACE""#), "{}", health.text());
    assert_eq!(get(client, "/health?exclude=NOSPACE").status(), 200);
    assert_eq!(metric(client, r#"cairn_alarm{kind="nospace"}"#), "1");
    wait_until("the log says so", || server.log_tail().contains("NOSPACE of version 3 is raised"));

    // What there is can be read, deleted and compacted; nothing can be added, be it small.
    let put = json!({"key": "small123"});
    assert_no_space(call(client, "kv/put", &put));
    assert_no_space(call(client, "kv/txn", &json!({"failure": [{"request_put": put}]})));
    assert_no_space(call(client, "lease/grant", &json!({"TTL": 60})));
    let all = json!({"key": "AA==", "range_end": "AA=="});
    let (status, found) = call(client, "kv/range", &all);
    assert_eq!((status, found["kvs"].as_array().map(Vec::len) > Some(5)), (200, true));
    let delete = json!({"success": [{"request_delete_range": {"key": keys[0]}}]});
    assert_eq!(call(client, "kv/txn", &delete).0, 200);
    let (status, deleted) = call(client, "kv/deleterange", &all);
    assert_eq!(status, 200);
    let revision = deleted["header"]["revision"].clone();
    assert_eq!(call(client, "kv/compaction", &json!({"revision": revision})).0, 200);

    // There is room by now; the alarm stays until somebody clears it.
    wait_until("the old versions are gone", || {
        metric(client, "cairn_storage_size_bytes").parse::<u64>().expect("a number") < 1024
    });
    assert_no_space(call(client, "kv/put", &put));
    assert_eq!(get(client, "/health").status(), 503);
    let disarm = json!({"action": "DEACTIVATE", "memberID": me, "alarm": "NOSPACE"});
    let (_, cleared) = call(client, "maintenance/alarm", &disarm);
    assert_eq!(cleared, json!({"alarms": [{"memberID": me, "alarm": "NOSPACE"}]}));
    assert_eq!(alarms(client), json!({}));
    assert_eq!(call(client, "kv/put", &put).0, 200);
    assert_eq!(get(client, "/health").status(), 200);
    assert_eq!(metric(client, r#"cairn_alarm{kind="nospace"}"#), "0");

    // Cleared without room, it is raised again by the next write.
    while put_v3(client, "1000", &value).0 == 200 {}
    wait_until("the alarm", || alarms(client) != json!({}));
    assert_eq!(call(client, "maintenance/alarm", &disarm).0, 200);
    assert_no_space(call(client, "kv/put", &put));
    wait_until("the alarm", || alarms(client) != json!({}));
    let corrupt = json!({"action": "ACTIVATE", "memberID": "5", "alarm": "CORRUPT"});
    assert_eq!(call(client, "maintenance/alarm", &corrupt).0, 200);
    assert_eq!(metric(client, r#"cairn_alarm{kind="corrupt"}"#), "1");
    let health = get(client, "/health?exclude=NOSPACE");
    assert!(health.text().contains(r#""reason":"ALARM CORRUPT""#), "{}", health.text());
    assert_eq!(get(client, "/health?exclude=NOSPACE&exclude=CORRUPT").status(), 200);
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_a_restart_finds_it_so() {
    if !is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return;
    }
    let disk = SmallDisk::mount(400);
    let data_dir = disk.path().join("data");
    let args = [
        format!("--data-dir={}", data_dir.display()),
        "--reserve-bytes=67108864".to_owned(),
        // The log is cut all the time.
        "--checkpoint-wal-bytes=1048576".to_owned(),
    ];
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mut server = Server::start_with(Flavor::Subject, &args);
    let reserve = data_dir.join("reserve");
    let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    wait_until("space is reserved", || size(&reserve) == 64 << 20);
    let client = &mut Client::new(server.addr());
    for n in 0..100 {
        assert_eq!(put(client, &format!("/many/{n}"), "value=0123456789").status(), 201);
    }
    disk.fill();
    wait_until("the reserve gives way", || !reserve.exists());
    wait_until("the alarm", || get(client, "/health").status() == 503);
    assert_refused(&put(client, "/new", "value=x"), "disk of this member is nearly full");
    // Version 3 has no other word for it; but no alarm that outlives the matter, and holds up the other members.
    assert_no_space(put_v3(client, "1000", "0000"));
    assert_eq!(alarms(client), json!({}));
    assert!(server.log_tail().contains("alarm NOSPACE: the disk is nearly full"));
    let goes_on = |client: &mut Client, rounds: usize| {
        let value = "x".repeat(10);
        for n in 0..rounds {
            let reply = put(client, &format!("/many/{}", n % 50), &format!("value={value}"));
            assert_eq!(reply.status(), 200, "{}", reply.text());
        }
    };
    // Several megabytes of log, a few checkpoints.
    goes_on(client, 20_000);
    server.kill();
    server.restart();
    let client = &mut Client::new(server.addr());
    assert_eq!(get(client, "/v2/keys/many/99?quorum=true").status(), 200);
    wait_until("the alarm", || get(client, "/health").status() == 503);
    assert_refused(&put(client, "/new", "value=x"), "disk of this member is nearly full");
    goes_on(client, 1000);
    assert_eq!(delete(client, "/many?recursive=true").status(), 200);
    disk.free();
    wait_until("space is reserved again", || size(&reserve) == 64 << 20);
    wait_until("the end of the alarm", || get(client, "/health").status() == 200);
    assert_eq!(put(client, "/new", "value=x").status(), 201);
}

#[test]
fn without_a_reserve_no_disk_is_looked_at() {
    let server = Server::start_with(Flavor::Subject, &["--reserve-bytes=0"]);
    assert_eq!(put(&mut Client::new(server.addr()), "/a", "value=x").status(), 201);
    assert!(!server.data_dir().join("reserve").exists());
    let huge = Server::start_with(Flavor::Subject, &["--reserve-bytes=1099511627776"]);
    let client = &mut Client::new(huge.addr());
    wait_until("the alarm", || get(client, "/health").status() == 503);
    assert_refused(&put(client, "/a", "value=x"), "disk of this member");
    let ask = Request::get("/v2/keys/?quorum=true");
    assert_eq!(http::ask(huge.addr(), &ask).expect("an answer").status(), 200);
}
