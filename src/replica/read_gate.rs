//! Whether plain reads may be answered.
//!
//! A plain read on a member never goes back, also not over a restart. A member that starts again holds what was committed as
//! far as its log knows; it may have shown more, which it learns from its leader. Until it holds all that it can have shown, plain
//! reads wait for a moment and are then refused. That it is behind the others does not matter: plain reads may be old.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::model::{Fate, Unavailable};
use crate::replica::Replica;

/// How long a plain read waits for a member that has just started: a leader is found within an election or two.
const PATIENCE: Duration = Duration::from_secs(3);

/// Closed until plain reads may be answered, and open from then on.
#[derive(Debug, Default)]
pub(super) struct ReadGate {
    /// As `opened`, but a look costs no lock.
    open: AtomicBool,
    opened: CancellationToken,
}

impl ReadGate {
    fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.opened.cancel();
    }
}

impl Replica {
    /// Waits for a moment until plain reads may be answered.
    ///
    /// # Errors
    /// [`Unavailable::Regaining`].
    pub async fn until_shown(&self) -> Result<(), Unavailable> {
        let read_gate = &self.inner.read_gate;
        if self.is_shown() {
            return Ok(());
        }
        let opened = tokio::time::timeout(PATIENCE, read_gate.opened.cancelled()).await;
        opened.map_err(|_| Unavailable::Regaining)
    }

    /// Is that so already?
    pub fn is_shown(&self) -> bool {
        self.inner.read_gate.open.load(Ordering::Acquire)
    }

    /// Waits until this member may decide who has which rights: as plain reads, a decision never goes back. Waits for as long as
    /// a write does, because it comes before one.
    ///
    /// # Errors
    /// After the request's time-out.
    pub async fn until_decided(&self) -> Result<(), Unavailable> {
        if self.is_shown() {
            return Ok(());
        }
        let deadline = self.deadline();
        let opened = self.inner.read_gate.opened.cancelled();
        let opened = async {
            opened.await;
            Ok(())
        };
        deadline.limit(opened, Fate::NotWritten).await
    }

    /// Plain reads may be answered from now on.
    pub fn show(&self) {
        self.inner.read_gate.open();
    }

    /// Shows what a member that starts again holds, as soon as that is all that it can have shown before. One that has never
    /// belonged to its cluster has nothing to show yet.
    pub async fn show_when_regained(self) {
        let was_member =
            self.inner.raft.regained().await && self.view().store.has_member(self.inner.member.id);
        if was_member {
            self.show();
        }
    }
}
