//! The only clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::{Clock, LogTime};

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "here time enters; below, it is data")]
    fn now(&self) -> LogTime {
        // A clock before 1970 counts as 1970: the log's time never runs backwards anyway.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        LogTime::since_1970(since_1970)
    }
}
