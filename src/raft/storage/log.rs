//! openraft's log storage over the write-ahead log.
//!
//! Owns: recent entries in decoded form. Holds: an entry is readable as soon as `append` returned; one that is dropped from
//! memory is safe on disk.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use crate::disk::{IoMode, Mark, Recovered, Wal};
use crate::model::DecodeError;
use crate::raft::adapter::types::{Entry, LogId, Types, Vote};
use crate::raft::storage::blocking;
use crate::raft::storage::encoding;

/// Recent entries kept decoded: more than any follower that is well lags behind.
const MEMORY_BYTES: usize = 32 << 20;

/// Entries that go to a follower in one message.
const MESSAGE_BYTES: usize = 1 << 20;

/// What an entry takes in memory beside its encoded bytes, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// The log. Clones are handles of the same one.
#[derive(Clone)]
pub(in crate::raft) struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    wal: Wal,
    io: IoMode,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The youngest entries, without a gap, up to `last`.
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    /// Entries below this index are safe on disk.
    safe_below: u64,
}

struct Recent {
    entry: Entry,
    /// As it is stored and sent.
    encoded: Bytes,
    /// What both take in memory.
    weight: usize,
}

impl State {
    fn first_recent(&self) -> u64 {
        let first = self.recent.front().map(|recent| recent.entry.log_id.index);
        first.unwrap_or_else(|| self.last.as_ref().map_or(0, |last| last.index + 1))
    }

    fn push(&mut self, entry: Entry, encoded: Bytes) {
        self.last = Some(entry.log_id);
        let weight = 2 * encoded.len() + ENTRY_OVERHEAD_BYTES;
        self.recent_bytes += weight;
        self.recent.push_back(Recent { entry, encoded, weight });
    }

    fn trim(&mut self) {
        while self.recent_bytes > MEMORY_BYTES && self.first_recent() < self.safe_below {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(dropped) = self.recent.pop_front() {
            self.recent_bytes -= dropped.weight;
        }
    }
}

/// The write-ahead log counts from 1: zero means "none" there.
fn on_disk(index: u64) -> u64 {
    index + 1
}

impl Log {
    /// Goes on where a recovered log ended.
    ///
    /// # Errors
    /// When what was recovered cannot be decoded.
    pub(in crate::raft) fn new(
        wal: Wal,
        io: IoMode,
        recovered: &Recovered,
    ) -> Result<Self, DecodeError> {
        let decode_id = |bytes: &Vec<u8>| encoding::decode_log_id(bytes);
        let purged = recovered.purged.as_ref().map(|mark| decode_id(&mark.data)).transpose()?;
        let mut state = State {
            vote: recovered.vote.as_ref().map(|vote| encoding::decode_vote(vote)).transpose()?,
            committed: recovered.committed.as_ref().map(decode_id).transpose()?,
            last: purged,
            purged,
            ..State::default()
        };
        for (index, payload) in &recovered.entries {
            let entry = encoding::decode_entry(index - 1, payload)?;
            state.safe_below = entry.log_id.index + 1;
            state.push(entry, payload.clone());
            state.trim();
        }
        Ok(Self { shared: Arc::new(Shared { wal, io, state: Mutex::new(state) }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below panics half-way, so a poisoned lock still guards sound data.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stored forms of entries that follow one another, if they are still in memory.
    pub(in crate::raft) fn encoded(&self, entries: &[Entry]) -> Option<Vec<Bytes>> {
        let first = entries.first()?;
        let state = self.lock();
        let skip = first.log_id.index.checked_sub(state.first_recent())?;
        let recent = state.recent.iter().skip(usize::try_from(skip).ok()?);
        let encoded: Vec<_> = recent
            .zip(entries)
            .take_while(|(recent, entry)| recent.entry.log_id == entry.log_id)
            .map(|(recent, _)| recent.encoded.clone())
            .collect();
        (encoded.len() == entries.len()).then_some(encoded)
    }

    /// Entries from `from` up to but not including `to`; all of them, or as many as fit `bytes_max` but at least one.
    async fn read(&self, from: u64, to: u64, bytes_max: Option<usize>) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut next = from;
        while next < to {
            let first_recent = {
                let state = self.lock();
                let first_recent = state.first_recent();
                if next >= first_recent {
                    entries.extend(recent(&state, next, to, bytes_max.unwrap_or(usize::MAX)));
                    break;
                }
                first_recent
            };
            // Older than what is in memory, so safe on disk.
            let (log, end) = (self.clone(), to.min(first_recent));
            let bytes = bytes_max.unwrap_or(MESSAGE_BYTES);
            let read = blocking::on(self.shared.io, move || log.read_old(next, end, bytes));
            let read = read.await??;
            // Nothing there: the log begins later than was asked for.
            next = read.last().map_or(end, |entry| entry.log_id.index + 1);
            entries.extend(read);
            if bytes_max.is_some() && !entries.is_empty() {
                break;
            }
        }
        Ok(entries)
    }

    /// As many as fit `bytes_max` but at least one. Waits for the disk.
    fn read_old(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let read = self.shared.wal.read(on_disk(from), on_disk(to), bytes_max)?;
        let decode = |(index, payload): (u64, Bytes)| {
            encoding::decode_entry(index - 1, &payload).map_err(io::Error::other)
        };
        read.into_iter().map(decode).collect()
    }
}

fn recent(state: &State, from: u64, to: u64, bytes_max: usize) -> Vec<Entry> {
    let skip = usize::try_from(from - state.first_recent()).unwrap_or(usize::MAX);
    let count = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut bytes = 0;
    let within = |(place, recent): &(usize, &Recent)| {
        bytes += recent.encoded.len();
        *place == 0 || bytes <= bytes_max
    };
    let found = state.recent.iter().skip(skip).take(count).enumerate().take_while(within);
    found.map(|(_, recent)| recent.entry.clone()).collect()
}

async fn done(done_rx: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    done_rx.await.unwrap_or_else(|_| Err(io::Error::other("the write-ahead log is closed")))
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX - 1,
        };
        let from = from.max(self.lock().purged.as_ref().map_or(0, |purged| purged.index + 1));
        if from >= to { Ok(Vec::new()) } else { self.read(from, to, None).await }
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().vote)
    }

