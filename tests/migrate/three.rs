//! Version 3: keys at all revisions, leases, users and what watchers from before are told; also where etcd was killed before its
//! file had what its log has.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::broken;
use crate::cluster::verified;
use crate::fresh::etcd_takes_part;
use crate::gateway::{Gateway, base64, number};
use crate::node::{Node, list};
use crate::program::{Recorded, found, migrate, refused, text};
use crate::support::rng::{Rng, seed_from_env};
use crate::support::server::{Flavor, Server};

/// etcd writes its file only where it has to: for a compaction, or a snapshot.
const LATE: [&str; 2] = ["--backend-batch-interval=10m", "--backend-batch-limit=1000000"];

/// The checksum that etcd's tool shows, with the compacted revision.
pub(crate) fn hash(addr: SocketAddr) -> (u64, i64) {
    let endpoint = format!("--endpoints={addr}");
    let output = std::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args([&endpoint, "-w", "json", "endpoint", "hashkv"])
        .output()
        .expect("etcdctl is there");
    assert!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let hash = &said[0]["HashKV"];
    let compacted = hash["compact_revision"].as_i64().expect("a number");
    (hash["hash"].as_u64().expect("a number"), compacted)
}

/// Everything that is compared.
pub(crate) struct Seen {
    pub(crate) revision: i64,
    pub(crate) keys: Vec<(i64, Value)>,
    leases: Vec<Value>,
    events: Vec<Value>,
}

pub(crate) fn seen(gateway: &Gateway, compacted: i64) -> Seen {
    let revision = gateway.revision();
    let first = compacted.max(1);
    let revisions = (first - 1).max(1)..=revision;
    let keys = revisions.map(|at| (at, gateway.keys(at))).collect();
    let mut events = if revision > first { gateway.events(first, revision) } else { Vec::new() };
    // Where one request changes a key twice, a member here tells each change with the one before, and etcd both with what was there
    // before the request.
    let place = |event: &Value| (event["kv"]["mod_revision"].clone(), event["kv"]["key"].clone());
    let places: Vec<_> = events.iter().map(place).collect();
    for event in &mut events {
        if places.iter().filter(|other| **other == place(event)).count() > 1 {
            event.as_object_mut().expect("an object").remove("prev_kv");
        }
    }
    Seen { revision, keys, leases: gateway.leases(), events }
}

pub(crate) fn same(one: &Seen, other: &Seen, seed: u64) {
    for (one, other) in one.keys.iter().zip(&other.keys) {
        assert_eq!(one, other, "seed {seed}");
    }
    for (one, other) in one.events.iter().zip(&other.events) {
        assert_eq!(one, other, "seed {seed}");
    }
    assert_eq!(one.leases, other.leases, "seed {seed}");
    assert_eq!((one.revision, one.keys.len()), (other.revision, other.keys.len()), "seed {seed}");
    assert_eq!(one.events.len(), other.events.len(), "seed {seed}");
}

fn op(rng: &mut Rng, depth: u32) -> Value {
    let key = |rng: &mut Rng| base64(rng.pick(&["a", "b", "c", "d/1", "d/2", "e"]));
    let value = base64(format!("v{}", rng.below(9)));
    match rng.below(if depth == 0 { 7 } else { 6 }) {
        0 => json!({"request_delete_range": {"key": key(rng), "prev_kv": true}}),
        1 => json!({"request_delete_range": {"key": base64("d/"), "range_end": base64("d0")}}),
        2 => json!({"request_range": {"key": key(rng)}}),
        3 => json!({"request_put": {"key": key(rng), "ignore_value": true}}),
        4 | 5 => json!({"request_put": {"key": key(rng), "value": value}}),
        _ => json!({"request_txn": txn(rng, depth + 1)}),
    }
}

