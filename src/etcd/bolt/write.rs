//! A file of bbolt, written from front to back.
//!
//! Owns: how entries are spread over pages. Holds: the meta pages come last; before them the file is none.

use std::io::{self, Seek, SeekFrom, Write};

use super::{
    BRANCH, BUCKET, BUCKET_HEAD, ELEMENT, FIRST_PAGE, LEAF, MAGIC, PAGE_HEAD, VERSION, sum,
};

/// Bytes of a page, as on most machines.
const PAGE: usize = 4096;
/// Larger buckets have pages of their own.
const INLINE_MAX: usize = PAGE / 4;
const META_PAGE: u16 = 4;
const FREE_PAGE: u16 = 16;

/// Writes buckets in the order of their names.
#[derive(Debug)]
pub struct BoltWriter<W> {
    out: W,
    /// The next page.
    next: u64,
    /// What stands at the names of the buckets so far.
    buckets: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Entries that are to stand in one page.
#[derive(Debug, Default)]
struct Page {
    entries: Vec<Entry>,
    bytes: usize,
}

/// What entries came to.
enum Leaves {
    /// They fit in this page, which is not written yet.
    One(Page),
    /// They are below this one.
    Below(u64),
}

impl Page {
    fn push(&mut self, entry: Entry) {
        self.bytes += ELEMENT + entry.key.len() + entry.value.len();
        self.entries.push(entry);
    }

    fn has_room(&self, key: &[u8], value: &[u8]) -> bool {
        let more = ELEMENT + key.len() + value.len();
        self.entries.is_empty() || PAGE_HEAD + self.bytes + more <= PAGE
    }
}

impl<W: Write + Seek> BoltWriter<W> {
    /// Begins an empty file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&[0; 2 * PAGE])?;
        Ok(Self { out, next: FIRST_PAGE, buckets: Vec::new() })
    }

    /// Writes a bucket; its entries come in the order of their keys, each once.
    ///
    /// # Errors
    /// When it cannot be written.
    ///
    /// # Panics
    /// When buckets or keys are not in order.
    pub fn bucket<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        name: &[u8],
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> io::Result<()> {
        assert!(self.buckets.last().is_none_or(|last| *last.key < *name), "buckets are in order");
        let entries = entries.into_iter().map(|(key, value)| Entry {
            key: key.as_ref().to_vec(),
            value: value.as_ref().to_vec(),
        });
        let mut value = vec![0; BUCKET_HEAD];
        match self.leaves(0, entries)? {
            Leaves::One(page) if PAGE_HEAD + page.bytes <= INLINE_MAX => {
                value.extend(laid_out(0, LEAF, 0, &page.entries));
            }
            Leaves::One(page) => {
                let root = self.page(LEAF, 0, &page.entries)?;
                value[..8].copy_from_slice(&root.to_le_bytes());
            }
            Leaves::Below(root) => value[..8].copy_from_slice(&root.to_le_bytes()),
        }
        self.buckets.push(Entry { key: name.to_vec(), value });
        Ok(())
    }

