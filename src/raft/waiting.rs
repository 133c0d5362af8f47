//! Work that waits for the disk, off the threads that serve everybody.

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
