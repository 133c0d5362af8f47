//! Records of a store in blocks: how a whole store travels to another member, and into a backup file.
//!
//! Owns: the bytes of a block. Never knows: where blocks go, how they are framed.

use std::ops::ControlFlow;

use crate::model::{DecodeError, KeyPath, Reader, StoreIndex, Writer};
use crate::mvcc;
use crate::store::Store;
use crate::store::snapshot::{Loader, Position, Record};

const NODE: u8 = 0;
const EVENT: u8 = 1;
const REVISION: u8 = 2;

/// What was in blocks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Files and directories, hidden ones included.
    pub nodes: u64,
    /// Slots of the history.
    pub events: u64,
    /// Changes of the v3 key space.
    pub revisions: u64,
}

/// A record of a block, not decoded any further.
#[derive(Clone, Debug)]
enum RawRecord<'a> {
    Node { key: &'a [u8], record: &'a [u8] },
    Event { index: StoreIndex, record: &'a [u8] },
    Revision { position: mvcc::Position, record: &'a [u8] },
}

impl<'a> RawRecord<'a> {
    fn read(input: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match input.u8("record kind")? {
            NODE => Ok(Self::Node { key: input.bytes("key")?, record: input.bytes("node")? }),
            EVENT => {
                let index = StoreIndex(input.u64("event index")?);
                Ok(Self::Event { index, record: input.bytes("event")? })
            }
            REVISION => {
                let position = mvcc::Position::decode(input)?;
                Ok(Self::Revision { position, record: input.bytes("change")? })
            }
            found => Err(DecodeError::Unknown { what: "record kind", found: found.into() }),
        }
    }
}

impl Store {
    /// The records behind `after`, or from the first on: at least one, then as many as make a block of about `bytes_max`. And
    /// where the last of them stands; `None` when there are none left. A record may be far larger than a block.
    pub fn block_after(
        &self,
        after: Option<&Position>,
        bytes_max: usize,
    ) -> (Vec<u8>, Option<Position>) {
        let mut out = Writer::with_capacity(bytes_max + bytes_max / 8);
        let mut last = None;
        let _ = self.records_after(after, &mut |record| {
            last = Some(match record {
                Record::Node(path, bytes) => {
                    out.u8(NODE).bytes(path.as_bytes()).bytes(&bytes);
                    Position::Node(path)
                }
                Record::Event(index, bytes) => {
                    out.u8(EVENT).u64(index.0).bytes(&bytes);
                    Position::Event(index)
                }
                Record::Revision(position, bytes) => {
                    position.encode(out.u8(REVISION));
                    out.bytes(&bytes);
                    Position::Revision(position)
                }
            });
            if out.length() >= bytes_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        (out.finish(), last)
    }
}

impl Loader {
    /// Adds the records of a block; returns where the last of them stands.
    ///
    /// # Errors
    /// When the block or a record in it is malformed, or does not follow the one before.
    pub fn block(&mut self, block: &[u8]) -> Result<Option<Position>, DecodeError> {
        let mut input = Reader::new(block);
        let mut last = None;
        while !input.is_empty() {
            last = Some(match RawRecord::read(&mut input)? {
                RawRecord::Node { key, record } => {
                    self.node(key, record)?;
                    Position::Node(KeyPath::clean(key))
                }
                RawRecord::Event { index, record } => {
                    self.event(index, record)?;
                    Position::Event(index)
                }
                RawRecord::Revision { position, record } => {
                    self.revision(record)?;
                    Position::Revision(position)
                }
            });
        }
        Ok(last)
    }
}

impl RecordCounts {
    /// Counts the records of a block without decoding them.
    ///
    /// # Errors
    /// When the block is malformed.
    pub fn add(&mut self, block: &[u8]) -> Result<(), DecodeError> {
        let mut input = Reader::new(block);
        while !input.is_empty() {
            match RawRecord::read(&mut input)? {
                RawRecord::Node { .. } => self.nodes += 1,
                RawRecord::Event { .. } => self.events += 1,
                RawRecord::Revision { .. } => self.revisions += 1,
            }
        }
        Ok(())
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.nodes + self.events + self.revisions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogTime;
    use crate::store::{Command, HistoryLimits, Write};

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 1000, bytes_max: 1 << 20 };

    #[test]
    fn blocks_of_any_size_make_the_same_store() {
        let mut store = Store::new(LIMITS);
        for number in 0..50 {
            let write =
                Write { value: vec![7; number].into(), dir: false, ttl: None, refresh: false };
            let path = KeyPath::from(format!("/d{}/_{number}", number % 7).as_str());
            store.apply(LogTime(1), &Command::Set { path, write });
        }
        for bytes_max in [1, 100, 1000, 1 << 20] {
            let mut loader = Loader::new(LIMITS, &store.header()).unwrap();
            let (mut counts, mut after, mut blocks) = (RecordCounts::default(), None, 0);
            loop {
                let (block, last) = store.block_after(after.as_ref(), bytes_max);
                assert_eq!(block.is_empty(), last.is_none());
                counts.add(&block).unwrap();
                assert_eq!(loader.block(&block).unwrap(), last);
                blocks += 1;
                let Some(last) = last else { break };
                after = Some(last);
            }
            assert_eq!(
                counts,
                RecordCounts { nodes: store.nodes_count(), events: 50, revisions: 0 }
            );
            assert!(blocks > 1 + 3000 / bytes_max.max(60), "{blocks} blocks of {bytes_max}");
            let read = loader.finish().unwrap();
            assert_eq!(read.digest(), store.digest());
            read.check();
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let store = Store::new(LIMITS);
        for block in [&[2][..], &[NODE], &[NODE, 2, b'/'], &[EVENT, 1, 0]] {
            let mut loader = Loader::new(LIMITS, &store.header()).unwrap();
            assert!(loader.block(block).is_err(), "{block:?}");
            assert!(RecordCounts::default().add(block).is_err(), "{block:?}");
        }
    }
}
