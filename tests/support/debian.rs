//! Machines with Debian and systemd in containers, and packages for them.
//!
//! Owns: the containers, and what is run in them. Never knows: which package is tested, and how.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use tempfile::TempDir;

use super::docker::{Engine, ROOT, docker, output, said, text};

const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const POLL: Duration = Duration::from_millis(100);

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(POLL);
    }
}

/// Whether `CAIRN_SKIP_DEBIAN=1` says that there is no Debian, which is said then.
pub(crate) fn skipped() -> bool {
    let variable = "CAIRN_SKIP_DEBIAN";
    let skipped = env::var_os(variable).is_some_and(|v| v == "1");
    if skipped {
        eprintln!("skipped: {variable}=1");
    }
    skipped
}

pub(crate) fn program() -> String {
    env::var("CAIRN_TEST_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_cairn").to_owned())
}

/// Builds the package of a version from a program.
pub(crate) fn package(version: &str, program: &Path, folder: &Path) -> PathBuf {
    let arch = output(Command::new("dpkg").arg("--print-architecture"));
    let mut command = Command::new(format!("{ROOT}/packaging/build-deb.sh"));
    command.arg(text(&arch.stdout)).arg(program).env("CAIRN_DEB_OUT", folder);
    command.env("CAIRN_DEB_RUN", self::program());
    // To be quick; and a maintainer that does not depend on this machine.
    command
        .env("CAIRN_DEB_VERSION", version)
        .env("DPKG_DEB_COMPRESSOR_TYPE", "gzip")
        .env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
    command.env("DEBFULLNAME", "cairn").env("DEBEMAIL", "cairn@debian.org");
    let built = output(&mut command);
    assert!(built.status.success(), "{}", text(&built.stderr));
    PathBuf::from(text(&built.stdout))
}

/// Packages of the program under test in these versions, in a folder that goes with the first part.
pub(crate) fn packages<const COUNT: usize>(versions: [&str; COUNT]) -> (TempDir, [PathBuf; COUNT]) {
    let folder = tempfile::tempdir().expect("a folder");
    // The engine's user must get in.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("the folder is ours");
    let packages = versions.map(|version| package(version, Path::new(&program()), folder.path()));
    (folder, packages)
}

/// The image of a Debian, made if none is named.
fn image(engine: &Engine) -> String {
    env::var("CAIRN_DEBIAN_IMAGE").unwrap_or_else(|_| {
        let (tag, label) = (format!("{}-debian", engine.name), engine.label());
        let script = format!("{ROOT}/tests/support/debian.sh");
        let made = output(Command::new(script).args([&tag, &label]));
        assert!(made.status.success(), "no Debian: {}", text(&made.stderr));
        tag
    })
}

/// A machine with Debian.
pub(crate) struct Debian {
    container: String,
}

impl Debian {
    /// One of its own, with the packages in this folder below `/new`.
    pub(crate) fn start(engine: &Engine, packages: &Path) -> Self {
        Self::begin(&image(engine), engine, packages, &[], "")
    }

    /// So many of them on a network of theirs, on which they know each other as `a`, `b` and so on.
    pub(crate) fn start_some(engine: &Engine, packages: &Path, count: u8) -> Vec<Self> {
        said(&["network", "create", "--label", &engine.label(), &engine.name]);
        let (image, places) = (&image(engine), 0..count);
        let names = places.map(|place| char::from(b'a' + place).to_string());
        let machine = |name: String| {
            let network =
                ["--network", &engine.name, "--network-alias", &name, "--hostname", &name];
            Self::begin(image, engine, packages, &network, &format!("-{name}"))
        };
        let names: Vec<_> = names.collect();
        thread::scope(|scope| {
            let machines = names.into_iter().map(|name| scope.spawn(|| machine(name)));
            let machines: Vec<_> = machines.collect();
            machines.into_iter().map(|machine| machine.join().expect("it starts")).collect()
        })
    }

    fn begin(image: &str, engine: &Engine, packages: &Path, more: &[&str], suffix: &str) -> Self {
        let (label, container) = (engine.label(), format!("{}{suffix}", engine.name));
        let packages = format!("{}:/new:ro", packages.display());
        // What systemd needs to be the first process of a container, and to harden what it starts.
        let rights = ["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined"];
        let rights = [&rights[..], &["--security-opt=apparmor=unconfined", "--cgroupns=private"]];
        let places = ["-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "-v", &packages];
        let memory = ["--tmpfs=/run:exec", "--tmpfs=/tmp", "--stop-signal=SIGRTMIN+3"];
        let run = ["run", "-d", "--label", &label, "--name", &container];
        let init = [image, "/sbin/init"];
        said(&[&run[..], &rights.concat(), &places, &memory, more, &init].concat());
        let this = Self { container };
        wait_until("systemd runs", || {
            let state = text(&this.run("systemctl is-system-running").stdout);
            matches!(state.as_str(), "running" | "degraded")
        });
        this
    }

    /// What Docker calls it.
    pub(crate) fn container(&self) -> &str {
        &self.container
    }

    pub(crate) fn run(&self, script: &str) -> Output {
        docker(&["exec", &self.container, "sh", "-c", script])
    }

    /// What a script prints.
    ///
    /// # Panics
    /// When it fails.
    pub(crate) fn said(&self, script: &str) -> String {
        let output = self.run(script);
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
        if !output.status.success() {
            let unit = "systemctl status --no-pager cairn; journalctl --no-pager -n 40";
            panic!("{script}: {out}\n{errors}\n{}", text(&self.run(unit).stdout));
        }
        out
    }

    /// Writes a file.
    pub(crate) fn put(&self, path: &str, content: &str) {
        let mut command = Command::new("docker");
        command.args(["exec", "-i", &self.container, "sh", "-c", &format!("cat >{path}")]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("docker runs");
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(content.as_bytes()).expect("it is read");
        drop(input);
        assert!(child.wait().expect("docker ends").success(), "{path} cannot be written");
    }

    /// Starts it again, as often as a test wants: five starts in half a minute are otherwise too many.
    pub(crate) fn restart(&self) {
        self.said("systemctl reset-failed cairn && systemctl restart cairn");
    }

    /// A line of the member's log.
    pub(crate) fn wait_for(&self, words: &str) {
        let has_come = || self.said("journalctl --no-pager -u cairn").contains(words);
        wait_until(&format!("{words:?} in the log"), has_come);
    }

    /// Changes the unit by a drop-in, until [`Debian::as_it_was`].
    pub(crate) fn change(&self, lines: &str) {
        self.said(&format!(
            "mkdir -p /etc/systemd/system/cairn.service.d && \
             printf '[Service]\\n{lines}' >/etc/systemd/system/cairn.service.d/test.conf && systemctl daemon-reload"
        ));
    }

    pub(crate) fn as_it_was(&self) {
        self.said("rm -r /etc/systemd/system/cairn.service.d && systemctl daemon-reload");
        self.restart();
    }

    /// One line of `systemctl show`.
    pub(crate) fn shows(&self, property: &str) -> String {
        self.said(&format!("systemctl show --value -p {property} cairn"))
    }

    /// `active`, `inactive`, `failed` ...
    pub(crate) fn state(&self) -> String {
        text(&self.run("systemctl is-active cairn").stdout)
    }

    pub(crate) fn install(&self, package: &Path) -> String {
        let name = package.file_name().expect("it is a file").to_string_lossy();
        // As by a script: a question would find no terminal.
        self.said(&format!("DEBIAN_FRONTEND=noninteractive dpkg -i /new/{name} </dev/null 2>&1"))
    }
}
