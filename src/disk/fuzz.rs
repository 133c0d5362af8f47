//! Batches of a log that a fuzzer makes up.

use crate::disk::wal;
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[Target { name: "batch", read: wal::read_batch }];
