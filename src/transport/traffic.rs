//! What goes to and comes from each peer, in numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::base::lock;
use crate::model::MemberId;

/// The numbers of all peers.
#[derive(Debug, Default)]
pub struct Traffic {
    peers: Mutex<BTreeMap<MemberId, Arc<PeerTraffic>>>,
}

/// The numbers of one peer, since this member started.
#[derive(Debug, Default)]
pub struct PeerTraffic {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    sent_failures: AtomicU64,
    received_failures: AtomicU64,
    open: AtomicUsize,
    disconnects: AtomicU64,
    /// The version of the protocol that was agreed on last; zero before the first connection.
    version: AtomicU8,
    /// Why it could not be reached when that was last tried; empty while it can.
    unreached: Mutex<String>,
}

impl Traffic {
    /// The numbers of one peer.
    pub fn of(&self, peer: MemberId) -> Arc<PeerTraffic> {
        let mut peers = lock(&self.peers);
        Arc::clone(peers.entry(peer).or_default())
    }

    /// All peers there ever were.
    pub fn all(&self) -> Vec<(MemberId, Arc<PeerTraffic>)> {
        let peers = lock(&self.peers);
        peers.iter().map(|(id, peer)| (*id, Arc::clone(peer))).collect()
    }
}

impl PeerTraffic {
    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A message did not get through.
    pub fn count_sent_failure(&self) {
        self.sent_failures.fetch_add(1, Relaxed);
    }

    /// A message came that could not be read.
    pub fn count_received_failure(&self) {
        self.received_failures.fetch_add(1, Relaxed);
    }

    /// Bytes to it.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Relaxed)
    }

    /// Bytes from it.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Relaxed)
    }

    /// Messages that did not get through.
    pub fn sent_failures(&self) -> u64 {
        self.sent_failures.load(Relaxed)
    }

    /// Messages that could not be read.
    pub fn received_failures(&self) -> u64 {
        self.received_failures.load(Relaxed)
    }

    /// Connections that are open now, in either direction.
    pub fn connections(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// How often the last connection to it went.
    pub fn disconnects(&self) -> u64 {
        self.disconnects.load(Relaxed)
    }

    /// The version of the protocol between members that both ends agreed on when they last connected; zero if they never did.
    pub fn version(&self) -> u8 {
        self.version.load(Relaxed)
    }

    /// One more connection, which speaks `version`, for as long as the result lives.
    pub(super) fn open(self: &Arc<Self>, version: u8) -> Open {
        self.version.store(version, Relaxed);
        self.open.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }

    /// It was reached; `true` when it could not be before.
    pub(super) fn reached(&self) -> bool {
        let mut unreached = lock(&self.unreached);
        let news = !unreached.is_empty();
        unreached.clear();
        news
    }

    /// It was not reached; `true` when that is news, or there is a new reason.
    pub(super) fn lost(&self, why: &str) -> bool {
        let mut unreached = lock(&self.unreached);
        let news = *unreached != why;
        why.clone_into(&mut unreached);
        news
    }
}

/// An open connection; counts itself out.
#[derive(Debug)]
pub struct Open(Arc<PeerTraffic>);

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Relaxed) == 1 {
            self.0.disconnects.fetch_add(1, Relaxed);
        }
    }
}
