//! A key space that keeps all of its revisions whole.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use proptest::prelude::*;

use super::{NOW, reloaded};
use crate::model::{LogTime, Reader, Value, Writer};
use crate::mvcc::*;

type State = BTreeMap<Vec<u8>, KeyValue>;

/// What stood there after each revision, from the first on, and what each changed.
struct Model {
    states: Vec<State>,
    changes: Vec<Vec<(KeyValue, Option<KeyValue>)>>,
    /// Each with the last end that was recorded, and whether that stands.
    leases: BTreeMap<i64, (u64, bool)>,
    compacted: Option<u64>,
    /// What the last request that was done answers, its nested transactions opened out.
    replies: Vec<OpReply>,
}

impl Model {
    fn new() -> Self {
        // Nothing before, and the first revision.
        let states = vec![State::new(), State::new()];
        let changes = vec![Vec::new(), Vec::new()];
        Self { states, changes, leases: BTreeMap::new(), compacted: None, replies: Vec::new() }
    }

    fn revision(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    fn compare(&self, compare: &Compare) -> bool {
        let found: Vec<_> =
            self.now().values().filter(|kv| compare.range.contains(&kv.key)).collect();
        let test = |kv: Option<&&KeyValue>| {
            let order = match &compare.target {
                CompareTarget::Version(given) => kv.map_or(0, |kv| kv.version as i64).cmp(given),
                CompareTarget::Created(given) => kv.map_or(0, |kv| kv.created.0 as i64).cmp(given),
                CompareTarget::Modified(given) => {
                    kv.map_or(0, |kv| kv.modified.0 as i64).cmp(given)
                }
                CompareTarget::Lease(given) => kv.map_or(0, |kv| kv.lease.0).cmp(given),
                CompareTarget::Value(given) => match kv {
                    Some(kv) => kv.value.cmp(given),
                    None => return false,
                },
            };
            match compare.relation {
                Relation::Equal => order.is_eq(),
                Relation::NotEqual => order.is_ne(),
                Relation::Greater => order.is_gt(),
                Relation::Less => order.is_lt(),
            }
        };
        if found.is_empty() { test(None) } else { found.iter().all(|kv| test(Some(kv))) }
    }

    /// The branch with all that is inside, in order; whether each may be done.
    fn flatten<'a>(&self, txn: &'a Txn, out: &mut Vec<&'a Op>) {
        let branch = if txn.compares.iter().all(|compare| self.compare(compare)) {
            &txn.success
        } else {
            &txn.failure
        };
        for op in branch {
            match op {
                Op::Txn(txn) => self.flatten(txn, out),
                Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => out.push(op),
            }
        }
    }

    fn may(&self, op: &Op) -> bool {
        match op {
            Op::Put(put) => {
                let ignores = put.ignore_value || put.ignore_lease;
                (put.lease.0 == 0 || self.leases.contains_key(&put.lease.0))
                    && (!ignores || self.now().contains_key(&*put.key))
            }
            Op::Range(query) => {
                query.revision.0 <= self.revision()
                    && (query.revision.0 == 0 || query.revision.0 >= self.compacted.unwrap_or(0))
            }
            Op::DeleteRange(_) | Op::Txn(_) => true,
        }
    }

