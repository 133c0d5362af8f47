//! The same requests as were once made of a real etcd 3.4.23, and the same answers: `tests/fixtures/v3-programs`.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::{NOW, reloaded};
use crate::model::Value;
use crate::mvcc::*;

fn text(body: &Json, name: &str) -> Value {
    body[name].as_str().unwrap_or_default().as_bytes().into()
}

fn number(body: &Json, name: &str) -> i64 {
    body[name].as_i64().unwrap_or_default()
}

fn flag(body: &Json, name: &str) -> bool {
    body[name].as_bool().unwrap_or_default()
}

fn revision(body: &Json, name: &str) -> Revision {
    Revision(u64::try_from(number(body, name)).unwrap())
}

fn range(body: &Json) -> KeyRange {
    KeyRange::new(text(body, "key"), text(body, "range_end"))
}

fn put(body: &Json) -> Put {
    Put {
        key: text(body, "key"),
        value: text(body, "value"),
        lease: LeaseId(number(body, "lease")),
        prev_kv: flag(body, "prev_kv"),
        ignore_value: flag(body, "ignore_value"),
        ignore_lease: flag(body, "ignore_lease"),
    }
}

fn query(body: &Json) -> RangeQuery {
    RangeQuery {
        limit: u64::try_from(number(body, "limit")).unwrap(),
        revision: revision(body, "revision"),
        order: match body["sort_order"].as_str() {
            Some("DESCEND") => Order::Descend,
            Some("ASCEND") => Order::Ascend,
            _ => Order::None,
        },
        count_only: flag(body, "count_only"),
        modified_min: number(body, "min_mod_revision"),
        modified_max: number(body, "max_mod_revision"),
        created_min: number(body, "min_create_revision"),
        created_max: number(body, "max_create_revision"),
        ..RangeQuery::of(range(body))
    }
}

fn delete(body: &Json) -> DeleteRange {
    DeleteRange { range: range(body), prev_kv: flag(body, "prev_kv") }
}

fn compare(body: &Json) -> Compare {
    let relation = match body["result"].as_str().unwrap() {
        "EQUAL" => Relation::Equal,
        "GREATER" => Relation::Greater,
        "LESS" => Relation::Less,
        _ => Relation::NotEqual,
    };
    let target = match body["target"].as_str().unwrap() {
        "VERSION" => CompareTarget::Version(number(body, "version")),
        "CREATE" => CompareTarget::Created(number(body, "create_revision")),
        "MOD" => CompareTarget::Modified(number(body, "mod_revision")),
        "VALUE" => CompareTarget::Value(text(body, "value")),
        _ => CompareTarget::Lease(number(body, "lease")),
    };
    Compare { range: range(body), relation, target }
}

fn list<T>(body: &Json, name: &str, of: impl Fn(&Json) -> T) -> Vec<T> {
    body[name].as_array().into_iter().flatten().map(of).collect()
}

fn op(body: &Json) -> Op {
    let (kind, body) = body.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "request_put" => Op::Put(put(body)),
        "request_range" => Op::Range(query(body)),
        "request_delete_range" => Op::DeleteRange(delete(body)),
        _ => Op::Txn(txn(body)),
    }
}

fn txn(body: &Json) -> Txn {
    Txn {
        compares: list(body, "compare", compare),
        success: list(body, "success", op),
        failure: list(body, "failure", op),
    }
}

