//! openraft's own suite on our log and state machine, and members that lose power.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader, StorageError};

use super::adapter::types::{Entry, Origin, Proposal, Types};
use super::clock::LogClock;
use super::requests::tickets::Tickets;
use super::storage::checkpoint::Checkpoints;
use super::storage::encoding;
use super::storage::log::Log;
use super::storage::machine::{Listeners, Machine, Observer, View};
use super::storage::state::State;
use super::{Meter, Raft, RaftOptions, Role};
use crate::disk::{
    CrashFiles, Fault, Files, IoMode, LogOwner, PrepareSpare, RealFiles, Survival, Tables, Wal,
    WalError, WalObserver, WalOptions,
};
use crate::model::{Clock, ClusterId, KeyPath, LogTime, MemberId, Random, StoreIndex, WallTime};
use crate::store::{Command, Event, HistoryLimits, Write};
use crate::transport::{self, Dial, Stream, Transport};

struct Quiet;

impl WalObserver for Quiet {
    fn written(&self, _bytes: usize) {}
    fn synced(&self, _took: Duration) {}
    fn failed(&self, _error: &WalError) {}
}

impl Meter for Quiet {}

impl Observer for Quiet {
    fn published(&self, _view: &Arc<View>, _events: &[Arc<Event>]) {}
    fn answered(&self) {}
    fn replaced(&self, _view: &Arc<View>) {}
}

impl Clock for Quiet {
    fn wall(&self) -> WallTime {
        WallTime(1000)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

impl Random for Quiet {
    fn next(&self) -> u64 {
        1
    }
}

impl Dial for Quiet {
    fn dial<'a>(&'a self, _url: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
    }
}

fn transport() -> Arc<Transport> {
    let (name, peer_urls) = ("m".to_owned(), Vec::new());
    let identity = transport::LocalPeer { cluster: CLUSTER, member: ME, name, peer_urls };
    Arc::new(Transport::new(identity, Arc::new(Quiet), Duration::from_secs(1), Arc::default()))
}

const LIMITS: HistoryLimits = HistoryLimits { events_max: 100_000, bytes_max: 64 << 20 };
const ME: MemberId = MemberId(7);
const CLUSTER: ClusterId = ClusterId(9);

struct OnDisk;

impl StoreBuilder<Types, Log, Machine, tempfile::TempDir> for OnDisk {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a folder");
        let identity = LogOwner { cluster: CLUSTER.0, member: ME.0 };
        let options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
        let files = Arc::new(RealFiles);
        let tables = Tables::open(&*files, &dir.path().join("checkpoint.redb")).expect("tables");
        let checkpoints = Arc::new(Checkpoints::new(tables, IoMode::Threaded, Box::new(|_| {})));
        let start = checkpoints.load(LIMITS).expect("an empty checkpoint");
        let wal = dir.path().join("wal");
        let (wal, recovered) =
            Wal::open(files, &wal, identity, options, Arc::new(Quiet)).expect("a log");
        let log = Log::new(wal, IoMode::Threaded, &recovered).expect("an empty log");
        let tickets = Arc::new(Tickets::new(&Quiet));
        let clock = Arc::new(LogClock::new(Arc::new(Quiet)));
        let listeners = Listeners {
            observer: Arc::new(Quiet),
            tickets,
            clock,
            meter: Arc::new(Quiet),
            facts: Box::new(|_| {}),
        };
        let machine = Machine::new(State::of(start), listeners, ME, None, checkpoints);
        Ok((dir, log, machine))
    }
}

#[test]
fn the_stores_pass_openrafts_own_suite() {
    // The suite runs each of its tests in a runtime of its own.
    let suite = Suite::<Types, Log, Machine, OnDisk, tempfile::TempDir>::test_all(OnDisk);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(suite).expect("the suite passes");
}

/// A read for a follower could overtake a purge. openraft would send what it gets as the continuation of what it asked for.
#[tokio::test]
async fn a_read_for_a_follower_has_no_gap() {
    let (_dir, mut log, _) = OnDisk.build().await.expect("a log");
    let entry = |index| Entry { log_id: encoding::log_id(1, index), payload: EntryPayload::Blank };
    log.blocking_append((0..10).map(entry)).await.expect("they are safe");
    log.purge(encoding::log_id(1, 4)).await.expect("it is safe");
    let mut read = async |from, to| -> Vec<u64> {
        let entries = log.limited_get_log_entries(from, to).await.expect("the disk is well");
        entries.iter().map(|entry| entry.log_id.index).collect()
    };
    assert_eq!(read(5, 8).await, [5, 6, 7]);
    assert_eq!(read(3, 8).await, [0; 0]);
}

