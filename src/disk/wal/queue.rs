//! What waits for the log's thread.
//!
//! The queue takes everything without waiting: those who fill it are openraft's core and its tasks, which also send heartbeats
//! and answer votes. What bounds it stands in this floor's `DESIGN.md`.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use crate::disk::wal::{Done, Mark};

/// What a request takes beside its payloads, roughly.
const REQUEST_BYTES: usize = 64;

pub(super) enum Request {
    Append { entries: Vec<(u64, Bytes)>, done: Done },
    Vote { vote: Vec<u8>, done: Done },
    TruncateAfter { index: u64, done: Done },
    Purge { upto: Mark, done: Done },
}

impl Request {
    /// What it takes in a batch.
    fn weight(&self) -> usize {
        match self {
            Self::Append { entries, .. } => {
                entries.iter().map(|(_, payload)| weight(payload)).sum()
            }
            Self::Vote { vote, .. } => weight(vote),
            Self::TruncateAfter { .. } | Self::Purge { .. } => REQUEST_BYTES,
        }
    }

    /// Calls back the maker of the request.
    pub(super) fn answer(self, result: io::Result<()>) {
        let done: Done = match self {
            Self::Append { done, .. }
            | Self::Vote { done, .. }
            | Self::TruncateAfter { done, .. }
            | Self::Purge { done, .. } => done,
        };
        done(result);
    }
}

/// What a record takes in a batch, roughly.
pub(super) fn weight(payload: &[u8]) -> usize {
    payload.len() + REQUEST_BYTES
}

/// What wakes the log's thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WokenBy {
    /// Nothing: it is at work, and looks for more before it waits.
    #[default]
    Nothing,
    /// A request. It looks for a mark when its time limit is over: the mark of a batch comes right behind it, and to wake a thread
    /// that then waits for company is to wake it for nothing.
    Requests,
    /// A request or a mark.
    Anything,
}

/// A batch to be.
#[derive(Default)]
pub(super) struct Work {
    pub(super) requests: Vec<Request>,
    /// How far is committed.
    pub(super) mark: Option<Vec<u8>>,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.mark.is_none()
    }
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) requests: VecDeque<Request>,
    /// How far is committed, since this was last written. It waits for a batch that is synced anyway. One that is not would break
    /// the rule that each batch is safe before the next is written.
    pub(super) mark: Option<Vec<u8>>,
    pub(super) woken_by: WokenBy,
    /// Closed: no request may be added any more.
    pub(super) stopping: bool,
    /// The log has failed, and with it everything that comes.
    pub(super) failed: Option<io::ErrorKind>,
}

impl Queue {
    /// The oldest requests: at least one if there is one, then as many as fit `bytes_max`. The mark goes with the last of them: entries
    /// that it covers may be among those that are left.
    pub(super) fn take(&mut self, bytes_max: usize) -> Work {
        let mut bytes = 0;
        let mut fits = |request: &Request| {
            bytes += request.weight();
            bytes <= bytes_max
        };
        let count = self.requests.iter().take_while(|request| fits(request)).count();
        let requests: Vec<_> =
            self.requests.drain(..count.max(1).min(self.requests.len())).collect();
        let is_last = self.requests.is_empty() && !requests.is_empty();
        Work { requests, mark: self.mark.take_if(|_| is_last) }
    }

    /// Why nothing is taken in any more.
    pub(super) fn refusal(&self) -> Option<io::Error> {
        match (self.failed, self.stopping) {
            (Some(kind), _) => Some(io::Error::new(kind, "the write-ahead log has failed")),
            (None, true) => Some(io::Error::other("the write-ahead log is closed")),
            (None, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        let mut queue = Queue { mark: Some(vec![1]), ..Queue::default() };
        for length in [10, 10_000, 10, 10] {
            let entries = vec![(1, Bytes::from(vec![0; length]))];
            queue.requests.push_back(Request::Append { entries, done: Box::new(|_| {}) });
        }
        let mut taken = Vec::new();
        while !queue.requests.is_empty() {
            let work = queue.take(1000);
            taken.push((work.requests.len(), work.mark.is_some()));
        }
        assert_eq!(taken, [(1, false), (1, false), (2, true)]);
        queue.mark = Some(vec![2]);
        assert!(queue.take(1000).is_empty());
        assert_eq!(queue.mark, Some(vec![2]), "it waits for company");
    }
}