/// Without what is zero or empty, as the gateway answers.
fn without_zeros(pairs: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    let is_zero = |value: &Json| {
        *value == json!(0) || *value == json!(false) || *value == json!("") || *value == json!([])
    };
    let kept = pairs.into_iter().filter(|(_, value)| !is_zero(value));
    Json::Object(kept.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn kv(kv: &KeyValue) -> Json {
    without_zeros([
        ("key", json!(String::from_utf8_lossy(&kv.key))),
        ("create_revision", json!(kv.created.0)),
        ("mod_revision", json!(kv.modified.0)),
        ("version", json!(kv.version)),
        ("value", json!(String::from_utf8_lossy(&kv.value))),
        ("lease", json!(kv.lease.0)),
    ])
}

fn with_header(revision: Revision, rest: Json) -> Json {
    let mut answer = Map::new();
    answer.insert("header".to_owned(), json!({ "revision": revision.0 }));
    answer.extend(rest.as_object().unwrap().clone());
    Json::Object(answer)
}

fn range_answer(reply: &RangeReply) -> Json {
    let kvs: Vec<_> = reply.kvs.iter().map(|found| kv(found)).collect();
    let (kvs, count) = (json!(kvs), json!(reply.count));
    without_zeros([("kvs", kvs), ("more", json!(reply.more)), ("count", count)])
}

fn put_answer(prev: Option<&Arc<KeyValue>>) -> Json {
    prev.map_or_else(|| json!({}), |prev| json!({ "prev_kv": kv(prev) }))
}

fn delete_answer(deleted: u64, prev_kvs: &[Arc<KeyValue>]) -> Json {
    let prev_kvs: Vec<_> = prev_kvs.iter().map(|prev| kv(prev)).collect();
    without_zeros([("deleted", json!(deleted)), ("prev_kvs", json!(prev_kvs))])
}

fn txn_answer(reply: &TxnReply) -> Json {
    let replies = reply.replies.iter().map(|reply| match reply {
        OpReply::Range { revision, reply } => {
            json!({ "response_range": with_header(*revision, range_answer(reply)) })
        }
        OpReply::Put { revision, prev } => {
            json!({ "response_put": with_header(*revision, put_answer(prev.as_ref())) })
        }
        OpReply::DeleteRange { revision, deleted, prev_kvs } => {
            let answer = with_header(*revision, delete_answer(*deleted, prev_kvs));
            json!({ "response_delete_range": answer })
        }
        OpReply::Txn(inside) => {
            let mut answer = txn_answer(inside);
            answer.as_object_mut().unwrap().insert("header".to_owned(), json!({}));
            json!({ "response_txn": answer })
        }
    });
    let replies: Vec<_> = replies.collect();
    without_zeros([("succeeded", json!(reply.succeeded)), ("responses", json!(replies))])
}

fn refusal_text(refusal: &Refusal) -> &'static str {
    const RECORDED: [(Refusal, &str); 6] = [
        (Refusal::KeyNotFound, "etcdserver: key not found"),
        (Refusal::DuplicateKey, "etcdserver: duplicate key given in txn request"),
        (Refusal::Compacted, "etcdserver: mvcc: required revision has been compacted"),
        (Refusal::FutureRevision, "etcdserver: mvcc: required revision is a future revision"),
        (Refusal::LeaseNotFound, "etcdserver: requested lease not found"),
        (Refusal::LeaseExists, "etcdserver: lease already exists"),
    ];
    let found = RECORDED.iter().find(|(recorded, _)| recorded == refusal);
    found.unwrap_or_else(|| panic!("{refusal:?} was not recorded")).1
}

fn answer(mvcc: &mut Mvcc, path: &str, body: &Json) -> Result<Json, Refusal> {
    let request = match path {
        "kv/range" => return mvcc.range(&query(body)).map(|reply| range_answer(&reply)),
        "kv/put" => Request::Put(put(body)),
        "kv/deleterange" => Request::DeleteRange(delete(body)),
        "kv/txn" => {
            let txn = txn(body);
            check_txn(&txn, TxnLimits { ops_max: 128 })?;
            if txn.is_read_only() {
                return mvcc.txn_read(&txn).map(|reply| txn_answer(&reply));
            }
            Request::Txn(txn)
        }
        "lease/grant" => {
            let (id, ttl_s) = (LeaseId(number(body, "ID")), number(body, "TTL"));
            Request::LeaseGrant { id, ttl_s }
        }
        "lease/revoke" => Request::LeaseRevoke(LeaseId(number(body, "ID"))),
        "kv/compaction" => Request::Compact(revision(body, "revision")),
        path => panic!("{path}"),
    };
    Ok(match mvcc.apply(NOW, &Command::internal(request)).reply? {
        Reply::Put { prev } => put_answer(prev.as_ref()),
        Reply::DeleteRange { deleted, prev_kvs } => delete_answer(deleted, &prev_kvs),
        Reply::Txn(reply) => txn_answer(&reply),
        Reply::LeaseGrant { id, ttl_s } => json!({ "ID": id.0, "TTL": ttl_s }),
        Reply::Compact | Reply::LeaseRevoke => json!({}),
        Reply::Alarm(_) | Reply::Auth(_) | Reply::LeaseCheckpoint | Reply::LeaseKeepAlive => {
            unreachable!("not asked for")
        }
    })
}

#[test]
fn a_real_etcd_answered_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v3-programs");
    let (mut answers, mut hashes) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|ending| ending != "jsonl") {
            continue;
        }
        let mut mvcc = Mvcc::default();
        for (place, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let what = format!("{}:{}: {line}", path.display(), place + 1);
            let line: Json = serde_json::from_str(line).unwrap();
            if line["hash"].is_u64() {
                let (hash, compacted) = mvcc.hash(Revision(0)).unwrap();
                let compacted = compacted.map_or(-1, |revision| i64::try_from(revision.0).unwrap());
                assert_eq!(json!(hash), line["hash"], "{what}");
                assert_eq!(json!(compacted), line["compact_revision"], "{what}");
                assert_eq!(reloaded(&mvcc).hash(Revision(0)).unwrap().0, hash, "{what}");
                hashes += 1;
                continue;
            }
            let path = line["path"].as_str().unwrap();
            let found = match answer(&mut mvcc, path, &line["request"]) {
                Ok(answer) => with_header(mvcc.revision(), answer),
                Err(refusal) => json!({ "error": refusal_text(&refusal) }),
            };
            assert_eq!(found, line["answer"], "{what}");
            answers += 1;
        }
        mvcc.check();
    }
    assert_eq!((answers, hashes), (1211, 126));
}
