//! What entries change, without those who are told of it.

use std::io;

use futures_util::{Stream, StreamExt};
use openraft::EntryPayload;

use crate::raft::adapter::types::{Entry, LogId, Origin, Proposal, StoredMembership};
use crate::raft::storage::checkpoint::{Checkpoint, Difference};
use crate::store::{Applied, Remains, Store};

/// The state as of the last applied entry, and what the next checkpoint has to write.
pub(in crate::raft) struct State {
    pub(super) store: Store,
    pub(super) applied: Option<LogId>,
    pub(super) membership: StoredMembership,
    pub(super) difference: Difference,
}

/// What became of an entry.
pub(super) struct Outcome {
    pub(super) applied: Applied,
    /// Who proposed it; facts of consensus nobody did.
    pub(super) origin: Option<Origin>,
    /// Kept until no newer view holds on to it.
    pub(super) remains: Remains,
}

impl State {
    /// As it is on disk.
    pub(in crate::raft) fn of(checkpoint: Checkpoint) -> Self {
        let difference = Difference::to(&checkpoint);
        let Checkpoint { store, applied, membership } = checkpoint;
        Self { store, applied, membership, difference }
    }

    /// The last entry of it.
    pub(in crate::raft) fn applied(&self) -> Option<LogId> {
        self.applied
    }

    /// The state, for a checkpoint.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            store: self.store.clone(),
            applied: self.applied,
            membership: self.membership.clone(),
        }
    }

    pub(super) fn apply(&mut self, entry: Entry) -> Outcome {
        let known = || Outcome { applied: Applied::Known, origin: None, remains: <_>::default() };
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => known(),
            EntryPayload::Normal(Proposal { stamp, origin, command }) => {
                let (applied, remains) = self.store.apply_and_keep(stamp, &command);
                self.difference.note(&applied);
                Outcome { applied, origin: Some(origin), remains }
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                known()
            }
        }
    }

    /// Applies entries before there is anybody to be told. No view is held meanwhile, so no node of the tree has to be copied for
    /// those who read it.
    ///
    /// # Errors
    /// When an entry cannot be read.
    pub(in crate::raft) async fn replay(
        &mut self,
        mut entries: impl Stream<Item = io::Result<Entry>> + Unpin,
    ) -> io::Result<()> {
        while let Some(entry) = entries.next().await {
            self.apply(entry?);
        }
        Ok(())
    }
}
