//! How much the version 3 store holds: `snap/db`, a file of bbolt.
//!
//! Owns: pages and buckets of that file, as far as they have to be walked to count keys. Never knows: files; what the keys mean.
//! Nothing is taken over from it: it is counted, so that nobody leaves it behind unknowingly.

use std::hash::{DefaultHasher, Hasher as _};

use thiserror::Error;

use crate::etcd::proto::{Fields, Value};

/// Before each page.
const PAGE_HEAD: usize = 16;
/// Each place of a key in a page.
const ELEMENT: usize = 16;
/// The meta page without its checksum.
const META: usize = 56;
const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;
/// Page sizes that are tried for the second meta page; the first says which it is.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65_536;
/// Kinds of pages.
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// Of an element: a bucket.
const BUCKET: u32 = 1;
/// Before the pages of a bucket that is small enough to stand where its name does.
const BUCKET_HEAD: usize = 16;
/// Pages in each other; a tree of a terabyte has fewer.
const DEPTH_MAX: usize = 32;
/// One page and its overflow pages; a value of version 3 is far smaller.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// A key of the bucket of keys with this length and last byte says that the key was deleted.
const TOMBSTONE: (usize, u8) = (18, b't');

/// What the file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Keys that are there, the newest revision of each counted.
    pub keys: u64,
    /// Leases.
    pub leases: u64,
    /// The last entry of the log that is in it.
    pub consistent_index: u64,
}

/// Why the file cannot be walked.
#[derive(Debug, Error)]
pub enum BoltError {
    /// It is something else.
    #[error("it is no file of bbolt")]
    NoBolt,
    /// A page is not what it should be.
    #[error("page {0} is damaged")]
    Page(u64),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Walks the file that `read` reads, from an offset and as many bytes as are asked for.
///
/// # Errors
/// See [`BoltError`].
pub fn count(
    mut read: impl FnMut(u64, usize) -> std::io::Result<Vec<u8>>,
) -> Result<Held, BoltError> {
    let (size, newest) = newest(&mut read)?;
    let mut walker = Walker { read, size, pages_left: newest.pages };
    let mut held = Held::default();
    let mut buckets = Vec::new();
    walker.walk(newest.root, 0, &mut |flags, key, value| {
        if flags & BUCKET != 0 && matches!(key, b"key" | b"lease" | b"meta") {
            buckets.push((key.to_vec(), value.to_vec()));
        }
    })?;
    for (name, head) in buckets {
        match &name[..] {
            b"key" => held.keys = walker.live_keys(&head)?,
            b"lease" => walker.bucket(&head, &mut |_, _, _| held.leases += 1)?,
            _ => walker.bucket(&head, &mut |_, key, value| {
                if let (b"consistent_index", Ok(bytes)) = (key, value.try_into()) {
                    held.consistent_index = u64::from_be_bytes(bytes);
                }
            })?,
        }
    }
    Ok(held)
}

/// What etcd's tool says of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// CRC-32C of the names of all buckets, their keys and values, in order.
    pub hash: u32,
    /// The last revision.
    pub revision: i64,
    /// Keys of all buckets.
    pub keys: u64,
    /// Bytes of all pages.
    pub bytes: u64,
}

/// Reads all of the file that `read` reads, from an offset and as many bytes as are asked for.
///
/// # Errors
/// See [`BoltError`].
pub fn summary(
    mut read: impl FnMut(u64, usize) -> std::io::Result<Vec<u8>>,
) -> Result<Summary, BoltError> {
    let (size, newest) = newest(&mut read)?;
    let bytes = newest.pages.saturating_mul(size.into());
    let mut walker = Walker { read, size, pages_left: newest.pages };
    let mut buckets = Vec::new();
    walker.walk(newest.root, 0, &mut |flags, name, head| {
        if flags & BUCKET != 0 {
            buckets.push((name.to_vec(), head.to_vec()));
        }
    })?;
    let mut summary = Summary { bytes, ..Summary::default() };
    for (name, head) in buckets {
        summary.hash = crc32c::crc32c_append(summary.hash, &name);
        walker.bucket(&head, &mut |_, key, value| {
            summary.hash = crc32c::crc32c_append(summary.hash, key);
            summary.hash = crc32c::crc32c_append(summary.hash, value);
            summary.keys += 1;
            if let (b"key", Some(Ok(main))) = (&name[..], key.get(..8).map(<[u8; 8]>::try_from)) {
                summary.revision = i64::from_be_bytes(main);
            }
        })?;
    }
    Ok(summary)
}

