//! What a member does for the v3 key space beside the log: watchers, and the deadlines of leases.

mod leases;
mod lessor;
pub mod watch;

pub use leases::LeaseLife;
pub(in crate::replica) use leases::seconds;
pub(in crate::replica) use lessor::Lessor;
