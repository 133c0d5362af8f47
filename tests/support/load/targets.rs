//! Whom clients ask, and when they stop.
//!
//! Owns: the list of members, which may grow and shrink while clients run; the signal to stop. Never knows: what is asked.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// The client addresses of the members by number; a number is never given twice. Clones are the same list.
#[derive(Clone)]
pub(crate) struct Targets(Arc<Mutex<Vec<Option<SocketAddr>>>>);

impl From<Vec<SocketAddr>> for Targets {
    fn from(members: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Mutex::new(members.into_iter().map(Some).collect())))
    }
}

impl Targets {
    /// One more member; from now on clients move to it too.
    pub(crate) fn add(&self, addr: SocketAddr) -> usize {
        let mut members = self.lock();
        members.push(Some(addr));
        members.len() - 1
    }

    /// A member that will not come back. Who is connected to it finds out by itself.
    pub(crate) fn retire(&self, member: usize) {
        self.lock()[member] = None;
    }

    pub(crate) fn get(&self, member: usize) -> Option<SocketAddr> {
        self.lock().get(member).copied().flatten()
    }

    /// The next one in turn; the same one when there is no other.
    pub(crate) fn after(&self, member: usize) -> usize {
        let members = self.lock();
        let turn = (1..=members.len()).map(|step| (member + step) % members.len());
        turn.into_iter().find(|&next| members[next].is_some()).unwrap_or(member)
    }

    /// Everybody who is there.
    pub(crate) fn all(&self) -> Vec<(usize, SocketAddr)> {
        let members = self.lock();
        members.iter().enumerate().filter_map(|(place, addr)| Some((place, (*addr)?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<SocketAddr>>> {
        self.0.lock().expect("nobody panics with the list")
    }
}

/// The signal to stop. Clones are the same signal.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    pub(crate) fn stop(&self) {
        *self.0.0.lock().expect("nobody panics with the signal") = true;
        self.0.1.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.0.lock().expect("nobody panics with the signal")
    }

    /// Lets time pass, but not beyond the signal; true when that is set.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let stopped = self.0.0.lock().expect("nobody panics with the signal");
        let waited = self.0.1.wait_timeout_while(stopped, time, |stopped| !*stopped);
        *waited.expect("nobody panics with the signal").0
    }
}
