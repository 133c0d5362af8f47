//! What every floor may use of the machine it runs on: locks, random numbers, memory, the terminal, the stack.
//!
//! Owns: the one way to take a lock, the system's randomness, one generator with a seed. Never knows: what is locked, what a
//! number is for. It stands beside `model`, which stays free of everything that differs from one run to the next.

mod depth;
mod lock;
mod memory;
mod random;
mod secret;

pub use depth::{JSON_DEPTH_MAX, json_depth};
pub use lock::{lock, wait, wait_for};
pub use memory::give_back_soon;
pub use random::{SplitMix, system_random};
pub use secret::Hidden;
