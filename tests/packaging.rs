//! The Debian package, in a Debian with systemd in it: installed, started, upgraded, removed, purged, and put in the place of etcd's.
//!
//! Needs a Docker engine as `tests/docker` does, and mmdebstrap, which makes the Debian (`tests/support/debian.sh`); without it the
//! test fails, unless `CAIRN_SKIP_DEBIAN=1`. `CAIRN_DEBIAN_IMAGE` names an image with systemd and etcd's packages in `/packages`.
//!
//! One test on that Debian, because each of its steps begins where the one before ended.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use cairn::model::ETCD_VERSION;
use support::debian::{Debian, POLL, package, packages, skipped, wait_until};
use support::docker::{Engine, output, text};
use support::page::block;

/// What `systemd-analyze security` may say at the most; a unit without any hardening has 9.6.
const EXPOSURE_MAX: f64 = 1.5;

/// Under which name pages leave blocks to this test.
const FILE: &str = "tests/packaging.rs";

#[test]
fn a_debian_takes_it_in_upgrades_it_and_lets_it_go() {
    let Some(engine) = Engine::start() else { return };
    if skipped() {
        return;
    }
    let (folder, [first, second]) = packages(["0.1.0-1", "0.1.1-1"]);
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
    its_backups_are_made_by_a_timer(&debian);
    a_drop_in_gives_it_what_the_page_says(&debian);
    it_is_upgraded(&debian, &second);
    a_file_says_everything(&debian);
    it_is_removed_comes_back_and_is_purged(&debian, &second);
    it_takes_the_place_of_etcd(&debian, &first);
    keys_of_etcd_are_taken_along(&debian, &first);
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
    let entries = debian.said("journalctl --no-pager -u cairn -o json-pretty");
    assert!(entries.contains("\"PACKAGE\" : \"etcdserver\""), "{entries}");
    debian.said("bash -ec '. /usr/share/bash-completion/completions/etcdctl; complete -p etcdctl'");
    assert_eq!(
        debian
            .said("dpkg-query -W -f '${Provides}' cairn")
            .matches(&format!("(= {ETCD_VERSION})"))
            .count(),
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
    let address = debian.said("hostname -i");
    let unit = block("docs/operations/systemd.md", FILE, "socket");
    assert!(unit.contains("ListenStream=10.0.0.1:2379\n"), "{unit}");
    debian.put("/etc/systemd/system/cairn.socket", &unit.replace("10.0.0.1", &address));
    debian.change(&format!(
        "Environment=ETCD_LISTEN_CLIENT_URLS=http://{address}:2379,http://127.0.0.1:2379 \
         ETCD_ADVERTISE_CLIENT_URLS=http://{address}:2379\\n"
    ));
    debian.said(
        "systemctl stop cairn && systemctl reset-failed cairn && systemctl start cairn.socket",
    );
    assert_eq!(debian.state(), "inactive");
    assert_eq!(
        debian.said("etcdctl --no-sync --timeout 60s --total-timeout 60s get /message"),
        "hello"
    );
    assert_eq!(debian.state(), "active");
    assert_eq!(debian.said(&format!("etcdctl -C http://{address}:2379 get /message")), "hello");
    debian.said("rm /etc/systemd/system/cairn.socket && systemctl stop cairn.socket cairn && systemctl daemon-reload");
    debian.as_it_was();
}

/// The units of the page on backups, twice: the second backup takes the place of the first.
fn its_backups_are_made_by_a_timer(debian: &Debian) {
    let service = block("docs/operations/backup.md", FILE, "backup service");
    let timer = block("docs/operations/backup.md", FILE, "backup timer");
    debian.put("/etc/systemd/system/cairn-backup.service", &service);
    debian.put("/etc/systemd/system/cairn-backup.timer", &timer);
    debian.said("mkdir /etc/cairn && umask 77 && echo ETCDCTL_ENDPOINTS=http://127.0.0.1:2379 >/etc/cairn/backup.env");
    let verified =
        debian.run("systemd-analyze verify --man=no cairn-backup.service cairn-backup.timer");
    let complaints = text(&verified.stderr);
    assert!(verified.status.success() && !complaints.contains("cairn-backup"), "{complaints}");
    debian.said("systemctl daemon-reload && systemctl enable --now cairn-backup.timer");
    for _ in 0..2 {
        let started = debian.run("systemctl start cairn-backup");
        let log = debian.said("journalctl --no-pager -u cairn-backup");
        assert!(started.status.success() && log.contains("all is well"), "{log}");
    }
    let files =
        debian.said("stat -c %a /var/lib/cairn-backup/*; cairn verify /var/lib/cairn-backup/*");
    assert!(files.starts_with("600\n") && files.ends_with("all is well"), "{files}");
    let timers = debian.said("systemctl list-timers --no-pager cairn-backup.timer");
    assert!(timers.contains("cairn-backup.service"), "{timers}");
    debian.said(
        "systemctl disable --now cairn-backup.timer && \
         rm -r /etc/systemd/system/cairn-backup.* /var/lib/systemd/timers/*cairn-backup* /etc/cairn && \
         systemctl daemon-reload",
    );
}

/// Other places, a port of the system's, another user.
fn a_drop_in_gives_it_what_the_page_says(debian: &Debian) {
    debian.said("useradd --system --user-group cairn");
    debian.said("mkdir -p /srv/cairn /var/log/etcd && chown cairn: /srv/cairn /var/log/etcd");
    debian.change(
        "Environment=ETCD_DATA_DIR=/srv/cairn/default ETCD_LOG_OUTPUTS=/var/log/etcd/log \
         ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:379 ETCD_ADVERTISE_CLIENT_URLS=http://127.0.0.1:379\\n",
    );
    let drop_in = block("docs/operations/systemd.md", FILE, "drop-in");
    debian.put("/etc/systemd/system/cairn.service.d/override.conf", &drop_in);
    debian.said("systemctl daemon-reload");
    debian.restart();
    assert_eq!(debian.said("etcdctl -C http://127.0.0.1:379 set /elsewhere 1"), "1");
    assert_eq!(debian.said("ps -o user= -p $(systemctl show --value -p MainPID cairn)"), "cairn");
    debian.said("grep -q 'ready to serve client requests' /var/log/etcd/log");
    assert_eq!(debian.said("stat -c '%U %a' /srv/cairn/default"), "cairn 700");
    debian.as_it_was();
    assert_eq!(debian.said("etcdctl get /message && stat -c %U /var/lib/cairn"), "hello\netcd");
    debian.said("rm -r /srv/cairn /var/log/etcd && userdel cairn");
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

/// The page's own commands, on a machine where etcd runs; the one who is asked says yes.
fn keys_of_etcd_are_taken_along(debian: &Debian, package: &Path) {
    let name = package.file_name().expect("it is a file").to_string_lossy();
    debian.said("dpkg -i /packages/etcd-*.deb 2>&1 && systemctl restart etcd");
    debian.said("ETCDCTL_API=2 etcdctl set /app/name x && ETCDCTL_API=2 etcdctl set --ttl 1000 /app/lease y");
    debian.said(&format!(
        "mkdir -p /root/src/packaging /root/src/target/debian && cd /root/src && \
         cp /new/{name} target/debian/ && printf '#!/bin/sh\\n' >packaging/build-deb.sh && \
         chmod +x packaging/build-deb.sh && echo 'APT::Get::Assume-Yes \"true\";' >/etc/apt/apt.conf.d/yes"
    ));
    debian.put("/root/from-etcd", &block("docs/operations/systemd.md", FILE, "from etcd"));
    debian.said("cd /root/src && DEBIAN_FRONTEND=noninteractive bash -eux /root/from-etcd 2>&1");
    assert_eq!(debian.state(), "active");
    assert_eq!(debian.said("etcdctl get /app/name && etcdctl get /message"), "x\nof-etcd");
    let lease = debian.said("etcdctl -o extended get /app/lease");
    let ttl = lease.lines().find_map(|line| line.strip_prefix("TTL: ")?.parse::<u32>().ok());
    assert!(ttl.is_some_and(|ttl| (900..=1000).contains(&ttl)), "{lease}");
    debian.said("test -d /var/lib/etcd/default/member");
}

/// A search for symbols of the C library that found none ended the build without a word.
#[test]
fn a_static_program_depends_on_no_library() {
    if skipped() {
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
