//! A connection of a load that asks: the next request when its turn comes.
//!
//! Owns: what is measured of a request. Never knows: what it asks for.

use std::sync::Arc;
use std::time::Instant;

use crate::base::lock;
use crate::bench::asks::Asks;
use crate::bench::crew::Hand;
use crate::bench::plan::Load;

/// Asks until the run is over.
pub(super) async fn work(mut hand: Hand, mut asks: Box<dyn Asks>, load: Load) {
    let tally = Arc::clone(&hand.tally);
    let looks = asks.looks();
    while let Some(turn) = hand.turn().await {
        if turn.counts {
            lock(&tally).sent += 1;
        }
        // What is due at a fixed time may be sent later; the time for its answer runs from then on.
        let begun = match hand.pace.is_paced() {
            true => Instant::now(),
            false => turn.due,
        };
        let answer = hand.ask(begun, asks.next(), looks).await;
        let now = Instant::now();
        match answer {
            Ok(head) => {
                if looks {
                    asks.saw(head.status, hand.kept());
                    if head.closes {
                        hand.hang_up();
                    }
                }
                if turn.counts {
                    lock(&tally).answer(head.status, load.expects(head.status), turn.due, now);
                }
            }
            Err(failure) if turn.counts => lock(&tally).fail(failure, now),
            Err(_) => {}
        }
    }
}
