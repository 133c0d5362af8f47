//! Random programs of version 3, at a member and at a real etcd: every answer of the gateway is the same, byte for byte but for
//! the ids of cluster and member and the term.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::base64;
use crate::support::http::{self, Request};
use crate::support::rng::{Rng, seed_from_env};
use crate::support::server::{Flavor, Server, etcd_is_there, subject_is_etcd};

/// Requests of a program.
const STEPS: usize = 400;
const PROGRAMS: u64 = 3;

const KEYS: &[&str] = &["a", "aa", "ab", "b", "c/1", "c/2", "\u{e9}"];
const ENDS: &[&str] = &["", "\0", "b", "c0", "zz", "a"];

fn key(rng: &mut Rng) -> Value {
    json!(base64(rng.pick(KEYS)))
}

/// Adds a key and, most of the time, an end.
fn range_of(rng: &mut Rng, body: &mut Value) {
    body["key"] = match rng.chance(5) {
        true => json!(base64("\0")),
        false => key(rng),
    };
    if rng.chance(60) {
        body["range_end"] = json!(base64(rng.pick(ENDS)));
    }
}

/// `is_alone`: not in a transaction. There, one that keeps what a deletion in front of it has taken ends etcd's process.
fn put(rng: &mut Rng, is_alone: bool) -> Value {
    let mut body = json!({"key": key(rng)});
    if rng.chance(90) {
        body["value"] = json!(base64(format!("v{}", rng.below(20))));
    }
    if rng.chance(30) {
        body["lease"] = json!(rng.below(4).to_string());
    }
    for (flag, percent) in [("prev_kv", 40), ("ignore_value", 10), ("ignore_lease", 10)] {
        if rng.chance(percent) && (is_alone || flag == "prev_kv") {
            body[flag] = json!(true);
        }
    }
    body
}

fn range(rng: &mut Rng, now: u64) -> Value {
    let mut body = json!({});
    range_of(rng, &mut body);
    if rng.chance(30) {
        body["limit"] = json!(rng.below(4).to_string());
    }
    if rng.chance(40) {
        body["revision"] = json!(rng.below(now + 3).to_string());
    }
    if rng.chance(40) {
        body["sort_order"] = json!(rng.pick(&["NONE", "ASCEND", "DESCEND"]));
        body["sort_target"] = json!(rng.pick(&["KEY", "VERSION", "CREATE", "MOD", "VALUE"]));
    }
    for (flag, percent) in [("serializable", 30), ("keys_only", 15), ("count_only", 15)] {
        if rng.chance(percent) {
            body[flag] = json!(true);
        }
    }
    for bound in
        ["min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"]
    {
        if rng.chance(8) {
            body[bound] = json!(rng.below(now + 2).to_string());
        }
    }
    body
}

fn delete(rng: &mut Rng) -> Value {
    let mut body = json!({});
    range_of(rng, &mut body);
    if rng.chance(40) {
        body["prev_kv"] = json!(true);
    }
    body
}

fn compare(rng: &mut Rng, now: u64) -> Value {
    let mut body = json!({"result": rng.pick(&["EQUAL", "GREATER", "LESS", "NOT_EQUAL"])});
    body["key"] = key(rng);
    if rng.chance(20) {
        body["range_end"] = json!(base64(rng.pick(ENDS)));
    }
    let (target, field) = *rng.pick(&[
        ("VERSION", "version"),
        ("CREATE", "create_revision"),
        ("MOD", "mod_revision"),
        ("VALUE", "value"),
        ("LEASE", "lease"),
    ]);
    body["target"] = json!(target);
    body[field] = match field {
        "value" => json!(base64(format!("v{}", rng.below(20)))),
        "lease" => json!(rng.below(4).to_string()),
        "version" => json!(rng.below(4).to_string()),
        _ => json!(rng.below(now + 1).to_string()),
    };
    body
}