fn txn(rng: &mut Rng, depth: u32) -> Value {
    let key = base64(rng.pick(&["a", "b", "c", "d/1"]));
    let compare = match rng.below(4) {
        0 => json!({"key": key, "target": "VERSION", "result": "GREATER", "version": "1"}),
        1 => json!({"key": key, "target": "CREATE", "create_revision": "0"}),
        2 => json!({"key": key, "target": "VALUE", "result": "NOT_EQUAL", "value": base64("v1")}),
        _ => {
            json!({"key": base64("d/"), "range_end": base64("d0"), "target": "LEASE", "lease": "0"})
        }
    };
    let ops = |rng: &mut Rng| (0..1 + rng.below(2)).map(|_| op(rng, depth)).collect::<Vec<_>>();
    json!({"compare": [compare], "success": ops(rng), "failure": ops(rng)})
}

/// One request: over few keys and leases, so that about half of what has conditions is refused.
pub(crate) fn step(gateway: &Gateway, rng: &mut Rng) {
    let key = base64(rng.pick(&["a", "b", "c", "d/1", "d/2", "e"]));
    let lease = (100 + rng.below(5)).to_string();
    let value = base64(format!("v{}", rng.below(9)));
    let (path, body) = match rng.below(20) {
        0 => ("kv/deleterange", json!({"key": key})),
        1 => ("kv/deleterange", json!({"key": base64("b"), "range_end": base64("d/2")})),
        2 | 3 => ("lease/grant", json!({"ID": lease, "TTL": (600 + rng.below(100)).to_string()})),
        4 => ("lease/revoke", json!({"ID": lease})),
        5..=7 => ("kv/put", json!({"key": key, "value": value, "lease": lease})),
        8 => ("kv/put", json!({"key": key, "ignore_value": true, "lease": lease})),
        9 => ("kv/put", json!({"key": key, "value": value, "ignore_lease": true})),
        10..=13 => ("kv/txn", txn(rng, 0)),
        _ => ("kv/put", json!({"key": key, "value": value})),
    };
    gateway.ask(path, &body);
}

pub(crate) fn compact(gateway: &Gateway, revision: i64) {
    gateway.call("kv/compaction", &json!({"revision": revision.to_string(), "physical": true}));
}

/// A random program, then `kill -9`; the member here is as etcd was, and as it is when it starts again.
fn program(flags: &[&str], steps: u64, compactions: &[u64]) -> Value {
    let seed = seed_from_env("MIGRATE_SEED");
    let mut rng = Rng::new(seed);
    let mut etcd = Server::start_with(Flavor::Etcd, flags);
    let gateway = Gateway::of(etcd.addr());
    let mut compacted = 0;
    for at in 0..steps {
        step(&gateway, &mut rng);
        if compactions.contains(&at) {
            compacted = gateway.revision() - 5;
            compact(&gateway, compacted);
            // One that is done already, and one of the future.
            for wrong in [compacted, compacted + 1_000_000] {
                let body = json!({"revision": wrong.to_string()});
                assert_ne!(gateway.ask("kv/compaction", &body).0, 200);
            }
        }
    }
    let before = seen(&gateway, compacted);
    let sum = hash(etcd.addr());
    etcd.kill();

    let mut node = Node::named("n1");
    let said = migrate(&node, &etcd.data_dir(), &[]);
    let facts = &said["facts"];
    assert_eq!(facts["version_3_revision"].as_i64(), Some(before.revision), "seed {seed}: {said}");
    assert_eq!(facts["version_3_hash"].as_u64(), Some(sum.0), "seed {seed}: {said}");
    node.serve(&[]);
    let gateway = Gateway::of(node.addr());
    same(&seen(&gateway, compacted), &before, seed);
    assert_eq!(hash(node.addr()), sum, "seed {seed}");
    // Where its file had leases too early, etcd itself may let through what it has refused.
    if facts["version_3_leases_early"] == 0 {
        etcd.restart();
        assert_eq!(hash(etcd.addr()), sum, "seed {seed}");
    }
    let revision = gateway.put("next", "1");
    assert_eq!(revision, before.revision + 1);
    assert_eq!(gateway.events(revision, revision)[0]["kv"]["version"], "1");
    said
}

