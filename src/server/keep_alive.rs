//! TCP keep-alive: how a client is noticed whose machine is gone.
//!
//! A hundred thousand watches that began together must not be probed together: the probes and their answers would overflow the
//! queues on the way, and those that are lost say of healthy clients that they are dead. So each connection has an interval of its
//! own, and another one from time to time.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::base::SplitMix;

/// A silent client is probed after a time between these two, and after the same time again. The system counts in seconds.
const INTERVAL_MIN: Duration = Duration::from_secs(30);
const INTERVAL_MAX: Duration = Duration::from_secs(75);

/// A client that has answered nothing for so long is dead, whether it was probed or has bytes to acknowledge: at least three
/// probes are lost by then. The system alone would wait for bytes to be acknowledged for a quarter of an hour.
const DEAD_AFTER: Duration = Duration::from_secs(240);

/// Bytes of an answer that wait in the system for a client to take them. Few, so that each step of a slow reader lets this member
/// go on and shows that it moves.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// An interval is kept for a time between these two.
const KEPT_MIN: Duration = Duration::from_secs(60);
const KEPT_MAX: Duration = Duration::from_secs(180);

/// The keep-alive intervals of one connection.
pub(super) struct KeepAlive {
    random: SplitMix,
}

impl KeepAlive {
    /// The same seed makes the same intervals.
    pub(super) fn new(seed: u64) -> Self {
        Self { random: SplitMix::new(seed) }
    }

    /// Prepares a new connection.
    ///
    /// # Errors
    /// When the connection has ended, or the system has no such options.
    pub(super) fn set(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.draw(stream)?;
        SockRef::from(stream).set_tcp_user_timeout(Some(DEAD_AFTER))?;
        SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
    }

    /// Gives the connection another interval.
    ///
    /// # Errors
    /// As [`KeepAlive::set`].
    pub(super) fn draw(&mut self, stream: &TcpStream) -> io::Result<()> {
        let interval = self.between(INTERVAL_MIN, INTERVAL_MAX);
        let options = TcpKeepalive::new().with_time(interval).with_interval(interval);
        SockRef::from(stream).set_tcp_keepalive(&options)
    }

    /// How long to keep the interval.
    pub(super) fn kept_for(&mut self) -> Duration {
        self.between(KEPT_MIN, KEPT_MAX)
    }

    fn between(&mut self, min: Duration, max: Duration) -> Duration {
        let span = u64::try_from((max - min).as_millis()).unwrap_or(u64::MAX);
        min + Duration::from_millis(self.random.next() % (span + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_spread_over_their_range() {
        const CONNECTIONS: u64 = 4600;
        let mut at = vec![0; 80];
        for seed in 0..CONNECTIONS {
            let interval = KeepAlive::new(seed).between(INTERVAL_MIN, INTERVAL_MAX);
            assert!((INTERVAL_MIN..=INTERVAL_MAX).contains(&interval), "{interval:?}");
            at[usize::try_from(interval.as_secs()).expect("small")] += 1;
        }
        // About a hundred for each second.
        assert!(at[30..75].iter().all(|count| (50..200).contains(count)), "{at:?}");
    }
}
