//! How members become a cluster, and how clusters change: founding, joining, leaving, coming back, going on alone.

#[path = "../support/mod.rs"]
mod support;

mod breaks;
mod laggard;
mod members;
mod mistakes;
mod node;
mod peers;
mod restart;
mod survivor;
