//! A backup file, made block by block from a state that does not change.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::archive::{
    BLOCK, BLOCK_BYTES, END, End, FRAME_BYTES, HEAD, Head, MAGIC, VERSION,
    VERSION_WITHOUT_REVISIONS, crc_of,
};
use crate::model::{ClusterId, LogPosition, MemberId, WallTime};
use crate::store::{Position, RecordCounts, Store};

/// Writes the backup of one state, and holds on to that state until it is done.
pub struct Archiver {
    store: Store,
    version: u32,
    head: Option<Head>,
    after: Option<Position>,
    sum: Sha256,
    counts: RecordCounts,
    blocks: u64,
    done: bool,
}

impl Archiver {
    /// Begins the backup of `store`, the state at `position`, by `member` of `cluster` at a moment on its wall clock.
    pub fn new(
        store: Store,
        position: LogPosition,
        (cluster, member): (ClusterId, MemberId),
        at: WallTime,
    ) -> Self {
        let counts = RecordCounts {
            nodes: store.nodes_count(),
            events: store.history().len() as u64,
            revisions: store.mvcc().records_count(),
        };
        let version = if store.mvcc().is_untouched() { VERSION_WITHOUT_REVISIONS } else { VERSION };
        let head = Head {
            cluster,
            member,
            at,
            position,
            index: store.index(),
            counts,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            header: store.header(),
        };
        Self {
            store,
            version,
            head: Some(head),
            after: None,
            sum: Sha256::new(),
            counts,
            blocks: 0,
            done: false,
        }
    }

    /// The next bytes of the file, about 256 KiB; `None` behind the last.
    pub fn next_block(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = Vec::new();
        if let Some(head) = self.head.take() {
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(&self.version.to_le_bytes());
            frame(&mut out, HEAD, &head.encode(self.version));
        } else {
            let (block, last) = self.store.block_after(self.after.as_ref(), BLOCK_BYTES);
            if last.is_some() {
                self.after = last;
                self.blocks += 1;
                frame(&mut out, BLOCK, &block);
            } else {
                self.done = true;
                let sum = self.sum.clone().finalize().into();
                let end = End { counts: self.counts, blocks: self.blocks, sum };
                frame(&mut out, END, &end.encode(self.version));
            }
        }
        self.sum.update(&out);
        Some(Bytes::from(out))
    }
}

/// Appends a frame.
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("records are shorter than 4 GiB");
    out.reserve(FRAME_BYTES + payload.len());
    out.push(kind);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc_of(kind, length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}
