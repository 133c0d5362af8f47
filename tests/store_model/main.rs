//! Random programs, run by the store and by a naive model of it.
//!
//! `PROPTEST_CASES=100000 cargo test --test store_model` runs more of them. A failure prints the smallest program that
//! still fails; its seed goes to `main.seeds` beside this file and is run first from then on.

mod model;
mod seen;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use cairn::model::{KeyPath, LogTime, MemberId, StoreIndex, Ttl};
use cairn::store::{
    Applied, Changes, Command, Condition, Filter, Found, HistoryLimits, MembersRevision, Scan,
    Store, Write,
};

use model::{Model, Names, sees, text};
use seen::{Records, answer_of, counts_of, entries_of, entry_of, happened_of, history_of};

/// A command whose details depend on what is there when it runs.
#[derive(Clone, Debug)]
enum Op {
    Set,
    Create,
    Post,
    Update,
    Swap,
    Delete {
        dir: bool,
        recursive: bool,
    },
    DeleteIf,
    Tick(Option<u64>),
    /// A set of the name that the next in-order key will want.
    TakeName,
    Member(u8, u8),
    Version(u8),
    Checkpoint,
    Reload,
}

#[derive(Clone, Debug)]
struct Step {
    ahead_ms: i64,
    op: Op,
    path: Names,
    value: Vec<u8>,
    dir: bool,
    ttl: Option<u64>,
    refresh: bool,
    /// How close to the truth a condition is: none, right, wrong for the value; the same for the index.
    guess: (u8, u8),
    /// What a watcher looks at after the step.
    watched: Names,
    recursive: bool,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(b"a".to_vec()),
        4 => Just(b"b".to_vec()),
        2 => Just(b"ab".to_vec()),
        2 => Just(b"_h".to_vec()),
        1 => Just(b"a.".to_vec()),
        1 => Just(vec![0xff, 0]),
    ]
}

