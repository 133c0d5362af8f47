//! Data directories as people have them: mounted disks, directories of a group, of another user, full and read-only ones.
//!
//! Members run as another user where root starts the tests, which is so in continuous integration; elsewhere these say that they
//! are skipped.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use support::disk::{SmallDisk, is_root};
use support::http::{self, Request};
use support::process::Process;
use support::server::Flavor;
use tempfile::TempDir;

/// "nobody", as containers run.
const USER: u32 = 65_534;
const READY: &str = "ready to serve client requests";

/// A folder that others may enter.
fn folder() -> TempDir {
    let dir = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
    set_mode(dir.path(), 0o755);
    dir
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn directory(folder: &TempDir, mode: u32) -> PathBuf {
    let path = folder.path().join("data");
    fs::create_dir(&path).expect("a directory can be made");
    set_mode(&path, mode);
    path
}

/// A member as the user that runs the tests.
fn start(data_dir: &str) -> Process {
    Process::cairn(&["--data-dir", data_dir])
}

/// A member as another user.
fn start_as_user(folder: &TempDir, data_dir: &Path) -> Process {
    let any = "http://127.0.0.1:0";
    let user = [format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".to_owned()];
    let urls = ["--listen-client-urls", "--advertise-client-urls", "--listen-peer-urls"];
    let program = executable_by_all(folder, &user);
    let args = user.into_iter().chain([program.display().to_string(), "--data-dir".to_owned()]);
    let args = args.chain([data_dir.display().to_string()]);
    let args: Vec<_> =
        args.chain(urls.iter().flat_map(|flag| [(*flag).to_owned(), any.to_owned()])).collect();
    Process::start("setpriv", &args)
}

/// The program may lie where no other user can enter.
fn executable_by_all(folder: &TempDir, user: &[String]) -> PathBuf {
    let program = Flavor::Subject.program();
    let tried = Command::new("setpriv").args(user).arg(&program).arg("--version").output();
    if tried.is_ok_and(|tried| tried.status.success()) {
        return program;
    }
    let copy = folder.path().join("cairn");
    if !copy.exists() {
        fs::copy(&program, &copy).expect("the program can be copied");
        set_mode(&copy, 0o755);
    }
    copy
}

fn skipped() -> bool {
    if !is_root() {
        eprintln!("skipped: only root can start a member as another user, or mount a disk");
    }
    !is_root()
}

/// What it says when it refuses to start.
fn refusal(mut process: Process) -> String {
    let status: ExitStatus = process.end();
    let log = process.log();
    assert!(!status.success() && !log.contains(READY), "it must not start:\n{log}");
    log.lines().last().unwrap_or_default().to_owned()
}

/// It was refused as "not empty and not cairn's": every new ext4 file system has a `lost+found`.
#[test]
fn a_disk_that_is_mounted_there_is_a_data_directory() {
    let folder = folder();
    let data = directory(&folder, 0o700);
    fs::create_dir(data.join("lost+found")).expect("a directory can be made");
    fs::create_dir(data.join(".snapshot")).expect("a directory can be made");
    fs::write(data.join(".gitkeep"), "").expect("a file can be written");
    for _ in 0..2 {
        let mut member = start(&format!("{}/", data.display()));
        member.line(READY);
        member.terminate();
        assert!(member.end().success());
    }
    assert!(data.join("lost+found").is_dir() && data.join(".gitkeep").is_file());
}

/// `--wal-dir`: a member that began a new log would have forgotten what it acknowledged and whom it voted for.
#[test]
fn a_log_of_its_own_place_is_found_and_never_begun_anew() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (data, wal) = (path("data"), path("fast/wal"));
    let start = |wal: Option<&str>| {
        let mut args = vec!["--data-dir", &data];
        args.extend(wal.iter().flat_map(|wal| ["--wal-dir", wal]));
        Process::cairn(&args)
    };
    let addr = |process: &mut Process| {
        let line = process.line("client requests on ");
        let text = line.split("client requests on ").nth(1).expect("it was waited for");
        text.split(',').next().expect("an address").parse().expect("an address")
    };
    let mut member = start(Some(&wal));
    let put = Request::new("PUT", "/v2/keys/a").form("value=kept");
    assert_eq!(http::ask(addr(&mut member), &put).expect("an answer").status(), 201);
    assert!(!Path::new(&data).join("wal").exists());
    assert!(fs::read_dir(&wal).expect("the log").flatten().count() > 0);
    assert_eq!((mode(Path::new(&wal)), mode(&folder.path().join("fast"))), (0o700, 0o700));
    drop(member);
    for elsewhere in [None, Some(path("third"))] {
        let said = refusal(start(elsewhere.as_deref()));
        assert!(said.contains(&format!("--wal-dir={wal}")), "{said}");
    }
    let said = refusal(Process::cairn(&["--data-dir", &path("other"), "--wal-dir", &wal]));
    assert!(said.contains("holds no member"), "{said}");
    let kept = |mut member: Process| {
        let got = http::ask(addr(&mut member), &Request::get("/v2/keys/a?quorum=true"));
        assert!(got.expect("an answer").text().contains("kept"));
    };
    kept(start(Some(&wal)));
    fs::rename(&wal, path("fast/away")).expect("it can be moved");
    let said = refusal(start(Some(&wal)));
    assert!(said.contains("mount the disk"), "{said}");
    kept(start(Some(&path("fast/away"))));
    fs::rename(path("fast/away"), format!("{data}/wal")).expect("it can be moved");
    kept(start(None));
}

#[test]
fn another_file_system_is_a_data_directory_too() {
    if skipped() {
        return;
    }
    let disk = SmallDisk::mount(200);
    for _ in 0..2 {
        let mut member = start(&disk.path().display().to_string());
        member.line(READY);
        drop(member);
    }
}

/// It did not start: it wanted to change rights that only the owner may change.
#[test]
fn a_directory_of_a_group_is_used_with_a_warning_and_stays_as_it_is() {
    if skipped() {
        return;
    }
    let folder = folder();
    let data = directory(&folder, 0o700);
    chown(&data, Some(0), Some(USER)).expect("root may");
    set_mode(&data, 0o2770);
    for _ in 0..2 {
        let mut member = start_as_user(&folder, &data);
        member.line(READY);
        let warning = member.line("has the mode 2770");
        assert!(warning.contains(" W | ") && warning.contains("chmod 700"), "{warning}");
        member.terminate();
        assert!(member.end().success());
    }
    assert_eq!(mode(&data), 0o2770);
    for name in ["cairn-format", "member.json", "checkpoint.redb", "lock"] {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&data.join("wal")) & 0o777, 0o700);
}

