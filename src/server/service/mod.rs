//! What a service manager such as systemd gives to this process and wants to hear from it.
//!
//! Owns: the variables by which it speaks (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `LISTEN_FDS` and theirs), the lines that it is sent, the
//! sockets that it hands over. Never knows: which program it is. Without a service manager all of this does nothing.
//!
//! | file | what is in it |
//! |---|---|
//! | `manager` | the lines: ready, stopping, reloading, how things are |
//! | `watchdog` | whether this member is alive, and the line that says so |
//! | `sockets` | the sockets, and which listen URL each belongs to |

mod manager;
mod sockets;
mod watchdog;

pub use manager::Manager;
pub(super) use manager::{show_role, status_line};
pub(super) use sockets::Handed;
pub use sockets::{HandedError, HandedSockets};
pub(super) use watchdog::{keep_alive, watch};

/// What this process has from its service manager.
#[derive(Debug, Default)]
pub struct Service {
    /// Who is told how things are.
    pub manager: Manager,
    /// Sockets that listen already.
    pub sockets: HandedSockets,
}

impl Service {
    /// Takes what the environment says, out of the environment as far as it counts only once. Call it while the process has one
    /// thread: another one must not look at the environment meanwhile.
    ///
    /// # Errors
    /// When what was handed over are no sockets that listen; the text names the fix.
    pub fn of_environment() -> Result<Self, HandedError> {
        let manager = Manager::of_environment();
        Ok(Self { manager, sockets: HandedSockets::of_environment()? })
    }
}