    /// Does all of it at once, if it may.
    fn run(&mut self, ops: &[&Op]) -> bool {
        if !ops.iter().all(|op| self.may(op)) {
            return false;
        }
        let (mut state, mut changes) = (self.now().clone(), Vec::new());
        let main = Revision(self.revision() + 1);
        self.replies.clear();
        for op in ops {
            let shown = |prev: &Option<KeyValue>, is_asked: bool| {
                prev.clone().filter(|_| is_asked).map(Arc::new)
            };
            let reply = match op {
                Op::Put(put) => {
                    let prev = state.get(&*put.key).cloned();
                    let mut kv = KeyValue {
                        key: put.key.clone(),
                        value: put.value.clone(),
                        created: prev.as_ref().map_or(main, |prev| prev.created),
                        modified: main,
                        version: prev.as_ref().map_or(1, |prev| prev.version + 1),
                        lease: put.lease,
                        sub: changes.len().try_into().expect("few changes in one revision"),
                    };
                    if let Some(prev) = &prev {
                        if put.ignore_value {
                            kv.value = prev.value.clone();
                        }
                        if put.ignore_lease {
                            kv.lease = prev.lease;
                        }
                    }
                    state.insert(put.key.to_vec(), kv.clone());
                    let reply = OpReply::Put { revision: main, prev: shown(&prev, put.prev_kv) };
                    changes.push((kv, prev));
                    reply
                }
                Op::DeleteRange(delete) => {
                    let keys: Vec<_> =
                        state.keys().filter(|key| delete.range.contains(key)).cloned().collect();
                    let (deleted, first) = (keys.len() as u64, changes.len());
                    for key in keys {
                        delete_key(&mut state, &key, main, &mut changes);
                    }
                    let gone = changes[first..].iter();
                    let prev_kvs =
                        gone.filter_map(|(_, prev)| shown(prev, delete.prev_kv)).collect();
                    let revision = self.revision_with(&changes);
                    OpReply::DeleteRange { revision, deleted, prev_kvs }
                }
                Op::Range(query) => {
                    let then = match query.revision.0 {
                        0 => &state,
                        revision => &self.states[usize::try_from(revision).unwrap()],
                    };
                    let all = then.values().filter(|kv| query.range.contains(&kv.key));
                    let reply = selected(query, all.cloned().map(Arc::new).collect());
                    OpReply::Range { revision: self.revision_with(&changes), reply }
                }
                Op::Txn(_) => unreachable!("opened out"),
            };
            self.replies.push(reply);
        }
        self.push(state, changes);
        true
    }

    /// The revision of a request that has changed this so far.
    fn revision_with(&self, changes: &[(KeyValue, Option<KeyValue>)]) -> Revision {
        Revision(self.revision() + u64::from(!changes.is_empty()))
    }

    fn push(&mut self, state: State, changes: Vec<(KeyValue, Option<KeyValue>)>) {
        if !changes.is_empty() {
            self.states.push(state);
            self.changes.push(changes);
        }
    }

    /// Was the request accepted?
    fn apply(&mut self, request: &Request) -> bool {
        match request {
            Request::Put(put) => self.run(&[&Op::Put(put.clone())]),
            Request::DeleteRange(delete) => self.run(&[&Op::DeleteRange(delete.clone())]),
            Request::Txn(txn) => {
                let mut ops = Vec::new();
                self.flatten(txn, &mut ops);
                self.run(&ops)
            }
            Request::Compact(revision) => {
                let ok = revision.0 <= self.revision()
                    && self.compacted.is_none_or(|compacted| revision.0 > compacted);
                if ok {
                    self.compacted = Some(revision.0);
                }
                ok
            }
            Request::LeaseGrant { id, .. } => match self.leases.entry(id.0) {
                Entry::Vacant(entry) => {
                    entry.insert((0, false));
                    true
                }
                Entry::Occupied(_) => false,
            },
            Request::LeaseCheckpoint(ends) => {
                for (id, end) in ends {
                    if let Some(known) = self.leases.get_mut(&id.0).filter(|it| end.0 > it.0) {
                        *known = (end.0, true);
                    }
                }
                true
            }
            Request::LeaseKeepAlive { id, end } => match self.leases.get_mut(&id.0) {
                Some(known) if end.0 >= known.0 => {
                    *known = (end.0, false);
                    true
                }
                known => known.is_some(),
            },
            Request::LeaseRevoke(id) => {
                if self.leases.remove(&id.0).is_none() {
                    return false;
                }
                let (mut state, mut changes) = (self.now().clone(), Vec::new());
                let main = Revision(self.revision() + 1);
                let held = state.values().filter(|kv| kv.lease == *id);
                let keys: Vec<_> = held.map(|kv| kv.key.to_vec()).collect();
                for key in keys {
                    delete_key(&mut state, &key, main, &mut changes);
                }
                self.push(state, changes);
                true
            }
            Request::Alarm(_) | Request::Auth(_) => unreachable!("not made up here"),
        }
    }
}

fn delete_key(
    state: &mut State,
    key: &[u8],
    main: Revision,
    changes: &mut Vec<(KeyValue, Option<KeyValue>)>,
) {
    let prev = state.remove(key);
    let kv = KeyValue {
        key: key.into(),
        value: Value::default(),
        created: Revision(0),
        modified: main,
        version: 0,
        lease: LeaseId(0),
        sub: changes.len().try_into().expect("few changes in one revision"),
    };
    changes.push((kv, prev));
}

fn keys() -> impl Strategy<Value = Value> {
    "[ab]{1,2}".prop_map(|key| Value::from(key.as_bytes()))
}

