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
    Committed(Vec<u8>),
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
            Self::Vote { vote: payload, .. } | Self::Committed(payload) => weight(payload),
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
            Self::Committed(_) => return,
        };
        done(result);
    }
}

/// What a record takes in a batch, roughly.
pub(super) fn weight(payload: &[u8]) -> usize {
    payload.len() + REQUEST_BYTES
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) requests: VecDeque<Request>,
    /// The thread waits for work; at other times it looks for some before it waits, and need not be woken.
    pub(super) is_awaited: bool,
    /// Closed: no request may be added any more.
    pub(super) stopping: bool,
    /// The log has failed, and with it everything that comes.
    pub(super) failed: Option<io::ErrorKind>,
}

impl Queue {
    /// The oldest requests: at least one if there is one, then as many as fit `bytes_max`.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<Request> {
        let mut bytes = 0;
        let mut fits = |request: &Request| {
            bytes += request.weight();
            bytes <= bytes_max
        };
        let count = self.requests.iter().take_while(|request| fits(request)).count();
        self.requests.drain(..count.max(1).min(self.requests.len())).collect()
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
        let mut queue = Queue::default();
        for length in [10, 10_000, 10, 10] {
            let entries = vec![(1, Bytes::from(vec![0; length]))];
            queue.requests.push_back(Request::Append { entries, done: Box::new(|_| {}) });
        }
        let mut counts = Vec::new();
        while !queue.requests.is_empty() {
            counts.push(queue.take(1000).len());
        }
        assert_eq!(counts, [1, 1, 2]);
        assert!(queue.take(1000).is_empty());
    }
}
