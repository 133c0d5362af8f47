//! The write-ahead log on disks that lose power, fail, stand still and rot.
//!
//! Here: every write and sync boundary of a run. `still`: a disk that stands still. `rot`: entries that are not what was written,
//! and logs of earlier versions.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod rot;
mod still;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use cairn::base::SplitMix;
use cairn::disk::{
    CrashFiles, Done, Fault, Files, LogOwner, Mark, PrepareSpare, Recovered, Survival, Wal,
    WalError, WalObserver, WalOptions,
};

const DIR: &str = "/wal";
const ME: LogOwner = LogOwner { cluster: 7, member: 9 };

struct Quiet;

impl WalObserver for Quiet {
    fn written(&self, _bytes: usize) {}
    fn synced(&self, _took: Duration) {}
    fn failed(&self, _error: &WalError) {}
}

fn options(prepare: PrepareSpare) -> WalOptions {
    // Small segments, so that a short run has many of them; small batches, so that some appends need two.
    let segment_bytes = 8 << 10;
    WalOptions { segment_bytes, batch_bytes_max: 700, prepare, ..WalOptions::default() }
}

fn open_with(files: &CrashFiles, prepare: PrepareSpare) -> Result<(Wal, Recovered), WalError> {
    Wal::open(Arc::new(files.clone()), Path::new(DIR), ME, options(prepare), Arc::new(Quiet))
}

fn open(files: &CrashFiles) -> Result<(Wal, Recovered), WalError> {
    open_with(files, PrepareSpare::AtOnce)
}

/// Makes a request and waits until it is answered.
fn wait(request: impl FnOnce(Done)) -> io::Result<()> {
    let (done_tx, done_rx) = mpsc::channel();
    request(Box::new(move |result| done_tx.send(result).unwrap()));
    done_rx.recv().unwrap()
}

fn below(random: &mut SplitMix, limit: u64) -> u64 {
    random.next() % limit
}

/// What the log must hold: the acknowledged state, and what the one request under way may have made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Expected {
    vote: Option<Vec<u8>>,
    purged: u64,
    /// Index of the first entry, and the entries.
    first: u64,
    entries: Vec<Vec<u8>>,
}

impl Expected {
    /// Is it what was acknowledged and the first part of what was under way? An append that needs several batches may be there
    /// in part, everything else is there or not.
    fn is_part_of(&self, acknowledged: &Self, under_way: &Self) -> bool {
        let (had, has) = (acknowledged.entries.len(), self.entries.len());
        let may_be_part =
            under_way.entries.len() > had && under_way.entries.starts_with(&acknowledged.entries);
        let part = Self {
            entries: under_way.entries.get(..has).unwrap_or_default().to_vec(),
            ..under_way.clone()
        };
        *self == *under_way || (may_be_part && has > had && *self == part)
    }

    fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    fn of(wal: &Wal, recovered: &Recovered) -> Self {
        let purged = recovered.purged.as_ref().map_or(0, |mark| mark.index);
        let range = recovered.entries.clone();
        let first = if range.is_empty() { purged + 1 } else { range.start };
        let read = wal.read(first, range.end, usize::MAX).unwrap();
        assert!(read.iter().map(|(index, _)| *index).eq(range), "all and no hole");
        let entries = read.into_iter().map(|(_, payload)| payload.to_vec()).collect();
        Self { vote: recovered.vote.clone(), purged, first, entries }
    }
}

