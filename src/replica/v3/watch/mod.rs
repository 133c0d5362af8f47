//! Watchers of the v3 key space.
//!
//! | file | what is in it |
//! |---|---|
//! | `stream.rs` | one client's stream of watchers: from the history to what happens now, without a gap |
//! | `hub.rs` | who hears of changes as they happen, of all streams |
//! | `outbox.rs` | what waits to be read on a stream, bounded |
//! | `watchers.rs`, `intervals.rs` | which watchers want to hear of a change |
//! | `notice.rs`, `history.rs` | what they are told, and where it comes from |

mod history;
mod hub;
mod intervals;
mod notice;
mod outbox;
mod stream;
#[cfg(test)]
mod tests;
mod watchers;

pub use hub::WatchHub;
pub use notice::{Event, Notice};
pub use stream::{Created, Told, Wanted, WatchRefusal, WatchStream};
pub use watchers::Wants;
