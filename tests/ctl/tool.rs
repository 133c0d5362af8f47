//! The tool as a process: ours, or the real one.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything here may take; a loaded machine needs seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(10);

/// Which program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Ours,
    /// `etcdctl` in the path.
    Real,
}

/// What a run of it came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

impl Tool {
    /// With no variables of the developer's own.
    pub(crate) fn command(self) -> Command {
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
                command.arg("etcdctl");
                command
            }
            Self::Real => Command::new("etcdctl"),
        };
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD") {
                command.env_remove(&variable);
            }
        }
        command.env("ETCDCTL_API", "2");
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(self, words: &[&str], variables: &[(&str, &str)], input: &str) -> Said {
        let mut command = self.command();
        command.args(words).envs(variables.iter().copied());
        run(command, input)
    }

    /// Asks this member.
    pub(crate) fn ask(self, addr: SocketAddr, words: &[&str], input: &str) -> Said {
        self.run(words, &[("ETCDCTL_ENDPOINTS", &format!("http://{addr}"))], input)
    }
}

/// Runs a program to its end.
pub(crate) fn run(mut command: Command, input: &str) -> Said {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // Who does not read its input may be gone by now.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { out: text(&output.stdout), err: text(&output.stderr), code: output.status.code() }
}

/// One that goes on; killed when dropped.
pub(crate) struct Running {
    child: Child,
    dir: TempDir,
}

impl Running {
    /// Starts ours at this member, in a folder of its own.
    pub(crate) fn start(addr: SocketAddr, words: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        let file = |name: &str| fs::File::create(dir.path().join(name)).expect("a file");
        let mut command = Tool::Ours.command();
        command.env("ETCDCTL_ENDPOINTS", format!("http://{addr}")).args(words);
        command.current_dir(dir.path());
        let child = command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn();
        Self { child: child.expect("it can be started"), dir }
    }

    /// The same for the version 3 API.
    pub(crate) fn start_v3(endpoints: &str, words: &[&str]) -> Self {
        Self::start_v3_with(endpoints, words, Stdio::null())
    }

    /// The same with an input.
    pub(crate) fn start_v3_with(endpoints: &str, words: &[&str], input: Stdio) -> Self {
        let dir = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        let file = |name: &str| fs::File::create(dir.path().join(name)).expect("a file");
        let mut command = Tool::Ours.command();
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", endpoints).args(words);
        command.current_dir(dir.path());
        let child = command.stdin(input).stdout(file("out")).stderr(file("err")).spawn();
        Self { child: child.expect("it can be started"), dir }
    }

    /// What it was started to read; once.
    pub(crate) fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("it is piped")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        let mut text = String::new();
        let file = fs::File::open(self.path(name));
        let _ = file.and_then(|mut file| file.read_to_string(&mut text));
        text
    }

    /// Waits until a file in its folder is as it should be.
    ///
    /// # Panics
    /// When it is not in time.
    pub(crate) fn wait(&self, name: &str, what: &str, mut is: impl FnMut(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.read(name);
            if is(&text) {
                return;
            }
            let err = self.read("err");
            assert!(Instant::now() < deadline, "{what}: not in time\n{name}: {text}\nerr: {err}");
            thread::sleep(POLL);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it goes on.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it goes on\n{}", self.read("err"));
            thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
