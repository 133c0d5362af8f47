//! Randomness as something handed in, and bits that look random.

/// Where a member gets its random numbers from. The real one is `server/random.rs`; a simulated world brings one
/// with a seed.
pub trait Random: Send + Sync {
    /// Any number.
    fn next(&self) -> u64;
}

/// Lets each bit depend on each other: what splitmix64 does to its counter.
pub const fn scatter(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