/// The size of a page, and the newest of the two meta pages.
fn newest(
    read: &mut impl FnMut(u64, usize) -> std::io::Result<Vec<u8>>,
) -> Result<(u32, Meta), BoltError> {
    let first = read(0, PAGE_HEAD + META + 8)?;
    let size = number::<4>(&first, PAGE_HEAD + 8).unwrap_or(0);
    let size = u32::try_from(size).ok().filter(|size| PAGE_SIZES.contains(size));
    let size = size.ok_or(BoltError::NoBolt)?;
    let second = read(size.into(), PAGE_HEAD + META + 8)?;
    let newest = [&first, &second].into_iter().filter_map(|page| meta(page)).max_by_key(|m| m.txid);
    newest.map(|newest| (size, newest)).ok_or(BoltError::NoBolt)
}

/// An empty version 3 store that has come as far as entry `index`.
pub fn empty(index: u64) -> Vec<u8> {
    const PAGE: usize = 4096;
    const META_PAGE: u16 = 4;
    const FREE_PAGE: u16 = 16;
    /// Where the list of free pages is, where the bucket of buckets is, and how many pages there are.
    const FREE: u64 = 2;
    const ROOT: u64 = 3;
    const PAGES: u64 = 4;
    let page = |id: u64, flags: u16, count: u16, body: &[u8]| {
        let mut page = head(id, flags, count);
        page.extend_from_slice(body);
        page.resize(PAGE, 0);
        page
    };
    let meta = |txid: u64| {
        let mut meta = Vec::with_capacity(META + 8);
        for word in [MAGIC, VERSION, 4096, 0] {
            meta.extend_from_slice(&word.to_le_bytes());
        }
        for number in [ROOT, 0, FREE, PAGES, txid] {
            meta.extend_from_slice(&number.to_le_bytes());
        }
        let sum = sum(&meta);
        meta.extend_from_slice(&sum.to_le_bytes());
        page(txid, META_PAGE, 0, &meta)
    };
    // A bucket that stands where its name does: no page of its own, no sequence, and then a page.
    let mut bucket = vec![0; BUCKET_HEAD];
    bucket.extend(head(0, LEAF, 1));
    bucket.extend(leaf(0, b"consistent_index", &index.to_be_bytes()));
    let buckets = page(ROOT, LEAF, 1, &leaf(BUCKET, b"meta", &bucket));
    [meta(0), meta(1), page(FREE, FREE_PAGE, 0, &[]), buckets].concat()
}

fn head(id: u64, flags: u16, count: u16) -> Vec<u8> {
    let mut head = id.to_le_bytes().to_vec();
    head.extend_from_slice(&flags.to_le_bytes());
    head.extend_from_slice(&count.to_le_bytes());
    head.resize(PAGE_HEAD, 0);
    head
}

/// The only element of a page, with its key and value.
fn leaf(flags: u32, key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("it is short");
    let mut leaf = Vec::new();
    for word in [flags, u32::try_from(ELEMENT).expect("it is short"), length(key), length(value)] {
        leaf.extend_from_slice(&word.to_le_bytes());
    }
    leaf.extend_from_slice(key);
    leaf.extend_from_slice(value);
    leaf
}

/// FNV-1a, with 64 bits.
fn sum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

struct Meta {
    root: u64,
    /// There are no pages from this one on.
    pages: u64,
    txid: u64,
}

/// `N` bytes of a little-endian number.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(N)?)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn meta(page: &[u8]) -> Option<Meta> {
    let meta = page.get(PAGE_HEAD..)?;
    let right = number::<4>(meta, 0)? == u64::from(MAGIC)
        && number::<4>(meta, 4)? == u64::from(VERSION)
        && number::<8>(meta, META)? == sum(meta.get(..META)?);
    let (root, pages, txid) =
        (number::<8>(meta, 16)?, number::<8>(meta, 40)?, number::<8>(meta, 48)?);
    right.then_some(Meta { root, pages, txid })
}

struct Walker<R> {
    read: R,
    size: u32,
    /// So many may still be read: in a damaged file pages can lead in a circle.
    pages_left: u64,
}

type Visit<'a> = &'a mut dyn FnMut(u32, &[u8], &[u8]);

impl<R: FnMut(u64, usize) -> std::io::Result<Vec<u8>>> Walker<R> {
    /// The bytes of a page with those that it flows over into.
    fn page(&mut self, id: u64) -> Result<Vec<u8>, BoltError> {
        self.pages_left = self.pages_left.checked_sub(1).ok_or(BoltError::Page(id))?;
        let size = u64::from(self.size);
        let offset = id.checked_mul(size).ok_or(BoltError::Page(id))?;
        let one = usize::try_from(size).unwrap_or(usize::MAX);
        let page = (self.read)(offset, one)?;
        let overflow = number::<4>(&page, 12).ok_or(BoltError::Page(id))?;
        if overflow == 0 {
            return Ok(page);
        }
        let whole = usize::try_from((overflow + 1) * size).unwrap_or(usize::MAX);
        if whole > PAGE_BYTES_MAX {
            return Err(BoltError::Page(id));
        }
        Ok((self.read)(offset, whole)?)
    }

