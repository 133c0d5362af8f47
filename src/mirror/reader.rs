//! Reads the changes of the source, ahead of those that are being made in the target.
//!
//! Owns: the next index of each watch. Never knows: what becomes of an event.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::mirror::side::{Side, Trouble, Watched};
use crate::mirror::wire::Event;

/// Changes that are read ahead: as many as etcd remembers. When they are full, reading waits.
pub(crate) const READ_AHEAD: usize = 1000;

/// What the source says.
#[derive(Debug)]
pub(crate) enum Read {
    /// A change, and when it was read.
    Event(Event, Instant),
    /// Changes are missing; nothing more is read.
    Cleared,
    /// Something has changed in this hidden directory.
    Bell(String),
    /// It makes no sense to go on.
    Failed(Trouble),
}

/// What a run does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// It was told to end.
    Stop,
    /// Lifetimes are to be looked up.
    Look,
    /// The source has said something.
    Handle(Read),
}

/// Waits for it; `look` is when lifetimes are due, if any are.
pub(crate) async fn next(
    stop: &CancellationToken,
    look: Option<Instant>,
    reads: &mut mpsc::Receiver<Read>,
) -> Next {
    let due = async {
        match look {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => Next::Stop,
        () = due => Next::Look,
        Some(read) = reads.recv() => Next::Handle(read),
    }
}

/// Reads everything from an index on.
pub(crate) async fn follow(
    source: Arc<Side>,
    scope: String,
    mut next: u64,
    reads: mpsc::Sender<Read>,
) {
    loop {
        let (read, last) = match source.watch(&scope, next).await {
            Ok(Watched::Event(event)) => {
                next = event.node.modified + 1;
                (Read::Event(event, Instant::now()), false)
            }
            Ok(Watched::Cleared) => (Read::Cleared, true),
            Err(trouble) => (Read::Failed(trouble), true),
        };
        if reads.send(read).await.is_err() || last {
            return;
        }
    }
}

/// Tells when something changes in a hidden directory. What it is, a listing says: two watches have no common order.
pub(crate) async fn listen(
    source: Arc<Side>,
    scope: String,
    mut next: u64,
    reads: mpsc::Sender<Read>,
) {
    loop {
        let seen = match source.watch(&scope, next).await {
            Ok(Watched::Event(event)) => Ok(event.node.modified),
            // The listing that follows is made later than this index.
            Ok(Watched::Cleared) => source.index(&scope).await,
            Err(trouble) => Err(trouble),
        };
        let (read, last) = match seen {
            Ok(index) => {
                next = index + 1;
                (Read::Bell(scope.clone()), false)
            }
            Err(trouble) => (Read::Failed(trouble), true),
        };
        if reads.send(read).await.is_err() || last {
            return;
        }
    }
}
