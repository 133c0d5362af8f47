//! Locks whose holders never leave half a change behind.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Takes a lock, also one that a panicking thread held.
///
/// The program itself ends at a panic, so only tests see a poisoned lock. For those, code that holds the lock must leave what is
/// behind it sound at every step that could panic.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets go of a lock until `condvar` is notified, and takes it again as [`lock`] does.
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// As [`wait`], for no longer than `limit`; also says whether that time is over.
pub fn wait_for<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    limit: Duration,
) -> (MutexGuard<'a, T>, bool) {
    let (guard, waited) =
        condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner);
    (guard, waited.timed_out())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_lock_that_a_panicking_thread_held_can_be_taken() {
        let mutex = Arc::new(Mutex::new(1));
        let other = Arc::clone(&mutex);
        let panicked = std::thread::spawn(move || {
            let mut guard = lock(&other);
            *guard = 2;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err() && mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 2);
    }
}
