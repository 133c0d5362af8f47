//! What a member does at signals.
//!
//! | signal | |
//! |---|---|
//! | SIGTERM, SIGINT | a clean stop |
//! | SIGHUP | opens the log's files anew, looks at certificates and keys, and takes the log's level from the configuration file, if there is one |
//! | SIGUSR1, SIGUSR2 | nothing: other servers write dumps then, and scripts send them to all |

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config::LogLevel;
use crate::model::codes;
use crate::server::service::Manager;
use crate::server::telemetry::LogHandle;

/// Asks for another look at certificates and keys; answered when that is over.
pub type Reread = oneshot::Sender<()>;

/// Files that hang hold up no answer to the service manager for longer; they are read on.
const REREAD_MAX: Duration = Duration::from_secs(10);

/// The signals of this process, which no longer end it.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: [Signal; 2],
}

impl Signals {
    /// Takes them from the system.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// Follows them until one asks for a stop, which `stop` is told. `level` reads the log's level anew: `None` when it can only
    /// be said on the command line, an error with what is wrong with the file. `certificates` are looked at by others, and
    /// `manager` hears when all of it is done.
    pub async fn follow(
        mut self,
        stop: CancellationToken,
        log: LogHandle,
        level: impl Fn() -> Result<Option<LogLevels>, String>,
        certificates: mpsc::Sender<Reread>,
        manager: Manager,
    ) {
        let [user1, user2] = &mut self.user;
        let name = loop {
            tokio::select! {
                _ = self.terminate.recv() => break "terminated",
                _ = self.interrupt.recv() => break "interrupt",
                _ = self.hangup.recv() => {
                    manager.reloading().await;
                    reread(&log, level());
                    let (asked, answered) = oneshot::channel();
                    // A look that is asked for already is this one too; where nobody looks there are no files.
                    let _ = certificates.try_send(asked);
                    let manager = manager.clone();
                    // The next signal may ask for a stop.
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(REREAD_MAX, answered).await;
                        manager.reloaded().await;
                    });
                }
                _ = user1.recv() => {}
                _ = user2.recv() => {}
            }
        };
        info!(target: "pkg/osutil", "received {name} signal, shutting down...");
        stop.cancel();
    }
}

/// The level of the log, and those of single packages.
pub type LogLevels = (LogLevel, Vec<(String, LogLevel)>);

fn reread(log: &LogHandle, level: Result<Option<LogLevels>, String>) {
    match log.reopen() {
        Ok(()) => info!(target: "pkg/osutil", "received hangup signal: the log's files are opened anew"),
        Err(failed) => failed.iter().for_each(|(path, why)| {
            error!(target: "pkg/osutil", code = codes::LOG_NOT_REOPENED, "the log {path} cannot be opened anew, and goes on where it was: {why}");
        }),
    }
    match level {
        Ok(None) => info!(
            target: "pkg/osutil",
            "flags and variables stay as they were at the start; only the level of a --config-file is taken without a restart"
        ),
        Ok(Some((level, packages))) => {
            log.set_levels(level, &packages);
            info!(
                target: "pkg/osutil",
                "the log's level is {level:?}, as in the configuration file; everything else in it needs a restart"
            );
        }
        Err(why) => {
            error!(target: "pkg/osutil", code = codes::CONFIGURATION_FILE, "the configuration file is not taken: {why}")
        }
    }
}