fn ranges() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => keys().prop_map(KeyRange::Single),
        3 => (keys(), keys()).prop_map(|(from, to)| KeyRange::Between(from, to)),
        1 => keys().prop_map(KeyRange::From),
    ]
}

fn puts() -> impl Strategy<Value = Put> {
    (keys(), "[xy]?", 0i64..4, any::<bool>(), 0u8..10).prop_map(
        |(key, value, lease, prev_kv, ignore)| {
            let (ignore_value, ignore_lease) = (ignore == 0, ignore == 1);
            let value = if ignore_value { Value::default() } else { value.as_bytes().into() };
            let lease = LeaseId(if ignore_lease || lease == 3 { 0 } else { lease });
            Put { key, value, lease, prev_kv, ignore_value, ignore_lease }
        },
    )
}

fn queries() -> impl Strategy<Value = RangeQuery> {
    let order = prop_oneof![Just(Order::None), Just(Order::Ascend), Just(Order::Descend)];
    let target = prop_oneof![
        Just(SortTarget::Key),
        Just(SortTarget::Version),
        Just(SortTarget::Created),
        Just(SortTarget::Modified),
        Just(SortTarget::Value),
    ];
    let filters = prop::array::uniform4(prop_oneof![4 => Just(0i64), 1 => 1i64..20]);
    (ranges(), 0u64..4, 0u64..30, order, target, any::<[bool; 3]>(), filters).prop_map(
        |(range, limit, revision, order, target, flags, filters)| RangeQuery {
            range,
            limit,
            revision: Revision(revision.saturating_sub(10)),
            order,
            target,
            serializable: flags[0],
            keys_only: flags[1],
            count_only: flags[2],
            modified_min: filters[0],
            modified_max: filters[1],
            created_min: filters[2],
            created_max: filters[3],
        },
    )
}

fn compares() -> impl Strategy<Value = Compare> {
    let relation = prop_oneof![
        Just(Relation::Equal),
        Just(Relation::Greater),
        Just(Relation::Less),
        Just(Relation::NotEqual),
    ];
    let target = (0u8..5, 0i64..4, "[xy]?").prop_map(|(which, number, value)| match which {
        0 => CompareTarget::Version(number),
        1 => CompareTarget::Created(number),
        2 => CompareTarget::Modified(number),
        3 => CompareTarget::Lease(number),
        _ => CompareTarget::Value(value.as_bytes().into()),
    });
    (ranges(), relation, target).prop_map(|(range, relation, target)| Compare {
        range,
        relation,
        target,
    })
}

fn txns() -> impl Strategy<Value = Txn> {
    let simple = prop_oneof![
        3 => puts().prop_map(Op::Put),
        2 => ranges().prop_map(|range| Op::DeleteRange(DeleteRange { range, prev_kv: true })),
        1 => queries().prop_map(Op::Range),
    ];
    let ops = simple.prop_recursive(2, 12, 3, |inner| {
        let branch = || prop::collection::vec(inner.clone(), 0..3);
        (prop::collection::vec(compares(), 0..2), branch(), branch())
            .prop_map(|(compares, success, failure)| Op::Txn(Txn { compares, success, failure }))
    });
    let branch = || prop::collection::vec(ops.clone(), 0..4);
    (prop::collection::vec(compares(), 0..2), branch(), branch())
        .prop_map(|(compares, success, failure)| Txn { compares, success, failure })
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        6 => puts().prop_map(Request::Put),
        2 => (ranges(), any::<bool>())
            .prop_map(|(range, prev_kv)| Request::DeleteRange(DeleteRange { range, prev_kv })),
        4 => txns().prop_map(Request::Txn),
        1 => (0u64..25).prop_map(|revision| Request::Compact(Revision(revision))),
        1 => (1i64..3, 1i64..9)
            .prop_map(|(id, ttl_s)| Request::LeaseGrant { id: LeaseId(id), ttl_s }),
        1 => (1i64..3).prop_map(|id| Request::LeaseRevoke(LeaseId(id))),
        1 => prop::collection::vec((1i64..4, 1u64..9), 0..3).prop_map(|ends| {
            let end = |(id, end)| (LeaseId(id), LogTime(end));
            Request::LeaseCheckpoint(ends.into_iter().map(end).collect())
        }),
        1 => (1i64..4, 1u64..9)
            .prop_map(|(id, end)| Request::LeaseKeepAlive { id: LeaseId(id), end: LogTime(end) }),
    ]
}

