//! Random numbers: the system's, and ones that come out the same for the same seed.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::model::scatter;

/// A number that the system has chosen at random, another one each time.
///
/// The standard library seeds each of its hashers with the system's randomness; the hash of nothing shows 64 bits of it. Good
/// for telling things apart, not for secrets.
pub fn system_random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Numbers that their seed determines (splitmix64).
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// The same seed makes the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator without an end would need an Option around each number"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scatter(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first numbers of the reference implementation for the seed 1234567.
        let mut numbers = SplitMix::new(1_234_567);
        assert_eq!(numbers.next(), 6_457_827_717_110_365_317);
        assert_eq!(numbers.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn the_system_chooses_another_number_each_time() {
        assert_ne!(system_random(), system_random());
    }
}
