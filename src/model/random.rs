//! Randomness as something handed in.

/// Where a member gets its random numbers from. The real one is `server/random.rs`; a simulated world brings one
/// with a seed.
pub trait Random: Send + Sync {
    /// Any number.
    fn next(&self) -> u64;
}
