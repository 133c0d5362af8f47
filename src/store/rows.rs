//! Node records on their way from a file into a tree, many at a time: decoded by any thread, put in their places by one.

use crate::model::DecodeError;
use crate::store::snapshot::decode_node;
use crate::store::tree::Node;

/// Records of nodes as they are read, each with its key.
#[derive(Debug, Default)]
pub struct NodeRecords {
    /// Key and record in turns.
    bytes: Vec<u8>,
    /// Where each key ends, and where its record does.
    ends: Vec<(usize, usize)>,
}

/// Nodes that have no places yet.
#[derive(Debug)]
pub struct DecodedNodes {
    bytes: Vec<u8>,
    /// Where the key begins and ends.
    nodes: Vec<(usize, usize, Node)>,
}

impl NodeRecords {
    /// Adds a record behind the others.
    pub fn push(&mut self, key: &[u8], record: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.ends.push((key_end, self.bytes.len()));
    }

    /// Bytes of all keys and records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Decodes them, which takes most of the time that it takes to load a node.
    ///
    /// # Errors
    /// When a record is malformed.
    pub fn decode(self) -> Result<DecodedNodes, DecodeError> {
        let mut nodes = Vec::with_capacity(self.ends.len());
        let mut begin = 0;
        for (key_end, end) in self.ends {
            nodes.push((begin, key_end, decode_node(&self.bytes[key_end..end])?));
            begin = end;
        }
        Ok(DecodedNodes { bytes: self.bytes, nodes })
    }
}

impl DecodedNodes {
    /// Each with its key, in the order of the records.
    pub(super) fn each<E>(
        self,
        mut visit: impl FnMut(&[u8], Node) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { bytes, nodes } = self;
        nodes.into_iter().try_for_each(|(begin, end, node)| visit(&bytes[begin..end], node))
    }
}