    /// Finishes the file, and returns where it was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        let buckets = std::mem::take(&mut self.buckets);
        let root = match self.leaves(BUCKET, buckets.into_iter())? {
            Leaves::One(page) => self.page(LEAF, BUCKET, &page.entries)?,
            Leaves::Below(root) => root,
        };
        let free = self.page(FREE_PAGE, 0, &[])?;
        let pages = self.next;
        self.out.seek(SeekFrom::Start(0))?;
        for transaction in 0..2_u64 {
            let mut meta = Vec::new();
            for word in [MAGIC, VERSION, 4096, 0] {
                meta.extend_from_slice(&word.to_le_bytes());
            }
            for number in [root, 0, free, pages, transaction] {
                meta.extend_from_slice(&number.to_le_bytes());
            }
            let sum = sum(&meta);
            meta.extend_from_slice(&sum.to_le_bytes());
            let mut page = head(transaction, META_PAGE, 0);
            page.append(&mut meta);
            page.resize(PAGE, 0);
            self.out.write_all(&page)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Writes leaves and what is above them.
    fn leaves(&mut self, flags: u32, entries: impl Iterator<Item = Entry>) -> io::Result<Leaves> {
        let (mut page, mut written) = (Page::default(), Vec::new());
        let mut last: Option<Vec<u8>> = None;
        for entry in entries {
            assert!(last.is_none_or(|last| last < entry.key), "keys are in order");
            last = Some(entry.key.clone());
            if !page.has_room(&entry.key, &entry.value) {
                written.push(self.leaf(flags, std::mem::take(&mut page))?);
            }
            page.push(entry);
        }
        if written.is_empty() {
            return Ok(Leaves::One(page));
        }
        written.push(self.leaf(flags, page)?);
        self.branches(written).map(Leaves::Below)
    }

    fn leaf(&mut self, flags: u32, page: Page) -> io::Result<Entry> {
        let id = self.page(LEAF, flags, &page.entries)?;
        let first = page.entries.into_iter().next().expect("a page that is full has entries");
        Ok(Entry { key: first.key, value: id.to_le_bytes().to_vec() })
    }

    /// Writes branches above pages, each of which is named by its first key, up to the root.
    fn branches(&mut self, mut below: Vec<Entry>) -> io::Result<u64> {
        while below.len() > 1 {
            let mut above = Vec::new();
            let mut page = Page::default();
            for entry in below {
                // A branch has at least two below it, else this would not end.
                if page.entries.len() >= 2 && !page.has_room(&entry.key, &[]) {
                    above.push(self.branch(std::mem::take(&mut page))?);
                }
                page.push(entry);
            }
            above.push(self.branch(page)?);
            below = above;
        }
        let root = below.first().and_then(|root| root.value[..].try_into().ok());
        Ok(u64::from_le_bytes(root.expect("there is a page below")))
    }

    fn branch(&mut self, page: Page) -> io::Result<Entry> {
        let id = self.page(BRANCH, 0, &page.entries)?;
        let first = page.entries.into_iter().next().expect("a branch has pages below it");
        Ok(Entry { key: first.key, value: id.to_le_bytes().to_vec() })
    }

    fn page(&mut self, kind: u16, flags: u32, entries: &[Entry]) -> io::Result<u64> {
        let id = self.next;
        let mut page = laid_out(id, kind, flags, entries);
        let pages = page.len().div_ceil(PAGE);
        page.resize(pages * PAGE, 0);
        let overflow = u32::try_from(pages - 1).map_err(io::Error::other)?;
        page[12..16].copy_from_slice(&overflow.to_le_bytes());
        self.out.write_all(&page)?;
        self.next += pages as u64;
        Ok(id)
    }
}

/// That of a page that flows over into no other.
fn head(id: u64, kind: u16, count: u16) -> Vec<u8> {
    let mut head = id.to_le_bytes().to_vec();
    head.extend_from_slice(&kind.to_le_bytes());
    head.extend_from_slice(&count.to_le_bytes());
    head.resize(PAGE_HEAD, 0);
    head
}

/// A page without the room behind its last entry.
fn laid_out(id: u64, kind: u16, flags: u32, entries: &[Entry]) -> Vec<u8> {
    let count = u16::try_from(entries.len()).expect("so many do not fit in a page");
    let word = |number: usize| u32::try_from(number).expect("values are shorter").to_le_bytes();
    let mut page = head(id, kind, count);
    let mut position = entries.len() * ELEMENT;
    for Entry { key, value } in entries {
        match kind {
            BRANCH => {
                page.extend_from_slice(&word(position));
                page.extend_from_slice(&word(key.len()));
                page.extend_from_slice(value);
                position += key.len();
            }
            _ => {
                page.extend_from_slice(&flags.to_le_bytes());
                page.extend_from_slice(&word(position));
                page.extend_from_slice(&word(key.len()));
                page.extend_from_slice(&word(value.len()));
                position += key.len() + value.len();
            }
        }
        // It counts from its own element.
        position -= ELEMENT;
    }
    for Entry { key, value } in entries {
        page.extend_from_slice(key);
        if kind != BRANCH {
            page.extend_from_slice(value);
        }
    }
    page
}
