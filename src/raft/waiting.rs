//! Work that takes its time, for the disk most of all, off the threads that serve everybody.

use std::io;

use crate::disk::Waiting;

/// Does `work` where it may wait.
///
/// # Errors
/// When it panicked: that must not pass in silence.
pub(super) async fn on<T: Send + 'static>(
    waiting: Waiting,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match waiting {
        Waiting::Inline => Ok(work()),
        Waiting::OnThreads => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
    }
}

/// Drops `what` where that may take its time: the memory of a large tree is given back node by node,
/// which takes 180 ms for half a million keys.
pub(super) fn let_go<T: Send + 'static>(waiting: Waiting, what: T) {
    match waiting {
        Waiting::Inline => drop(what),
        // Nobody needs to know when it is done.
        Waiting::OnThreads => drop(tokio::task::spawn_blocking(move || drop(what))),
    }
}
