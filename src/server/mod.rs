//! Puts a member together: starts it bottom-up, runs it, drains it top-down.

mod clock;
mod connection;
mod listen;
pub mod telemetry;

pub use clock::SystemClock;
