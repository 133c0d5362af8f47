//! A program that is watched by what it writes: members that do not serve yet, servers that are no members.
//!
//! Owns: the process, its folder and its output. Never knows: ports, readiness; the caller says for which words it waits.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long words may take to come; a loaded machine needs seconds.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// One running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    dir: TempDir,
}

impl Process {
    /// Starts `program` in a folder of its own.
    pub(crate) fn start(program: &str, args: &[String]) -> Self {
        Self::start_with_sockets(program, args, None, None)
    }

    /// The same with sockets in the place of standard input and output.
    pub(crate) fn start_with_sockets(
        program: &str,
        args: &[String],
        input: Option<OwnedFd>,
        output: Option<OwnedFd>,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        let log = File::create(dir.path().join("log")).expect("a log");
        let errors = log.try_clone().expect("a second handle of the log");
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            let text = variable.to_string_lossy();
            if text.starts_with("ETCD_") || text.starts_with("CAIRN_") {
                command.env_remove(&variable);
            }
        }
        command.args(args).current_dir(dir.path());
        command.stdin(input.map_or_else(Stdio::null, Stdio::from));
        command.stdout(output.map_or_else(|| Stdio::from(log), Stdio::from));
        let child = command.stderr(errors).spawn();
        Self { child: child.expect("the program can be started"), dir }
    }

    /// The member under test, on ports that the system chooses, which it says in its log.
    pub(crate) fn cairn(args: &[&str]) -> Self {
        let any = "http://127.0.0.1:0";
        let all: Vec<_> = ["--listen-client-urls", any, "--advertise-client-urls", any]
            .into_iter()
            .chain(["--listen-peer-urls", any, "--data-dir", "data"])
            .chain(args.iter().copied())
            .map(str::to_owned)
            .collect();
        let program = std::env::var("CAIRN_TEST_BIN");
        let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_cairn").to_owned());
        Self::start(&program, &all)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Waits until a line with these words is there, and returns it.
    ///
    /// # Panics
    /// When the program ends before, or takes too long.
    pub(crate) fn line(&mut self, words: &str) -> String {
        let line = self.wait_for(words);
        line.unwrap_or_else(|| panic!("it ended without {words:?}:\n{}", self.log()))
    }

    /// Waits until it says these words; `None` when it ends before.
    ///
    /// # Panics
    /// When it takes too long.
    pub(crate) fn wait_for(&mut self, words: &str) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Asked before the log is read, so that last words are heard.
            let ended = self.child.try_wait().expect("a child can be asked");
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(words)) {
                return Some(line.to_owned());
            }
            if ended.is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "no {words:?} in time:\n{log}");
            thread::sleep(POLL);
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it takes too long.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on:\n{}", self.log());
            thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- its log\n{}\n---", self.log());
        }
    }
}
