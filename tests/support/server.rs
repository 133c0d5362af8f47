//! Server processes under test: started on free ports, awaited, killed, started again.
//!
//! Owns: the process, its ports, its folder and its log. Never knows: what is asked of it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::http::{self, Request};
use super::port::Port;

/// How long a server may take until it serves; a loaded machine needs seconds.
const START_MAX: Duration = Duration::from_secs(30);
/// A start that fails because another process took the port is tried again.
const STARTS_MAX: usize = 5;
const POLL: Duration = Duration::from_millis(10);
const LOG_TAIL: usize = 6000;

/// Which program is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// The program under test: `CAIRN_TEST_BIN`, else the binary of this package.
    Subject,
    /// The real etcd: `ETCD_BIN`, else `etcd` in the path.
    Etcd,
}

impl Flavor {
    pub(crate) fn program(self) -> PathBuf {
        let (variable, default) = match self {
            Self::Subject => ("CAIRN_TEST_BIN", env!("CARGO_BIN_EXE_cairn")),
            Self::Etcd => ("ETCD_BIN", "etcd"),
        };
        env::var_os(variable).map_or_else(|| default.into(), PathBuf::from)
    }
}

/// Whether the real etcd can be started here.
pub(crate) fn etcd_is_there() -> bool {
    let mut command = Command::new(Flavor::Etcd.program());
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether the program under test is said to be etcd itself, bugs included.
pub(crate) fn subject_is_etcd() -> bool {
    env::var_os("CONFORMANCE_ALL").is_some_and(|v| v == "1")
}

/// One member of one cluster; killed when dropped.
pub(crate) struct Server {
    flavor: Flavor,
    name: String,
    client: Port,
    peer: Port,
    args: Vec<String>,
    dir: TempDir,
    child: Option<Child>,
}

impl Server {
    /// Starts a cluster of one and waits until it serves.
    pub(crate) fn start(flavor: Flavor) -> Self {
        Self::start_with(flavor, &[])
    }

    pub(crate) fn start_with(flavor: Flavor, args: &[&str]) -> Self {
        let mut tried = 0;
        loop {
            tried += 1;
            let mut server = Self::prepare(flavor, args);
            match server.run() {
                Ok(()) => return server,
                Err(Start::PortTaken) if tried < STARTS_MAX => {}
                Err(why) => panic!(
                    "{} did not start: {why:?}\n{}",
                    flavor.program().display(),
                    server.log_tail()
                ),
            }
        }
    }

    fn prepare(flavor: Flavor, args: &[&str]) -> Self {
        let port = || Port::reserve().expect("the system has free ports");
        Self {
            flavor,
            name: "n1".to_owned(),
            client: port(),
            peer: port(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            dir: tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder"),
            child: None,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.client.addr()
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.peer.addr()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.flavor.program());
        // What the developer's shell says about etcd must not reach the servers.
        for (variable, _) in env::vars_os() {
            let text = variable.to_string_lossy();
            if (text.starts_with("ETCD_") || text.starts_with("CAIRN_")) && text != "ETCD_BIN" {
                command.env_remove(&variable);
            }
        }
        let (client, peer) = (self.client.url(), self.peer.url());
        command
            .args(["--name", &self.name])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        if !self.args.iter().any(|arg| arg.starts_with("--discovery")) {
            command.args(["--initial-cluster", &format!("{}={peer}", self.name)]);
        }
        if self.flavor == Flavor::Etcd {
            command.args(["--enable-v2", "--heartbeat-interval=20", "--election-timeout=200"]);
        } else {
            // With this many ours behaves exactly as etcd, also where the history ends.
            command.args(["--history-events=1000"]);
        }
        command.args(&self.args);
        command
    }

    fn run(&mut self) -> Result<(), Start> {
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.map_err(|e| Start::Other(format!("log: {e}")))?;
        let log_from = log.metadata().map_or(0, |m| m.len());
        let errors = log.try_clone().map_err(|e| Start::Other(format!("log: {e}")))?;
        let child = self.command().stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.child = Some(child.map_err(|e| Start::Other(e.to_string()))?);
        let deadline = Instant::now() + START_MAX;
        while !self.is_ready() {
            if let Some(status) = self.exited() {
                let log = fs::read(self.log_path()).unwrap_or_default();
                let fresh = String::from_utf8_lossy(&log[usize::try_from(log_from).unwrap_or(0)..])
                    .to_lowercase();
                return Err(match fresh.contains("address already in use") {
                    true => Start::PortTaken,
                    false => Start::Other(format!("it ended: {status}")),
                });
            }
            if Instant::now() > deadline {
                return Err(Start::Other(format!("not ready after {START_MAX:?}")));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Serving, elected, and the records of its own start are written.
    fn is_ready(&self) -> bool {
        let ask = |target| {
            http::ask_within(self.addr(), &Request::get(target), Duration::from_secs(2)).ok()
        };
        let Some(version) = ask("/version") else { return false };
        if version.status() != 200 || version.text().contains("not_decided") {
            return false;
        }
        // The version may be agreed before the member has published its name: that takes an index too.
        ask("/v2/members").is_some_and(|m| m.status() != 200 || !m.text().contains(r#""name":"""#))
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok()?
    }

    /// Whether the process is still there.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.is_some() && self.exited().is_none()
    }

    /// The running process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub(crate) fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on\n{}", self.log_tail());
            thread::sleep(POLL);
        }
    }

    /// Ends the process at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().expect("a killed child can be awaited");
        }
    }

    /// Asks the process to end (SIGTERM) and waits for that.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub(crate) fn terminate(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.as_ref().expect("the server runs");
        kill_process(Pid::from_child(child), Signal::TERM).expect("a child can be signalled");
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < deadline, "no end after SIGTERM\n{}", self.log_tail());
            thread::sleep(POLL);
        }
    }

    /// Starts the process again on the same data and ports and waits until it serves.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "the server is still running");
        for tried in 1.. {
            match self.run() {
                Ok(()) => return,
                Err(Start::PortTaken) if tried < STARTS_MAX => {}
                Err(why) => panic!("it did not start again: {why:?}\n{}", self.log_tail()),
            }
        }
    }

    /// Starts the process again on the same data and waits until it has refused to run.
    pub(crate) fn try_restart(&mut self) -> ExitStatus {
        assert!(self.run().is_err(), "it started");
        let mut child = self.child.take().expect("a refused start was a start");
        child.wait().expect("an ended child can be awaited")
    }

    /// The end of what the server wrote to its log.
    pub(crate) fn log_tail(&self) -> String {
        log_tail(&self.log_path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}

#[derive(Debug)]
enum Start {
    PortTaken,
    Other(#[expect(dead_code, reason = "shown by Debug")] String),
}

fn log_tail(path: &Path) -> String {
    let log = fs::read(path).unwrap_or_default();
    let from = log.len().saturating_sub(LOG_TAIL);
    format!("--- end of the server's log\n{}\n---", String::from_utf8_lossy(&log[from..]))
}
