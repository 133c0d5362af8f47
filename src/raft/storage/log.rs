//! openraft's log storage over the write-ahead log.
//!
//! Owns: which entries are in memory. Holds: an entry is readable as soon as `append` returned; one that is dropped from
//! memory is safe on disk.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tracing::info;

use crate::base;
use crate::disk::{IoMode, Mark, Recovered, Wal};
use crate::raft::StartError;
use crate::raft::adapter::types::{self, Entry, LogId, Types, Vote};
use crate::raft::net::lag::Lag;
use crate::raft::storage::blocking;
use crate::raft::storage::encoding;
use crate::raft::storage::recent::{Found, Recent};
use crate::raft::storage::sole::Sole;

/// Recent entries kept in memory by a member that others follow: more than any follower that is well lags behind. Also the limit of
/// what has not been applied.
const MEMORY_BYTES: usize = 16 << 20;

/// The same once they are applied, of a member that no other follows: they may be asked for when it becomes leader, and are then read
/// from disk but for the last few.
const UNFOLLOWED_BYTES: usize = 1 << 20;

/// Entries that are read at once: for a message to a follower, or to be applied.
const MESSAGE_BYTES: usize = 1 << 20;

/// The log. Clones are handles of the same one.
#[derive(Clone)]
pub(in crate::raft) struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    wal: Wal,
    io: IoMode,
    state: Mutex<State>,
    /// More entries are safe, or none will be any more.
    safe: Notify,
    lag: Lag,
    sole: Sole,
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The youngest entries, without a gap, up to `last`.
    recent: Recent,
    /// Entries below this index are safe on disk.
    safe_below: u64,
    /// How often the end was cut off. What was appended before says nothing of the entries that came in its place.
    truncations: u64,
    failed: bool,
}

impl State {
    fn first_recent(&self) -> u64 {
        let first = self.recent.first();
        first.unwrap_or_else(|| self.last.as_ref().map_or(0, |last| last.index + 1))
    }

