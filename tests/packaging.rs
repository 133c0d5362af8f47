//! The Debian package, in a Debian with systemd in it: installed, started, upgraded, removed, purged, and put in the place of etcd's.
//!
//! Needs a Docker engine as `tests/docker.rs` does, and mmdebstrap, which makes the Debian (`tests/support/debian.sh`); without it the
//! test fails, unless `CAIRN_SKIP_DEBIAN=1`. `CAIRN_DEBIAN_IMAGE` names an image with systemd and etcd's packages in `/packages`.
//!
//! One test on that Debian, because each of its steps begins where the one before ended.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use support::docker::{Engine, ROOT, docker, output, said, text};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// What `systemd-analyze security` may say at the most; a unit without any hardening has 9.6.
const EXPOSURE_MAX: f64 = 1.5;

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(POLL);
    }
}

fn skipped(why: &str) -> bool {
    let variable = format!("CAIRN_SKIP_{why}");
    let skipped = env::var_os(&variable).is_some_and(|v| v == "1");
    if skipped {
        eprintln!("skipped: {variable}=1");
    }
    skipped
}

fn program() -> String {
    env::var("CAIRN_TEST_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_cairn").to_owned())
}

/// Builds the package of a version from a program.
fn package(version: &str, program: &Path, folder: &Path) -> PathBuf {
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

/// A machine with Debian.
struct Debian {
    container: String,
}

impl Debian {
    fn start(engine: &Engine, packages: &Path) -> Self {
        let (label, container) = (engine.label(), engine.name.clone());
        let image = env::var("CAIRN_DEBIAN_IMAGE").unwrap_or_else(|_| {
            let tag = format!("{}-debian", engine.name);
            let script = format!("{ROOT}/tests/support/debian.sh");
            let made = output(Command::new(script).args([&tag, &label]));
            assert!(made.status.success(), "no Debian: {}", text(&made.stderr));
            tag
        });
        let packages = format!("{}:/new:ro", packages.display());
        // What systemd needs to be the first process of a container, and to harden what it starts.
        let rights = ["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined"];
        let rights = [&rights[..], &["--security-opt=apparmor=unconfined", "--cgroupns=private"]];
        let places = ["-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "-v", &packages];
        let memory = ["--tmpfs=/run:exec", "--tmpfs=/tmp", "--stop-signal=SIGRTMIN+3"];
        let run = ["run", "-d", "--label", &label, "--name", &container];
        said(&[&run[..], &rights.concat(), &places, &memory, &[&image, "/sbin/init"]].concat());
        let this = Self { container };
        wait_until("systemd runs", || {
            let state = text(&this.run("systemctl is-system-running").stdout);
            matches!(state.as_str(), "running" | "degraded")
        });
        this
    }

    fn run(&self, script: &str) -> Output {
        docker(&["exec", &self.container, "sh", "-c", script])
    }

    /// What a script prints.
    ///
    /// # Panics
    /// When it fails.
    fn said(&self, script: &str) -> String {
        let output = self.run(script);
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
        if !output.status.success() {
            let unit = "systemctl status --no-pager cairn; journalctl --no-pager -n 40";
            panic!("{script}: {out}\n{errors}\n{}", text(&self.run(unit).stdout));
        }
        out
    }

    /// Starts it again, as often as a test wants: five starts in half a minute are otherwise too many.
    fn restart(&self) {
        self.said("systemctl reset-failed cairn && systemctl restart cairn");
    }

    /// A line of the member's log.
    fn wait_for(&self, words: &str) {
        let has_come = || self.said("journalctl --no-pager -u cairn").contains(words);
        wait_until(&format!("{words:?} in the log"), has_come);
    }

    /// Changes the unit by a drop-in, until [`Debian::as_it_was`].
    fn change(&self, lines: &str) {
        self.said(&format!(
            "mkdir -p /etc/systemd/system/cairn.service.d && \
             printf '[Service]\\n{lines}' >/etc/systemd/system/cairn.service.d/test.conf && systemctl daemon-reload"
        ));
    }

    fn as_it_was(&self) {
        self.said("rm -r /etc/systemd/system/cairn.service.d && systemctl daemon-reload");
        self.restart();
    }

    /// One line of `systemctl show`.
    fn shows(&self, property: &str) -> String {
        self.said(&format!("systemctl show --value -p {property} cairn"))
    }

    /// `active`, `inactive`, `failed` ...
    fn state(&self) -> String {
        text(&self.run("systemctl is-active cairn").stdout)
    }

    fn install(&self, package: &Path) -> String {
        let name = package.file_name().expect("it is a file").to_string_lossy();
        // As by a script: a question would find no terminal.
        self.said(&format!("DEBIAN_FRONTEND=noninteractive dpkg -i /new/{name} </dev/null 2>&1"))
    }
}

#[test]
fn a_debian_takes_it_in_upgrades_it_and_lets_it_go() {
    let Some(engine) = Engine::start() else { return };
    if skipped("DEBIAN") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // The engine's user must get in.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), open).expect("the folder is ours");
    let [first, second] = ["0.1.0-1", "0.1.1-1"]
        .map(|version| package(version, Path::new(&program()), folder.path()));
    no_complaint_of_lintian(&first);
    // Entries of the journal name it.
    let held = Command::new("dpkg-deb").arg("--contents").arg(&first).output().expect("dpkg-deb");
    let held = String::from_utf8_lossy(&held.stdout).into_owned();
    assert!(held.contains("./usr/share/doc/cairn/messages.md\n"), "{held}");
    let debian = Debian::start(&engine, folder.path());
    it_is_installed_and_runs(&debian, &first);
    it_is_hardened(&debian);
    it_reads_its_files_again(&debian);
    it_is_started_again_when_it_hangs(&debian);
    it_may_wait_for_other_members(&debian);
    its_socket_may_be_handed_over(&debian);
    it_is_upgraded(&debian, &second);
    a_file_says_everything(&debian);
    it_is_removed_comes_back_and_is_purged(&debian, &second);
    it_takes_the_place_of_etcd(&debian, &first);
}

fn no_complaint_of_lintian(package: &Path) {
    let Ok(said) = Command::new("lintian").arg("--fail-on=error,warning").arg(package).output()
    else {
        eprintln!("skipped: lintian is not installed");
        return;
    };
    assert!(said.status.success(), "{}\n{}", text(&said.stdout), text(&said.stderr));
}

fn it_is_installed_and_runs(debian: &Debian, package: &Path) {
    debian.install(package);
    assert_eq!(debian.state(), "active", "{}", debian.said("journalctl --no-pager -u cairn"));
    for unit in ["cairn", "etcd"] {
        debian.said(&format!("systemctl is-active {unit} && systemctl is-enabled {unit}"));
    }
    assert_eq!(debian.said("etcdctl set /message hello && etcdctl ls"), "hello\n/message");
    assert_eq!(debian.said("ps -o user= -p $(systemctl show --value -p MainPID cairn)"), "etcd");
    assert_eq!(debian.said("stat -c '%U %G %a' /var/lib/cairn"), "etcd etcd 700");
    assert_eq!(debian.said("stat -c %a /var/lib/cairn/default"), "700");
    let status = debian.shows("StatusText");
    assert!(status.ends_with(" leads in term 1"), "{status}");
    debian.said("etcd --version && cairnctl member list");
    debian.said("bash -ec '. /usr/share/bash-completion/completions/etcdctl; complete -p etcdctl'");
    assert_eq!(
        debian.said("dpkg-query -W -f '${Provides}' cairn").matches("(= 3.4.23)").count(),
        3
    );
}

fn it_is_hardened(debian: &Debian) {
    let verified = debian.run("systemd-analyze verify --man=no cairn.service");
    let complaints = text(&verified.stderr);
    assert!(verified.status.success() && !complaints.contains("cairn"), "{complaints}");
    let security = debian.said("systemd-analyze security --no-pager cairn");
    let exposure = security.rsplit("exposure level for cairn.service: ").next();
    let exposure = exposure.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(exposure.is_some_and(|exposure| exposure <= EXPOSURE_MAX), "{security}");
    // Nothing that the member does is among what is forbidden.
    let log = debian.said("journalctl --no-pager -u cairn");
    assert!(!log.contains("not permitted") && !log.contains("ermission denied"), "{log}");
}

fn it_reads_its_files_again(debian: &Debian) {
    let before = debian.shows("MainPID");
    debian.said("systemctl reload cairn");
    debian.wait_for("received hangup signal");
    wait_until("the reload is over", || debian.state() == "active");
    assert_eq!(debian.shows("MainPID"), before, "it is the same process");
}

fn it_is_started_again_when_it_hangs(debian: &Debian) {
    debian.change("WatchdogSec=2s\\nRestartSec=100ms\\n");
    debian.restart();
    debian.said("kill -STOP $(systemctl show --value -p MainPID cairn)");
    wait_until("it is started again", || {
        debian.shows("NRestarts") == "1" && debian.state() == "active"
    });
    debian.wait_for("Watchdog timeout");
    assert_eq!(debian.said("etcdctl get /message"), "hello");
    debian.as_it_was();
}

/// The other founder is not there yet: a start takes longer than a start may take.
fn it_may_wait_for_other_members(debian: &Debian) {
    const START_MAX: Duration = Duration::from_secs(1);
    debian.change(
        "TimeoutStartSec=1s\\nEnvironment=ETCD_NAME=a ETCD_DATA_DIR=/var/lib/cairn/founder \
         ETCD_INITIAL_CLUSTER=a=http://localhost:2380,b=http://localhost:23800\\n",
    );
    debian.said("systemctl stop cairn && systemctl start --no-block cairn");
    wait_until("it waits", || debian.shows("StatusText") == "waiting for a leader and for a vote");
    let waits = Instant::now();
    while waits.elapsed() < 3 * START_MAX {
        assert_eq!(debian.state(), "activating", "{}", debian.said("journalctl -n 20 -u cairn"));
        thread::sleep(POLL);
    }
    debian.said("systemctl stop cairn");
    debian.as_it_was();
}

/// systemd listens, also while the member is away: a client that comes then starts it and waits.
fn its_socket_may_be_handed_over(debian: &Debian) {
    debian.said(
        "systemctl stop cairn && \
         printf '[Socket]\\nListenStream=127.0.0.1:2379\\n' >/etc/systemd/system/cairn.socket && \
         systemctl daemon-reload && systemctl reset-failed cairn && systemctl start cairn.socket",
    );
    assert_eq!(debian.state(), "inactive");
    assert_eq!(
        debian.said("etcdctl --no-sync --timeout 60s --total-timeout 60s get /message"),
        "hello"
    );
    assert_eq!(debian.state(), "active");
    debian.said("rm /etc/systemd/system/cairn.socket && systemctl stop cairn.socket cairn && systemctl daemon-reload");
    debian.restart();
}

fn it_is_upgraded(debian: &Debian, package: &Path) {
    let before = debian.shows("MainPID");
    debian.install(package);
    assert_eq!(debian.said("dpkg-query -W -f '${Version}' cairn"), "0.1.1-1");
    assert_eq!(debian.state(), "active");
    assert_ne!(debian.shows("MainPID"), before, "the new program runs");
    assert_eq!(debian.said("etcdctl ls && etcdctl get /message"), "/message\nhello");
    // One that its operator has stopped stays so.
    debian.said("systemctl stop cairn");
    debian.install(package);
    assert_eq!(debian.state(), "inactive");
    debian.restart();
}

fn a_file_says_everything(debian: &Debian) {
    debian.said(
        "mkdir -p /etc/etcd && printf 'name: of-the-file\\ndata-dir: another\\nlog-level: info\\n' \
         >/etc/etcd/etcd.conf.yml",
    );
    debian.restart();
    let listed = debian.said("etcdctl member list");
    assert!(listed.contains("name=of-the-file "), "{listed}");
    debian.said("test -d /var/lib/cairn/another");
    debian.said("systemctl reload cairn");
    debian.wait_for("the log's level is Info, as in the configuration file");
    debian.said("rm -r /etc/etcd");
    debian.restart();
    assert_eq!(debian.said("etcdctl get /message"), "hello");
}

fn it_is_removed_comes_back_and_is_purged(debian: &Debian, package: &Path) {
    debian.said("dpkg -r cairn 2>&1");
    assert_eq!(debian.state(), "inactive");
    debian.said("test ! -e /usr/bin/etcdctl && test -e /etc/default/etcd");
    debian.said("test -e /var/lib/cairn/default/member.json");
    debian.install(package);
    assert_eq!(debian.state(), "active", "as before its removal");
    assert_eq!(debian.said("etcdctl get /message"), "hello");
    debian.said("mkdir -p /srv/data && touch /srv/data/theirs && dpkg -P cairn 2>&1");
    debian.said(
        "test ! -e /var/lib/cairn && test ! -e /etc/default/etcd && test -e /srv/data/theirs",
    );
    let left = debian.said("find /etc/systemd /var/lib/systemd -name '*cairn*' -o -name 'etcd*'");
    assert_eq!(left, "", "nothing of the unit is left");
    debian.said("getent passwd etcd");
}

fn it_takes_the_place_of_etcd(debian: &Debian, package: &Path) {
    // As on a machine that never had cairn: the scripts of etcd's package give its directory only to a user that they make.
    debian.said("deluser --quiet etcd && dpkg -i /packages/etcd-*.deb 2>&1");
    debian.said(
        "printf 'ETCD_ENABLE_V2=true\\nETCD_HEARTBEAT_INTERVAL=90\\nETCD_DATA_DIR=/var/lib/etcd/default\\n' \
         >>/etc/default/etcd && systemctl restart etcd && ETCDCTL_API=2 etcdctl set /message of-etcd",
    );
    debian.said("systemctl stop etcd");
    let files =
        "cd /var/lib/etcd && find . -type f | sort | xargs md5sum; md5sum /etc/default/etcd";
    let before = debian.said(files);
    let installed = debian.install(package);
    assert!(installed.contains("/var/lib/etcd/default holds data of etcd"), "{installed}");
    assert!(installed.contains("take ETCD_DATA_DIR out of /etc/default/etcd"), "{installed}");
    assert_eq!(debian.state(), "inactive");
    assert!(!debian.run("systemctl is-enabled cairn").status.success());
    // Whoever starts it nevertheless is told why not.
    assert!(!debian.run("systemctl start cairn").status.success());
    let log = debian.said("journalctl --no-pager -u cairn");
    assert!(log.contains("/var/lib/etcd/default is a data directory of etcd"), "{log}");
    assert_eq!(debian.said(files), before, "nothing of etcd's is changed");
    debian.said("sed -i /ETCD_DATA_DIR/d /etc/default/etcd && systemctl reset-failed cairn");
    debian.said("systemctl enable --now cairn");
    debian.said("systemctl is-active etcd");
    assert_eq!(
        debian.said("etcdctl set /message of-cairn && etcdctl get /message"),
        "of-cairn\nof-cairn"
    );
    // The settings are those of etcd's package, which is not purged yet.
    debian.said(
        "dpkg -P cairn 2>&1; test -e /etc/default/etcd && test -d /var/lib/etcd/default/member",
    );
}

/// A search for symbols of the C library that found none ended the build without a word.
#[test]
fn a_static_program_depends_on_no_library() {
    if skipped("DEBIAN") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (source, program) = (folder.path().join("main.c"), folder.path().join("main"));
    fs::write(&source, "int main(void) { return 0; }\n").expect("the folder is ours");
    let made = output(Command::new("cc").arg("-static").arg(&source).arg("-o").arg(&program));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let package = package("0.1.0-1", &program, folder.path());
    let depends = output(Command::new("dpkg-deb").arg("-f").arg(&package).arg("Depends"));
    assert_eq!(text(&depends.stdout), "adduser");
    let listed = output(Command::new("dpkg-deb").arg("-c").arg(&package));
    let listed = text(&listed.stdout);
    for file in ["bin/etcdctl -> cairn", "man/man1/etcdctl.1.gz", "man/man8/cairn.8.gz"] {
        assert!(listed.contains(file), "{listed}");
    }
}
