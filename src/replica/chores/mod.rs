//! What a member does on its own, one file for each chore.

mod clocks;
mod compaction;
mod expiry;
mod introduction;
mod leader_log;
mod leases;
mod member_log;
mod pulse;
mod search_log;

use std::time::Duration;

pub use introduction::Facts;

/// Pause after a chore that failed; it is tried again for as long as the member runs.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
