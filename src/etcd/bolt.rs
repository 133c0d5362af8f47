//! Files of bbolt, such as etcd's version 3 store, `snap/db`.
//!
//! Owns: pages and buckets of such a file, as far as they have to be walked to read what is in them; `write` makes one. Never knows:
//! where the bytes come from; what keys and values mean (`buckets`).
//! Holds: each page is read once at most, and one at a time is in memory; what does not fit is damage, and nothing panics.
//!
//! ```text
//! file   = page 0 | page 1 | ...                        all of one size; a page may flow over into those behind it
//! page   = id u64, kind u16, count u16, overflow u32, elements, keys and values
//! page 0 = meta, page 1 = meta: the valid one with the higher transaction counts
//! meta   = magic u32, version u32, size of a page u32, flags u32, root u64, sequence u64, free pages u64, pages u64, transaction u64,
//!          FNV-1a u64 of all before
//! branch = { position u32, bytes of the key u32, page u64 } ...
//! leaf   = { flags u32, position u32, bytes of the key u32, bytes of the value u32 } ...
//! bucket = a value in the root's pages: root u64, sequence u64; when the root is zero, a page follows right here
//! ```
//!
//! Numbers are little-endian; a position counts from its element. Only meta pages have a checksum. A transaction writes other pages
//! than those of the one before it, and its meta page last: what a crash cuts off is as if it had not begun.

mod write;

use thiserror::Error;

pub use write::BoltWriter;

/// Before each page.
const PAGE_HEAD: usize = 16;
/// Each place of a key in a page.
const ELEMENT: usize = 16;
/// The meta page without its checksum.
const META: usize = 56;
const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;
/// Sizes that a page can have, by their exponents.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 9..=16;
/// The first page that is none of meta.
const FIRST_PAGE: u64 = 2;
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
const PAGE_BYTES_MAX: u64 = 64 << 20;

/// Why the file cannot be read.
#[derive(Debug, Error)]
pub enum BoltError {
    /// It is something else, or neither of its meta pages is valid.
    #[error("it is no file of bbolt, or both of its meta pages are damaged")]
    NoBolt,
    /// A page is not what it should be.
    #[error("page {0} is damaged")]
    Page(u64),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// What it is called.
    pub name: Vec<u8>,
    /// What stands at its name.
    head: Vec<u8>,
}

/// A file that is open.
#[derive(Debug)]
pub struct Bolt<R> {
    read: R,
    size: u32,
    meta: Meta,
    /// So many may still be read: in a damaged file pages can lead in a circle.
    pages_left: u64,
}

/// Takes a key and its value.
pub type Visit<'a, E> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), E>;

/// Takes the flags of an element, its key and its value.
type VisitAll<'a, E> = &'a mut dyn FnMut(u32, &[u8], &[u8]) -> Result<(), E>;

impl<R: FnMut(u64, usize) -> std::io::Result<Vec<u8>>> Bolt<R> {
    /// Opens the file that `read` reads, from an offset and as many bytes as are asked for.
    ///
    /// # Errors
    /// See [`BoltError`].
    pub fn open(mut read: R) -> Result<Self, BoltError> {
        let (size, meta) = newest(&mut read)?;
        Ok(Self { read, size, meta, pages_left: meta.pages })
    }

    /// Bytes of all pages.
    pub fn bytes(&self) -> u64 {
        self.meta.pages.saturating_mul(self.size.into())
    }

    /// All buckets in the order of their names; those inside of others are left out.
    ///
    /// # Errors
    /// See [`BoltError`].
    pub fn buckets(&mut self) -> Result<Vec<Bucket>, BoltError> {
        let mut buckets = Vec::new();
        self.pages(self.meta.root, &mut |flags, name, head| {
            if flags & BUCKET != 0 {
                buckets.push(Bucket { name: name.to_vec(), head: head.to_vec() });
            }
            Ok::<_, BoltError>(())
        })?;
        Ok(buckets)
    }