/// Rights that an operator gave were changed in silence.
#[test]
fn a_directory_that_others_may_read_is_warned_of() {
    let folder = folder();
    let data = directory(&folder, 0o755);
    let mut member = start(&data.display().to_string());
    member.line(READY);
    member.line("has the mode 0755: others can see which files are in it");
    drop(member);
    assert_eq!(mode(&data), 0o755);
    let own = folder.path().join("own");
    let mut member = start(&own.display().to_string());
    member.line(READY);
    assert!(!member.log().contains("has the mode"), "{}", member.log());
    assert_eq!(mode(&own), 0o700);
}

#[test]
fn a_directory_of_another_user_is_refused_with_the_fix() {
    if skipped() {
        return;
    }
    let folder = folder();
    let data = directory(&folder, 0o755);
    let said = refusal(start_as_user(&folder, &data));
    assert!(said.contains("Permission denied") && said.contains("chown -R 65534"), "{said}");
    assert_eq!(fs::read_dir(&data).expect("it is there").count(), 0, "nothing was changed");
    // As if an earlier start had been root's.
    drop({
        let mut member = start(&data.display().to_string());
        member.line(READY);
        member
    });
    set_mode(&data, 0o777);
    let said = refusal(start_as_user(&folder, &data));
    assert!(said.contains("data/lock") && said.contains("chown -R 65534"), "{said}");
    chown(data.join("lock"), Some(USER), Some(USER)).expect("root may");
    let said = refusal(start_as_user(&folder, &data));
    assert!(said.contains("open ") && said.contains("chown -R 65534"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_with_the_fix() {
    if skipped() {
        return;
    }
    let folder = folder();
    let data = directory(&folder, 0o555);
    chown(&data, Some(USER), Some(USER)).expect("root may");
    let said = refusal(start_as_user(&folder, &data));
    assert!(said.contains("data/lock: Permission denied"), "{said}");
    let disk = SmallDisk::mount(10);
    disk.read_only();
    let said = refusal(start(&disk.path().display().to_string()));
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains("mount the file system for writing"), "{said}");
}

#[test]
fn a_disk_that_is_full_at_the_first_start_is_named_and_begun_again() {
    if skipped() {
        return;
    }
    // No room for the stamp; room for a part of the first segment of the log.
    for (megabytes, fill) in [(1, true), (20, false)] {
        let disk = SmallDisk::mount(megabytes);
        let data = disk.path().join("data");
        fs::create_dir(&data).expect("a directory can be made");
        if fill {
            disk.fill();
        }
        let said = refusal(start(&data.display().to_string()));
        assert!(said.contains("No space left") && said.contains("make space there"), "{said}");
        if fill {
            disk.free();
        }
        disk.grow(200);
        start(&data.display().to_string()).line(READY);
    }
}

#[test]
fn what_is_no_directory_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "precious").expect("a file can be written");
    let said = refusal(start(&file.display().to_string()));
    assert!(said.contains("file is no directory: name a directory"), "{said}");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "precious");
    let (link, place) = (folder.path().join("link"), folder.path().join("place"));
    std::os::unix::fs::symlink(&place, &link).expect("a link can be made");
    let said = refusal(start(&link.display().to_string()));
    assert!(said.contains("link is a link to a place that is not there"), "{said}");
    fs::create_dir(&place).expect("a directory can be made");
    start(&link.display().to_string()).line(READY);
    assert!(place.join("cairn-format").is_file());
}