/// One random request, waited for. `Ok` means acknowledged.
fn request(wal: &Wal, state: &Expected, random: &mut SplitMix) -> (Expected, io::Result<()>) {
    let (done_tx, done_rx) = mpsc::channel();
    let done = Box::new(move |result| done_tx.send(result).unwrap());
    let mut next = state.clone();
    match below(random, 20) {
        0..14 => {
            let count = 1 + below(random, 4);
            let mut entries = Vec::new();
            for _ in 0..count {
                let length = if below(random, 40) == 0 { 9000 } else { below(random, 300) };
                let payload: Vec<u8> =
                    (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
                entries.push((next.last() + 1, Bytes::from(payload.clone())));
                next.entries.push(payload);
            }
            wal.append(entries, done);
        }
        14 | 15 => {
            let vote = random.next().to_le_bytes().to_vec();
            next.vote = Some(vote.clone());
            wal.save_vote(vote, done);
        }
        16 | 17 => {
            let keep = below(random, next.entries.len() as u64 + 1);
            next.entries.truncate(usize::try_from(keep).unwrap());
            wal.truncate_after(next.last(), done);
        }
        _ => {
            let gone = below(random, next.entries.len() as u64 + 1);
            next.entries.drain(..usize::try_from(gone).unwrap());
            next.first += gone;
            next.purged = next.first - 1;
            wal.save_committed(b"mark".to_vec());
            wal.purge(Mark { index: next.purged, data: b"id".to_vec() }, done);
        }
    }
    (next, done_rx.recv().unwrap())
}

/// Runs until the end or the first failure; returns what was acknowledged and what was under way.
fn run(files: &CrashFiles, seed: u64, operations: usize) -> (Expected, Option<Expected>) {
    run_with(files, seed, operations, PrepareSpare::AtOnce)
}

fn run_with(
    files: &CrashFiles,
    seed: u64,
    operations: usize,
    prepare: PrepareSpare,
) -> (Expected, Option<Expected>) {
    let mut state = Expected { first: 1, ..Expected::default() };
    let Ok((wal, _)) = open_with(files, prepare) else { return (state, None) };
    let mut random = SplitMix::new(seed);
    for _ in 0..operations {
        let (next, result) = request(&wal, &state, &mut random);
        if result.is_err() {
            wal.shutdown();
            return (state, Some(next));
        }
        state = next;
    }
    wal.shutdown();
    (state, None)
}

fn survivals(seed: u64) -> [Survival; 5] {
    [
        Survival::Nothing,
        Survival::Everything,
        Survival::Prefix(1),
        Survival::Random(seed),
        Survival::Random(seed ^ 0xabcd),
    ]
}

/// The state after recovery is the acknowledged one, or that plus the request that was under way.
fn check(files: &CrashFiles, acknowledged: &Expected, under_way: Option<&Expected>, story: &str) {
    let (wal, recovered) = open(files).unwrap_or_else(|error| panic!("{story}: {error}"));
    let found = Expected::of(&wal, &recovered);
    let fits = found == *acknowledged
        || under_way.is_some_and(|under_way| found.is_part_of(acknowledged, under_way));
    assert!(
        fits,
        "{story}:\nfound {found:?}\nacknowledged {acknowledged:?}\nunder way {under_way:?}"
    );
    // It goes on from there.
    let last = found.last();
    let entry = vec![(last + 1, Bytes::from_static(b"goes on"))];
    wait(|done| wal.append(entry, done)).unwrap();
    wal.shutdown();
    let (wal, recovered) = open(&files.after_crash(Survival::Nothing)).unwrap();
    assert_eq!(recovered.entries.end, last + 2, "{story}");
    let read = wal.read(last + 1, last + 2, usize::MAX).unwrap();
    assert_eq!(read[0].1, &b"goes on"[..], "{story}");
    wal.shutdown();
}

fn seed() -> u64 {
    let seed = std::env::var("WAL_SEED").map_or(20_261_123, |seed| seed.parse().unwrap());
    eprintln!("repeat with WAL_SEED={seed} cargo test --test wal");
    seed
}

fn survives_power_loss_at_every_step(prepare: PrepareSpare, operations: usize) {
    let seed = seed();
    let whole = CrashFiles::new();
    let (_, failed) = run_with(&whole, seed, operations, prepare);
    assert!(failed.is_none());
    let steps = whole.steps();
    assert!(steps > operations as u64, "each operation syncs: {steps}");
    for step in 1..=steps {
        let files = CrashFiles::new();
        files.fail_at(step, Fault::PowerLoss);
        let (acknowledged, under_way) = run_with(&files, seed, operations, prepare);
        // Two of the five each time; over the whole run all of them come up often at every kind of step.
        let all = survivals(seed ^ step);
        for survival in [
            all[usize::try_from(step % 5).unwrap()],
            all[usize::try_from((step / 5 + 1) % 5).unwrap()],
        ] {
            let story = format!("power lost at step {step} of {steps}, {survival:?} survived");
            let image = files.after_crash(survival);
            check(&image, &acknowledged, under_way.as_ref(), &story);
        }
    }
}

#[test]
fn what_was_acknowledged_survives_power_loss_at_every_step() {
    survives_power_loss_at_every_step(PrepareSpare::AtOnce, 500);
}

/// Segments that begin before the spare one is ready are made in steps of their own.
#[test]
fn without_spares_it_survives_as_well() {
    survives_power_loss_at_every_step(PrepareSpare::Never, 300);
}

/// The thread that prepares and removes segments takes its steps whenever it comes to them.
#[test]
fn power_loss_at_any_moment_of_the_background_loses_nothing() {
    let seed = seed();
    let operations = 200;
    let whole = CrashFiles::new();
    run_with(&whole, seed, operations, PrepareSpare::Background);
    let steps = whole.steps();
    for sample in 1..=400 {
        let files = CrashFiles::new();
        files.fail_at(1 + sample * 7919 % steps, Fault::PowerLoss);
        let (acknowledged, under_way) =
            run_with(&files, seed ^ sample, operations, PrepareSpare::Background);
        for survival in survivals(seed ^ sample) {
            let story = format!("sample {sample}, {survival:?} survived");
            check(&files.after_crash(survival), &acknowledged, under_way.as_ref(), &story);
        }
    }
}

#[test]
fn a_crash_inside_recovery_loses_nothing_either() {
    let seed = 77;
    let operations = 60;
    let whole = CrashFiles::new();
    run(&whole, seed, operations);
    for step in (1..=whole.steps()).step_by(3) {
        let files = CrashFiles::new();
        files.fail_at(step, Fault::PowerLoss);
        let (acknowledged, under_way) = run(&files, seed, operations);
        let image = files.after_crash(Survival::Random(step));
        for second in 1.. {
            let again = image.after_crash(Survival::Everything);
            again.fail_at(second, Fault::PowerLoss);
            let opened = open(&again);
            let died = again.is_dead();
            if let Ok((wal, _)) = opened {
                wal.shutdown();
            }
            if !died {
                break;
            }
            for survival in survivals(step ^ second) {
                let story =
                    format!("power lost at step {step} and in recovery at {second}: {survival:?}");
                check(&again.after_crash(survival), &acknowledged, under_way.as_ref(), &story);
            }
        }
    }
}

#[test]
fn a_failing_disk_fails_everything_after_it_and_loses_nothing_before() {
    for (kind, prepare) in [
        (io::ErrorKind::StorageFull, PrepareSpare::AtOnce),
        (io::ErrorKind::StorageFull, PrepareSpare::Never),
        (io::ErrorKind::Other, PrepareSpare::AtOnce),
    ] {
        let whole = CrashFiles::new();
        run_with(&whole, 5, 100, prepare);
        for step in (2..=whole.steps()).step_by(2) {
            let files = CrashFiles::new();
            files.fail_at(step, Fault::Error(kind));
            let (acknowledged, under_way) = run_with(&files, 5, 100, prepare);
            files.heal();
            let story = format!("{kind:?} at step {step}, {prepare:?}");
            check(&files, &acknowledged, under_way.as_ref(), &story);
        }
    }
}

#[test]
fn after_a_failed_sync_no_later_request_is_acknowledged() {
    let files = CrashFiles::new();
    let (wal, _) = open(&files).unwrap();
    files.fail_at(files.steps() + 2, Fault::Error(io::ErrorKind::Other));
    let mut results = Vec::new();
    for _ in 0..3 {
        results.push(wait(|done| wal.save_vote(b"v".to_vec(), done)).is_ok());
        files.heal();
    }
    assert_eq!(
        results,
        [false, false, false],
        "the disk is well again, but what it holds is unknown"
    );
    wal.shutdown();
}

#[test]
fn a_flipped_bit_in_what_was_safe_is_named_with_file_and_offset() {
    let files = CrashFiles::new();
    let (wal, _) = open(&files).unwrap();
    for index in 1..=30 {
        let entry = vec![(index, Bytes::from(vec![u8::try_from(index).unwrap(); 400]))];
        wait(|done| wal.append(entry, done)).unwrap();
    }
    wal.shutdown();
    let names = files.list(Path::new(DIR)).unwrap();
    let first = Path::new(DIR).join(names.iter().find(|name| name.starts_with('0')).unwrap());
    // Anywhere in the first segment: its header, a frame, a record.
    for offset in (0..8000).step_by(7) {
        let image = files.after_crash(Survival::Everything);
        let before = image.bytes(&first).unwrap()[offset];
        if before == 0 && (140..4096).contains(&offset) {
            continue; // behind the header's last field nothing is kept
        }
        image.flip(&first, offset);
        match open(&image) {
            Err(WalError::Corrupt { path, .. }) => assert_eq!(path, first),
            Err(WalError::Newer { .. }) if (8..12).contains(&offset) => {}
            Err(other) => panic!("offset {offset}: {other}"),
            Ok((wal, recovered)) => {
                wal.shutdown();
                // Behind the last batch of a segment there is nothing to damage.
                let left = recovered.entries;
                assert_eq!(left, 1..31, "offset {offset}: entries are gone in silence");
            }
        }
    }
}

#[test]
fn the_log_of_another_member_is_refused() {
    let files = CrashFiles::new();
    open(&files).unwrap().0.shutdown();
    let other = LogOwner { cluster: 7, member: 10 };
    let options = options(PrepareSpare::AtOnce);
    let opened = Wal::open(Arc::new(files), Path::new(DIR), other, options, Arc::new(Quiet));
    let Err(refusal) = opened else { panic!("opened") };
    assert!(refusal.to_string().contains("belongs to member 9 of cluster 7"), "{refusal}");
}