/// What openraft's core asks of the log, on a disk of its own.
fn log_on(files: &CrashFiles) -> Log {
    let identity = LogOwner { cluster: CLUSTER.0, member: ME.0 };
    let options = WalOptions { prepare: PrepareSpare::Never, ..WalOptions::default() };
    let files = Arc::new(files.clone());
    let opened = Wal::open(files, Path::new("/data/wal"), identity, options, Arc::new(Quiet));
    let (wal, recovered) = opened.expect("a log");
    Log::new(wal, IoMode::Threaded, &recovered).expect("what was recovered can be read")
}

fn of_term(term: u64, index: u64, bytes: usize) -> Entry {
    let write = Write { value: vec![7; bytes].into(), dir: false, ttl: None, refresh: false };
    let command = Command::Set { path: KeyPath::from("/large"), write };
    let origin = Origin { member: ME, ticket: index };
    let payload = EntryPayload::Normal(Proposal { stamp: LogTime(1000).into(), origin, command });
    Entry { log_id: encoding::log_id(term, index), payload }
}

/// openraft awaits both, and sends no heartbeats meanwhile.
#[tokio::test]
async fn a_purge_and_a_truncation_do_not_wait_for_the_disk() {
    let files = CrashFiles::new();
    let mut log = log_on(&files);
    log.blocking_append((0..10).map(|index| of_term(1, index, 10))).await.expect("they are safe");
    files.stand_still_after(Some(0));
    let asked = async {
        log.append([of_term(1, 10, 10)], IOFlushed::noop()).await?;
        log.purge(encoding::log_id(1, 4)).await?;
        log.truncate_after(Some(encoding::log_id(1, 7))).await?;
        log.save_committed(Some(encoding::log_id(1, 7))).await
    };
    let asked = tokio::time::timeout(Duration::from_secs(20), asked).await;
    asked.expect("the disk stands still").expect("the log is well");
    let left = log.try_get_log_entries(0..20).await.expect("they are in memory");
    assert!(left.iter().map(|entry| entry.log_id.index).eq(5..8));
    files.stand_still_after(None);
}

/// An append that became safe after its entries were cut off said so of the entries in their place, which were then dropped
/// from memory and read from the disk: those that were cut off.
#[tokio::test]
async fn what_is_cut_off_says_nothing_of_what_takes_its_place() {
    let files = CrashFiles::new();
    let mut log = log_on(&files);
    // More than is kept in memory, each time.
    let large = |term| (0..6).map(move |index| of_term(term, index, 4 << 20));
    files.stand_still_after(Some(0));
    let (safe_tx, safe_rx) = Types::oneshot();
    let safe = IOFlushed::signal(safe_tx);
    log.append(large(1), safe).await.expect("it is taken in");
    log.truncate_after(None).await.expect("it is taken in");
    log.append(large(2), IOFlushed::noop()).await.expect("it is taken in");
    // All batches of the first append, and nothing else.
    files.stand_still_after(Some(6));
    safe_rx.await.expect("it is told").expect("the disk is well");
    log.append([of_term(2, 6, 10)], IOFlushed::noop()).await.expect("it is taken in");
    let read = log.try_get_log_entries(0..7).await.expect("they are there");
    assert!(read.iter().map(|entry| entry.log_id.leader_id.term).eq([2; 7]));
    files.stand_still_after(None);
}

#[tokio::test]
async fn entries_are_dispensable_by_number_and_by_bytes_but_for_a_few() {
    let files = CrashFiles::new();
    let mut log = log_on(&files);
    log.blocking_append((0..40).map(|index| of_term(1, index, 1000))).await.expect("they are safe");
    assert_eq!(log.dispensable(29, 2, 100, 1 << 20), None, "there is room for all");
    assert_eq!(log.dispensable(29, 2, 10, 1 << 20), Some(19), "ten stay: 20 to 29");
    assert_eq!(log.dispensable(29, 2, 100, 5500), Some(24), "five stay");
    assert_eq!(log.dispensable(29, 3, 100, 10), Some(26), "three stay however large");
    log.purge(encoding::log_id(1, 24)).await.expect("it is taken in");
    assert_eq!(log.dispensable(29, 2, 100, 5500), None, "that is done");
    assert_eq!(log.dispensable(1000, 2, 10, 1 << 20), Some(29), "counted from the last entry");
}