#[test]
fn a_random_program_whose_file_came_behind() {
    if !etcd_takes_part() {
        return;
    }
    let said = program(&LATE, 300, &[]);
    let facts = &said["facts"];
    let changes = facts["version_3_changes_behind"].as_i64().expect("a number");
    let revisions = facts["version_3_revision"].as_i64().expect("a number");
    assert!(changes > 10 && revisions > 50, "{said}");
    // Later versions write it in between all the same.
    if facts["etcd_version"] == "3.4.0" {
        assert!(changes >= revisions - 1, "{said}");
        assert!(facts["version_3_refused_as_before"].as_u64() > Some(5), "{said}");
    }
}

#[test]
fn a_random_program_with_compactions_of_which_the_last_is_in_the_log_alone() {
    if !etcd_takes_part() {
        return;
    }
    let said = program(&LATE, 250, &[120, 200]);
    assert!(said["facts"]["version_3_changes_behind"].as_u64() > Some(10), "{said}");
    assert!(said["facts"]["version_3_compacted"].as_u64() > Some(1), "{said}");
}

#[test]
fn a_random_program_with_snapshots_of_version_2_beside_it() {
    if !etcd_takes_part() {
        return;
    }
    program(&["--snapshot-count=30"], 250, &[100]);
}

/// etcd's file has a lease as soon as it is granted, and says which entry was its last only with a change of keys.
#[test]
fn a_put_that_was_refused_for_want_of_a_lease_is_refused_though_the_file_has_the_lease() {
    if !etcd_takes_part() {
        return;
    }
    let mut etcd = Server::start_with(Flavor::Etcd, &LATE);
    let gateway = Gateway::of(etcd.addr());
    let lease = |id: &str| json!({"ID": id, "TTL": "600"});
    let put =
        |key: &str, lease: &str| json!({"key": base64(key), "value": base64("1"), "lease": lease});
    gateway.call("lease/grant", &lease("7"));
    gateway.put("a", "1");
    gateway.put("a", "2");
    // It has been there for long.
    assert_ne!(gateway.ask("lease/grant", &lease("7")).0, 200);
    assert_ne!(gateway.ask("kv/put", &put("b", "8")).0, 200, "there is no lease 8");
    gateway.call("lease/grant", &lease("8"));
    // This writes the file, and changes no key.
    compact(&gateway, 2);
    let (before, sum) = (seen(&gateway, 2), hash(etcd.addr()));
    etcd.kill();

    let mut node = Node::named("n1");
    let said = migrate(&node, &etcd.data_dir(), &[]);
    let facts = &said["facts"];
    assert_eq!(facts["version_3_leases_early"], 1, "{said}");
    assert_eq!(facts["version_3_leases"], 2, "{said}");
    assert_eq!(facts["version_3_revision"], 3, "{said}");
    node.serve(&[]);
    same(&seen(&Gateway::of(node.addr()), 2), &before, 0);
    assert_eq!(hash(node.addr()), sum);
    // The refused put goes through in etcd when it starts again.
    etcd.restart();
    assert_eq!(Gateway::of(etcd.addr()).revision(), 4);
}

fn grant(root: &Gateway, role: &str, key: &str, kind: &str) {
    let perm =
        json!({"permType": kind, "key": base64(key), "range_end": base64(format!("{key}~"))});
    root.call("auth/role/grant", &json!({"name": role, "perm": perm}));
}

/// Users, of whom some change after they count.
pub(crate) fn make_users(addr: SocketAddr) -> Gateway {
    let gateway = Gateway::of(addr);
    for (name, password) in [("root", "secret"), ("alice", "al/ice"), ("bob", "old")] {
        gateway.call("auth/user/add", &json!({"name": name, "password": password}));
    }
    gateway.call("auth/user/add", &json!({"name": "cert", "options": {"no_password": true}}));
    for role in ["root", "app", "readers", "gone"] {
        gateway.call("auth/role/add", &json!({"name": role}));
    }
    grant(&gateway, "app", "/app/", "READWRITE");
    grant(&gateway, "readers", "/", "READ");
    for (user, role) in [("root", "root"), ("alice", "app"), ("bob", "readers"), ("bob", "gone")] {
        gateway.call("auth/user/grant", &json!({"user": user, "role": role}));
    }
    gateway.put("/other", "1");
    gateway.call("auth/enable", &json!({}));
    let root = Gateway::login(addr, "root", "secret");
    root.call("auth/role/delete", &json!({"role": "gone"}));
    root.call("auth/user/changepw", &json!({"name": "bob", "password": "new"}));
    Gateway::login(addr, "root", "secret")
}

