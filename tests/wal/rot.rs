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
pub(crate) struct Failures(pub(crate) Mutex<Vec<String>>);

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