/// A restart reads the youngest entries into memory, and the others when they are asked for.
#[tokio::test]
async fn what_is_not_read_at_a_restart_is_read_when_it_is_asked_for() {
    let files = CrashFiles::new();
    let mut log = log_on(&files);
    for index in 0..24 {
        log.blocking_append([of_term(1, index, 2 << 20)]).await.expect("it is safe");
    }
    let mut again = log_on(&files.after_crash(Survival::Nothing));
    let state = again.get_log_state().await.expect("it is there");
    assert_eq!(state.last_log_id, Some(encoding::log_id(1, 23)));
    assert!(again.encoded(&[of_term(1, 23, 2 << 20)]).is_some(), "the last one is in memory");
    assert!(again.encoded(&[of_term(1, 2, 2 << 20)]).is_none(), "the first ones are not");
    let read: Vec<_> = again.stream(0, 24).try_collect().await.expect("the disk is well");
    assert!(read.iter().map(|entry| entry.log_id.index).eq(0..24));
    assert!(again.stream(20, 30).try_collect::<Vec<_>>().await.is_ok_and(|read| read.len() == 4));
    again.purge(encoding::log_id(1, 3)).await.expect("it is taken in");
    let hole = again.stream(2, 24).try_collect::<Vec<_>>().await;
    assert!(hole.is_err() || hole.is_ok_and(|read| read.len() == 22), "no hole in silence");
}

fn options(files: &CrashFiles) -> RaftOptions {
    RaftOptions {
        member: ME,
        cluster: CLUSTER,
        alone: false,
        heartbeat: Duration::from_millis(50),
        election: Duration::from_millis(250),
        history: LIMITS,
        // A checkpoint every now and then within a short run.
        checkpoint_wal_bytes: 2000,
        checkpoint_cache_bytes: 1 << 20,
        files: Arc::new(files.clone()) as Arc<dyn Files>,
        wal_dir: Path::new("/data/wal").to_owned(),
        wal: WalOptions {
            segment_bytes: 16 << 10,
            prepare: PrepareSpare::AtOnce,
            ..WalOptions::default()
        },
        checkpoint: Path::new("/data/checkpoint.redb").to_owned(),
        transport: transport(),
        inflight_bytes_max: 1 << 30,
        clock: Arc::new(Quiet),
        random: Arc::new(Quiet),
        wal_observer: Arc::new(Quiet),
        meter: Arc::new(Quiet),
    }
}

fn set(n: u64) -> Command {
    let write =
        Write { value: n.to_string().as_bytes().into(), dir: false, ttl: None, refresh: false };
    Command::Set { path: KeyPath::from(format!("/{}/{n}", n % 7).as_str()), write }
}

/// Writes until the end or the first refusal; returns how many were acknowledged.
async fn write(files: &CrashFiles, from: u64, count: u64) -> u64 {
    let Ok(raft) = Raft::start(options(files), Arc::new(Quiet)).await else { return from };
    let mut done = from;
    if raft.initialize(&[ME]).await.is_ok() {
        while done < from + count {
            let proposal = raft.propose(set(done));
            match tokio::time::timeout(Duration::from_secs(5), proposal).await {
                Ok(Ok(_)) => done += 1,
                Ok(Err(crate::model::Unavailable::NotLeader { .. })) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(Err(_)) | Err(_) => break,
            }
        }
    }
    raft.shutdown().await;
    done
}

/// A fence counts on it: what was proposed before the question is in the log that the answer tells of, or refused.
#[tokio::test]
async fn what_waits_to_be_handed_over_is_in_front_of_the_question_for_the_last_entry() {
    let raft = Raft::start(options(&CrashFiles::new()), Arc::new(Quiet)).await.expect("it starts");
    raft.initialize(&[ME]).await.expect("a new cluster");
    let mut leadership = raft.leadership();
    leadership.wait_for(|now| now.role == Role::Leader).await.expect("it goes on");
    // A new leader stamps nothing until it has applied an entry of its term.
    while raft.propose(set(0)).await.is_err() {
        tokio::task::yield_now().await;
    }
    let (_, term) = raft.leader().expect("it leads");
    let before = raft.last_of_term(term).await.expect("it leads");
    // One thread, and nothing is awaited that is not there: none of them can have reached the core.
    for ticket in 0..100 {
        let refused = |_| panic!("it leads");
        let origin = Origin { member: ME, ticket };
        raft.put_into_log(term, origin, set(ticket), None, refused).await.expect("it goes on");
    }
    let last = raft.last_of_term(term).await.expect("it leads");
    assert_eq!(last.0, before.0 + 100);
    raft.shutdown().await;
}