    /// Calls `visit` with all that is in a bucket, in the order of the keys; once for each bucket.
    ///
    /// # Errors
    /// See [`BoltError`]; and what `visit` says.
    pub fn each<E: From<BoltError>>(
        &mut self,
        bucket: &Bucket,
        visit: Visit<'_, E>,
    ) -> Result<(), E> {
        let root = number::<8>(&bucket.head, 0).ok_or(BoltError::Page(0))?;
        let visit: VisitAll<'_, E> = &mut |flags, key, value| match flags & BUCKET {
            0 => visit(key, value),
            _ => Err(BoltError::Page(root).into()),
        };
        if root != 0 {
            return self.pages(root, visit);
        }
        let inline = bucket.head.get(BUCKET_HEAD..).ok_or(BoltError::Page(0))?;
        if number::<2>(inline, 8) != Some(LEAF.into()) {
            return Err(BoltError::Page(0).into());
        }
        let mut last = None;
        elements(0, inline, &mut in_order(0, &mut last, visit)).map(drop)
    }

    /// Calls `visit` with all that is below a page.
    fn pages<E: From<BoltError>>(&mut self, id: u64, visit: VisitAll<'_, E>) -> Result<(), E> {
        let mut last = None;
        self.walk(id, 0, &mut last, visit)
    }

    fn walk<E: From<BoltError>>(
        &mut self,
        id: u64,
        depth: usize,
        last: &mut Option<Vec<u8>>,
        visit: VisitAll<'_, E>,
    ) -> Result<(), E> {
        if depth >= DEPTH_MAX {
            return Err(BoltError::Page(id).into());
        }
        let page = self.page(id)?;
        let below = elements(id, &page, &mut in_order(id, last, visit))?;
        drop(page);
        below.into_iter().try_for_each(|page| self.walk(page, depth + 1, last, visit))
    }

    /// The bytes of a page with those that it flows over into.
    fn page(&mut self, id: u64) -> Result<Vec<u8>, BoltError> {
        let damaged = || BoltError::Page(id);
        if !(FIRST_PAGE..self.meta.pages).contains(&id) {
            return Err(damaged());
        }
        let size = u64::from(self.size);
        let offset = id.checked_mul(size).ok_or_else(damaged)?;
        let length = |bytes: u64| usize::try_from(bytes).map_err(|_| damaged());
        let page = (self.read)(offset, length(size)?)?;
        let overflow = number::<4>(&page, 12).ok_or_else(damaged)?;
        let is_itself = number::<8>(&page, 0) == Some(id);
        if !is_itself || id + overflow >= self.meta.pages {
            return Err(damaged());
        }
        self.pages_left = self.pages_left.checked_sub(1 + overflow).ok_or_else(damaged)?;
        if overflow == 0 {
            return Ok(page);
        }
        let whole = (1 + overflow) * size;
        if whole > PAGE_BYTES_MAX {
            return Err(damaged());
        }
        Ok((self.read)(offset, length(whole)?)?)
    }
}

/// Passes on what comes behind what came last.
fn in_order<'a, E: From<BoltError>>(
    page: u64,
    last: &'a mut Option<Vec<u8>>,
    visit: VisitAll<'a, E>,
) -> impl FnMut(u32, &[u8], &[u8]) -> Result<(), E> {
    move |flags, key, value| {
        match last {
            Some(last) if **last >= *key => return Err(BoltError::Page(page).into()),
            Some(last) => key.clone_into(last),
            None => *last = Some(key.to_vec()),
        }
        visit(flags, key, value)
    }
}