    /// openraft limits the number of entries in a message, not their size.
    ///
    /// Nothing when `start` is purged: openraft sends what it gets as what follows the entry before `start`, so a later beginning
    /// would leave a gap in the follower's log.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut entries = self.read(start, end, Some(MESSAGE_BYTES)).await?;
        if entries.first().is_some_and(|first| first.log_id.index != start) {
            entries.clear();
        }
        Ok(entries)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.lock();
        let last_purged_log_id = state.purged;
        let last_log_id = state.last.or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    /// Durable on return, and behind all appends that were queued before: the same thread does both.
    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done_tx, done_rx) = oneshot::channel();
        let bytes = encoding::encode_vote(vote);
        self.shared.wal.save_vote(bytes, Box::new(move |result| drop(done_tx.send(result))));
        done(done_rx).await?;
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(log_id) = &committed {
            self.shared.wal.save_committed(encoding::encode_log_id(log_id));
        }
        self.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut encoded = Vec::new();
        let mut end = 0;
        {
            let mut state = self.lock();
            for entry in entries {
                let bytes = Bytes::from(encoding::encode_entry(&entry));
                end = entry.log_id.index + 1;
                encoded.push((on_disk(entry.log_id.index), bytes.clone()));
                state.push(entry, bytes);
            }
            state.trim();
        }
        let log = self.clone();
        let done = move |result: io::Result<()>| {
            if result.is_ok() {
                let mut state = log.lock();
                state.safe_below = state.safe_below.max(end);
            }
            callback.io_completed(result);
        };
        self.shared.wal.append(encoded, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let keep = last.as_ref().map_or(0, |last| last.index + 1);
        let (done_tx, done_rx) = oneshot::channel();
        {
            let mut state = self.lock();
            while state.recent.back().is_some_and(|recent| recent.entry.log_id.index >= keep) {
                let dropped = state.recent.pop_back();
                state.recent_bytes -= dropped.map_or(0, |recent| recent.weight);
            }
            if state.last.is_some_and(|now| now.index >= keep) {
                state.last = last;
            }
            state.safe_below = state.safe_below.min(keep);
        }
        self.shared.wal.truncate_after(keep, Box::new(move |result| drop(done_tx.send(result))));
        done(done_rx).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let (done_tx, done_rx) = oneshot::channel();
        {
            let mut state = self.lock();
            let purged = |recent: &Recent| recent.entry.log_id.index <= log_id.index;
            while state.recent.front().is_some_and(purged) {
                state.drop_first();
            }
            if state.last.as_ref().is_none_or(|last| last.index < log_id.index) {
                state.last = Some(log_id);
            }
            state.purged = Some(log_id);
        }
        let mark = Mark { index: on_disk(log_id.index), data: encoding::encode_log_id(&log_id) };
        self.shared.wal.purge(mark, Box::new(move |result| drop(done_tx.send(result))));
        done(done_rx).await
    }
}