pub(crate) fn can_put(gateway: &Gateway, key: &str) -> bool {
    gateway.ask("kv/put", &json!({"key": base64(key), "value": base64("x")})).0 == 200
}

fn users_log_in(flags: &[&str]) {
    let mut etcd = Server::start_with(Flavor::Etcd, flags);
    let root = make_users(etcd.addr());
    let alice = Gateway::login(etcd.addr(), "alice", "al/ice");
    assert!(can_put(&alice, "/app/x") && !can_put(&alice, "/other"));
    assert!(!can_put(&Gateway::of(etcd.addr()), "/app/x"));
    root.call("auth/user/add", &json!({"name": "carol", "password": "c"}));
    let root = Gateway::login(etcd.addr(), "root", "secret");
    let (users, keys, revision) = (root.users(), root.keys(0), root.revision());
    etcd.kill();

    let mut node = Node::named("n1");
    let said = migrate(&node, &etcd.data_dir(), &[]);
    assert_eq!(said["facts"]["version_3_users"], 5, "{said}");
    assert_eq!(said["facts"]["version_3_authentication"], "on", "{said}");
    node.serve(&[]);
    let root = Gateway::login(node.addr(), "root", "secret");
    assert_eq!((root.users(), root.keys(0), root.revision()), (users, keys, revision));
    let token = Gateway { addr: node.addr(), ..alice };
    let alice = Gateway::login(node.addr(), "alice", "al/ice");
    assert!(can_put(&alice, "/app/x") && !can_put(&alice, "/other"));
    let bob = Gateway::login(node.addr(), "bob", "new");
    assert!(!can_put(&bob, "/app/x") && bob.keys(0).is_string());
    assert!(!can_put(&Gateway::of(node.addr()), "/app/x"));
    Gateway::login(node.addr(), "carol", "c");
    for (name, password) in [("bob", "old"), ("cert", ""), ("root", "")] {
        let login = json!({"name": name, "password": password});
        assert_ne!(Gateway::of(node.addr()).ask("auth/authenticate", &login).0, 200, "{name}");
    }
    // Tokens were in the memory of etcd alone.
    assert_ne!(token.ask("kv/range", &json!({"key": base64("/app/x")})).0, 200);
}

#[test]
fn users_log_in_with_the_passwords_that_they_had() {
    if !etcd_takes_part() {
        return;
    }
    users_log_in(&[]);
}

#[test]
fn users_of_whom_the_log_alone_knows_log_in_too() {
    if !etcd_takes_part() {
        return;
    }
    users_log_in(&LATE);
}

#[test]
fn leases_begin_anew_and_end() {
    if !etcd_takes_part() {
        return;
    }
    let mut etcd = Server::start(Flavor::Etcd);
    let gateway = Gateway::of(etcd.addr());
    for (id, ttl) in [("7", "2"), ("8", "5000")] {
        gateway.call("lease/grant", &json!({"ID": id, "TTL": ttl}));
        let body = json!({"key": base64(id), "value": base64("v"), "lease": id});
        gateway.call("kv/put", &body);
    }
    let revision = gateway.revision();
    etcd.kill();
    let mut node = Node::named("n1");
    migrate(&node, &etcd.data_dir(), &[]);
    node.serve(&[]);
    let gateway = Gateway::of(node.addr());
    let left = number(&gateway.call("lease/timetolive", &json!({"ID": "8"}))["TTL"]);
    assert!((4000..=5001).contains(&left), "{left}");
    crate::node::wait_until("a lease ends", || gateway.leases().len() == 1);
    assert_eq!(gateway.revision(), revision + 1);
    let events = gateway.events(revision + 1, revision + 1);
    assert_eq!(
        (&events[0]["type"], &events[0]["kv"]["key"]),
        (&json!("DELETE"), &json!(base64("7")))
    );
}

