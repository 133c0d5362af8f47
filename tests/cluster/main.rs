//! Clusters of real processes that are killed, paused, cut apart, filled up and replaced, while clients go on.
//!
//! As root each member has a host of its own, in a network namespace, and a small disk. Without root all are on loopback, and
//! what that cannot show is skipped with a word; `CAIRN_TEST_LOOPBACK=1` does the same as root. `CAIRN_SEED` repeats a run.

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod faults;
mod holders;
mod pulse;
mod rounds;
mod soak;
mod stale;
mod times;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tests that measure time run alone. Only threads of one process see it; a runner with a process for each test is told in
/// its own configuration.
static ALONE: RwLock<()> = RwLock::new(());

fn alone() -> RwLockWriteGuard<'static, ()> {
    ALONE.write().unwrap_or_else(PoisonError::into_inner)
}

fn beside_others() -> RwLockReadGuard<'static, ()> {
    ALONE.read().unwrap_or_else(PoisonError::into_inner)
}