fn commands() -> impl Strategy<Value = Command> {
    let asker = prop_oneof![
        Just(Asker::Internal),
        Just(Asker::Nobody),
        (".{0,3}", any::<u64>())
            .prop_map(|(name, revision)| Asker::User { name, revision: AuthRevision(revision) }),
    ];
    (asker, requests()).prop_map(|(asker, request)| Command { asker, request })
}

/// What a query shows of all keys of its range: filters come before the order, and the order before the limit.
fn selected(query: &RangeQuery, all: Vec<Arc<KeyValue>>) -> RangeReply {
    let (count, mut kvs) = (all.len() as u64, all);
    if query.count_only {
        return RangeReply { kvs: Vec::new(), more: false, count };
    }
    kvs.retain(|kv| {
        let (modified, created) = (kv.modified.0 as i64, kv.created.0 as i64);
        (query.modified_min == 0 || modified >= query.modified_min)
            && (query.modified_max == 0 || modified <= query.modified_max)
            && (query.created_min == 0 || created >= query.created_min)
            && (query.created_max == 0 || created <= query.created_max)
    });
    let limit = usize::try_from(query.limit).unwrap();
    let filters = [query.modified_min, query.modified_max, query.created_min, query.created_max];
    // As in etcd, which has fetched no more keys by then.
    if limit > 0 && query.order == Order::None && filters == [0; 4] {
        kvs.truncate(limit + 1);
    }
    kvs.sort_by(|one, other| {
        let order = match query.target {
            SortTarget::Key => one.key.cmp(&other.key),
            SortTarget::Version => one.version.cmp(&other.version),
            SortTarget::Created => one.created.cmp(&other.created),
            SortTarget::Modified => one.modified.cmp(&other.modified),
            SortTarget::Value => one.value.cmp(&other.value),
        };
        if query.order == Order::Descend { order.reverse() } else { order }
    });
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    RangeReply { kvs, more, count }
}

/// Half of the ranges of the past move to the present revision and the ones around it, where what a transaction changes itself shows.
fn move_to_present(txn: &mut Txn, now: u64) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match op {
            Op::Range(query) if query.revision.0 % 2 == 1 => {
                query.revision.0 = (now + 1).saturating_sub(query.revision.0 / 2 % 4);
            }
            Op::Txn(inside) => move_to_present(inside, now),
            Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => {}
        }
    }
}

/// The replies of a transaction, those of its nested ones in their places.
fn opened_out(reply: TxnReply) -> Vec<OpReply> {
    let open = |reply| match reply {
        OpReply::Txn(inside) => opened_out(inside),
        reply @ (OpReply::Range { .. } | OpReply::Put { .. } | OpReply::DeleteRange { .. }) => {
            vec![reply]
        }
    };
    reply.replies.into_iter().flat_map(open).collect()
}

/// All that can be seen of a key space is what the model holds.
fn agree(mvcc: &Mvcc, model: &Model) -> Result<(), TestCaseError> {
    mvcc.check();
    prop_assert_eq!(mvcc.revision().0, model.revision());
    let leases = mvcc.leases().map(|(id, lease)| match lease.deadline() {
        Deadline::Recorded(end) => (id.0, (end.0, true)),
        Deadline::Lifted(end) => (id.0, (end.0, false)),
    });
    prop_assert_eq!(leases.collect::<BTreeMap<_, _>>(), model.leases.clone());
    let first = model.compacted.unwrap_or(1).max(1);
    for revision in 1..=model.revision() + 1 {
        let at = Revision(revision);
        for range in [KeyRange::all(), KeyRange::Between(b"aa"[..].into(), b"b"[..].into())] {
            let found = mvcc.range(&RangeQuery { revision: at, ..RangeQuery::of(range.clone()) });
            if revision > model.revision() {
                prop_assert_eq!(found, Err(Refusal::FutureRevision));
            } else if revision < first {
                prop_assert_eq!(found, Err(Refusal::Compacted));
            } else {
                let state = &model.states[usize::try_from(revision).unwrap()];
                let there: Vec<_> =
                    state.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
                let found: Vec<_> =
                    found.unwrap().kvs.iter().map(|kv| KeyValue::clone(kv)).collect();
                prop_assert_eq!(found, there, "at {}", revision);
            }
        }
        if revision < first {
            prop_assert!(mvcc.changes_since(at).is_err());
            continue;
        }
        let mut expected = Vec::new();
        for changes in model.changes.iter().skip(usize::try_from(revision).unwrap()) {
            for (kv, prev) in changes {
                let is_last = Some(kv.modified.0) == model.compacted;
                let state = &model.states[usize::try_from(kv.modified.0).unwrap()];
                // Of a compacted revision stays what stood there after it.
                if !is_last || state.get(&*kv.key) == Some(kv) {
                    expected.push((kv.clone(), prev.clone().filter(|_| !is_last)));
                }
            }
        }
        let found = mvcc.changes_since(at).unwrap();
        let found: Vec<_> = found
            .map(|change| {
                (KeyValue::clone(&change.kv), change.prev.map(|prev| KeyValue::clone(&prev)))
            })
            .collect();
        prop_assert_eq!(found, expected, "since {}", revision);
    }
    Ok(())
}