fn txn(rng: &mut Rng, now: u64, depth: usize) -> Value {
    let ops = |rng: &mut Rng| -> Vec<Value> {
        (0..rng.below(4))
            .map(|_| match rng.below(if depth > 0 { 10 } else { 9 }) {
                0..=3 => json!({"request_put": put(rng, false)}),
                4..=6 => json!({"request_range": range(rng, now)}),
                7 | 8 => json!({"request_delete_range": delete(rng)}),
                _ => json!({"request_txn": txn(rng, now, depth - 1)}),
            })
            .collect()
    };
    let compares: Vec<_> = (0..rng.below(3)).map(|_| compare(rng, now)).collect();
    json!({"compare": compares, "success": ops(rng), "failure": ops(rng)})
}

/// A call: its path and its body.
fn step(rng: &mut Rng, now: u64) -> (&'static str, Value) {
    match rng.below(100) {
        0..=34 => ("kv/put", put(rng, true)),
        35..=54 => ("kv/range", range(rng, now)),
        55..=62 => ("kv/deleterange", delete(rng)),
        63..=86 => ("kv/txn", txn(rng, now, 2)),
        87..=90 => ("kv/compaction", json!({"revision": rng.below(now + 2).to_string()})),
        91..=94 => {
            let id = (1 + rng.below(3)).to_string();
            ("lease/grant", json!({"ID": id, "TTL": (1000 + rng.below(9)).to_string()}))
        }
        95..=97 => ("lease/revoke", json!({"ID": (1 + rng.below(3)).to_string()})),
        98 => ("lease/leases", json!({})),
        _ => ("lease/timetolive", json!({"ID": "99", "keys": true})),
    }
}

/// Status and body, without what no two clusters have in common.
fn ask(addr: SocketAddr, path: &str, body: &Value) -> (u16, String) {
    let request = Request::new("POST", format!("/v3/{path}")).body(body.to_string());
    let reply = http::ask(addr, &request).expect("an answer");
    let mut text = reply.text();
    for name in ["cluster_id", "member_id", "raft_term"] {
        let begins = format!("\"{name}\":\"");
        let mut from = 0;
        while let Some(at) = text[from..].find(&begins) {
            let begin = from + at + begins.len();
            let end = begin + text[begin..].find('"').expect("it ends");
            text.replace_range(begin..end, "_");
            from = begin;
        }
    }
    (reply.status(), text)
}

/// The leases by their numbers: etcd has the one in front that ends first, which only a leader knows.
fn in_order(text: &str) -> String {
    let Some((head, rest)) = text.split_once(r#""leases":["#) else { return text.to_owned() };
    let (leases, end) = rest.split_once(']').expect("a list ends");
    let mut leases: Vec<_> = leases.split(',').collect();
    leases.sort_unstable();
    format!("{head}\"leases\":[{}]{end}", leases.join(","))
}

fn revision(text: &str) -> Option<u64> {
    let answer: Value = serde_json::from_str(text).ok()?;
    answer["header"]["revision"].as_str()?.parse().ok()
}

#[test]
fn every_answer_is_a_real_etcds() {
    if !etcd_is_there() || subject_is_etcd() {
        eprintln!("skipped: etcd 3.4 is not there");
        return;
    }
    let first = seed_from_env("CAIRN_SEED");
    for seed in (0..PROGRAMS).map(|number| first.wrapping_add(number)) {
        let mut rng = Rng::new(seed);
        let (ours, theirs) = (Server::start(Flavor::Subject), Server::start(Flavor::Etcd));
        let (mut now, mut refused) = (1, 0);
        for number in 0..STEPS {
            let (path, body) = step(&mut rng, now);
            let (own, mut other) = (ask(ours.addr(), path, &body), ask(theirs.addr(), path, &body));
            if path == "lease/leases" {
                other.1 = in_order(&other.1);
            }
            assert_eq!(own, other, "CAIRN_SEED={seed}, step {number}: {path} {body}");
            now = revision(&own.1).unwrap_or(now).max(now);
            refused += u64::from(own.0 != 200);
        }
        assert!(now > 50 && refused > 5, "CAIRN_SEED={seed}: {now} revisions, {refused} refusals");
    }
}
