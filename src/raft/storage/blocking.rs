//! Work that takes its time, for the disk most of all, off the threads that serve clients and peers.

use std::io;
use std::panic::resume_unwind;
use std::thread;

use tokio::runtime::Handle;

use crate::base::give_back_soon;
use crate::disk::IoMode;

/// Does `work` where it may wait.
///
/// # Errors
/// When it panicked: that must not pass in silence.
pub(in crate::raft) async fn on<T: Send + 'static>(
    io: IoMode,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match io {
        IoMode::Inline => Ok(work()),
        IoMode::Threaded => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
    }
}

/// Drops `what` where that may take its time: the memory of a large tree is given back node by node,
/// which takes 180 ms for half a million keys.
pub(in crate::raft) fn let_go<T: Send + 'static>(io: IoMode, what: T) {
    match io {
        IoMode::Inline => drop(what),
        // No caller needs to know when it is done. Where a runtime ends there is none to be held up.
        IoMode::Threaded => match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || {
                drop(what);
                give_back_soon();
            })),
            Err(_) => drop(what),
        },
    }
}

/// Does both, side by side where there may be threads. Waits for both.
pub(in crate::raft) fn both<A, B: Send>(
    io: IoMode,
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> B + Send,
) -> (A, B) {
    match io {
        IoMode::Inline => (here(), there()),
        IoMode::Threaded => thread::scope(|scope| {
            let there = scope.spawn(there);
            (here(), there.join().unwrap_or_else(|panic| resume_unwind(panic)))
        }),
    }
}
