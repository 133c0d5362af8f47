//! Records of a checkpoint that a fuzzer makes up. They also come from peers, as snapshots.

use crate::fuzz::Target;
use crate::model::{Reader, StoreIndex};
use crate::store::{Header, HistoryLimits, Loader};

pub(crate) const TARGETS: &[Target] = &[Target { name: "records", read: read_records }];

/// The header, then nodes, events and changes of the v3 key space, each with its length before it; the first two with key or index.
///
/// A store that was read can be written, and is the same then.
fn read_records(input: &[u8]) {
    let limits = HistoryLimits { events_max: 100, bytes_max: 1 << 16 };
    let mut input = Reader::new(input);
    let Ok(header) = input.bytes("header") else { return };
    let Ok(mut loader) = Loader::new(limits, &Header(header.to_vec())) else { return };
    while let Ok(kind) = input.u8("kind") {
        let read = match kind % 3 {
            0 => match (input.bytes("key"), input.bytes("node")) {
                (Ok(key), Ok(record)) => loader.node(key, record),
                _ => break,
            },
            1 => match (input.varint("index"), input.bytes("event")) {
                (Ok(index), Ok(record)) => loader.event(StoreIndex(index), record),
                _ => break,
            },
            _ => match input.bytes("change") {
                Ok(record) => loader.revision(record),
                Err(_) => break,
            },
        };
        if read.is_err() {
            return;
        }
    }
    let Ok(store) = loader.finish() else { return };
    let mut again = Loader::new(limits, &store.header()).expect("its own header");
    store.nodes(&mut |path, record| {
        again.node(path.as_bytes(), &record).expect("its own node");
    });
    let oldest = store.history().oldest();
    store.events_since(oldest, &mut |index, record| {
        again.event(index, &record).expect("its own event");
    });
    store.revisions(&mut |_, record| {
        again.revision(&record).expect("its own change");
    });
    store.mvcc().check();
    assert_eq!(again.finish().expect("its own records").digest(), store.digest());
}