    /// Calls `visit` with each key below a page.
    fn walk(&mut self, id: u64, depth: usize, visit: Visit<'_>) -> Result<(), BoltError> {
        let page = self.page(id)?;
        let below = elements(&page, visit).ok_or(BoltError::Page(id))?;
        if depth >= DEPTH_MAX {
            return Err(BoltError::Page(id));
        }
        for page in below {
            self.walk(page, depth + 1, visit)?;
        }
        Ok(())
    }

    /// The same of a bucket, from what stands at its name.
    fn bucket(&mut self, head: &[u8], visit: Visit<'_>) -> Result<(), BoltError> {
        let root = number::<8>(head, 0).ok_or(BoltError::Page(0))?;
        if root != 0 {
            return self.walk(root, 0, visit);
        }
        let inline = head.get(BUCKET_HEAD..).ok_or(BoltError::Page(0))?;
        elements(inline, visit).map(drop).ok_or(BoltError::Page(0))
    }

    /// Keys by revision come to keys that are there: those whose newest revision is none of a delete.
    fn live_keys(&mut self, head: &[u8]) -> Result<u64, BoltError> {
        let mut revisions = Vec::new();
        self.bucket(head, &mut |_, revision, value| {
            let deleted =
                (revision.len(), revision.last().copied()) == (TOMBSTONE.0, Some(TOMBSTONE.1));
            let mut hash = DefaultHasher::new();
            hash.write(name_of(value));
            // They come in the order of their revisions.
            revisions.push((hash.finish(), deleted));
        })?;
        revisions.sort_by_key(|(key, _)| *key);
        let newest = revisions.chunk_by(|(one, _), (other, _)| one == other);
        Ok(newest.filter(|all| all.last().is_some_and(|(_, deleted)| !deleted)).count() as u64)
    }
}

/// The key in a value of the bucket of keys.
fn name_of(value: &[u8]) -> &[u8] {
    match Fields::of(value).next_field() {
        Ok(Some((1, Value::Bytes(key)))) => key,
        Ok(_) | Err(_) => &[],
    }
}

/// Calls `visit` with the keys of a page; returns the pages below it. `None` when it is damaged.
fn elements(page: &[u8], visit: Visit<'_>) -> Option<Vec<u64>> {
    let flags = u16::try_from(number::<2>(page, 8)?).ok()?;
    let count = usize::try_from(number::<2>(page, 10)?).ok()?;
    let mut below = Vec::new();
    for place in 0..count {
        let at = PAGE_HEAD + place * ELEMENT;
        match flags {
            BRANCH => below.push(number::<8>(page, at + 8)?),
            LEAF => {
                let of = |field: usize| usize::try_from(number::<4>(page, at + field)?).ok();
                let (position, key, value) = (of(4)?, of(8)?, of(12)?);
                let start = at.checked_add(position)?;
                let middle = start.checked_add(key)?;
                let end = middle.checked_add(value)?;
                let flags = u32::try_from(number::<4>(page, at)?).ok()?;
                visit(flags, page.get(start..middle)?, page.get(middle..end)?);
            }
            _ => return None,
        }
    }
    Some(below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads from memory.
    fn reader(file: &[u8]) -> impl FnMut(u64, usize) -> std::io::Result<Vec<u8>> + '_ {
        |offset, length| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
            let end = start.saturating_add(length).min(file.len());
            Ok(file[start..end].to_vec())
        }
    }

    #[test]
    fn what_is_no_file_of_bbolt_is_told() {
        for file in [&[][..], &[0; 100], &[0xff; 10_000]] {
            assert!(matches!(count(reader(file)), Err(BoltError::NoBolt)));
        }
    }

    #[test]
    fn an_empty_store_is_empty_and_says_how_far_it_came() {
        let file = empty(0x0102_0304);
        let held = count(reader(&file)).unwrap();
        assert_eq!(held, Held { keys: 0, leases: 0, consistent_index: 0x0102_0304 });
        for at in [PAGE_HEAD + 16, 4096 + PAGE_HEAD + 16] {
            let mut one = file.clone();
            one[at] ^= 1;
            assert!(count(reader(&one)).is_ok(), "the other meta page counts");
        }
    }

    proptest! {
        #[test]
        fn any_page_is_read_or_refused(page in any::<Vec<u8>>(), kind in 1_u8..3) {
            let mut page = page;
            if page.len() > 12 {
                (page[8], page[9], page[11]) = (kind, 0, 0);
            }
            let _ = elements(&page, &mut |_, _, _| {});
            let _ = count(reader(&page));
            let _ = summary(reader(&page));
        }
    }
}
