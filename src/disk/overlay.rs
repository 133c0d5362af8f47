//! A file that stays as it is, though it is written to: what is written is kept in memory.
//!
//! For looking at a file with a library that also writes when it opens one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crate::base::lock;
use crate::disk::files::{File, Files};
use crate::disk::read_only::ReadOnlyFiles;

const PAGE_BYTES: usize = 4096;
const PAGE: u64 = PAGE_BYTES as u64;

/// The file, and what was written over it.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Box<dyn File>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    length: u64,
    /// Bytes of the file from here on are gone: it was cut, and what grew again is zeros.
    cut: u64,
    /// By number: those that were written to, whole.
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    /// Opens a file that is there and not empty.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = ReadOnlyFiles.open(path, false)?;
        let length = file.length()?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
        }
        let state = State { length, cut: length, pages: BTreeMap::new() };
        Ok(Self { file, state: Mutex::new(state) })
    }

    /// A page as it is now, whole; what is behind the end is zeros.
    fn page(&self, state: &State, number: u64) -> io::Result<Vec<u8>> {
        if let Some(page) = state.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE_BYTES];
        let offset = number * PAGE;
        let count = within_page(state.cut.saturating_sub(offset).min(PAGE));
        if count > 0 {
            self.file.read_at(offset, &mut page[..count])?;
        }
        Ok(page)
    }
}

/// No more than a page has.
fn within_page(bytes: u64) -> usize {
    usize::try_from(bytes).map_or(PAGE_BYTES, |bytes| bytes.min(PAGE_BYTES))
}

/// The pieces of a range of bytes that are within one page: its number, where in it, and how many bytes.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let (mut at, mut left) = (offset, length);
    std::iter::from_fn(move || {
        let start = within_page(at % PAGE);
        let count = left.min(PAGE_BYTES - start);
        let piece = (count > 0).then_some((at / PAGE, start, count));
        at += count as u64;
        left -= count;
        piece
    })
}

impl File for Overlay {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = lock(&self.state);
        if offset + buffer.len() as u64 > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if state.pages.is_empty() && offset + buffer.len() as u64 <= state.cut {
            return self.file.read_at(offset, buffer);
        }
        let mut done = 0;
        for (number, start, count) in pieces(offset, buffer.len()) {
            let page = self.page(&state, number)?;
            buffer[done..done + count].copy_from_slice(&page[start..start + count]);
            done += count;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        let mut done = 0;
        for (number, start, count) in pieces(offset, bytes.len()) {
            let mut page = self.page(&state, number)?;
            page[start..start + count].copy_from_slice(&bytes[done..done + count]);
            state.pages.insert(number, page);
            done += count;
        }
        state.length = state.length.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.state).length)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        if length < state.length {
            let kept = length.div_ceil(PAGE);
            state.pages.retain(|number, _| *number < kept);
            if let Some(last) = state.pages.get_mut(&(length / PAGE)) {
                last[within_page(length % PAGE)..].fill(0);
            }
            state.cut = state.cut.min(length);
        }
        state.length = length;
        Ok(())
    }

    fn start_writing(&self, _offset: u64, _length: u64, _pause: Duration) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SplitMix;

    /// Whatever is done to it, it is like a vector of bytes, and the file stays as it was.
    #[test]
    fn it_behaves_like_a_file_and_leaves_the_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut random = SplitMix::new(1);
        let mut model: Vec<u8> = (0..20_000).map(|_| random.next().to_le_bytes()[0]).collect();
        std::fs::write(&path, &model).unwrap();
        let before = model.clone();
        let file = Overlay::open(&path).unwrap();
        for _ in 0..2000 {
            let mut below = |end: usize| usize::try_from(random.next() % end as u64).unwrap();
            let (offset, length) = (below(30_000), below(9000));
            match below(3) {
                0 => {
                    let bytes = vec![below(256).to_le_bytes()[0]; length];
                    file.write_at(offset as u64, &bytes).unwrap();
                    model.resize(model.len().max(offset + length), 0);
                    model[offset..offset + length].copy_from_slice(&bytes);
                }
                1 => {
                    file.set_length(offset as u64).unwrap();
                    model.resize(offset, 0);
                }
                _ => {
                    let mut bytes = vec![0; length];
                    let read = file.read_at(offset as u64, &mut bytes);
                    match model.get(offset..offset + length) {
                        Some(expected) => assert!(read.is_ok() && bytes == expected),
                        None => assert!(read.is_err()),
                    }
                }
            }
            assert_eq!(file.length().unwrap(), model.len() as u64);
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, b"").unwrap();
        assert!(Overlay::open(&path).is_err(), "redb would make a new file of an empty one");
    }
}