/// Many short programs: what is rare, such as a range that names the very revision its transaction began at, is met in some of them.
fn many() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 4_000 };
    ProptestConfig { cases, ..default }
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn every_revision_is_what_a_model_says(requests in prop::collection::vec(requests(), 0..30)) {
        let (mut mvcc, mut model) = (Mvcc::default(), Model::new());
        for mut request in requests {
            if let Request::Txn(txn) = &mut request {
                move_to_present(txn, model.revision());
                if check_txn(txn, TxnLimits { ops_max: 16 }).is_err() {
                    continue;
                }
            }
            let before = mvcc.clone();
            let applied = mvcc.apply(NOW, &Command::internal(request.clone()));
            prop_assert_eq!(applied.reply.is_ok(), model.apply(&request), "{:?}", request);
            prop_assert_eq!(applied.revision, mvcc.revision());
            if let Ok(Reply::Txn(reply)) = applied.reply {
                prop_assert_eq!(opened_out(reply), model.replies.clone(), "{:?}", request);
            }
            let grown = mvcc.revision() > before.revision();
            prop_assert_eq!(grown, !applied.changes.is_empty());
            if grown {
                let expected = model.changes.last().unwrap();
                prop_assert_eq!(applied.changes.len(), expected.len());
                for (change, (kv, prev)) in applied.changes.iter().zip(expected) {
                    prop_assert_eq!(&*change.kv, kv);
                    prop_assert_eq!(change.prev.as_deref(), prev.as_ref());
                }
            }
        }
        agree(&mvcc, &model)?;
        let again = reloaded(&mvcc);
        agree(&again, &model)?;
        prop_assert_eq!(again.digest(0), mvcc.digest(0));
        for revision in 0..=model.revision() + 1 {
            prop_assert_eq!(again.hash(Revision(revision)), mvcc.hash(Revision(revision)));
        }
        // Written in two parts, as checkpoints do.
        for half in 1..=model.revision() {
            let (mut all, mut late) = (Vec::new(), Vec::new());
            mvcc.records(&mut |place, record| all.push((place, record)));
            mvcc.records_since(Revision(half), &[], &mut |place, record| late.push((place, record)));
            all.retain(|((main, _), _)| *main > half);
            prop_assert_eq!(all, late);
        }
    }
}

proptest! {
    #[test]
    fn filters_come_before_the_order_and_the_order_before_the_limit(
        requests in prop::collection::vec(requests(), 0..20),
        query in queries(),
    ) {
        let mut mvcc = Mvcc::default();
        for request in requests {
            mvcc.apply(NOW, &Command::internal(request));
        }
        let plain = RangeQuery { revision: query.revision, ..RangeQuery::of(query.range.clone()) };
        let (found, all) = match (mvcc.range(&query), mvcc.range(&plain)) {
            (Ok(found), Ok(all)) => (found, all),
            (found, all) => {
                prop_assert_eq!(found, all);
                return Ok(());
            }
        };
        prop_assert_eq!(found, selected(&query, all.kvs));
    }

    #[test]
    fn commands_survive_their_encoding(command in commands()) {
        let mut out = Writer::default();
        command.encode(&mut out);
        let bytes = out.finish();
        let mut input = Reader::new(&bytes);
        prop_assert_eq!(Command::decode(&mut input).unwrap(), command);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn random_bytes_are_refused_or_read_but_never_panic(
        bytes in any::<Vec<u8>>(),
        kinds in (0u8..3, 0u8..10),
    ) {
        let _ = Command::decode(&mut Reader::new(&[&[1, kinds.0, kinds.1], &bytes[..]].concat()));
        let _ = Position::decode(&mut Reader::new(&bytes));
        if let Ok(mut loader) = Loader::new(&mut Reader::new(&bytes)) {
            let _ = loader.record(&bytes);
            let _ = loader.finish();
        }
    }
}
