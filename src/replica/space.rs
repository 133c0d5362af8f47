//! Room for more: the quota of the key space, and the disk of this member.
//!
//! Without room, only writes go on that need none: a member that cannot write at all would lose its leases, and nothing could be
//! deleted. Each member decides for its own clients: what other members accept has a place in the log here too.
//!
//! Beside that stand the alarms of version 3, which are in the state: all members know them.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::Unavailable;
use crate::mvcc::AlarmKind;
use crate::replica::Replica;
use crate::store::Command;

/// How much room there is.
#[derive(Debug)]
pub struct Space {
    quota_bytes: u64,
    /// The disk has less free space than is to be left.
    disk_full: AtomicBool,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The key space weighs as much as it may.
    Quota,
    /// The disk of this member is nearly full.
    Disk,
}

impl Space {
    /// Room for a key space of so many bytes, as [`Store::bytes`](crate::store::Store::bytes) counts them.
    pub fn new(quota_bytes: u64) -> Self {
        Self { quota_bytes, disk_full: AtomicBool::new(false) }
    }

    /// The quota in bytes.
    pub fn quota_bytes(&self) -> u64 {
        self.quota_bytes
    }

    /// Notes whether the disk is nearly full.
    pub fn set_disk_full(&self, is_full: bool) {
        self.disk_full.store(is_full, Ordering::Relaxed);
    }
}

impl Replica {
    /// The room of this member.
    pub fn space(&self) -> &Space {
        &self.inner.space
    }

    /// What is short, if anything is. A quota that is exceeded counts for every member alike, so it comes first.
    pub fn shortage(&self) -> Option<Shortage> {
        let space = &self.inner.space;
        if self.view().store.bytes() >= space.quota_bytes {
            return Some(Shortage::Quota);
        }
        space.disk_full.load(Ordering::Relaxed).then_some(Shortage::Disk)
    }

    /// Has a member raised this alarm? It stands until somebody clears it, however much room there is by then.
    pub fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.view().store.mvcc().has_alarm(kind)
    }

    /// Has a member raised the alarm of version 3 for want of room?
    pub fn has_space_alarm(&self) -> bool {
        self.has_alarm(AlarmKind::NoSpace)
    }

    /// Whether there is room for a command.
    ///
    /// # Errors
    /// [`Unavailable::QuotaExceeded`] and [`Unavailable::DiskFull`], for commands that need room.
    pub fn check_room(&self, command: &Command) -> Result<(), Unavailable> {
        let Some(shortage) = self.shortage() else { return Ok(()) };
        if !self.view().store.grows(command) {
            return Ok(());
        }
        Err(match shortage {
            Shortage::Quota => {
                Unavailable::QuotaExceeded { bytes_max: self.inner.space.quota_bytes }
            }
            Shortage::Disk => Unavailable::DiskFull,
        })
    }
}
