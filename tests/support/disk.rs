//! Disks that are small, and system calls that fail.
//!
//! Owns: a mounted file system, a tracer. Never knows: who writes. Both need root.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

const FILLER: &str = "filler";
/// Names begin with this and the number of the process, so that what a killed run left can be told.
const PREFIX: &str = "cairn-test-disk-";

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A small file system of its own; unmounted when dropped.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    /// # Panics
    /// When the system does not mount it: only root may.
    pub(crate) fn mount(megabytes: u32) -> Self {
        remove_leftovers();
        let name = format!("{PREFIX}{}-", std::process::id());
        let disk = Self(tempfile::Builder::new().prefix(&name).tempdir().expect("a folder"));
        disk.run("mount", &["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]);
        disk
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn grow(&self, megabytes: u32) {
        self.run("mount", &["-o", &format!("remount,size={megabytes}m")]);
    }

    pub(crate) fn read_only(&self) {
        self.run("mount", &["-o", "remount,ro"]);
    }

    /// Writes a file that leaves no room for anything else.
    pub(crate) fn fill(&self) {
        let mut filler = File::create(self.path().join(FILLER)).expect("a file can be made");
        for piece in [1 << 20, 4096] {
            let zeros = vec![0; piece];
            let error = loop {
                if let Err(error) = filler.write_all(&zeros) {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        }
    }

    /// Takes that file away again.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.path().join(FILLER)).expect("the disk was filled");
    }

    fn run(&self, program: &str, args: &[&str]) {
        let status = Command::new(program).args(args).arg(self.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "{program} {args:?}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Takes down what runs left that were killed before they could.
fn remove_leftovers() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        let Some((_, rest)) = path.split_once(PREFIX) else { continue };
        let pid = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            let _ = Command::new("umount").arg("-l").arg(path).status();
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// strace, attached to a process; let go when dropped.
pub(crate) struct Strace(Child);

impl Strace {
    /// Attaches to all threads; `inject` is in strace's words, of `fdatasync`.
    ///
    /// # Panics
    /// When it does not attach: only root may, and strace must be there.
    pub(crate) fn attach(pid: u32, inject: &str) -> Self {
        let child = Command::new("strace")
            .args(["-f", "-q", "-p", &pid.to_string(), "-e", "trace=fdatasync", "-e", inject])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace runs");
        // From here on it is killed and awaited, however this ends.
        let strace = Self(child);
        // What was to fail may have failed already, and ended the process.
        let traced = |status: &str| {
            let field =
                |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            field("TracerPid:") != Some("0") || field("State:").is_some_and(|s| s.starts_with('Z'))
        };
        let proc = Path::new("/proc").join(pid.to_string());
        let attached = || {
            let Ok(tasks) = std::fs::read_dir(proc.join("task")) else { return true };
            tasks.flatten().all(|task| {
                let status = std::fs::read_to_string(task.path().join("status"));
                status.map_or(true, |status| traced(&status))
            })
        };
        for _ in 0..500 {
            if attached() {
                return strace;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("strace does not attach");
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether strace is there and may look into other processes.
pub(crate) fn strace_is_there() -> bool {
    let mut command = Command::new("strace");
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    is_root() && command.status().is_ok_and(|status| status.success())
}