#[test]
fn what_was_recorded_of_version_3_is_the_same() {
    let recorded = Recorded::of("mixed-v3");
    let three = &recorded.answers["v3"];
    let mut node = Node::named("m1");
    let said = migrate(&node, &recorded.source, &[]);
    let (facts, hash) = (&said["facts"], &three["hashkv"][0]["HashKV"]);
    assert_eq!(
        (&facts["version_3_hash"], &facts["version_3_compacted"]),
        (&hash["hash"], &json!(5))
    );
    assert_eq!((&facts["version_3_keys"], &facts["version_3_leases"]), (&json!(13), &json!(2)));
    assert_eq!(
        (&facts["version_3_versions"], &facts["version_3_revision"]),
        (&json!(16), &json!(16))
    );
    node.serve(&[]);
    let gateway = Gateway::of(node.addr());
    let keys = gateway.keys(0);
    let wanted = three["all"]["kvs"].as_array().expect("keys");
    assert_eq!(keys.as_array().map(Vec::len), Some(wanted.len()));
    for (found, wanted) in keys.as_array().into_iter().flatten().zip(wanted) {
        assert_eq!((&found["key"], &found["value"]), (&wanted["key"], &wanted["value"]));
        for name in ["create_revision", "mod_revision", "version", "lease"] {
            assert_eq!(number(&found[name]), wanted[name].as_i64().unwrap_or(0), "{found}");
        }
    }
    let answer = gateway.call("maintenance/hashkv", &json!({}));
    assert_eq!((&answer["hash"], number(&answer["compact_revision"])), (&hash["hash"], 5));
    let leases = gateway.leases();
    assert_eq!(leases.len(), 2);
    let (id, keys) = (&three["leased"]["id"], &three["leased"]["keys"][0]);
    let leased = leases.iter().find(|lease| number(&lease["ID"]) == id.as_i64().unwrap());
    let leased = leased.expect("the lease");
    assert_eq!(
        (&leased["granted"], &leased["keys"][0]),
        (&json!("600000000"), &json!(keys.to_string()))
    );
    // A deletion and what it deleted; and what was compacted.
    let deletion = &gateway.events(14, 14)[0];
    assert_eq!(
        (&deletion["type"], &deletion["prev_kv"]["mod_revision"]),
        (&json!("DELETE"), &json!("4"))
    );
    assert!(gateway.keys(4).is_string() && gateway.keys(5).is_array());
}

#[test]
fn what_was_recorded_of_a_3_5_is_the_same() {
    let recorded = Recorded::of("three-five");
    let three = &recorded.answers["v3"];
    let mut node = Node::named("m1");
    let said = migrate(&node, &recorded.source, &[]);
    let (facts, hash) = (&said["facts"], &three["hashKV"]["hash"]);
    assert_eq!(
        (&facts["version_3_hash"], &facts["version_3_revision"]),
        (hash, &three["revision"])
    );
    assert_eq!(facts["version_3_compacted"], three["compacted"]);
    node.serve(&[]);
    let gateway = Gateway::of(node.addr());
    assert_eq!(
        (gateway.keys(0), gateway.keys(6)),
        (three["all"]["kvs"].clone(), three["at6"]["kvs"].clone())
    );
    assert_eq!(&gateway.call("maintenance/hashkv", &json!({}))["hash"], hash);
    assert_eq!(gateway.leases()[0]["ID"], three["leases"]["leases"][0]["ID"]);
    assert_eq!(gateway.events(6, 8).len(), 4);
}

