//! A disk that stands still: no append waits for it, and the log waits for nothing but its own writes and syncs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn::disk::{
    CrashFiles, File, Files, LogPulse, Mark, PrepareSpare, Survival, Wal, WalError, WalObserver,
    WalOptions,
};
use rustix::thread::gettid;

use super::rot::Failures;
use super::{DIR, ME, Quiet, open, options, wait};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What stands still or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Nothing,
    /// Writes of zeros to a spare file wait.
    SpareWrites,
    /// Writes of zeros to a spare file find no room.
    SpareHasNoRoom,
    /// Files are neither renamed nor removed.
    Removals,
    /// Files cannot be renamed or removed.
    RemovalsFail,
    /// Reads wait.
    Reads,
}

#[derive(Debug)]
struct Gate {
    hold: Mutex<Hold>,
    changed: Condvar,
    waiting: AtomicUsize,
    /// Writes of zeros to a spare file.
    zeros: AtomicUsize,
}

impl Gate {
    fn pass(&self, what: Hold) {
        let mut hold = self.hold.lock().unwrap();
        while *hold == what {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            hold = self.changed.wait(hold).unwrap();
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn is(&self, what: Hold) -> bool {
        *self.hold.lock().unwrap() == what
    }

    fn set(&self, hold: Hold) {
        *self.hold.lock().unwrap() = hold;
        self.changed.notify_all();
    }
}

/// A disk in memory that stands still when it is told to.
#[derive(Clone, Debug)]
struct Still {
    files: CrashFiles,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct StillFile {
    file: Box<dyn File>,
    is_spare: bool,
    gate: Arc<Gate>,
}

impl Still {
    fn new() -> Self {
        let (hold, changed) = (Mutex::new(Hold::Nothing), Condvar::new());
        let gate = Gate { hold, changed, waiting: AtomicUsize::new(0), zeros: AtomicUsize::new(0) };
        Self { files: CrashFiles::new(), gate: Arc::new(gate) }
    }

    fn open_log(&self, prepare: PrepareSpare) -> Wal {
        self.open_log_with(options(prepare), Arc::new(Quiet))
    }

    fn open_log_with(&self, options: WalOptions, observer: Arc<dyn WalObserver>) -> Wal {
        Wal::open(Arc::new(self.clone()), Path::new(DIR), ME, options, observer).unwrap().0
    }

    fn names(&self) -> Vec<String> {
        self.files.list(Path::new(DIR)).unwrap()
    }

    fn wait_until(&self, what: &str, done: impl Fn(&[String]) -> bool) {
        let begun = Instant::now();
        while !done(&self.names()) {
            assert!(begun.elapsed() < PATIENCE, "not in time: {what}; {:?}", self.names());
            std::thread::yield_now();
        }
    }
}

/// One of the two files that segments are made of.
fn is_spare(path: &Path) -> bool {
    path.ends_with("spare.wal") || path.ends_with("spare-2.wal")
}

impl Files for Still {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.files.create_dir(path)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn File>> {
        let (file, is_spare) = (self.files.open(path, create)?, is_spare(path));
        Ok(Box::new(StillFile { file, is_spare, gate: Arc::clone(&self.gate) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if is_spare(to) {
            self.removal()?;
        }
        self.files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.removal()?;
        self.files.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.files.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.exists(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }
}

impl Still {
    fn removal(&self) -> io::Result<()> {
        self.gate.pass(Hold::Removals);
        if self.gate.is(Hold::RemovalsFail) { Err(io::Error::other("on purpose")) } else { Ok(()) }
    }
}

impl File for StillFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.gate.pass(Hold::Reads);
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Not once it has become a segment.
        if self.is_spare && bytes.iter().all(|byte| *byte == 0) {
            self.gate.zeros.fetch_add(1, Ordering::Relaxed);
            self.gate.pass(Hold::SpareWrites);
            if offset > 0 && self.gate.is(Hold::SpareHasNoRoom) {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn start_writing(&self, offset: u64, length: u64, pause: Duration) {
        self.file.start_writing(offset, length, pause);
    }
}

fn append(wal: &Wal, index: u64, bytes: usize) {
    wait(|done| wal.append(vec![(index, Bytes::from(vec![7; bytes]))], done)).unwrap();
}

fn purge(wal: &Wal, index: u64) {
    wait(|done| wal.purge(Mark { index, data: b"id".to_vec() }, done)).unwrap();
}

/// The thread that appends also sends heartbeats: a leader whose disk stood still lost its office.
#[test]
fn an_append_does_not_wait_for_the_disk() {
    let still = Still::new();
    let wal = still.open_log(PrepareSpare::Background);
    append(&wal, 1, 10);
    still.files.stand_still_after(Some(0));
    let (done_tx, done_rx) = mpsc::channel();
    let (returned_tx, returned_rx) = mpsc::channel();
    let appending = wal.clone();
    std::thread::spawn(move || {
        // Far more than a batch holds.
        for index in 2..=100 {
            let done_tx = done_tx.clone();
            let entry = vec![(index, Bytes::from(vec![7; 1 << 20]))];
            appending.append(entry, Box::new(move |result| done_tx.send(result).unwrap()));
            appending.save_committed(b"mark".to_vec());
        }
        let mark = Mark { index: 1, data: Vec::new() };
        appending.purge(mark, Box::new(move |result| done_tx.send(result).unwrap()));
        returned_tx.send(()).unwrap();
    });
    returned_rx.recv_timeout(PATIENCE).expect("an append does not wait");
    assert!(done_rx.try_recv().is_err(), "nothing is acknowledged while the disk stands still");
    still.files.stand_still_after(None);
    for _ in 2..=101 {
        done_rx.recv_timeout(PATIENCE).expect("the disk goes on").expect("it is well");
    }
    wal.shutdown();
}

/// A watchdog ends a process whose log hangs, and none whose disk stands still.
#[test]
fn a_pulse_tells_a_disk_that_stands_still_from_a_thread_that_does() {
    let still = Still::new();
    let wal = still.open_log(PrepareSpare::Never);
    let until = |what: &str, is_so: &dyn Fn(LogPulse) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(wal.pulse()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", wal.pulse());
            std::thread::yield_now();
        }
    };
    append(&wal, 1, 10);
    until("no work is left", &|pulse| !pulse.busy && !pulse.on_disk);
    let before = wal.pulse().batches;
    still.files.stand_still_after(Some(0));
    let (go_on_tx, go_on_rx) = mpsc::channel();
    let entry = vec![(2, Bytes::from_static(b"value"))];
    wal.append(entry, Box::new(move |_| go_on_rx.recv().unwrap()));
    until("the thread waits for the disk", &|pulse| pulse.busy && pulse.on_disk);
    assert_eq!(wal.pulse().batches, before);
    still.files.stand_still_after(None);
    until("the thread waits for whom it calls back", &|pulse| pulse.busy && !pulse.on_disk);
    assert_eq!(wal.pulse().batches, before);
    go_on_tx.send(()).unwrap();
    until("no work is left", &|pulse| !pulse.busy);
    assert_eq!(wal.pulse().batches, before + 1);
    wal.shutdown();
}

/// Counts batches and the longest of them.
#[derive(Default)]
struct Batches {
    count: AtomicUsize,
    longest: AtomicUsize,
}

impl WalObserver for Batches {
    fn written(&self, bytes: usize) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(bytes, Ordering::Relaxed);
    }

    fn synced(&self, _took: Duration) {}
    fn failed(&self, _error: &WalError) {}
}

/// What has waited while the disk stood still goes out in batches of the usual size: memory, segments and recovery rely on it.
#[test]
fn a_batch_stays_small_however_much_waits() {
    let (still, batches) = (Still::new(), Arc::new(Batches::default()));
    let small = WalOptions { batch_bytes_max: 10_000, ..options(PrepareSpare::Never) };
    let wal = still.open_log_with(small, batches.clone());
    still.files.stand_still_after(Some(0));
    let (done_tx, done_rx) = mpsc::channel();
    let entry = |index| (index, Bytes::from(vec![7; 1000]));
    for first in (1..=100).step_by(50) {
        let done_tx = done_tx.clone();
        // One request of several batches.
        let entries = (first..first + 50).map(entry).collect();
        wal.append(entries, Box::new(move |result| done_tx.send(result).unwrap()));
    }
    still.files.stand_still_after(None);
    for _ in 0..2 {
        done_rx.recv_timeout(PATIENCE).expect("the disk goes on").expect("it is well");
    }
    let longest = batches.longest.load(Ordering::Relaxed);
    assert!((1000..=11_000).contains(&longest), "{longest} bytes in one batch");
    assert!(batches.count.load(Ordering::Relaxed) >= 10);
    wal.shutdown();
    assert_eq!(open(&still.files).unwrap().1.entries, 1..101);
}

#[test]
fn no_write_waits_for_the_next_segment() {
    let still = Still::new();
    let wal = still.open_log(PrepareSpare::Background);
    still.wait_until("the first spare", |names| names.iter().any(|name| name == "spare.wal"));
    still.gate.set(Hold::SpareWrites);
    // Three segments and more; the second one at the latest begins without the spare one.
    for index in 1..=40 {
        append(&wal, index, 900);
    }
    assert!(still.names().iter().filter(|name| name.starts_with('0')).count() > 3);
    still.gate.set(Hold::Nothing);
    wal.shutdown();
    let image = still.files.after_crash(Survival::Nothing);
    assert_eq!(open(&image).unwrap().1.entries, 1..41);
}

/// Segments are removed by a thread of their own, oldest first.
#[test]
fn no_write_waits_for_the_removal_of_old_segments() {
    let still = Still::new();
    let wal = still.open_log(PrepareSpare::Background);
    for index in 1..=40 {
        append(&wal, index, 900);
    }
    still.gate.set(Hold::Removals);
    purge(&wal, 39);
    for index in 41..=80 {
        append(&wal, index, 900);
    }
    purge(&wal, 79);
    let waiting = still.names();
    assert!(waiting.iter().filter(|name| name.starts_with('0')).count() > 6, "{waiting:?}");
    still.gate.set(Hold::Nothing);
    still.wait_until("old segments are gone", |names| {
        names.iter().filter(|name| name.starts_with('0')).count() <= 2
    });
    wal.shutdown();
    assert_eq!(open(&still.files).unwrap().1.entries, 80..81);
}

/// A segment comes free when the next spare file is already there. With one spare file alone each of them was removed, and a new
/// file was filled with zeros.
#[test]
fn segments_that_are_let_go_of_serve_again_and_no_more_zeros_are_written() {
    let still = Still::new();
    let wal = still.open_log(PrepareSpare::Background);
    let ready = |names: &[String]| names.iter().filter(|name| is_spare(Path::new(name))).count();
    let segments = |names: &[String]| names.iter().filter(|name| name.starts_with('0')).count();
    let (mut zeros, mut index) = (None, 0);
    for round in 0..30 {
        still.wait_until("a spare file", |names| ready(names) > 0);
        while segments(&still.names()) < 2 {
            index += 1;
            append(&wal, index, 700);
        }
        // Without it the segment that comes free may be there first, so that no file needs to be filled.
        still.wait_until("a spare file behind the new segment", |names| ready(names) > 0);
        purge(&wal, index - 1);
        still.wait_until("both spare files", |names| segments(names) == 1 && ready(names) == 2);
        let written = still.gate.zeros.load(Ordering::Relaxed);
        let before = zeros.replace(written).unwrap_or(written);
        assert_eq!(written, before, "writes of zeros after round {round}");
    }
    assert_eq!(still.names().len(), 3, "{:?}", still.names());
    wal.shutdown();
    assert_eq!(open(&still.files).unwrap().1.entries, index..index + 1);
}

/// What cannot be removed stays until it can: the log itself is well.
#[test]
fn segments_that_cannot_be_removed_are_tried_again_in_order() {
    let still = Still::new();
    let wal = still.open_log(PrepareSpare::Background);
    for index in 1..=40 {
        append(&wal, index, 900);
    }
    still.gate.set(Hold::RemovalsFail);
    purge(&wal, 39);
    for index in 41..=60 {
        append(&wal, index, 900);
    }
    // A restart finds one run of segments, whatever could be removed.
    let image = still.files.after_crash(Survival::Everything);
    assert_eq!(open(&image).unwrap().1.entries, 40..61);
    still.gate.set(Hold::Nothing);
    purge(&wal, 59);
    still.wait_until("old segments are gone", |names| {
        names.iter().filter(|name| name.starts_with('0')).count() <= 2
    });
    wal.shutdown();
    assert_eq!(open(&still.files).unwrap().1.entries, 60..61);
}

/// The file of a segment that was let go of is written to again as another one. A reader may still be there.
#[test]
fn what_is_purged_while_it_is_read_is_not_damage() {
    let (still, failures) = (Still::new(), Arc::new(Failures::default()));
    let wal = still.open_log_with(options(PrepareSpare::Never), failures.clone());
    for index in 1..=10 {
        append(&wal, index, 900);
    }
    still.gate.set(Hold::Reads);
    let reader = wal.clone();
    let reading = std::thread::spawn(move || reader.read(1, 4, usize::MAX));
    still.wait_until("it reads", |_| still.gate.waiting.load(Ordering::Relaxed) > 0);
    // The first segment becomes a spare file, and then the third.
    purge(&wal, 9);
    still.wait_until("the spare", |names| names.iter().any(|name| name == "spare.wal"));
    for index in 11..=30 {
        append(&wal, index, 700);
    }
    assert!(!still.names().iter().any(|name| name == "spare.wal"), "it is in use again");
    still.gate.set(Hold::Nothing);
    let read = reading.join().unwrap().unwrap();
    assert!(read.is_empty(), "nothing of it is there any more: {read:?}");
    assert!(failures.0.lock().unwrap().is_empty());
    append(&wal, 31, 10);
    wal.shutdown();
}

/// A spare that finds no room gives back what it took: the segment in use may need it.
#[test]
fn a_disk_without_room_for_a_spare_is_no_failure() {
    let still = Still::new();
    // Pieces of a spare are of 1 MiB.
    let large = WalOptions { segment_bytes: 4 << 20, ..options(PrepareSpare::Never) };
    still.open_log_with(large, Arc::new(Quiet)).shutdown();
    still.gate.set(Hold::SpareHasNoRoom);
    let large = WalOptions { prepare: PrepareSpare::Background, ..large };
    let wal = still.open_log_with(large, Arc::new(Quiet));
    let spare = PathBuf::from(DIR).join("spare.wal");
    still.wait_until("the spare gave up", |_| {
        still.files.bytes(&spare).is_some_and(|bytes| bytes.is_empty())
    });
    for index in 1..=20 {
        append(&wal, index, 500_000);
    }
    wal.shutdown();
    assert_eq!(open(&still.files).unwrap().1.entries, 1..21);
}

/// A member that was idle when it was killed knows after its restart that its last entries are committed.
#[test]
fn a_mark_that_waits_for_company_goes_out_alone_after_a_while() {
    let (still, batches) = (Still::new(), Arc::new(Batches::default()));
    let quick =
        WalOptions { mark_after: Duration::from_millis(20), ..options(PrepareSpare::Never) };
    let wal = still.open_log_with(quick, batches.clone());
    append(&wal, 1, 10);
    wal.save_committed(b"mark 1".to_vec());
    let committed = || {
        let (wal, recovered) = open(&still.files.after_crash(Survival::Nothing)).unwrap();
        wal.shutdown();
        recovered.committed
    };
    let until_written = |mark: &[u8]| {
        let begun = Instant::now();
        while committed().as_deref() != Some(mark) {
            assert!(begun.elapsed() < PATIENCE, "the mark is not written");
        }
    };
    until_written(b"mark 1");
    // Once.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(batches.count.load(Ordering::Relaxed), 2);
    // By now the thread waits for whatever comes, without a time limit.
    wal.save_committed(b"mark 2".to_vec());
    until_written(b"mark 2");
    wal.shutdown();
    assert_eq!(batches.count.load(Ordering::Relaxed), 3, "there is nothing left to write");
}

/// Knows the log's thread.
#[derive(Default)]
struct Known(AtomicI32);

impl WalObserver for Known {
    fn written(&self, _bytes: usize) {
        self.0.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    }

    fn synced(&self, _took: Duration) {}
    fn failed(&self, _error: &WalError) {}
}

impl Known {
    /// Is it asleep, and how often has it fallen asleep?
    fn look(&self) -> (bool, u64) {
        let path = format!("/proc/self/task/{}/status", self.0.load(Ordering::Relaxed));
        let status = std::fs::read_to_string(path).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().to_owned()
        };
        (field("State:").starts_with('S'), field("voluntary_ctxt_switches:").parse().unwrap())
    }

    fn fell_asleep(&self) -> u64 {
        let begun = Instant::now();
        loop {
            if let (true, times) = self.look() {
                return times;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not sleep");
            std::thread::yield_now();
        }
    }
}

/// Behind each batch consensus says how far is committed. A thread that was woken for that would only wait for company.
#[test]
fn a_mark_behind_a_batch_wakes_no_thread() {
    let (still, known) = (Still::new(), Arc::new(Known::default()));
    let slow = WalOptions { mark_after: PATIENCE, ..options(PrepareSpare::Never) };
    let wal = still.open_log_with(slow, known.clone());
    for index in 1..=20 {
        append(&wal, index, 10);
        let before = known.fell_asleep();
        wal.save_committed(b"mark".to_vec());
        // As long as a thread that was woken takes to fall asleep again.
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(known.fell_asleep(), before, "behind entry {index}");
    }
    wal.shutdown();
}

#[test]
fn a_mark_is_written_when_the_log_is_closed() {
    let still = Still::new();
    let slow = WalOptions { mark_after: PATIENCE, ..options(PrepareSpare::Never) };
    let wal = still.open_log_with(slow, Arc::new(Quiet));
    append(&wal, 1, 10);
    wal.save_committed(b"mark".to_vec());
    wal.shutdown();
    let (wal, recovered) = open(&still.files.after_crash(Survival::Nothing)).unwrap();
    assert_eq!(recovered.committed.as_deref(), Some(&b"mark"[..]));
    wal.shutdown();
}
