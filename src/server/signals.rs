//! What a member does at signals.
//!
//! | signal | |
//! |---|---|
//! | SIGTERM, SIGINT | a clean stop |
//! | SIGHUP | opens the log's files anew, looks at certificates and keys, and takes the log's level from the configuration file, if there is one |
//! | SIGUSR1, SIGUSR2 | nothing: other servers write dumps then, and scripts send them to all |

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config::LogLevel;
use crate::model::codes;
use crate::server::telemetry::LogHandle;

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
    /// be said on the command line, an error with what is wrong with the file. `hangup` tells others of SIGHUP.
    pub async fn follow(
        mut self,
        stop: CancellationToken,
        log: LogHandle,
        level: impl Fn() -> Result<Option<LogLevels>, String>,
        hangup: Arc<Notify>,
    ) {
        let [user1, user2] = &mut self.user;
        let name = loop {
            tokio::select! {
                _ = self.terminate.recv() => break "terminated",
                _ = self.interrupt.recv() => break "interrupt",
                _ = self.hangup.recv() => {
                    reread(&log, level());
                    hangup.notify_one();
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
        Ok(None) => {}
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
