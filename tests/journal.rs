//! The log in the journal of systemd: what a reader of its protocol gets, and what the real journal makes of it where there is one.

mod support;

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cairn::model::ETCD_VERSION;
use support::http::{self, Request};
use support::process::Process;

const PATIENCE: Duration = Duration::from_secs(30);

/// What stands in for the journal: a socket, and the entries that came in.
struct Reader {
    socket: UnixDatagram,
    path: PathBuf,
    _dir: tempfile::TempDir,
    entries: Vec<BTreeMap<String, String>>,
}

impl Reader {
    fn listen() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self { socket, path, _dir: dir, entries: Vec::new() }
    }

    /// Reads on until an entry with these words in its message has come.
    fn entry(&mut self, words: &str) -> BTreeMap<String, String> {
        let deadline = Instant::now() + PATIENCE;
        let is_it = |entry: &&BTreeMap<String, String>| entry["MESSAGE"].contains(words);
        if let Some(found) = self.entries.iter().find(is_it) {
            return found.clone();
        }
        while Instant::now() < deadline {
            let mut bytes = vec![0; 1 << 20];
            let count = self.socket.recv(&mut bytes).expect("another entry");
            let entry = read(&bytes[..count]);
            self.entries.push(entry.clone());
            if is_it(&&entry) {
                return entry;
            }
        }
        panic!("no {words:?} in {:#?}", self.entries);
    }
}

/// Reads one entry, as the protocol is described: `NAME=value`, or `NAME`, a length of 64 bits and so many bytes.
fn read(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').expect("each field ends its line");
        let line = &bytes[..end];
        bytes = &bytes[end + 1..];
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(at) => (text(&line[..at]), text(&line[at + 1..])),
            None => {
                let (length, rest) = bytes.split_at(8);
                let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
                let (value, rest) = rest.split_at(usize::try_from(length).expect("it is here"));
                bytes = rest.strip_prefix(b"\n").expect("a value ends with a line");
                (text(line), text(value))
            }
        };
        let good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.bytes().all(good) && !name.starts_with('_'), "{name} is no name of a field");
        assert!(fields.insert(name, value).is_none(), "a field is there twice");
    }
    fields
}

/// A member as systemd starts it: standard error goes to the journal, and `JOURNAL_STREAM` says so.
fn under_systemd(socket: &Path, flags: &[&str]) -> Process {
    let any = "http://127.0.0.1:0";
    let program = std::env::var("CAIRN_TEST_BIN");
    let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_cairn").to_owned());
    let script = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec \"$@\"";
    let mut words = vec!["-c".to_owned(), script.to_owned(), "sh".to_owned(), "env".to_owned()];
    words.push(format!("JOURNAL_SOCKET={}", socket.display()));
    words.push(program);
    for flag in ["listen-client-urls", "advertise-client-urls", "listen-peer-urls"] {
        words.push(format!("--{flag}={any}"));
    }
    words.push("--data-dir=data".to_owned());
    words.extend(flags.iter().map(|&flag| flag.to_owned()));
    Process::start("sh", &words)
}

fn said<'a>(entry: &'a BTreeMap<String, String>, field: &str) -> Option<&'a str> {
    entry.get(field).map(String::as_str)
}