    /// `followed`: other members are sent what is appended here.
    fn trim(&mut self, followed: bool) {
        while self.first_recent() < self.safe_below
            && (self.recent.bytes() > MEMORY_BYTES
                || !followed
                    && self.recent.bytes() > UNFOLLOWED_BYTES
                    && self.recent.first_is_taken())
        {
            self.recent.drop_first();
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
    /// When what was recovered cannot be read or decoded.
    pub(in crate::raft) fn new(
        wal: Wal,
        io: IoMode,
        recovered: &Recovered,
    ) -> Result<Self, StartError> {
        let decode_id = |bytes: &Vec<u8>| encoding::decode_log_id(bytes);
        let purged = recovered.purged.as_ref().map(|mark| decode_id(&mark.data)).transpose()?;
        let mut state = State {
            vote: recovered.vote.as_ref().map(|vote| encoding::decode_vote(vote)).transpose()?,
            committed: recovered.committed.as_ref().map(decode_id).transpose()?,
            last: purged,
            purged,
            ..State::default()
        };
        // The youngest are what followers and the state machine are most likely to ask for, and the last one tells the term; the others
        // stay on disk.
        let end = recovered.entries.end;
        let mut next = wal.start_of_last(end, u64::MAX, UNFOLLOWED_BYTES as u64);
        if next == end && !recovered.entries.is_empty() {
            next = end - 1;
        }
        while next < end {
            for (index, payload) in wal.read(next, end, MESSAGE_BYTES)? {
                let Entry { log_id, .. } = encoding::decode_entry(index - 1, &payload)?;
                state.safe_below = log_id.index + 1;
                state.last = Some(log_id);
                state.recent.push_stored(log_id, payload);
                next = index + 1;
            }
        }
        let (state, safe) = (Mutex::new(state), Notify::new());
        let (lag, sole) = (Lag::default(), Sole::default());
        Ok(Self { shared: Arc::new(Shared { wal, io, state, safe, lag, sole }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        base::lock(&self.shared.state)
    }

    /// Whether this member is the only one of its cluster.
    pub(in crate::raft) fn sole(&self) -> &Sole {
        &self.shared.sole
    }

    /// How far followers are behind what was appended.
    pub(in crate::raft) fn lag(&self) -> &Lag {
        &self.shared.lag
    }

    /// Waits until the entry at `index` and all before it are safe on this member's own disk.
    ///
    /// # Errors
    /// When the disk has failed.
    pub(in crate::raft) async fn until_safe(&self, index: u64) -> io::Result<()> {
        loop {
            let mut changed = pin!(self.shared.safe.notified());
            // Before the look: what becomes safe in between is not missed.
            changed.as_mut().enable();
            {
                let state = self.lock();
                if index < state.safe_below
                    || state.purged.is_some_and(|log_id| index <= log_id.index)
                {
                    return Ok(());
                }
                if state.failed {
                    return Err(io::Error::other("the write-ahead log has failed"));
                }
            }
            changed.await;
        }
    }

    /// The stored forms of entries that follow one another, if they are still in memory.
    pub(in crate::raft) fn encoded(&self, entries: &[Entry]) -> Option<Vec<Bytes>> {
        self.lock().recent.payloads(entries)
    }

    /// The entries of a range that are not purged: the first, and the one behind the last.
    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
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
        (from.max(self.lock().purged.as_ref().map_or(0, |purged| purged.index + 1)), to)
    }

    /// Entries from `from` up to but not including `to` for the state machine, if all that are there are in memory.
    fn take_recent(&self, from: u64, to: u64) -> Option<io::Result<Vec<Entry>>> {
        let found = {
            let mut state = self.lock();
            if from < state.first_recent() {
                return None;
            }
            state.recent.take(from, to)?
        };
        Some(found.into_iter().map(Found::decode).collect())
    }

    /// Entries from `from` up to but not including `to`; all of them, or as many as fit `bytes_max` but at least one.
    async fn read(&self, from: u64, to: u64, bytes_max: Option<usize>) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut next = from;
        while next < to {
            let (first_recent, found) = {
                let state = self.lock();
                let first_recent = state.first_recent();
                let is_recent = next >= first_recent;
                let bytes_max = bytes_max.unwrap_or(usize::MAX);
                (first_recent, is_recent.then(|| state.recent.find(next, to, bytes_max)))
            };
            if let Some(found) = found {
                for found in found {
                    entries.push(found.decode()?);
                }
                break;
            }
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

    /// Bytes of the entries behind the one at `index`, or of all; those that a recovered log began with.
    pub(in crate::raft) fn bytes_behind(&self, index: Option<u64>) -> u64 {
        self.shared.wal.bytes_from(index.map_or(0, |index| on_disk(index) + 1))
    }

    /// What the youngest entries take in memory.
    pub(in crate::raft) fn bytes_in_memory(&self) -> usize {
        self.lock().recent.bytes()
    }

    /// How far the log is known to be committed.
    pub(in crate::raft) fn committed(&self) -> Option<LogId> {
        self.lock().committed
    }

    /// The last entry that is no longer needed when the entries from there up to `last` are at most `entries_max` and take at
    /// most `bytes_max`; none if nothing is. At least `entries_min` stay.
    pub(in crate::raft) fn dispensable(
        &self,
        last: u64,
        entries_min: u64,
        entries_max: u64,
        bytes_max: u64,
    ) -> Option<u64> {
        let purged = self.lock().purged.map_or(0, |purged| purged.index + 1);
        let end = on_disk(last) + 1;
        let start = self.shared.wal.start_of_last(end, entries_max, bytes_max);
        // From here on all stay.
        let start = start.min(end.saturating_sub(entries_min)).saturating_sub(1);
        start.checked_sub(1).filter(|dispensable| *dispensable >= purged)
    }

    /// Entries from `from` up to but not including `to`, read as they are taken: in pieces, so that a long range takes no more
    /// memory than a short one. While a piece is taken, the next one is read and decoded on another thread, if there may be one.
    pub(in crate::raft) fn stream(
        &self,
        from: u64,
        to: u64,
    ) -> impl Stream<Item = io::Result<Entry>> + Send + use<> {
        let begun = (self.clone(), from, None);
        let pieces = stream::try_unfold(begun, move |(log, next, ahead)| async move {
            if next >= to {
                return Ok(None);
            }
            let piece = match ahead {
                Some(ahead) => piece_of(ahead).await?,
                None => log.read(next, to, Some(MESSAGE_BYTES)).await?,
            };
            let (Some(first), Some(last)) = (piece.first(), piece.last()) else {
                return if log.ends_before(next) { Ok(None) } else { Err(missing(next)) };
            };
            if first.log_id.index != next {
                return Err(missing(next));
            }
            let next = last.log_id.index + 1;
            let ahead = log.read_ahead(next, to);
            let piece = stream::iter(piece.into_iter().map(io::Result::Ok));
            Ok::<_, io::Error>(Some((piece, (log, next, ahead))))
        });
        pieces.try_flatten()
    }

    fn read_ahead(&self, from: u64, to: u64) -> Option<JoinHandle<io::Result<Vec<Entry>>>> {
        if self.shared.io == IoMode::Inline || from >= to {
            return None;
        }
        let log = self.clone();
        Some(tokio::spawn(async move { log.read(from, to, Some(MESSAGE_BYTES)).await }))
    }

    fn ends_before(&self, index: u64) -> bool {
        self.lock().last.is_none_or(|last| last.index < index)
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

async fn piece_of(ahead: JoinHandle<io::Result<Vec<Entry>>>) -> io::Result<Vec<Entry>> {
    ahead.await.map_err(io::Error::other)?
}

/// To apply what follows would leave a hole in the state.
fn missing(index: u64) -> io::Error {
    io::Error::other(format!("entry {} of the log is missing", on_disk(index)))
}

/// A log that fails tells its observer, and the member ends.
fn failed_elsewhere(_: io::Result<()>) {}

async fn done(done_rx: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    done_rx.await.unwrap_or_else(|_| Err(io::Error::other("the write-ahead log is closed")))
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (from, to) = self.bounds(&range);
        if from >= to { Ok(Vec::new()) } else { self.read(from, to, None).await }
    }

    /// What the state machine applies. Most of the time that is a few entries from memory; after a restart, or when a
    /// cluster goes on with a majority again, it may be the whole log.
    async fn entries_stream<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend {
        let (from, to) = self.bounds(&range);
        let entries: BoxStream<'static, io::Result<Entry>> = match self.take_recent(from, to) {
            Some(Ok(entries)) => stream::iter(entries.into_iter().map(Ok)).boxed(),
            Some(Err(error)) => stream::iter([Err(error)]).boxed(),
            None => self.stream(from, to).boxed(),
        };
        entries
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().vote)
    }

    /// openraft limits the number of entries in a message, not their size.
    ///
    /// Nothing when `start` is purged: openraft sends what it gets as what follows the entry before `start`, so a later beginning
    /// would leave a gap in the follower's log.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (from, end) = self.bounds(&(start..end));
        if from > start {
            return Ok(Vec::new());
        }
        let mut entries = self.read(start, end, Some(MESSAGE_BYTES)).await?;
        // It may have been purged while it was read.
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
        self.shared.sole.turned();
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
        let (mut term, mut end) = (0, 0);
        let followed = self.shared.lag.is_followed();
        let truncations;
        {
            let mut state = self.lock();
            truncations = state.truncations;
            for entry in entries {
                self.shared.sole.given(&entry);
                let bytes = Bytes::from(encoding::encode_entry(&entry));
                (term, end) = (entry.log_id.leader_id.term, entry.log_id.index + 1);
                encoded.push((on_disk(entry.log_id.index), bytes.clone()));
                state.last = Some(entry.log_id);
                state.recent.push(entry, bytes);
            }
            state.trim(followed);
        }
        if !encoded.is_empty() {
            self.shared.lag.appended(term, end - encoded.len() as u64, end);
        }
        let log = self.clone();
        let done = move |result: io::Result<()>| {
            {
                let mut state = log.lock();
                match &result {
                    // What was cut off since says nothing of the entries that came in its place.
                    Ok(()) if state.truncations == truncations => {
                        state.safe_below = state.safe_below.max(end);
                    }
                    Ok(()) => {}
                    Err(_) => state.failed = true,
                }
            }
            log.shared.safe.notify_waiters();
            callback.io_completed(result);
        };
        self.shared.wal.append(encoded, Box::new(done));
        Ok(())
    }

    /// Is not awaited: no answer depends on it, and what is appended next becomes safe only behind it.
    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let keep = last.as_ref().map_or(0, |last| last.index + 1);
        self.shared.sole.turned();
        {
            let mut state = self.lock();
            state.truncations += 1;
            state.recent.truncate(keep);
            if state.last.is_some_and(|now| now.index >= keep) {
                state.last = last;
            }
            state.safe_below = state.safe_below.min(keep);
        }
        self.shared.wal.truncate_after(keep, Box::new(failed_elsewhere));
        Ok(())
    }

    /// Is not awaited either: a leader's disk that stands still must not keep it from its heartbeats. Until it is safe the
    /// entries are still there, and a restart may find them again.
    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        {
            let mut state = self.lock();
            while state.recent.first().is_some_and(|first| first <= log_id.index) {
                state.recent.drop_first();
            }
            if state.last.as_ref().is_none_or(|last| last.index < log_id.index) {
                state.last = Some(log_id);
            }
            state.purged = Some(log_id);
        }
        let mark = Mark { index: on_disk(log_id.index), data: encoding::encode_log_id(&log_id) };
        self.shared.wal.purge(mark, Box::new(failed_elsewhere));
        info!(target: "etcdserver", "compacted raft log at {}", types::log_index(log_id.index));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;

    /// A state with twice what is kept of entries that no follower needs, all safe, the first `taken` of them applied.
    fn state(taken: u64) -> State {
        let mut state = State::default();
        let payload = Bytes::from(vec![7; UNFOLLOWED_BYTES / 100]);
        for index in 0..200 {
            let entry = Entry { log_id: encoding::log_id(1, index), payload: EntryPayload::Blank };
            state.last = Some(entry.log_id);
            state.recent.push(entry, payload.clone());
        }
        state.safe_below = 200;
        state.recent.take(0, taken);
        state
    }

    #[test]
    fn what_no_follower_needs_is_kept_until_it_is_applied() {
        let trimmed = |taken, followed| {
            let mut state = state(taken);
            state.trim(followed);
            (state.first_recent(), state.recent.bytes() <= UNFOLLOWED_BYTES)
        };
        assert_eq!(trimmed(200, true), (0, false));
        assert_eq!(trimmed(0, false), (0, false));
        assert_eq!(trimmed(50, false), (50, false));
        let (first, fits) = trimmed(200, false);
        assert!(fits && (100..110).contains(&first), "{first}");
        let mut unsafe_yet = state(200);
        unsafe_yet.safe_below = 20;
        unsafe_yet.trim(false);
        assert_eq!(unsafe_yet.first_recent(), 20);
    }
}