fn path() -> impl Strategy<Value = Names> {
    prop_oneof![
        1 => Just(vec![]),
        24 => prop::collection::vec(name(), 1..=2),
        10 => prop::collection::vec(name(), 3..=4),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => Just(Op::Set),
        6 => Just(Op::Create),
        3 => Just(Op::Post),
        6 => Just(Op::Update),
        6 => Just(Op::Swap),
        6 => any::<(bool, bool)>().prop_map(|(dir, recursive)| Op::Delete { dir, recursive }),
        4 => Just(Op::DeleteIf),
        3 => Just(Op::Tick(None)),
        6 => (0..5u64).prop_map(|nodes_max| Op::Tick(Some(nodes_max))),
        1 => Just(Op::TakeName),
        2 => (0..4u8, 1..4u8).prop_map(|(what, who)| Op::Member(what, who)),
        1 => (1..5u8).prop_map(Op::Version),
        2 => Just(Op::Checkpoint),
        1 => Just(Op::Reload),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let value =
        prop_oneof![Just(vec![]), Just(b"1".to_vec()), Just(b"2".to_vec()), Just(vec![0xfe])];
    let ahead_ms = prop_oneof![6 => Just(0), 6 => 0..1500i64, 3 => Just(1000), 1 => -3000..0i64];
    let ttl = prop_oneof![3 => Just(None), 4 => (0..5u64).prop_map(Some)];
    let flags = (proptest::bool::weighted(0.25), proptest::bool::weighted(0.2), any::<bool>());
    (ahead_ms, op(), path(), value, ttl, flags, (0..3u8, 0..3u8), path()).prop_map(
        |(ahead_ms, op, path, value, ttl, (dir, refresh, recursive), guess, watched)| Step {
            ahead_ms,
            op,
            path,
            value,
            dir,
            ttl,
            refresh,
            guess,
            watched,
            recursive,
        },
    )
}

fn key(path: &[Vec<u8>]) -> KeyPath {
    KeyPath::clean(&text(path))
}

impl Step {
    fn command(&self, model: &Model) -> Option<Command> {
        let path = key(&self.path);
        let refresh = self.refresh;
        let write = Write {
            // The edge lets no refresh through that has a value, or none that has no ttl.
            value: if refresh { vec![] } else { self.value.clone() }.into(),
            dir: self.dir,
            ttl: if refresh { self.ttl.or(Some(3)) } else { self.ttl }.and_then(Ttl::from_s),
            refresh,
        };
        let there = model.entries.get(&self.path);
        let right_value = there.and_then(|entry| entry.value.clone()).unwrap_or(b"1".to_vec());
        let right_index = there.map_or(1, |entry| entry.modified);
        let mut condition = Condition {
            value: [None, Some(right_value), Some(b"wrong\n".to_vec())][usize::from(self.guess.0)]
                .clone()
                .map(Into::into),
            index: StoreIndex([0, right_index, right_index + 1][usize::from(self.guess.1)]),
        };
        if condition.value.is_none() && condition.index == StoreIndex(0) {
            condition.index = StoreIndex(right_index);
        }
        let urls = vec![format!("http://{}", self.value.len() % 4)];
        Some(match self.op {
            Op::Set => Command::Set { path, write },
            Op::Create => Command::Create { path, write },
            Op::Post => Command::CreateInOrder { dir: path, write },
            Op::Update => Command::Update { path, write },
            Op::Swap => Command::CompareAndSwap { path, write, condition },
            Op::Delete { dir, recursive } => Command::Delete { path, dir, recursive },
            Op::DeleteIf => Command::CompareAndDelete { path, condition },
            Op::Tick(nodes_max) => Command::Tick { nodes_max },
            Op::TakeName => {
                let name = format!("{:020}", model.index + 2);
                Command::Set { path: path.child(name.as_bytes()), write }
            }
            Op::Member(what, who) => {
                let id = MemberId(who.into());
                // Right, one behind, or not checked at all.
                let behind = self.value.len() as u64 % 3;
                let seen = model.joined_and_left().checked_sub(behind);
                let checked = seen.filter(|_| behind < 2).map(MembersRevision);
                match what {
                    0 => Command::AddMember { id, peer_urls: urls, checked },
                    1 => Command::UpdateMember { id, peer_urls: urls },
                    2 => Command::PublishMember { id, name: "one".into(), client_urls: urls },
                    _ => Command::RemoveMember { id, checked },
                }
            }
            Op::Version(minor) => Command::SetClusterVersion { version: format!("3.{minor}.0") },
            Op::Checkpoint | Op::Reload => return None,
        })
    }
}

/// What the model says of the whole store.
fn agree(store: &Store, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(store.index().0, model.index);
    prop_assert_eq!(store.now().0, model.now);
    prop_assert_eq!(&entries_of(store), &model.entries);
    prop_assert_eq!(&counts_of(store), &model.counts);
    let soonest = model.entries.values().filter_map(|entry| entry.dies).min();
    prop_assert_eq!(store.next_deadline().map(|at| at.0), soonest);
    prop_assert_eq!(store.history().oldest().0, model.oldest());
    prop_assert_eq!(store.history().next().0, model.index + 1);
    let kept = model.weights.range(model.oldest()..).map(|(_, weight)| weight);
    prop_assert_eq!(store.history().bytes(), kept.sum::<usize>());
    prop_assert_eq!(store.members().version(), model.version.as_deref());
    let members: BTreeMap<_, _> = store
        .members()
        .iter()
        .map(|(id, it)| (id.0, (it.name.clone(), it.peer_urls.clone(), it.client_urls.clone())))
        .collect();
    prop_assert_eq!(&members, &model.members);
    for id in 0..5 {
        prop_assert_eq!(
            store.members().was_removed(MemberId(id)),
            model.members_gone.contains(&id)
        );
    }
    Ok(())
}

/// One look at one key: the node or the refusal, and the visible children.
fn agree_on(store: &Store, model: &Model, path: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let reply = store.get(&key(path));
    prop_assert_eq!(reply.index.0, model.index);
    match (reply.outcome, model.look(path)) {
        (Ok(node), Ok(entry)) => {
            if let Some(entry) = entry {
                prop_assert_eq!(&entry_of(node), entry);
            }
            let listed: Vec<_> = node.visible_children().map(|(name, _)| name.to_vec()).collect();
            let visible: BTreeSet<_> = model
                .below(path)
                .into_iter()
                .filter(|child| child.len() == path.len() + 1)
                .filter_map(|child| child.last().cloned())
                .filter(|name| !name.starts_with(b"_"))
                .collect();
            prop_assert_eq!(listed, visible.into_iter().collect::<Vec<_>>());
        }
        (Err(refusal), Err((code, cause))) => {
            prop_assert_eq!((refusal.row().0, refusal.cause().to_vec()), (code, cause));
        }
        (found, wanted) => prop_assert!(false, "found {found:?}, wanted {wanted:?}"),
    }
    Ok(())
}

fn agree_on_history(
    store: &Store,
    model: &Model,
    from: u64,
    path: &[Vec<u8>],
    recursive: bool,
) -> Result<(), TestCaseError> {
    let filter = Filter { path: key(path), recursive };
    let found = store.history().find(Scan { from: StoreIndex(from), filter: &filter });
    match (found, model.search(from, path, recursive)) {
        (Ok(Found::Event(event)), Ok(Some(index))) => prop_assert_eq!(event.index.0, index),
        (Ok(Found::NoneBefore(next)), Ok(None)) => {
            prop_assert_eq!(next.0, from.max(model.index + 1));
        }
        (Err(refusal), Err((code, cause))) => {
            prop_assert_eq!((refusal.row().0, refusal.cause().to_vec()), (code, cause));
        }
        (found, wanted) => {
            prop_assert!(false, "{filter:?} from {from}: found {found:?}, wanted {wanted:?}");
        }
    }
    Ok(())
}

fn run(steps: &[Step], limits: HistoryLimits) -> Result<(), TestCaseError> {
    let mut store = Store::new(limits);
    let mut twin = Store::new(limits);
    let mut model = Model {
        events_max: limits.events_max as u64,
        bytes_max: limits.bytes_max,
        ..Model::default()
    };
    let mut clock = 1_000_000i64;
    let mut checkpoint = (Changes::default(), Records::default());
    let mut snapshots = Vec::new();
    for step in steps {
        let Some(command) = step.command(&model) else {
            let (changes, records) = &mut checkpoint;
            records.update(changes, &store);
            prop_assert_eq!(&*records, &Records::of(&store));
            *changes = Changes::since(store.index());
            if matches!(step.op, Op::Reload) {
                let loaded = records.load(&store, limits);
                loaded.check();
                prop_assert_eq!(loaded.digest(), store.digest());
                prop_assert_eq!(history_of(&loaded), history_of(&store));
                prop_assert_eq!(loaded.history().bytes(), store.history().bytes());
                prop_assert_eq!(loaded.header(), store.header());
                store = loaded;
                agree(&store, &model)?;
            } else {
                snapshots.push((store.clone(), store.digest(), model.clone()));
            }
            continue;
        };
        clock += step.ahead_ms * 1_000_000;
        let at = clock.unsigned_abs();
        let before = store.clone();
        let applied = store.apply(LogTime(at), &command);
        applied.events().iter().for_each(|event| checkpoint.0.note(event));
        twin.apply(LogTime(at), &command);
        let wanted = model.apply(at, &command);
        prop_assert_eq!(answer_of(&applied), wanted, "{:?}", command);
        model.weights.extend(applied.events().iter().map(|event| (event.index.0, event.weight())));
        store.check();
        agree(&store, &model)?;
        agree_on(&store, &model, &step.path)?;
        agree_on(&store, &model, &step.watched)?;
        if matches!(applied, Applied::Refused(_)) {
            prop_assert_eq!(entries_of(&before), entries_of(&store));
            prop_assert_eq!(history_of(&before), history_of(&store));
            prop_assert_eq!(Records::of(&before), Records::of(&store));
        }
        for event in applied.events() {
            let filter = Filter { path: key(&step.watched), recursive: step.recursive };
            prop_assert_eq!(
                filter.sees(event),
                sees(&step.watched, step.recursive, &happened_of(event)),
                "{:?} {:?}",
                filter,
                event
            );
        }
    }
    prop_assert_eq!(store.digest(), twin.digest(), "the same program, the same store");
    prop_assert_eq!(store.header(), twin.header());
    prop_assert_eq!(history_of(&store), history_of(&twin));
    for (snapshot, digest, model) in &snapshots {
        prop_assert_eq!(snapshot.digest(), *digest, "a clone does not change");
        agree(snapshot, model)?;
    }
    // Few filters and all indexes: the filters vary from case to case.
    for step in steps.iter().rev().take(4) {
        for path in [&step.watched, &step.path] {
            for from in 0..=model.index + 2 {
                agree_on_history(&store, &model, from, path, step.recursive)?;
            }
        }
    }
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..default
    }
}