/// Calls `visit` with what is in a page; returns the pages below it.
fn elements<E: From<BoltError>>(
    id: u64,
    page: &[u8],
    visit: VisitAll<'_, E>,
) -> Result<Vec<u64>, E> {
    let damaged = || E::from(BoltError::Page(id));
    let kind = number::<2>(page, 8).and_then(|kind| u16::try_from(kind).ok());
    let count = number::<2>(page, 10).and_then(|count| usize::try_from(count).ok());
    let mut below = Vec::new();
    for place in 0..count.ok_or_else(damaged)? {
        let at = PAGE_HEAD + place * ELEMENT;
        match kind {
            Some(BRANCH) => below.push(number::<8>(page, at + 8).ok_or_else(damaged)?),
            Some(LEAF) => {
                let (flags, key, value) = element(page, at).ok_or_else(damaged)?;
                visit(flags, key, value)?;
            }
            _ => return Err(damaged()),
        }
    }
    Ok(below)
}

/// The element of a leaf: flags, key, value.
fn element(page: &[u8], at: usize) -> Option<(u32, &[u8], &[u8])> {
    let of = |field: usize| number::<4>(page, at + field);
    let flags = u32::try_from(of(0)?).ok()?;
    let mut ends = [0; 3];
    let mut end = at;
    for (field, to) in [4, 8, 12].into_iter().zip(&mut ends) {
        end = end.checked_add(usize::try_from(of(field)?).ok()?)?;
        *to = end;
    }
    let [start, middle, end] = ends;
    Some((flags, page.get(start..middle)?, page.get(middle..end)?))
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
    read: impl FnMut(u64, usize) -> std::io::Result<Vec<u8>>,
) -> Result<Summary, BoltError> {
    let mut bolt = Bolt::open(read)?;
    let mut summary = Summary { bytes: bolt.bytes(), ..Summary::default() };
    for bucket in bolt.buckets()? {
        summary.hash = crc32c::crc32c_append(summary.hash, &bucket.name);
        bolt.each(&bucket, &mut |key, value| {
            summary.hash = crc32c::crc32c_append(summary.hash, key);
            summary.hash = crc32c::crc32c_append(summary.hash, value);
            summary.keys += 1;
            if let (b"key", Some(Ok(main))) =
                (&bucket.name[..], key.get(..8).map(<[u8; 8]>::try_from))
            {
                summary.revision = i64::from_be_bytes(main);
            }
            Ok::<_, BoltError>(())
        })?;
    }
    Ok(summary)
}

