//! Entries that are not what was written, and logs of earlier versions.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cairn::disk::{
    CrashFiles, Files, Mark, PrepareSpare, RealFiles, Survival, Wal, WalError, WalObserver,
};

use super::{DIR, ME, Quiet, open, options, wait};

/// Keeps why the log failed.
#[derive(Default)]
struct Failures(Mutex<Vec<String>>);

impl WalObserver for Failures {
    fn written(&self, _bytes: usize) {}
    fn synced(&self, _took: Duration) {}
    fn failed(&self, error: &WalError) {
        self.0.lock().unwrap().push(error.to_string());
    }
}

fn entry(index: u64) -> (u64, Bytes) {
    (index, Bytes::from(vec![u8::try_from(index).unwrap(); 400]))
}

/// What rots on a leader's disk would else be sent to its followers, or be applied.
#[test]
fn a_bit_that_flips_while_the_log_is_open_is_noticed_when_it_is_read() {
    for written_by_this_run in [true, false] {
        let files = CrashFiles::new();
        let failures = Arc::new(Failures::default());
        let open = || {
            let options = options(PrepareSpare::AtOnce);
            Wal::open(Arc::new(files.clone()), Path::new(DIR), ME, options, failures.clone())
                .unwrap()
                .0
        };
        let mut wal = open();
        for index in 1..=10 {
            wait(|done| wal.append(vec![entry(index)], done)).unwrap();
        }
        if !written_by_this_run {
            wal.shutdown();
            wal = open();
        }
        let first = Path::new(DIR).join("0000000000000001.wal");
        let bytes = files.bytes(&first).unwrap();
        let offset = bytes.windows(400).position(|bytes| bytes == &entry(3).1[..]).unwrap();
        files.flip(&first, offset + 123);
        let read = wal.read(1, 3, usize::MAX).unwrap();
        assert_eq!(read, [entry(1), entry(2)], "the others are well");
        let error = wal.read(2, 6, usize::MAX).unwrap_err();
        let WalError::Corrupt { path, offset: named, .. } = &error else { panic!("{error}") };
        assert_eq!((path, *named), (&first, offset as u64));
        assert!(
            error.to_string().contains("entry 3") && error.to_string().contains("remove this one")
        );
        let told = failures.0.lock().unwrap().drain(..).collect::<Vec<_>>();
        assert_eq!(told, [error.to_string()], "the member must end");
        wait(|done| wal.append(vec![entry(11)], done)).unwrap_err();
        wal.shutdown();
    }
}

/// The file of a segment that was let go of is written to again as another one. Somebody may still be reading there.
#[test]
fn what_is_purged_while_it_is_read_is_not_damage() {
    let files = CrashFiles::new();
    let failures = Arc::new(Failures::default());
    let options = options(PrepareSpare::AtOnce);
    let opened = Wal::open(Arc::new(files), Path::new(DIR), ME, options, failures.clone());
    let wal = opened.unwrap().0;
    let reader = wal.clone();
    let written = Arc::new(std::sync::atomic::AtomicU64::new(1));
    let (upto, over) = (Arc::clone(&written), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let ended = Arc::clone(&over);
    let reading = std::thread::spawn(move || {
        let order = std::sync::atomic::Ordering::Relaxed;
        let mut count = 0;
        while !ended.load(order) {
            let last = upto.load(order);
            for (index, payload) in reader.read(last.saturating_sub(40), last, usize::MAX).unwrap()
            {
                assert_eq!(payload, Bytes::from(index.to_le_bytes().repeat(50)));
                count += 1;
            }
        }
        count
    });
    for index in 1..=3000_u64 {
        let payload = Bytes::from(index.to_le_bytes().repeat(50));
        wait(|done| wal.append(vec![(index, payload)], done)).unwrap();
        written.store(index, std::sync::atomic::Ordering::Relaxed);
        if index % 30 == 0 {
            let mark = Mark { index: index - 5, data: Vec::new() };
            wait(|done| wal.purge(mark, done)).unwrap();
        }
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reading.join().unwrap() > 0, "it read something");
    assert!(failures.0.lock().unwrap().is_empty());
    wal.shutdown();
}

/// A log as version 0.1.0 wrote it: five segments of 8 KiB with a vote, appends, a truncation, a large entry and a purge.
#[test]
fn a_log_of_version_0_1_0_is_read_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wal-0.1.0.tar.gz");
    let unpacked = Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(dir.path()).status();
    assert!(unpacked.unwrap().success());
    let dir = dir.path().join("wal-0.1.0");
    let open = || {
        let options = options(PrepareSpare::Background);
        Wal::open(Arc::new(RealFiles), &dir, ME, options, Arc::new(Quiet)).unwrap()
    };
    let (wal, recovered) = open();
    assert_eq!(recovered.vote.as_deref(), Some(&b"vote 2"[..]));
    assert_eq!(recovered.committed.as_deref(), Some(&b"committed 2"[..]));
    assert_eq!(recovered.purged, Some(Mark { index: 17, data: b"purged 17".to_vec() }));
    assert_eq!((recovered.entries.clone(), recovered.torn_bytes), (18..45, 0));
    for (index, payload) in wal.read(0, u64::MAX, usize::MAX).unwrap() {
        let length = usize::try_from(100 + index * 3).unwrap();
        let expected = match index {
            ..=40 => vec![1; length],
            41 => vec![2; 9000],
            42 | 43 => vec![2; length],
            _ => Vec::new(),
        };
        assert_eq!(payload, expected, "entry {index}");
    }
    wait(|done| wal.append(vec![(45, Bytes::from_static(b"new"))], done)).unwrap();
    wal.shutdown();
    let (wal, recovered) = open();
    assert_eq!(recovered.entries, 18..46);
    wal.shutdown();
}

/// A crash between the beginning of a segment and its name leaves a file that takes room and means nothing.
#[test]
fn what_a_crash_left_of_a_new_segment_is_removed() {
    let files = CrashFiles::new();
    open(&files).unwrap().0.shutdown();
    let new = Path::new(DIR).join("new.wal");
    files.open(&new, true).unwrap().write_at(0, b"half a header").unwrap();
    let files = files.after_crash(Survival::Everything);
    open(&files).unwrap().0.shutdown();
    assert!(!files.exists(&new));
}
