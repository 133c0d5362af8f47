//! Real members whose wall clock is wrong, jumps, or stands still with the process.
//!
//! libfaketime stands between a member and its wall clock, and reads from a file how wrong it is; the monotonic clock is real.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use support::http::{self, Request};
use support::process::Process;
use support::time::{parse_time, since_1970};
use tempfile::TempDir;

/// A key dies no later than this after its time: the promise is a second, the rest is for asking.
const LATE_MAX: Duration = Duration::from_millis(1200);
const POLL: Duration = Duration::from_millis(10);
const HOUR_S: i64 = 3600;

/// A machine with a wall clock that can be set, and a data directory.
struct Machine {
    dir: TempDir,
    library: PathBuf,
}

impl Machine {
    /// `None` where libfaketime is not installed and the caller knows.
    fn new() -> Option<Self> {
        let libraries = ["/usr/lib", "/usr/lib64", "/lib"].into_iter().flat_map(fs::read_dir);
        let folders = libraries.flat_map(Iterator::flatten).map(|entry| entry.path());
        let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
        let library = found.find(|path| path.exists());
        if library.is_none() && std::env::var_os("CAIRN_SKIP_FAKETIME").is_some() {
            eprintln!("skipped: libfaketime is not installed");
            return None;
        }
        let library = library.expect("libfaketime is needed (Debian: faketime)");
        let machine = Self { dir: TempDir::new().expect("a folder"), library };
        machine.set_wall(0);
        Some(machine)
    }

    /// The wall clock is wrong by so many seconds from now on.
    fn set_wall(&self, wrong_s: i64) {
        let (new, file) = (self.path("wrong.new"), self.path("wrong"));
        fs::write(&new, format!("{wrong_s:+}\n")).expect("the folder is ours");
        fs::rename(new, file).expect("the folder is ours");
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn start(&self) -> Member {
        let program = std::env::var("CAIRN_TEST_BIN");
        let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_cairn").to_owned());
        let mut words = vec![
            format!("LD_PRELOAD={}", self.library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.path("wrong")),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            program,
            format!("--data-dir={}", self.path("data")),
        ];
        for flag in ["listen-client-urls", "advertise-client-urls", "listen-peer-urls"] {
            words.push(format!("--{flag}=http://127.0.0.1:0"));
        }
        let mut process = Process::start("env", &words);
        process.line("ready to serve client requests");
        let line = process.line("serving insecure client requests on ");
        let address = line.rsplit(' ').next().and_then(|text| text.parse().ok());
        Member { process, address: address.expect("the line ends with an address") }
    }
}

struct Member {
    process: Process,
    address: SocketAddr,
}

impl Member {
    fn put(&self, key: &str, ttl_s: u64) -> Instant {
        let asked = Instant::now();
        let target = format!("/v2/keys{key}");
        let request = Request::new("PUT", target).form(format!("value=v&ttl={ttl_s}"));
        let reply = http::ask(self.address, &request).expect("an answer");
        assert!(reply.status() < 300, "{}", reply.text());
        asked
    }

    fn get(&self, target: &str) -> http::Reply {
        http::ask(self.address, &Request::get(target)).expect("an answer")
    }

    fn is_there(&self, key: &str) -> bool {
        self.get(&format!("/v2/keys{key}")).status() == 200
    }

    /// Waits until a key that was written at `written` dies, which must happen in time.
    fn assert_dies_in_time(&self, key: &str, written: Instant, ttl_s: u64) {
        let ttl = Duration::from_secs(ttl_s);
        while self.is_there(key) {
            assert!(written.elapsed() < ttl + LATE_MAX, "{key} lives on, {:?}", written.elapsed());
            thread::sleep(POLL);
        }
        assert!(written.elapsed() >= ttl, "{key} died after {:?}", written.elapsed());
    }

    /// `expiration` and `ttl` of a key, as seconds since 1970 and seconds.
    fn deadline(&self, key: &str) -> (f64, u64) {
        let text = self.get(&format!("/v2/keys{key}")).text();
        let field = |name: &str| {
            let rest = text.split(&format!("\"{name}\":")).nth(1).expect("it has a deadline");
            rest.split(',').next().expect("a field").trim_matches('"').to_owned()
        };
        let at = parse_time(&field("expiration")).expect("it is a date");
        (at, field("ttl").parse().expect("it is a number"))
    }

    fn assert_dates_are_right(&self, key: &str, wrong_s: i64) {
        let (expiration, ttl_s) = self.deadline(key);
        let shown = since_1970().as_secs_f64() + f64::from(i32::try_from(wrong_s).expect("small"));
        let left = expiration - shown;
        let difference = f64::from(u32::try_from(ttl_s).expect("small")) - left;
        assert!(
            (-1.0..=1.0).contains(&(difference)),
            "ttl {ttl_s}, and {left} s by the wall clock"
        );
    }

