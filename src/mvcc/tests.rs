//! The v3 key space against a model that keeps every revision whole, and against answers of the real etcd.

mod auth;
mod model;
mod recorded;

use std::ops::ControlFlow;

use super::*;
use crate::model::{Reader, Writer};

const NOW: LogTime = LogTime(1);

/// A new key space of its own records, as a restart and a follower make it.
fn reloaded(mvcc: &Mvcc) -> Mvcc {
    let mut header = Writer::default();
    mvcc.encode_header(&mut header);
    let header = header.finish();
    let mut input = Reader::new(&header);
    let mut loader = Loader::new(&mut input).unwrap();
    assert!(input.is_empty());
    // In pieces that begin behind any of them.
    let (mut after, mut count) = (None, 0);
    loop {
        let (before, mut piece) = (after.clone(), 0);
        let _ = mvcc.records_after(before.as_ref(), &mut |position, record| {
            loader.record(&record).unwrap();
            after = Some(position);
            piece += 1;
            if piece == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        count += piece;
        if piece == 0 {
            break;
        }
    }
    assert_eq!(count, mvcc.records_count());
    loader.finish().unwrap()
}

fn apply(mvcc: &mut Mvcc, request: Request) -> Result<Reply, Refusal> {
    mvcc.apply(NOW, &Command::internal(request)).reply
}

fn put(key: &str, value: &str) -> Put {
    Put::new(key.as_bytes(), value.as_bytes())
}

#[test]
fn a_compaction_gives_memory_back_little_by_little_and_is_seen_at_once() {
    let mut mvcc = Mvcc::default();
    for number in 0..2000 {
        apply(&mut mvcc, Request::Put(put("k", &number.to_string()))).unwrap();
    }
    let before = mvcc.bytes();
    apply(&mut mvcc, Request::Compact(Revision(2001))).unwrap();
    let old = RangeQuery { revision: Revision(2000), ..RangeQuery::of(KeyRange::all()) };
    assert_eq!(mvcc.range(&old), Err(Refusal::Compacted));
    assert!(mvcc.bytes() < before && mvcc.versions_count() > 1900);
    mvcc.check();
    // What is read from disk meanwhile has nothing of it left.
    let fresh = reloaded(&mvcc);
    assert_eq!(fresh.versions_count(), 1);
    assert_eq!(fresh.hash(Revision(0)), mvcc.hash(Revision(0)));
    for _ in 0..2000 / 64 {
        mvcc.sweep();
    }
    assert_eq!(mvcc.versions_count(), 1);
    mvcc.check();
}

/// Who deletes for want of room and compacts gets the room, though watches may begin at the compacted revision.
#[test]
fn a_compaction_to_the_last_deletion_leaves_nothing_of_what_was_deleted() {
    let mut mvcc = Mvcc::default();
    for key in ["a", "b", "c"] {
        apply(&mut mvcc, Request::Put(put(key, "1"))).unwrap();
    }
    let op =
        |key: &str| DeleteRange { range: KeyRange::Single(key.as_bytes().into()), prev_kv: true };
    let success = vec![
        Op::Put(put("d", "1")),
        Op::DeleteRange(op("a")),
        Op::Put(put("b", "2")),
        Op::DeleteRange(op("c")),
    ];
    let txn = Txn { compares: vec![], success, failure: vec![] };
    apply(&mut mvcc, Request::Txn(txn)).unwrap();
    apply(&mut mvcc, Request::Compact(Revision(5))).unwrap();
    mvcc.check();
    assert_eq!(mvcc.bytes(), mvcc.live_bytes());
    let last: Vec<_> = mvcc.changes_since(Revision(5)).unwrap().map(|change| change.kv).collect();
    assert_eq!(last.iter().map(|kv| kv.key.to_vec()).collect::<Vec<_>>(), [b"d", b"b"]);
    assert_eq!(reloaded(&mvcc).hash(Revision(0)), mvcc.hash(Revision(0)));
    apply(&mut mvcc, Request::Put(put("e", "1"))).unwrap();
    apply(&mut mvcc, Request::Compact(Revision(6))).unwrap();
    mvcc.check();
    assert_eq!(mvcc.bytes(), mvcc.live_bytes());
    assert_eq!(mvcc.changes_since(Revision(6)).unwrap().count(), 1);
}

/// A deletion without an end may take what its own transaction has put: nothing of that key is left, also after a restart.
#[test]
fn a_key_put_and_deleted_in_one_revision_does_not_come_back_when_that_is_compacted() {
    let mut mvcc = Mvcc::default();
    apply(&mut mvcc, Request::Put(put("b", "1"))).unwrap();
    let range = KeyRange::From(b"b"[..].into());
    let success = vec![
        Op::Put(put("a", "2")),
        Op::Put(put("b", "2")),
        Op::DeleteRange(DeleteRange { range, prev_kv: false }),
    ];
    apply(&mut mvcc, Request::Txn(Txn { success, ..Txn::default() })).unwrap();
    apply(&mut mvcc, Request::Compact(Revision(3))).unwrap();
    for mvcc in [reloaded(&mvcc), mvcc] {
        mvcc.check();
        let there =
            |revision| mvcc.range(&RangeQuery { revision, ..RangeQuery::of(KeyRange::all()) });
        for revision in [Revision(0), Revision(3)] {
            let kvs = there(revision).unwrap().kvs;
            assert_eq!(kvs.iter().map(|kv| kv.key.to_vec()).collect::<Vec<_>>(), [b"a"]);
        }
        assert_eq!(mvcc.bytes(), mvcc.live_bytes());
        let last = mvcc.changes_since(Revision(3)).unwrap();
        assert_eq!(last.map(|change| change.kv.key.to_vec()).collect::<Vec<_>>(), [b"a"]);
        assert_eq!(reloaded(&mvcc).hash(Revision(0)), mvcc.hash(Revision(0)));
    }
}

#[test]
fn what_a_transaction_has_deleted_leaves_nothing_to_keep() {
    let mut mvcc = Mvcc::default();
    apply(&mut mvcc, Request::Put(put("a", "1"))).unwrap();
    let delete = DeleteRange { range: KeyRange::From(b"a"[..].into()), prev_kv: false };
    let keep = Put { ignore_value: true, ignore_lease: true, ..put("a", "") };
    let success = vec![Op::DeleteRange(delete), Op::Put(keep)];
    apply(&mut mvcc, Request::Txn(Txn { success, ..Txn::default() })).unwrap();
    mvcc.check();
    let kvs = mvcc.range(&RangeQuery::of(KeyRange::all())).unwrap().kvs;
    assert_eq!((kvs.len(), &*kvs[0].value, kvs[0].version), (1, &b""[..], 1));
}

/// Both could be refused for what they read and for what they write: etcd looks at the writes first.
#[test]
fn what_is_wrong_with_a_put_is_said_before_what_is_wrong_with_a_range() {
    let mut mvcc = Mvcc::default();
    let future = RangeQuery { revision: Revision(9), ..RangeQuery::of(KeyRange::all()) };
    let inside = Op::Txn(Txn {
        success: vec![Op::Put(Put { lease: LeaseId(7), ..put("a", "1") })],
        ..Txn::default()
    });
    let success = vec![Op::Range(future.clone()), inside];
    let txn = Txn { success, ..Txn::default() };
    assert_eq!(apply(&mut mvcc, Request::Txn(txn)), Err(Refusal::LeaseNotFound));
    let txn = Txn { success: vec![Op::Range(future)], ..Txn::default() };
    assert_eq!(apply(&mut mvcc, Request::Txn(txn)), Err(Refusal::FutureRevision));
}

#[test]
fn an_alarm_for_space_refuses_what_grows_and_one_for_damage_nearly_everything() {
    let mut mvcc = Mvcc::default();
    apply(&mut mvcc, Request::Put(put("a", "1"))).unwrap();
    apply(&mut mvcc, Request::LeaseGrant { id: LeaseId(7), ttl_s: 9 }).unwrap();
    let alarm = |kind| Alarm { member: crate::model::MemberId(3), kind };
    let raise = |kind| Request::Alarm(AlarmRequest::Activate(alarm(kind)));
    let txn = |op| Request::Txn(Txn { success: vec![op], ..Txn::default() });
    let delete = || DeleteRange { range: KeyRange::all(), prev_kv: false };
    apply(&mut mvcc, raise(AlarmKind::NoSpace)).unwrap();
    for (request, refused) in [
        (Request::Put(put("b", "1")), true),
        (txn(Op::Put(put("b", "1"))), true),
        (Request::LeaseGrant { id: LeaseId(8), ttl_s: 9 }, true),
        (txn(Op::DeleteRange(delete())), false),
        (Request::DeleteRange(delete()), false),
        (Request::LeaseRevoke(LeaseId(7)), false),
        (Request::Compact(Revision(2)), false),
    ] {
        let mut after = mvcc.clone();
        let reply = apply(&mut after, request.clone());
        assert_eq!(reply == Err(Refusal::NoSpace), refused, "{request:?}");
        assert_eq!(reply.is_err(), refused, "{request:?}");
    }
    apply(&mut mvcc, raise(AlarmKind::Corrupt)).unwrap();
    for request in [Request::DeleteRange(delete()), Request::Compact(Revision(2))] {
        assert_eq!(apply(&mut mvcc, request), Err(Refusal::Corrupt));
    }
    assert_eq!(reloaded(&mvcc).alarms().collect::<Vec<_>>(), mvcc.alarms().collect::<Vec<_>>());
    let disarm = AlarmRequest::Deactivate { member: None, kind: None };
    let both = vec![alarm(AlarmKind::NoSpace), alarm(AlarmKind::Corrupt)];
    assert_eq!(apply(&mut mvcc, Request::Alarm(disarm)), Ok(Reply::Alarm(both)));
    apply(&mut mvcc, Request::Put(put("b", "1"))).unwrap();
}

/// Builds that know nothing of recorded ends read a header without them.
#[test]
fn while_no_end_of_a_lease_is_recorded_the_header_is_that_of_before() {
    let header = |mvcc: &Mvcc| {
        let mut out = Writer::default();
        mvcc.encode_header(&mut out);
        out.finish()
    };
    let mut mvcc = Mvcc::default();
    apply(&mut mvcc, Request::LeaseGrant { id: LeaseId(7), ttl_s: 9 }).unwrap();
    apply(&mut mvcc, Request::LeaseCheckpoint(vec![(LeaseId(8), LogTime(5))])).unwrap();
    let before = header(&mvcc);
    assert_eq!(before[..6], [1, 1, 0, 1, 14, 18], "version, revision, compacted, a lease");
    apply(&mut mvcc, Request::LeaseCheckpoint(vec![(LeaseId(7), LogTime(5))])).unwrap();
    let recorded = header(&mvcc);
    assert_eq!(recorded[..8], [2, 1, 0, 1, 14, 18, 1, 5]);
    assert_eq!(recorded[8..], before[6..]);
    let ends = reloaded(&mvcc).lease(LeaseId(7)).unwrap().deadline();
    assert_eq!(ends, Deadline::Recorded(LogTime(5)));
    assert_eq!(header(&mvcc.without_deadlines()), before);
}

#[test]
fn a_compaction_by_bytes_leaves_as_much_as_is_wanted() {
    let mut mvcc = Mvcc::default();
    assert_eq!(mvcc.compaction_for(0), None);
    for number in 0..600_u32 {
        let key = format!("k{}", number % 7);
        let value = "v".repeat(usize::try_from(number % 50).unwrap());
        apply(&mut mvcc, Request::Put(put(&key, &value))).unwrap();
        if number % 11 == 0 {
            let range = KeyRange::new(key.as_bytes().into(), Vec::new().into());
            let delete = DeleteRange { range, prev_kv: false };
            apply(&mut mvcc, Request::DeleteRange(delete)).unwrap();
        }
    }
    // Once as it is, once with a part already gone and a part still to be swept.
    for wanted in [2, 7, 30].map(|part| mvcc.past_bytes() / part) {
        let due = mvcc.compaction_for(wanted).unwrap();
        let live = mvcc.live_bytes();
        let mut one_less = mvcc.clone();
        apply(&mut mvcc, Request::Compact(due)).unwrap();
        for _ in 0..100 {
            mvcc.sweep();
        }
        mvcc.check();
        assert_eq!(mvcc.live_bytes(), live);
        assert!(mvcc.past_bytes() <= wanted, "{} of {wanted}", mvcc.past_bytes());
        apply(&mut one_less, Request::Compact(Revision(due.0 - 1))).unwrap();
        for _ in 0..100 {
            one_less.sweep();
        }
        assert!(one_less.past_bytes() > wanted, "less would have done");
    }
    assert_eq!(mvcc.compaction_for(0), Some(mvcc.revision()), "there is no more to it");
}

#[test]
fn what_is_malformed_is_refused_before_the_log() {
    let limits = TxnLimits { ops_max: 3 };
    let txn = |success: Vec<Op>| Txn { success, ..Txn::default() };
    let put_op = |key: &str| Op::Put(put(key, ""));
    let delete = |from: &str, to: &str| {
        let range = KeyRange::new(from.as_bytes().into(), to.as_bytes().into());
        Op::DeleteRange(DeleteRange { range, prev_kv: false })
    };
    let nested = |success: Vec<Op>, failure: Vec<Op>| {
        Op::Txn(Txn { success, failure, compares: Vec::new() })
    };
    let many = |count: usize| (0..count).map(|number| put_op(&format!("k{number}"))).collect();
    let duplicate = Err(Refusal::DuplicateKey);
    for (case, (ops, expected)) in [
        (vec![], Ok(())),
        (many(3), Ok(())),
        (many(4), Err(Refusal::TooManyOps)),
        (vec![put_op("a"), nested(many(2), vec![])], Err(Refusal::TooManyOps)),
        (vec![nested(many(2), many(2))], Ok(())),
        (vec![put_op("")], Err(Refusal::KeyEmpty)),
        (vec![put_op("a"), put_op("a")], duplicate),
        (vec![put_op("b"), delete("a", "c")], duplicate),
        (vec![delete("a", "c"), delete("b", "d")], Ok(())),
        (vec![put_op("c"), delete("a", "c")], Ok(())),
        (vec![put_op("a"), nested(vec![put_op("a")], vec![])], duplicate),
        (vec![nested(vec![put_op("a")], vec![put_op("a")])], Ok(())),
        (vec![nested(vec![put_op("a")], vec![delete("a", "")])], Ok(())),
        (vec![nested(vec![delete("a", "")], vec![]), nested(vec![put_op("a")], vec![])], duplicate),
        (vec![put_op("b"), delete("a", "\0")], Ok(())),
        (vec![nested(vec![], vec![put_op("b")]), delete("a", "c")], duplicate),
        (vec![nested(vec![delete("a", "c")], vec![]), put_op("b")], duplicate),
        (vec![nested(vec![put_op("a")], vec![]), nested(vec![], vec![put_op("a")])], duplicate),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(check_txn(&txn(ops), limits), expected, "case {case}");
    }
    let with_value = Put { ignore_value: true, ..put("a", "1") };
    assert_eq!(check_put(&with_value), Err(Refusal::ValueProvided));
    let with_lease = Put { ignore_lease: true, lease: LeaseId(1), ..put("a", "") };
    assert_eq!(check_put(&with_lease), Err(Refusal::LeaseProvided));
    assert_eq!(check_lease_grant(9_000_000_001), Err(Refusal::TtlTooLarge));
}

/// etcd fetches as many keys as the limit allows, and one more, unless there is an order or a filter; those are sorted then.
#[test]
fn without_an_order_only_the_first_keys_are_sorted_by_another_target() {
    let mut mvcc = Mvcc::default();
    for (key, value) in [("a", "3"), ("b", "2"), ("c", "1")] {
        apply(&mut mvcc, Request::Put(put(key, value))).unwrap();
    }
    let first = |order, modified_min| {
        let query = RangeQuery {
            limit: 1,
            order,
            target: SortTarget::Value,
            modified_min,
            ..RangeQuery::of(KeyRange::all())
        };
        let found = mvcc.range(&query).unwrap();
        assert_eq!((found.kvs.len(), found.more, found.count), (1, true, 3));
        found.kvs[0].key.to_vec()
    };
    assert_eq!(first(Order::None, 0), b"b");
    assert_eq!(first(Order::None, 1), b"c", "a filter fetches all");
    assert_eq!(first(Order::Ascend, 0), b"c");
}

/// A transaction that has put a key reads the revision before it as that was.
#[test]
fn a_transaction_reads_the_revision_it_began_at_without_its_own_changes() {
    let mut mvcc = Mvcc::default();
    apply(&mut mvcc, Request::Put(put("a", "1"))).unwrap();
    let at = |revision| {
        Op::Range(RangeQuery { revision: Revision(revision), ..RangeQuery::of(KeyRange::all()) })
    };
    let success = vec![at(2), Op::Put(put("b", "")), at(2), at(0)];
    let txn = Txn { compares: Vec::new(), success, failure: Vec::new() };
    let Ok(Reply::Txn(reply)) = apply(&mut mvcc, Request::Txn(txn)) else {
        panic!("a transaction was asked for")
    };
    let keys = |reply: &OpReply| match reply {
        OpReply::Range { reply, .. } => reply.kvs.len(),
        OpReply::Put { .. } | OpReply::DeleteRange { .. } | OpReply::Txn(_) => 0,
    };
    assert_eq!(reply.replies.iter().map(keys).collect::<Vec<_>>(), [1, 0, 1, 2]);
}

#[test]
fn the_stored_forms_are_fixed() {
    let stored = |asker, request| {
        let mut out = Writer::default();
        Command { asker, request }.encode(&mut out);
        out.finish()
    };
    let kept = Put { lease: LeaseId(-2), prev_kv: true, ..put("k", "v") };
    assert_eq!(stored(Asker::Internal, Request::Put(kept)), [1, 0, 1, 1, 3, 1, b'k', 1, b'v']);
    let asker = Asker::User { name: "u".to_owned(), revision: AuthRevision(300) };
    assert_eq!(stored(asker, Request::Compact(Revision(7))), [1, 2, 1, b'u', 0xac, 2, 4, 7]);
    let mut mvcc = Mvcc::default();
    apply(&mut mvcc, Request::Put(put("k", "v"))).unwrap();
    let mut records = Vec::new();
    mvcc.records(&mut |place, record| records.push((place, record)));
    assert_eq!(records, [((2, 0), vec![0, 2, 0, 1, b'k', 2, 1, 0, 1, b'v'])]);
}
