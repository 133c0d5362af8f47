//! How much of the past of the v3 key space is kept.

use std::time::Duration;

/// What of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Everything.
    All,
    /// What was there so long ago can be read.
    Time(Duration),
    /// The last revisions.
    Revisions(u64),
}