#[test]
fn under_systemd_lines_are_entries_with_fields() {
    let mut journal = Reader::listen();
    let mut member = under_systemd(&journal.path, &[]);
    let begins = journal.entry(&format!("etcd Version: {ETCD_VERSION}"));
    assert_eq!(said(&begins, "PRIORITY"), Some("6"));
    assert_eq!(said(&begins, "PACKAGE"), Some("etcdmain"));
    assert_eq!(said(&begins, "SYSLOG_IDENTIFIER"), Some("cairn"));
    assert_eq!((said(&begins, "MEMBER"), said(&begins, "CODE")), (None, None));
    let serves = journal.entry("serving insecure client requests on ");
    let addr = serves["MESSAGE"].rsplit(' ').next().and_then(|text| text.parse().ok());
    let ready = journal.entry("ready to serve client requests");
    let member_id = said(&ready, "MEMBER").expect("it knows itself").to_owned();
    assert!(u64::from_str_radix(&member_id, 16).is_ok(), "{member_id}");
    let index = said(&ready, "INDEX").and_then(|index| index.parse::<u64>().ok());
    assert!(index.is_some_and(|index| index >= 3), "{ready:?}");
    assert!(
        said(&ready, "TERM").is_some_and(|term| term.parse::<u64>().is_ok_and(|term| term > 0))
    );
    let request = Request::new("PUT", "/v2/keys/a").header("Content-Type", "text/plain").body("v");
    http::ask(addr.expect("an address"), &request).expect("an answer");
    let warning = journal.entry("the body is not read");
    assert_eq!(said(&warning, "PRIORITY"), Some("4"));
    assert_eq!(said(&warning, "CODE"), Some("C401"));
    assert!(!warning["MESSAGE"].contains("C401"), "the field has it");
    assert!(said(&warning, "DOCUMENTATION").is_some_and(|url| url.ends_with("/messages.md#c401")));
    let id = said(&warning, "MESSAGE_ID").expect("it has an id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(said(&warning, "MEMBER"), Some(&*member_id));
    member.terminate();
    journal.entry("received terminated signal, shutting down...");
    assert!(member.end().success());
    assert_eq!(member.log(), "", "nothing goes there twice");
}

/// A shell that gives a service's child another standard error leaves the variable behind.
#[test]
fn another_standard_error_than_the_journals_gets_lines() {
    let journal = Reader::listen();
    let mut words = vec![
        "JOURNAL_STREAM=8:12345".to_owned(),
        format!("JOURNAL_SOCKET={}", journal.path.display()),
    ];
    words.push(env!("CARGO_BIN_EXE_cairn").to_owned());
    for flag in ["listen-client-urls", "advertise-client-urls", "listen-peer-urls"] {
        words.push(format!("--{flag}=http://127.0.0.1:0"));
    }
    let mut member = Process::start("env", &words);
    member.line("I | embed: ready to serve client requests");
}

#[test]
fn a_journal_that_is_not_there_is_no_reason_to_be_silent_unless_it_was_asked_for() {
    let nowhere = Path::new("/nonexistent/journal");
    let mut member = under_systemd(nowhere, &[]);
    member.line("I | embed: ready to serve client requests");
    let mut refused = under_systemd(nowhere, &["--log-outputs=systemd/journal"]);
    refused.line("the journal cannot be reached: ");
    assert!(!refused.end().success());
}

/// A journal that takes nothing: the member serves and stops all the same.
#[test]
fn a_journal_that_stands_still_holds_up_no_request() {
    let mut journal = Reader::listen();
    let mut member = under_systemd(&journal.path, &[]);
    let serves = journal.entry("serving insecure client requests on ");
    let addr = serves["MESSAGE"].rsplit(' ').next().and_then(|text| text.parse().ok());
    let addr = addr.expect("an address");
    journal.entry("ready to serve client requests");
    // The socket takes ten entries on most machines; more are said before lines of one kind are merged.
    for _ in 0..60 {
        member.signal(rustix::process::Signal::HUP);
        let put = Request::new("PUT", "/v2/keys/a").form("value=1");
        assert!(http::ask(addr, &put).expect("an answer").status() < 300);
    }
    let begun = Instant::now();
    member.terminate();
    assert!(member.end().success());
    assert!(begun.elapsed() < Duration::from_secs(20), "the last lines are not waited for");
}

#[test]
fn a_package_can_be_silenced_and_unknown_ones_are_named() {
    let flags = ["--log-package-levels=etcdserver=ERROR,raft=WARN,security=DEBUG"];
    let mut member = Process::cairn(&flags);
    member.line("I | embed: ready to serve client requests");
    let log = member.log();
    assert!(
        log.contains("no package is called \"security\"; there are auth, compactor, discovery, "),
        "{log}"
    );
    assert!(!log.contains("| etcdserver: "), "{log}");
    assert!(!log.contains("| raft: "), "{log}");
    assert!(log.contains("| etcdserver/membership: "), "it is another package\n{log}");
}

/// Where systemd runs, its journal reads the fields as they were meant.
#[test]
fn the_real_journal_finds_entries_by_their_fields() {
    if !Path::new("/run/systemd/journal/socket").exists() {
        eprintln!("skipped: no journal listens on this machine");
        return;
    }
    let mut member = Process::cairn(&["--log-outputs=systemd/journal,stderr"]);
    member.line("ready to serve client requests");
    let pid = format!("_PID={}", member.pid());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let words = ["--output=json", "PACKAGE=embed", "SYSLOG_IDENTIFIER=cairn", &pid];
        let output = Command::new("journalctl").args(words).output().expect("journalctl is there");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Some(line) = text.lines().find(|line| line.contains("ready to serve")) {
            let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(entry["PRIORITY"], "6");
            assert!(entry["MEMBER"].is_string() && entry["TERM"].is_string(), "{entry}");
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