    fn end(mut self) {
        self.process.terminate();
        assert!(self.process.end().success());
    }
}

/// A leader whose wall clock was an hour ahead and was then set right let a lock with a lifetime of two seconds live for an hour:
/// the log's time was its wall clock, and never went back.
#[test]
fn a_wall_clock_that_jumps_moves_dates_and_no_lifetime() {
    let Some(machine) = Machine::new() else { return };
    machine.set_wall(HOUR_S);
    let mut member = machine.start();
    member.put("/long", 5000);
    member.assert_dates_are_right("/long", HOUR_S);
    for wrong_s in [0, 2 * HOUR_S, -HOUR_S] {
        let before = member.put("/before", 4);
        machine.set_wall(wrong_s);
        let after = member.put("/after", 2);
        member.assert_dates_are_right("/after", wrong_s);
        member.assert_dates_are_right("/long", wrong_s);
        member.assert_dies_in_time("/after", after, 2);
        member.assert_dies_in_time("/before", before, 4);
    }
    member.process.line("the wall clock jumped by 3600.0s");
    let metrics = member.get("/metrics").text();
    let jumps = metrics.lines().find(|line| line.starts_with("cairn_wall_clock_jumps_total "));
    assert_eq!(jumps, Some("cairn_wall_clock_jumps_total 3"));
    member.end();
}

/// With an idle member nothing brings its new wall clock into the log but the member itself.
#[test]
fn dates_follow_the_wall_clock_also_when_nothing_is_written() {
    let Some(machine) = Machine::new() else { return };
    let member = machine.start();
    member.put("/long", 5000);
    let (before, _) = member.deadline("/long");
    machine.set_wall(HOUR_S);
    let jumped = Instant::now();
    while member.deadline("/long").0 < before + 3000.0 {
        assert!(jumped.elapsed() < Duration::from_secs(3), "its date stays");
        thread::sleep(POLL);
    }
    member.assert_dates_are_right("/long", HOUR_S);
    member.end();
}

#[test]
fn a_member_that_once_ran_an_hour_ahead_works_at_once_with_the_right_time() {
    let Some(machine) = Machine::new() else { return };
    machine.set_wall(HOUR_S);
    let member = machine.start();
    member.put("/old", 7200);
    member.end();
    machine.set_wall(0);
    let member = machine.start();
    let written = member.put("/new", 2);
    member.assert_dates_are_right("/new", 0);
    member.assert_dates_are_right("/old", 0);
    member.assert_dies_in_time("/new", written, 2);
    member.end();
}

#[test]
fn time_goes_on_while_a_member_is_down_unless_its_wall_clock_went_back() {
    let Some(machine) = Machine::new() else { return };
    let member = machine.start();
    member.put("/short", 600);
    member.put("/long", 5000);
    member.end();
    machine.set_wall(HOUR_S);
    let member = machine.start();
    let started = Instant::now();
    while member.is_there("/short") {
        assert!(started.elapsed() < LATE_MAX, "its time passed while the member was down");
        thread::sleep(POLL);
    }
    let (_, left_s) = member.deadline("/long");
    assert!((1390..=1400).contains(&left_s), "{left_s} s are left of 5000 after an hour");
    member.end();
    machine.set_wall(-HOUR_S);
    let member = machine.start();
    let (_, left_s) = member.deadline("/long");
    assert!((1380..=1400).contains(&left_s), "{left_s} s are left, and no time has passed");
    member.end();
}

/// The timer of the next deadline stood still with the process, or waited for a clock that had been set back.
#[test]
fn a_member_that_was_suspended_counts_that_time() {
    let Some(machine) = Machine::new() else { return };
    let member = machine.start();
    let during = member.put("/during", 3);
    let later = member.put("/later", 8);
    member.process.signal(rustix::process::Signal::STOP);
    thread::sleep(Duration::from_secs(5));
    member.process.signal(rustix::process::Signal::CONT);
    let woken = Instant::now();
    while member.is_there("/during") {
        assert!(woken.elapsed() < LATE_MAX, "{:?} after its time", during.elapsed());
        thread::sleep(POLL);
    }
    member.assert_dies_in_time("/later", later, 8);
    member.end();
}

/// Members of the version before this one stamped entries with their wall clock; the fixture was made by one that ran thirty years
/// ahead (`tests/fixtures/README.md`).
#[test]
fn a_directory_of_an_older_version_that_ran_thirty_years_ahead_works_at_once() {
    let Some(machine) = Machine::new() else { return };
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/thirty-years-ahead.tar.gz");
    let unpacked = std::process::Command::new("tar")
        .args(["-xzf", &fixture.display().to_string(), "-C", &machine.path("")])
        .status();
    assert!(unpacked.expect("there is a tar").success());
    let member = machine.start();
    assert!(member.is_there("/old"));
    let written = member.put("/new", 2);
    member.assert_dates_are_right("/new", 0);
    member.assert_dies_in_time("/new", written, 2);
    member.end();
}
