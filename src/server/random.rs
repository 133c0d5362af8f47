//! The only source of randomness.

use std::hash::{BuildHasher, Hasher};

use crate::model::Random;

/// The system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next(&self) -> u64 {
        // The standard library's hasher is seeded by the system at random, and differently each time.
        std::collections::hash_map::RandomState::new().build_hasher().finish()
    }
}
