//! The only source of randomness.

use crate::base::system_random;
use crate::model::Random;

/// The system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next(&self) -> u64 {
        system_random()
    }
}
