//! How members become a cluster, and how clusters change: founding, joining, leaving, coming back, going on alone.

#[path = "../support/mod.rs"]
mod support;

use support::node;

mod breaks;
mod laggard;
mod members;
mod mistakes;
mod peers;
mod restart;
mod survivor;
