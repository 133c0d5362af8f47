//! Work that takes its time, for the disk most of all, off the threads that serve clients and peers.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;
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

/// Pieces that wait between two threads of [`in_order`].
const PIECES_WAITING: usize = 2;

/// Threads that work on pieces, at most. Behind the first few, making the pieces and taking the results takes longer.
const WORKERS_MAX: usize = 4;

/// No more pieces are wanted: a result was refused.
pub(in crate::raft) struct Enough;

/// Makes pieces, works on each, and takes the results in the order of the pieces: each step on a thread of its own where there
/// may be threads, the work on several.
///
/// # Errors
/// What `take` returns, or else what `make` does.
pub(in crate::raft) fn in_order<A: Send, B: Send, E: Send>(
    io: IoMode,
    make: impl FnOnce(&mut dyn FnMut(A) -> Result<(), Enough>) -> Result<(), E> + Send,
    work: impl Fn(A) -> B + Sync,
    mut take: impl FnMut(B) -> Result<(), E>,
) -> Result<(), E> {
    if io == IoMode::Inline {
        let mut taken = Ok(());
        let made = make(&mut |piece| {
            taken = take(work(piece));
            taken.as_ref().map_or(Err(Enough), |()| Ok(()))
        });
        return taken.and(made);
    }
    let workers = thread::available_parallelism().map_or(1, |count| count.get().min(WORKERS_MAX));
    thread::scope(|scope| {
        let (mut ins, mut outs) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (pieces_tx, pieces_rx) = sync_channel(PIECES_WAITING);
            let (results_tx, results_rx) = sync_channel(PIECES_WAITING);
            ins.push(pieces_tx);
            outs.push(results_rx);
            let work = &work;
            scope.spawn(move || {
                // It ends with the pieces, or when no result is taken any more.
                pieces_rx.into_iter().try_for_each(|piece| results_tx.send(work(piece)))
            });
        }
        let making = scope.spawn(move || {
            let mut turns = ins.iter().cycle();
            make(&mut |piece| {
                let worker = turns.next().expect("there is at least one");
                worker.send(piece).map_err(|_| Enough)
            })
        });
        // Pieces were handed out in turns, so results are found in turns; the first that is missing was the last.
        let results = outs.iter().cycle().map_while(|results_rx| results_rx.recv().ok());
        let taken = results.into_iter().try_for_each(&mut take);
        drop(outs);
        taken.and(making.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Results that were taken, and what came of it. The piece `fails_at` is not made, the result of `refused` not taken.
    fn squares(io: IoMode, fails_at: u64, refused: u64) -> (Vec<u64>, Result<(), &'static str>) {
        let mut taken = Vec::new();
        let ended = in_order(
            io,
            |hand_over| {
                for number in 0..1000 {
                    if number == fails_at {
                        return Err("not made");
                    }
                    if let Err(Enough) = hand_over(number) {
                        return Ok(());
                    }
                }
                Ok(())
            },
            |number| number * number,
            |square| {
                if square == refused * refused {
                    return Err("not taken");
                }
                taken.push(square);
                Ok(())
            },
        );
        (taken, ended)
    }

    #[test]
    fn results_come_in_the_order_of_the_pieces_until_a_step_fails() {
        let up_to = |end: u64| (0..end).map(|number| number * number).collect::<Vec<_>>();
        for io in [IoMode::Inline, IoMode::Threaded] {
            assert_eq!(squares(io, 2000, 2000), (up_to(1000), Ok(())));
            assert_eq!(squares(io, 700, 2000), (up_to(700), Err("not made")));
            assert_eq!(squares(io, 2000, 300), (up_to(300), Err("not taken")));
            assert_eq!(squares(io, 0, 300), (up_to(0), Err("not made")));
        }
    }
}