/// Found out by the first read, over as soon as another member is in the log, and found out again when it is gone.
#[tokio::test]
async fn reads_of_the_only_member_need_no_round_until_there_is_another() {
    const OTHER: MemberId = MemberId(8);
    let raft = Raft::start(options(&CrashFiles::new()), Arc::new(Quiet)).await.expect("it starts");
    let holds = || raft.shared.log.sole().holds();
    raft.initialize(&[ME]).await.expect("a new cluster");
    let mut leadership = raft.leadership();
    leadership.wait_for(|now| now.role == Role::Leader).await.expect("it goes on");
    while raft.propose(set(0)).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(!holds());
    raft.read_barrier().await.expect("it leads");
    assert!(holds());
    for n in 1..20 {
        let answer = raft.propose(set(n)).await.expect("a write");
        raft.read_barrier().await.expect("it leads");
        assert!(holds() && raft.view().position.index >= answer.position.index);
    }
    // The other one cannot be reached, and has no vote: reads go on, in rounds.
    raft.add_learner(OTHER).await.expect("it leads");
    assert!(!holds());
    raft.read_barrier().await.expect("it leads");
    assert!(
        !holds(),
        "a learner answers those whose writes it has forwarded when it has them itself"
    );
    raft.remove(OTHER).await.expect("it leads");
    assert!(!holds());
    raft.read_barrier().await.expect("it leads");
    assert!(holds());
    // A vote, whosever it is.
    let mut log = raft.shared.log.clone();
    let vote = log.read_vote().await.expect("a log").expect("it has voted");
    log.save_vote(&vote).await.expect("the disk is well");
    assert!(!holds());
    raft.read_barrier().await.expect("it leads");
    assert!(holds());
    raft.shutdown().await;
}

/// What a restart on this image holds: everything up to `acknowledged`, and at most one write more.
async fn check(image: &CrashFiles, acknowledged: u64, story: &str) {
    let raft = Raft::start(options(image), Arc::new(Quiet)).await;
    let raft = raft.unwrap_or_else(|error| panic!("{story}: {error}"));
    let view = raft.view();
    let index = view.store.index().0;
    assert!(
        (acknowledged..=acknowledged + 1).contains(&index),
        "{story}: {acknowledged} writes were acknowledged, {index} are there"
    );
    for n in 0..acknowledged {
        let Command::Set { path, write } = set(n) else { unreachable!("set makes sets") };
        let found =
            view.store.get(&path).outcome.unwrap_or_else(|_| panic!("{story}: {n} is gone"));
        assert_eq!(found.value(), Some(&*write.value), "{story}");
        assert_eq!(found.modified, StoreIndex(n + 1), "{story}");
    }
    // The history survives as well.
    assert_eq!(view.store.history().oldest(), StoreIndex(1), "{story}");
    assert_eq!(view.store.history().next(), StoreIndex(index + 1), "{story}");
    view.store.check();
    raft.shutdown().await;
}

/// A member on a disk that loses power at sampled steps, checkpoints under way included, and again in its recovery.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_keeps_what_it_acknowledged_whenever_the_power_goes() {
    let seed = std::env::var("RAFT_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    eprintln!("repeat with RAFT_SEED={seed}");
    let whole = CrashFiles::new();
    assert_eq!(Box::pin(write(&whole, 0, 120)).await, 120);
    let steps = whole.steps();
    for sample in 0..60 {
        let step = 1 + (sample * 7919 + seed * 104_729) % steps;
        let files = CrashFiles::new();
        files.fail_at(step, Fault::PowerLoss);
        let acknowledged = Box::pin(write(&files, 0, 120)).await;
        for survival in [Survival::Nothing, Survival::Everything, Survival::Random(seed ^ step)] {
            let image = files.after_crash(survival);
            let story =
                format!("power lost at step {step} of about {steps}, {survival:?} survived");
            // Once more while it recovers: nothing may depend on how far that came.
            let again = image.after_crash(Survival::Everything);
            again.fail_at(1 + sample % 9, Fault::PowerLoss);
            if let Ok(raft) = Raft::start(options(&again), Arc::new(Quiet)).await {
                raft.shutdown().await;
            }
            check(&again.after_crash(Survival::Random(step)), acknowledged, &story).await;
            check(&image, acknowledged, &story).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_ends_consensus_and_says_so() {
    let files = CrashFiles::new();
    let raft = Raft::start(options(&files), Arc::new(Quiet)).await.expect("it starts");
    raft.initialize(&[ME]).await.expect("it founds its cluster");
    let mut leadership = raft.leadership();
    leadership.wait_for(|now| now.leader == Some(ME)).await.expect("it leads");
    raft.propose(set(0)).await.expect("a write");
    files.fail_at(files.steps() + 1, Fault::Error(std::io::ErrorKind::StorageFull));
    let refused = tokio::time::timeout(Duration::from_secs(5), raft.propose(set(1)));
    assert!(!matches!(refused.await, Ok(Ok(_))), "it was acknowledged without a disk");
    let failed = tokio::time::timeout(Duration::from_secs(5), raft.failed()).await;
    assert!(failed.is_ok(), "no watcher is told");
    files.heal();
    raft.shutdown().await;
    check(&files, 1, "after the disk was full").await;
}
