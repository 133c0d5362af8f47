//! Files of etcd that a fuzzer makes up.

use std::io::{self, Cursor};

use crate::etcd::buckets;
use crate::etcd::log::Log;
use crate::etcd::passwords::Hashing;
use crate::etcd::proto::Message;
use crate::etcd::replay::Replay;
use crate::etcd::snapshot::{self, Envelope};
use crate::etcd::wal::{Kind, SegmentWriter};
use crate::fuzz::Target;
use crate::mvcc::{Mvcc, Revision};
use crate::store::HistoryLimits;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "etcd_log", read: read_log },
    Target { name: "etcd_snapshot", read: read_snapshot },
    Target { name: "etcd_v3", read: read_version_three },
];

const LIMITS: HistoryLimits = HistoryLimits { events_max: 100, bytes_max: 1 << 16 };

/// As a segment, and as what stands in the records of one whose checksums are right: the first byte of each is its kind, the
/// second its length.
fn read_log(input: &[u8]) {
    replay(input);
    let mut writer = SegmentWriter::new(0, input.len().is_multiple_of(2));
    let mut rest = input;
    while let [kind, length, behind @ ..] = rest {
        let (data, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        let kind =
            [Kind::Metadata, Kind::State, Kind::Snapshot, Kind::Entry][usize::from(kind % 4)];
        writer.push(kind, data);
        rest = behind;
    }
    replay(&writer.finish());
}

/// What is replayed is a store, and its trees share one index.
fn replay(segment: &[u8]) {
    let mut log = Log::default();
    let _ = log.segment(segment, true);
    let entries = log.behind(0).unwrap_or_default();
    let mut replay = Replay::new(LIMITS);
    replay.take_version_three(Mvcc::default(), 0, Hashing::for_tests());
    for entry in entries {
        let data = &segment[entry.offset..entry.offset + entry.length];
        if replay.entry(entry.place.index, entry.kind, data).is_err() {
            break;
        }
    }
    let _ = replay.facts();
    let index = replay.index();
    let (store, _) = replay.finish();
    store.check();
    assert_eq!(store.index(), index);
}

/// As a file, and as the store in one.
fn read_snapshot(input: &[u8]) {
    if let Ok(envelope) = Envelope::open(input) {
        load(envelope.json);
    }
    load(input);
    let inner = Message::default().bytes(1, input).finish();
    let file =
        Message::default().varint(1, crc32c::crc32c(&inner).into()).bytes(2, &inner).finish();
    if let Ok(envelope) = Envelope::open(&file) {
        assert_eq!(envelope.json, input);
    }
}

fn load(json: &[u8]) {
    if let Ok(loaded) = snapshot::load(json, LIMITS) {
        loaded.keys.check();
        loaded.hidden.check();
        assert_eq!(loaded.keys.index(), loaded.hidden.index());
    }
}

fn read_version_three(input: &[u8]) {
    let stored = buckets::load(|offset, length| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(length).and_then(|end| input.get(start..end));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    });
    let Ok(stored) = stored else { return };
    stored.mvcc.check();
    // What is written of it is the same.
    let file = buckets::write(&stored.mvcc, stored.consistent_index, Cursor::new(Vec::new()));
    let file = file.expect("memory takes it").into_inner();
    let again = buckets::load(|offset, length| {
        let start = usize::try_from(offset).expect("it was just written");
        Ok(file[start..start + length].to_vec())
    });
    let again = again.expect("it was just written");
    assert_eq!(again.consistent_index, stored.consistent_index);
    assert_eq!(again.mvcc.revision(), stored.mvcc.revision());
    assert_eq!(again.mvcc.hash(Revision(0)), stored.mvcc.hash(Revision(0)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seed(name: &str) -> Vec<u8> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
        std::fs::read(folder.join(name)).expect("a seed")
    }

    #[test]
    fn the_seeds_are_what_they_should_be() {
        let small = seed("etcd_v3/small");
        let stored = buckets::load(|offset, length| {
            let start = usize::try_from(offset).expect("a small file");
            Ok(small[start..small.len().min(start + length)].to_vec())
        });
        let stored = stored.expect("it is whole");
        assert_eq!((stored.mvcc.revision().0, stored.mvcc.keys_count()), (5, 2));
        let mut log = Log::default();
        let segment = seed("etcd_log/three");
        log.segment(&segment, true).expect("it is whole");
        let mut replay = Replay::new(LIMITS);
        replay.take_version_three(Mvcc::default(), 0, Hashing::for_tests());
        for entry in log.behind(0).expect("all are there") {
            let data = &segment[entry.offset..entry.offset + entry.length];
            replay.entry(entry.place.index, entry.kind, data).expect("it is understood");
        }
        assert!(replay.mvcc().auth().enabled());
        assert_eq!((replay.mvcc().revision().0, replay.mvcc().keys_count()), (6, 4));
        assert_eq!(replay.done_three().map(|done| done.refused), Some(2));
    }

    proptest! {
        #[test]
        fn files_with_changed_bytes_are_read_or_refused(
            which in 0_usize..7,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let (name, read): (_, fn(&[u8])) = [
                ("etcd_log/basic", read_log as fn(&[u8])),
                ("etcd_log/unpadded", read_log),
                ("etcd_snapshot/whole", read_snapshot),
                ("etcd_snapshot/store", read_snapshot),
                ("etcd_v3/mixed", read_version_three),
                ("etcd_v3/small", read_version_three),
                ("etcd_log/three", read_log),
            ][which];
            let mut bytes = seed(name);
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            read(&bytes);
        }
    }
}