#[test]
fn several_members_from_one_directory_have_the_same_version_3() {
    let recorded = Recorded::of("mixed-v3");
    let mut nodes = ["m1", "b", "c"].map(Node::named);
    let all = list(&nodes.each_ref());
    let digests = nodes.each_ref().map(|node| {
        migrate(node, &recorded.source, &["--initial-cluster", &all]);
        verified(&node.data_dir())
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    nodes.iter_mut().for_each(|node| node.launch(&[], &[]));
    nodes.iter_mut().for_each(Node::wait_until_ready);
    assert_eq!(Gateway::of(nodes[1].addr()).put("more", "1"), 17);
    crate::node::wait_until("all members have it", || {
        nodes.iter().all(|node| Gateway::of(node.addr()).revision() == 17)
    });
}

fn db(source: &Path) -> std::path::PathBuf {
    source.join("member/snap/db")
}

fn facts(said: &Value) -> (&Value, &Value) {
    (&said["facts"]["version_3_hash"], &said["facts"]["version_3_revision"])
}

#[test]
fn a_log_with_all_entries_says_the_same_as_the_file() {
    let recorded = Recorded::of("mixed-v3");
    let right = found(&recorded.source, &[]);
    let file = fs::read(db(&recorded.source)).expect("a file");
    let mut damaged = file.clone();
    damaged[2 * 4096..5 * 4096].fill(0xee);
    for content in [None, Some(&damaged[..]), Some(&file[..9000]), Some(b"something else")] {
        match content {
            Some(content) => fs::write(db(&recorded.source), content).expect("it can be written"),
            None => fs::remove_file(db(&recorded.source)).expect("it can be removed"),
        }
        let said = found(&recorded.source, &[]);
        assert_eq!(facts(&said), facts(&right), "{said}");
        assert_eq!(said["facts"]["version_3_leases"], right["facts"]["version_3_leases"]);
        let notes = said["notes"].to_string();
        assert!(notes.contains("goes back to its first entry"), "{notes}");
    }
}

/// Without the first entries of the log, as most directories are.
fn without_first_entries(recorded: &Recorded) {
    use cairn::etcd::entry::Entry;
    use cairn::etcd::wal::{Kind, Segment, SegmentWriter};

    let path = recorded.file("wal", ".wal", true);
    let whole = fs::read(&path).expect("a segment");
    let (mut reader, mut writer) = (Segment::new(&whole, None), SegmentWriter::new(0, true));
    while let Some(record) = reader.next_record().expect("it is whole") {
        let is_early = record.kind == Kind::Entry
            && Entry::decode(record.data).is_ok_and(|entry| entry.place.index <= 100);
        if record.kind != Kind::Crc && !is_early {
            writer.push(record.kind, record.data);
        }
    }
    fs::write(path, writer.finish()).expect("it can be written");
}

#[test]
fn a_file_that_is_missing_or_damaged_is_told_and_can_be_left() {
    let recorded = Recorded::of("mixed-v3");
    let right = found(&recorded.source, &[]);
    without_first_entries(&recorded);
    assert_eq!(facts(&found(&recorded.source, &[])), facts(&right));
    let file = fs::read(db(&recorded.source)).expect("a file");
    let mut damaged = file.clone();
    damaged[2 * 4096..5 * 4096].fill(0xee);
    // The same with a key that no etcd writes: a wrong modified revision.
    let at = file.windows(7).position(|bytes| bytes == b"/v3/1\x10\x09").expect("a key");
    let mut wrong = file.clone();
    wrong[at + 8] = 8;
    for (content, words) in [
        (Some(&damaged[..]), "is damaged: page"),
        (Some(&wrong[..]), "bucket key"),
        (Some(&file[..9000]), "is cut off"),
        (Some(b"something else"), "it is no file of bbolt"),
        (None, "db is missing"),
    ] {
        match content {
            Some(content) => fs::write(db(&recorded.source), content).expect("it can be written"),
            None => fs::remove_file(db(&recorded.source)).expect("it can be removed"),
        }
        for more in [&[][..], &["--salvage"]] {
            let path = db(&recorded.source);
            refused(&recorded.source, more, &[text(&path), words, "--without-v3"]);
        }
        let said = found(&recorded.source, &["--without-v3"]);
        assert_eq!(said["facts"]["index"], right["facts"]["index"]);
        assert!(said["facts"]["version_3_keys"].is_null(), "{said}");
    }
    fs::write(db(&recorded.source), file).expect("it can be written");
    let said = found(&recorded.source, &["--without-v3"]);
    assert!(
        said["notes"].to_string().contains("13 keys and 2 leases of version 3 are left out"),
        "{said}"
    );
    let mut node = Node::named("m1");
    migrate(&node, &recorded.source, &["--without-v3"]);
    node.serve(&[]);
    assert_eq!(Gateway::of(node.addr()).revision(), 1);
}

#[test]
fn a_file_of_another_moment_than_the_log_is_told() {
    let recorded = Recorded::of("mixed-v3");
    let file = fs::read(db(&recorded.source)).expect("a file");
    // Its last entry is 154; the newest snapshot has those up to 122, the log those up to 161.
    let name = b"consistent_index";
    let at = file.windows(name.len()).position(|bytes| bytes == name).expect("it is there");
    let at = at + name.len();
    let come_to = |index: u64| {
        let mut file = file.clone();
        file[at..at + 8].copy_from_slice(&index.to_be_bytes());
        file
    };
    fs::write(db(&recorded.source), come_to(900)).expect("it can be written");
    let words = ["as far as entry 900", "ends with entry 161", "--salvage"];
    refused(&recorded.source, &[], &words);
    let said = found(&recorded.source, &["--salvage"]);
    assert_eq!(said["facts"]["version_3_revision"], 16, "{said}");
    without_first_entries(&recorded);
    fs::write(db(&recorded.source), come_to(50)).expect("it can be written");
    refused(&recorded.source, &[], &["as far as entry 50", "as far as entry 122", "--without-v3"]);
    // The file that came with the snapshot is there: the member fell before it took it.
    let received = recorded.source.join("member/snap/000000000000007a.snap.db");
    fs::write(&received, &file).expect("it can be written");
    let said = found(&recorded.source, &[]);
    assert_eq!(said["facts"]["version_3_revision"], 16, "{said}");
    assert!(said["notes"].to_string().contains("came with the newest snapshot"), "{said}");
}

#[test]
fn what_is_in_the_file_was_committed() {
    // Its log says 161; as if it had been written before the last entries were known to be.
    let recorded = Recorded::of("mixed-v3");
    let said = found(&recorded.source, &["--committed-only"]);
    assert_eq!(said["facts"]["version_3_revision"], 16, "{said}");
    let tail = Recorded::of("three-tail-m1");
    let said = found(&tail.source, &["--committed-only"]);
    assert_eq!(said["facts"]["version_3_keys"], 0, "{said}");
}

fn etcdctl(version: &str, words: &[&str]) {
    let mut command = std::process::Command::new("etcdctl");
    let output =
        command.env("ETCDCTL_API", version).args(words).output().expect("etcdctl is there");
    assert!(output.status.success(), "{words:?}: {output:?}");
}

#[test]
fn what_etcds_own_tools_made_of_a_directory_is_taken() {
    if !etcd_takes_part() {
        return;
    }
    let seed = seed_from_env("MIGRATE_SEED");
    let mut rng = Rng::new(seed);
    let mut etcd = Server::start_with(Flavor::Etcd, &["--snapshot-count=40"]);
    let gateway = Gateway::of(etcd.addr());
    for at in 0..200 {
        step(&gateway, &mut rng);
        if at == 100 {
            compact(&gateway, gateway.revision() - 3);
        }
    }
    let (sum, keys, revision) = (hash(etcd.addr()), gateway.keys(0), gateway.revision());
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let (file, restored) = (at("file"), at("restored"));
    let endpoint = format!("--endpoints={}", etcd.addr());
    etcdctl("3", &[&endpoint, "snapshot", "save", text(&file)]);
    etcdctl("3", &["snapshot", "restore", text(&file), "--data-dir", text(&restored)]);
    etcd.terminate(Duration::from_secs(20));
    let source = etcd.data_dir();
    for (name, flags) in [("with", &["--with-v3"][..]), ("without", &[])] {
        let backup = at(name);
        let words = ["backup", "--data-dir", text(&source), "--backup-dir", text(&backup)];
        etcdctl("2", &[&words[..], flags].concat());
    }
    for name in ["restored", "with"] {
        let said = found(&at(name), &[]);
        assert_eq!(said["facts"]["version_3_hash"].as_u64(), Some(sum.0), "{name} {seed}: {said}");
        assert_eq!(said["facts"]["version_3_revision"].as_i64(), Some(revision), "{said}");
    }
    let said = found(&at("without"), &[]);
    assert_eq!(said["facts"]["version_3_revision"], 1, "{said}");
    assert!(said["notes"].to_string().contains("made with --with-v3"), "{said}");
    let mut node = Node::named("default");
    migrate(&node, &restored, &[]);
    node.serve(&[]);
    assert_eq!(Gateway::of(node.addr()).keys(0), keys, "{seed}");
}

/// A store as 3.5 and 3.6 have it: more in the bucket of facts, and the version.
fn store_of_3_6(path: &Path) {
    use cairn::etcd::bolt::BoltWriter;
    use cairn::etcd::proto::Message;

    let key = Message::default().bytes(1, b"a").varint(2, 2).varint(3, 2).varint(4, 1);
    let place = [&2_u64.to_be_bytes()[..], b"_", &[0; 8]].concat();
    let lease = Message::default().varint(1, 5).varint(2, 600).varint(3, 20).finish();
    let meta = [
        ("confState", br#"{"voters":[7],"auto_leave":false}"#.to_vec()),
        ("consistent_index", 3_u64.to_be_bytes().to_vec()),
        ("storageVersion", b"3.6.0".to_vec()),
        ("term", 1_u64.to_be_bytes().to_vec()),
    ];
    let none: [(&[u8], &[u8]); 0] = [];
    let mut writer = BoltWriter::new(fs::File::create(path).expect("a file")).expect("room");
    let mut write = |name: &str, entries: &[(&[u8], &[u8])]| {
        writer.bucket(name.as_bytes(), entries.iter().copied()).expect("room");
    };
    for name in ["alarm", "auth", "authRoles", "authUsers"] {
        write(name, &none);
    }
    write("cluster", &[(b"clusterVersion", b"3.6.0")]);
    write("key", &[(&place, &key.bytes(5, b"old").finish())]);
    write("lease", &[(&5_u64.to_be_bytes(), &lease)]);
    write("members", &none);
    write("members_removed", &none);
    let meta: Vec<_> = meta.iter().map(|(name, value)| (name.as_bytes(), &value[..])).collect();
    write("meta", &meta);
    writer.finish().expect("room");
}

#[test]
fn a_directory_in_the_form_of_3_6_is_taken_with_its_version_3() {
    use cairn::etcd::proto::Message;

    let inner = Message::default().bytes(1, b"m1").bytes(2, b"http://127.0.0.1:1").finish();
    let own = Message::default().varint(1, 7).bytes(2, &inner).finish();
    let version = Message::default().bytes(1, b"3.6.0").finish();
    let header = |user: &[u8]| Message::default().varint(1, 99).bytes(2, user).finish();
    let put = |value: &[u8]| {
        let put = Message::default().bytes(1, b"a").bytes(2, value).varint(3, 5).finish();
        (0, Message::default().bytes(4, &put).bytes(100, &header(b"")).finish())
    };
    let dir = broken::made(
        7,
        &[
            broken::change(0, 7),
            (0, Message::default().bytes(1301, &own).bytes(100, &header(b"")).finish()),
            (0, Message::default().bytes(1300, &version).bytes(100, &header(b"")).finish()),
            (0, Message::default().bytes(9900, &[]).bytes(100, &header(b"")).finish()),
            put(b"new"),
        ],
    );
    store_of_3_6(&db(dir.path()));
    let said = found(dir.path(), &[]);
    assert_eq!(
        (&said["facts"]["etcd_version"], &said["facts"]["keys"]),
        (&json!("3.6.0"), &json!(0))
    );
    assert_eq!(said["facts"]["version_3_changes_behind"], 1, "{said}");
    assert!(
        said["notes"].to_string().contains("1 leases had less than their whole life"),
        "{said}"
    );
    refused(dir.path(), &["--without-v3"], &["1 keys of version 3", "nothing to take"]);
    let mut node = Node::named("m1");
    migrate(&node, dir.path(), &[]);
    node.serve(&[]);
    let gateway = Gateway::of(node.addr());
    let (old, new) = (gateway.keys(2), gateway.keys(0));
    assert_eq!(
        (&old[0]["value"], &new[0]["value"]),
        (&json!(base64("old")), &json!(base64("new")))
    );
    assert_eq!((&new[0]["version"], &new[0]["lease"]), (&json!("2"), &json!("5")));
}