proptest! {
    #![proptest_config(config(5000))]

    #[test]
    fn store_and_model_agree_on_every_step_of_a_program(
        steps in prop::collection::vec(step(), 1..40),
        events_max in prop_oneof![Just(1usize), Just(5), Just(20), Just(1000)],
        bytes_max in prop_oneof![Just(0usize), 0..3000usize, Just(usize::MAX)],
    ) {
        run(&steps, HistoryLimits { events_max, bytes_max })?;
    }
}

/// Directories of more than one leaf of the map, so that differences have something to skip.
#[derive(Clone, Debug)]
enum Churn {
    Put(u16),
    Drop(u16),
    Range(u16, u16),
    Checkpoint,
}

fn churn() -> impl Strategy<Value = Churn> {
    prop_oneof![
        6 => (0..400u16).prop_map(Churn::Put),
        6 => (0..400u16).prop_map(Churn::Drop),
        1 => (0..400u16, 0..150u16).prop_map(|(from, count)| Churn::Range(from, count)),
        3 => Just(Churn::Checkpoint),
    ]
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_checkpoint_of_a_large_directory_is_what_changed_exactly(
        start in 0..400u16,
        churn in prop::collection::vec(churn(), 1..60),
    ) {
        let limits = HistoryLimits { events_max: 1, bytes_max: usize::MAX };
        let mut store = Store::new(limits);
        let path = |n: u16| KeyPath::from(format!("/d/{n}").as_str());
        let put = |store: &mut Store, n: u16| {
            let value = store.index().0.to_string().into_bytes().into();
            let write = Write { value, dir: false, ttl: None, refresh: false };
            store.apply(LogTime(1), &Command::Set { path: path(n), write })
        };
        for n in 0..start {
            put(&mut store, n);
        }
        let mut changes = Changes::since(store.index());
        let mut records = Records::of(&store);
        for step in churn.into_iter().chain([Churn::Checkpoint]) {
            let applied = match step {
                Churn::Put(n) => vec![put(&mut store, n)],
                Churn::Drop(n) => {
                    let command = Command::Delete { path: path(n), dir: false, recursive: false };
                    vec![store.apply(LogTime(1), &command)]
                }
                Churn::Range(from, count) => {
                    (from..from + count).map(|n| put(&mut store, n)).collect()
                }
                Churn::Checkpoint => {
                    records.update(&changes, &store);
                    prop_assert_eq!(&records, &Records::of(&store));
                    changes = Changes::since(store.index());
                    Vec::new()
                }
            };
            applied.iter().flat_map(Applied::events).for_each(|event| changes.note(event));
        }
    }
}
