//! Runs: what one commit changes among the nodes, in order, and how several of them make one.
//!
//! The first run has every node; each run behind it has what changed since. Rows are packed into chunks, because redb takes about as
//! long for a row as for a chunk, and rewrites a page of its tree for each row in it that changes.
//! Pure: bytes in, bytes out. How chunks are stored is the business of the tables.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::model::{DecodeError, Reader, Writer, walk_order};

/// A chunk is complete when it has so many bytes. With redb's own bytes it stays below 64 KiB: pages are powers of two. A row that
/// is larger is a chunk of its own.
pub(super) const CHUNK_BYTES: usize = 63 << 10;

const DROP: u8 = 0;
const PUT: u8 = 1;

/// Is `key` below `dir`, on any level?
fn is_below(key: &[u8], dir: &[u8]) -> bool {
    key.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Packs rows into chunks.
#[derive(Debug, Default)]
pub(super) struct Packer {
    rows: Writer,
}

impl Packer {
    /// Adds a row: the node at `key`, or that there is none.
    pub(super) fn push(&mut self, key: &[u8], node: Option<&[u8]>) {
        match node {
            Some(node) => self.rows.u8(PUT).bytes(key).bytes(node),
            None => self.rows.u8(DROP).bytes(key),
        };
    }

    /// Would a row of this size be too much for the chunk?
    pub(super) fn is_full_for(&self, key: &[u8], node: Option<&[u8]>) -> bool {
        /// The kind of the row, and two lengths.
        const OVERHEAD: usize = 11;
        let row = OVERHEAD + key.len() + node.map_or(0, <[u8]>::len);
        self.rows.length() > 0 && self.rows.length() + row > CHUNK_BYTES
    }

    /// The chunk, if there is anything in it.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let chunk = std::mem::take(&mut self.rows).finish();
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// Where a run's next chunk comes from: empty behind the last one.
pub(super) trait Chunks {
    /// What can go wrong.
    type Error;

    /// The next chunk; `None` behind the last one.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// What goes wrong when runs are merged.
#[derive(Debug)]
pub(super) enum MergeError<E> {
    /// A chunk could not be read.
    Read(E),
    /// A chunk is not what was written.
    Decode(DecodeError),
}

impl<E> From<DecodeError> for MergeError<E> {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

/// One run while it is read.
pub(super) struct Run<C> {
    chunks: C,
    /// Directories below which nothing is left of older runs, in order.
    emptied: Vec<Vec<u8>>,
    /// The first of them that may still matter.
    next_emptied: usize,
    chunk: Vec<u8>,
    /// Where the row behind the current one begins.
    next_row: usize,
    /// The current row's node, as a range of the chunk; empty also when there is none.
    node: std::ops::Range<usize>,
    /// Is there a node at the current key?
    is_put: bool,
}

impl<C: Chunks> Run<C> {
    /// A run before its first row. `emptied` is in order.
    pub(super) fn new(chunks: C, emptied: Vec<Vec<u8>>) -> Self {
        let (chunk, node) = (Vec::new(), 0..0);
        Self { chunks, emptied, next_emptied: 0, chunk, next_row: 0, node, is_put: false }
    }

    /// Goes to the next row and puts its key into `key`; `false` behind the last one.
    fn advance(&mut self, key: &mut Vec<u8>) -> Result<bool, MergeError<C::Error>> {
        while self.next_row == self.chunk.len() {
            let Some(chunk) = self.chunks.next().map_err(MergeError::Read)? else {
                return Ok(false);
            };
            (self.chunk, self.next_row) = (chunk, 0);
        }
        let mut rows = Reader::new(&self.chunk[self.next_row..]);
        let kind = rows.u8("kind of a row")?;
        if kind > PUT {
            return Err(DecodeError::Unknown { what: "kind of a row", found: kind.into() }.into());
        }
        let before = std::mem::take(key);
        let found = rows.bytes("key of a row")?;
        if !before.is_empty() && walk_order(&before, found) != Ordering::Less {
            return Err(DecodeError::Malformed("order of rows").into());
        }
        *key = before;
        key.clear();
        key.extend_from_slice(found);
        self.is_put = kind == PUT;
        let length = if self.is_put { rows.bytes("node of a row")?.len() } else { 0 };
        self.next_row = self.chunk.len() - rows.length();
        self.node = self.next_row - length..self.next_row;
        Ok(true)
    }

    /// Does this run say that nothing older is left at `key`, because of a directory above it? Keys come in order.
    fn empties(&mut self, key: &[u8]) -> bool {
        while let Some(dir) = self.emptied.get(self.next_emptied) {
            if is_below(key, dir) {
                return true;
            }
            // A directory's own key comes before what is below it.
            if walk_order(key, dir) != Ordering::Greater {
                return false;
            }
            self.next_emptied += 1;
        }
        false
    }
}

/// The key of a run's current row. The smallest is the greatest of the heap; of two runs with the same key, the newer.
#[derive(PartialEq, Eq)]
struct Head {
    key: Vec<u8>,
    run: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        walk_order(&other.key, &self.key).then(self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Calls `visit` with each node that is left when `runs`, oldest first, have been put on top of each other; in the order of a walk.
///
/// # Errors
/// When a chunk cannot be read, and what `visit` returns.
pub(super) fn merge<C: Chunks, E: From<MergeError<C::Error>>>(
    mut runs: Vec<Run<C>>,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut heads = BinaryHeap::with_capacity(runs.len());
    for (number, run) in runs.iter_mut().enumerate() {
        let mut key = Vec::new();
        if run.advance(&mut key)? {
            heads.push(Head { key, run: number });
        }
    }
    let mut last: Option<Vec<u8>> = None;
    while let Some(mut head) = heads.peek_mut() {
        // An older run's row for the key that was just seen does not count.
        let is_older = last.as_ref().is_some_and(|last| *last == head.key);
        let (run, newer) = (head.run, head.run + 1);
        if !is_older {
            let is_emptied = runs[newer..].iter_mut().any(|newer| newer.empties(&head.key));
            let row = &runs[run];
            if row.is_put && !is_emptied {
                visit(&head.key, &row.chunk[row.node.clone()])?;
            }
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(&head.key);
        }
        if !runs[run].advance(&mut head.key)? {
            PeekMut::pop(head);
        }
    }
    Ok(())
}

/// Directories of one run, as stored.
pub(super) fn encode_emptied(dirs: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Writer::default();
    for dir in dirs {
        out.bytes(dir);
    }
    out.finish()
}

/// The same, read.
///
/// # Errors
/// When it is malformed.
pub(super) fn decode_emptied(bytes: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let (mut input, mut dirs) = (Reader::new(bytes), Vec::new());
    while !input.is_empty() {
        dirs.push(input.bytes("emptied directory")?.to_vec());
    }
    Ok(dirs)
}

/// Calls `visit` with the records of a chunk of events whose first has the number `first`.
///
/// # Errors
/// When the chunk is malformed, and what `visit` returns.
pub(super) fn each_event<E: From<DecodeError>>(
    first: u64,
    chunk: &[u8],
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let (mut input, mut number) = (Reader::new(chunk), first);
    while !input.is_empty() {
        visit(number, input.bytes("event")?)?;
        number = number.checked_add(1).ok_or(DecodeError::Malformed("number of an event"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    impl Chunks for std::vec::IntoIter<Vec<u8>> {
        type Error = Infallible;

        fn next(&mut self) -> Result<Option<Vec<u8>>, Infallible> {
            Ok(Iterator::next(self))
        }
    }

    type TestRun = Run<std::vec::IntoIter<Vec<u8>>>;
    type Nodes = Vec<(Vec<u8>, Vec<u8>)>;

    /// What a run says, before it is packed.
    type Said = (Vec<String>, Vec<(String, Option<Vec<u8>>)>);

    fn run((mut emptied, mut rows): Said, rows_of_a_chunk: usize) -> TestRun {
        rows.sort_by(|(one, _), (other, _)| walk_order(one.as_bytes(), other.as_bytes()));
        rows.dedup_by(|(one, _), (other, _)| one == other);
        emptied.sort_by(|one, other| walk_order(one.as_bytes(), other.as_bytes()));
        let mut chunks = Vec::new();
        for rows in rows.chunks(rows_of_a_chunk) {
            let mut packer = Packer::default();
            for (key, node) in rows {
                packer.push(key.as_bytes(), node.as_deref());
            }
            chunks.extend(packer.take());
        }
        let emptied: Vec<_> = emptied.into_iter().map(String::into_bytes).collect();
        Run::new(chunks.into_iter(), decode_emptied(&encode_emptied(&emptied)).unwrap())
    }

    fn merged(runs: Vec<TestRun>) -> Result<Nodes, MergeError<Infallible>> {
        let mut found = Vec::new();
        merge(runs, |key, node| {
            found.push((key.to_vec(), node.to_vec()));
            Ok::<_, MergeError<Infallible>>(())
        })?;
        Ok(found)
    }

    fn said() -> impl Strategy<Value = Said> {
        let key = "(/[a.-]{1,2}){1,3}";
        let node = prop::option::of(prop::collection::vec(any::<u8>(), 0..3));
        let rows = prop::collection::vec((key, node), 0..12);
        (prop::collection::vec("(/[a.-]{1,2}){1,2}", 0..3), rows)
    }

    proptest! {
        #[test]
        fn runs_are_what_their_rows_make_one_after_the_other(
            all in prop::collection::vec(said(), 0..5),
            rows_of_a_chunk in 1usize..4,
        ) {
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            for (emptied, rows) in &all {
                model.retain(|key, _| !emptied.iter().any(|dir| is_below(key, dir.as_bytes())));
                let mut seen = std::collections::BTreeSet::new();
                // Of two rows for one key the sort above keeps the first.
                for (key, node) in rows.iter().filter(|(key, _)| seen.insert(key.clone())) {
                    match node {
                        Some(node) => model.insert(key.clone().into_bytes(), node.clone()),
                        None => model.remove(key.as_bytes()),
                    };
                }
            }
            let runs = all.into_iter().map(|said| run(said, rows_of_a_chunk)).collect();
            let found = merged(runs).unwrap();
            prop_assert!(found.is_sorted_by(|(one, _), (other, _)| walk_order(one, other) == Ordering::Less));
            prop_assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), model);
        }

        #[test]
        fn any_bytes_are_read_or_refused(chunks in prop::collection::vec(prop::collection::vec(0u8..9, 0..20), 0..4)) {
            let runs = chunks.iter().map(|chunk| Run::new(vec![chunk.clone()].into_iter(), Vec::new()));
            let _ = merged(runs.collect());
            for chunk in &chunks {
                let _ = decode_emptied(chunk);
                let _ = each_event(u64::MAX - 1, chunk, |_, _| Ok::<_, DecodeError>(()));
            }
        }
    }

    #[test]
    fn rows_that_are_not_in_order_are_refused() {
        for second in ["/a", "/b"] {
            let mut packer = Packer::default();
            for key in ["/b", second] {
                packer.push(key.as_bytes(), None);
            }
            let chunk = packer.take().unwrap();
            let refused = merged(vec![Run::new(vec![chunk].into_iter(), Vec::new())]).unwrap_err();
            assert!(matches!(refused, MergeError::Decode(DecodeError::Malformed("order of rows"))));
        }
    }

    #[test]
    fn a_chunk_is_full_before_it_is_too_large_and_never_when_it_is_empty() {
        let mut packer = Packer::default();
        let (large, small) = (vec![7; 2 * CHUNK_BYTES], vec![7; CHUNK_BYTES / 3]);
        assert!(!packer.is_full_for(b"/k", Some(&large)));
        let mut rows = 0;
        while !packer.is_full_for(b"/k", Some(&small)) {
            packer.push(b"/k", Some(&small));
            rows += 1;
        }
        assert_eq!(rows, 2);
        assert!(packer.take().unwrap().len() <= CHUNK_BYTES);
        assert!(packer.take().is_none());
    }
}