/// The size of a page, and the newest of the two meta pages. Where the first one cannot be read, nothing says where the second is:
/// it is looked for at each size that a page can have.
fn newest(
    read: &mut impl FnMut(u64, usize) -> std::io::Result<Vec<u8>>,
) -> Result<(u32, Meta), BoltError> {
    let mut at = |offset: u32| match read(offset.into(), PAGE_HEAD + META + 8) {
        Ok(page) => Ok(meta(&page).filter(|meta| offset == 0 || meta.size == offset)),
        // A file may end here.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    };
    let first = at(0)?;
    let second = match first {
        Some(first) => at(first.size)?,
        None => {
            let mut found = None;
            for exponent in PAGE_SIZES {
                found = found.or(at(1 << exponent)?);
            }
            found
        }
    };
    let newest = [first, second].into_iter().flatten().max_by_key(|meta| meta.txid);
    newest.map(|newest| (newest.size, newest)).ok_or(BoltError::NoBolt)
}

/// FNV-1a, with 64 bits.
fn sum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    /// Of a page.
    size: u32,
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

/// A meta page, if it is valid.
fn meta(page: &[u8]) -> Option<Meta> {
    let meta = page.get(PAGE_HEAD..)?;
    let right = number::<4>(meta, 0)? == u64::from(MAGIC)
        && number::<4>(meta, 4)? == u64::from(VERSION)
        && number::<8>(meta, META)? == sum(meta.get(..META)?);
    let size = u32::try_from(number::<4>(meta, 8)?).ok()?;
    let is_size = size.is_power_of_two() && PAGE_SIZES.contains(&size.trailing_zeros());
    let (root, pages, txid) =
        (number::<8>(meta, 16)?, number::<8>(meta, 40)?, number::<8>(meta, 48)?);
    (right && is_size).then_some(Meta { size, root, pages, txid })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{self, Cursor};

    use proptest::prelude::*;

    use super::*;

    type Held = BTreeMap<Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>>;

    /// Reads from memory, as far as there is something.
    fn reader(file: &[u8]) -> impl FnMut(u64, usize) -> io::Result<Vec<u8>> + '_ {
        |offset, length| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
            let end = start.saturating_add(length).min(file.len());
            Ok(file[start..end].to_vec())
        }
    }

    fn written(held: &Held) -> Vec<u8> {
        let mut writer = BoltWriter::new(Cursor::new(Vec::new())).unwrap();
        for (name, entries) in held {
            let entries = entries.iter().map(|(key, value)| (&key[..], &value[..]));
            writer.bucket(name, entries).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn read(file: &[u8]) -> Result<Held, BoltError> {
        let mut bolt = Bolt::open(reader(file))?;
        let mut held = Held::new();
        for bucket in bolt.buckets()? {
            let mut entries = Vec::new();
            bolt.each(&bucket, &mut |key, value| {
                entries.push((key.to_vec(), value.to_vec()));
                Ok::<_, BoltError>(())
            })?;
            held.insert(bucket.name, entries);
        }
        Ok(held)
    }

    /// Buckets of `count` entries each, whose values have so many bytes.
    fn held(counts: &[(usize, usize)]) -> Held {
        let bucket = |(count, bytes): &(usize, usize)| {
            let entry = |n: usize| (n.to_be_bytes().to_vec(), vec![n.to_le_bytes()[0]; *bytes]);
            (0..*count).map(entry).collect()
        };
        counts
            .iter()
            .enumerate()
            .map(|(n, of)| (format!("b{n}").into_bytes(), bucket(of)))
            .collect()
    }

    /// Gives the meta page at `page` this transaction.
    fn transact(file: &mut [u8], page: usize, txid: u64) {
        let at = page * 4096 + PAGE_HEAD;
        file[at + 48..at + 56].copy_from_slice(&txid.to_le_bytes());
        let sum = sum(&file[at..at + META]);
        file[at + META..at + META + 8].copy_from_slice(&sum.to_le_bytes());
    }

    #[test]
    fn what_is_no_file_of_bbolt_is_told() {
        for file in [&[][..], &[0; 100], &[0xff; 10_000]] {
            assert!(matches!(read(file), Err(BoltError::NoBolt)));
        }
        let missing = |_: u64, _: usize| Err(io::ErrorKind::UnexpectedEof.into());
        assert!(matches!(Bolt::open(missing), Err(BoltError::NoBolt)));
        let broken = |_: u64, _: usize| Err(io::ErrorKind::PermissionDenied.into());
        assert!(matches!(Bolt::open(broken), Err(BoltError::Io(_))));
    }

    #[test]
    fn small_and_large_buckets_and_values_are_read() {
        // Empty, where its name stands, one page, two levels, three levels, values over several pages.
        for counts in
            [&[(0, 0)][..], &[(3, 10), (0, 0), (40, 30), (1000, 20), (40_000, 9), (7, 100_000)]]
        {
            let held = held(counts);
            let file = written(&held);
            assert_eq!(read(&file).unwrap(), held);
            let summary = summary(reader(&file)).unwrap();
            let keys: usize = counts.iter().map(|(count, _)| count).sum();
            assert_eq!((summary.keys, summary.bytes), (keys as u64, file.len() as u64));
        }
    }

    #[test]
    fn the_newest_valid_meta_page_counts() {
        let held = held(&[(3, 10)]);
        let mut file = written(&held);
        // The newer one leads nowhere: it is the one that is read, wherever it is.
        for newer in [0, 1] {
            let mut file = file.clone();
            let at = newer * 4096 + PAGE_HEAD;
            file[at + 16..at + 24].copy_from_slice(&99_u64.to_le_bytes());
            transact(&mut file, newer, 7);
            assert!(matches!(read(&file), Err(BoltError::Page(99))));
            // A crash that cut it off leaves the older one.
            for torn in [at, at + 8, at + 17, at + 50, at + META] {
                let mut file = file.clone();
                file[torn] ^= 1;
                assert_eq!(read(&file).unwrap(), held, "{torn}");
            }
            file[at - PAGE_HEAD..at + META + 8].fill(0);
            assert_eq!(read(&file).unwrap(), held);
        }
        file[PAGE_HEAD + 50] ^= 1;
        file[4096 + PAGE_HEAD + 50] ^= 1;
        assert!(matches!(read(&file), Err(BoltError::NoBolt)));
    }

    #[test]
    fn torn_and_wrong_pages_are_named() {
        let held = held(&[(300, 60)]);
        let file = written(&held);
        // Page 2 is the first one of the bucket.
        let page = 2 * 4096;
        let refused = |change: &dyn Fn(&mut [u8])| {
            let mut file = file.clone();
            change(&mut file[page..page + 4096]);
            match read(&file).map(drop) {
                Err(BoltError::Page(page)) => page,
                other => panic!("{other:?}"),
            }
        };
        let second = |page: &mut [u8]| {
            let at = page.windows(8).position(|bytes| bytes == 1_u64.to_be_bytes()).unwrap();
            page[at + 7] = 0;
        };
        assert_eq!(refused(&|page| page.fill(0)), 2, "it was never written");
        assert_eq!(refused(&|page| page[0] = 3), 2, "it is another page");
        assert_eq!(refused(&|page| page[8] = 4), 2, "it is of another kind");
        assert_eq!(refused(&|page| page[11] = 1), 2, "it has more elements than fit");
        assert_eq!(refused(&|page| page[12] = 200), 2, "it flows over the end");
        assert!(refused(&|page| page[PAGE_HEAD] = 1) > 2, "a bucket in a bucket, by its root");
        assert_eq!(refused(&|page| page[PAGE_HEAD + 9] = 0xff), 2, "a key that is too long");
        assert_eq!(refused(&second), 2, "a key comes twice");
        let cut = read(&file[..page + 100]).unwrap_err();
        assert!(matches!(cut, BoltError::Page(_)), "{cut}");
    }

    #[test]
    fn pages_that_lead_in_a_circle_come_to_an_end() {
        let file = written(&held(&[(3000, 60)]));
        let branch = file.chunks(4096).position(|page| page[8] == 1).unwrap();
        let mut circle = file.clone();
        let at = branch * 4096 + PAGE_HEAD + 8;
        circle[at..at + 8].copy_from_slice(&(branch as u64).to_le_bytes());
        assert!(matches!(read(&circle), Err(BoltError::Page(_))));
        // All elements lead to one page: what it holds comes twice.
        let mut fan = file;
        let first = fan[at..at + 8].to_vec();
        fan[at + ELEMENT..at + ELEMENT + 8].copy_from_slice(&first);
        assert!(matches!(read(&fan), Err(BoltError::Page(_))));
    }

    proptest! {
        #[test]
        fn any_page_is_read_or_refused(page in any::<Vec<u8>>(), kind in 1_u8..3) {
            let mut page = page;
            if page.len() > 12 {
                (page[8], page[9], page[11]) = (kind, 0, 0);
            }
            let _ = elements(7, &page, &mut |_, _, _| Ok::<_, BoltError>(()));
            let _ = (read(&page), summary(reader(&page)));
        }

        #[test]
        fn a_file_with_changed_bytes_is_read_or_refused(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mut file = written(&held(&[(3, 5), (200, 60), (1, 9000)]));
            for (at, byte) in changes {
                let at = at.index(file.len());
                file[at] = byte;
            }
            let _ = read(&file);
        }
    }
}
