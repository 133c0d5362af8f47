//! A session of commands of the version 3 API, as the real tool has it: what is printed where, and the exit codes.
//!
//! `tests/fixtures/etcdctl/session-v3` was recorded with the real tool at the real etcd. Ours has to say the same to the real etcd,
//! byte for byte, in every format. `UPDATE=1` records it again. And both tools have to say the same to cairn; what rightly differs
//! there is what `like_cairn` leaves out.
//!
//! `$` begins a command, `^` one that goes on until it has said what it should and is interrupted then, `<` is input. Numbers that
//! the server makes up are written `{id1}`, `{id2}` in the order in which they are first seen, however they are written; in a
//! command that stands for the number with letters. Protobuf is written as its fields.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use cairn::model::ETCD_VERSION;
use rustix::process::{Pid, Signal, kill_process};

use crate::session::split;
use crate::support::http::{self, Request};
use crate::support::server::{Flavor, Server, etcd_is_there};
use crate::tool::{PATIENCE, Tool};

/// Starts of a server that may go wrong.
const STARTS_MAX: usize = 10;
const POLL: Duration = Duration::from_millis(20);
/// How long a command that goes on may take for its output while it is recorded.
const RECORDED_FOR: Duration = Duration::from_secs(2);
/// Smaller numbers are no ids: of random ones, one in 65,536 is. The real tool's log has words of twelve hexadecimal digits.
const ID_MIN: u64 = 1 << 48;
const HEX_DIGITS: std::ops::RangeInclusive<usize> = 13..=16;
const DECIMAL_DIGITS: std::ops::RangeInclusive<usize> = 15..=20;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/etcdctl").join(name)
}

/// One command of the session.
struct Step {
    /// As it stands in the file, input too.
    head: String,
    words: Vec<String>,
    input: String,
    goes_on: bool,
    /// What was recorded.
    recorded: String,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        let goes_on = line.starts_with("^ ");
        if let (true, Some(words)) = (goes_on || line.starts_with("$ "), line.get(2..)) {
            let head = format!("{line}\n");
            let words = split(words);
            steps.push(Step {
                head,
                words,
                input: String::new(),
                goes_on,
                recorded: String::new(),
            });
        } else if let (Some(input), Some(step)) = (line.strip_prefix("< "), steps.last_mut()) {
            let _ = writeln!(step.head, "{line}");
            let _ = writeln!(step.input, "{input}");
        } else if let Some(step) = steps.last_mut() {
            let _ = writeln!(step.recorded, "{line}");
        }
    }
    steps
}

/// What differs from one run to the next, made the same.
#[derive(Default)]
struct Same {
    places: Vec<(String, &'static str)>,
    ids: BTreeMap<u64, String>,
}

impl Same {
    fn of(server: &Server) -> Self {
        let places = vec![
            (server.addr().to_string(), "{client}"),
            (server.peer_addr().to_string(), "{peer}"),
        ];
        Self { places, ids: BTreeMap::new() }
    }

    /// A word of a command, with what is really meant.
    fn word(&self, word: &str) -> String {
        let mut word = word.to_owned();
        for (address, name) in &self.places {
            word = word.replace(name, address);
        }
        for (id, name) in &self.ids {
            word = word.replace(name, &format!("{id:016x}"));
        }
        word
    }

    fn name(&mut self, id: u64) -> String {
        let next = format!("{{id{}}}", self.ids.len() + 1);
        self.ids.entry(id).or_insert(next).clone()
    }

    /// Text with the ids in it named.
    fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (address, name) in &self.places {
            text = text.replace(address, name);
        }
        let mut same = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(|letter: char| letter.is_ascii_hexdigit()) {
            let (before, from) = rest.split_at(at);
            let end = from.find(|letter: char| !letter.is_ascii_alphanumeric());
            let (word, after) = from.split_at(end.unwrap_or(from.len()));
            same.push_str(before);
            let inside = before.ends_with(|letter: char| letter.is_ascii_alphanumeric());
            let decimal = word.bytes().all(|letter| letter.is_ascii_digit());
            let hex = word.bytes().all(|l| l.is_ascii_digit() || (b'a'..=b'f').contains(&l));
            // Digits alone can be either. JSON and fields have decimal numbers, everything else has hexadecimal ones.
            let named = before.ends_with("\":") || before.ends_with("\" : ");
            let id = match word.len() {
                length if hex && !named && HEX_DIGITS.contains(&length) => {
                    u64::from_str_radix(word, 16).ok()
                }
                length if decimal && DECIMAL_DIGITS.contains(&length) => word.parse().ok(),
                _ => None,
            };
            match id.filter(|id| !inside && *id >= ID_MIN) {
                Some(id) => same.push_str(&self.name(id)),
                None => same.push_str(word),
            }
            rest = after;
        }
        times(&(same + rest))
    }

    /// What a message of protobuf holds, each field with its number.
    fn fields(&mut self, bytes: &[u8]) -> Option<String> {
        let mut rest = bytes;
        let mut all = Vec::new();
        while !rest.is_empty() {
            let key = varint(&mut rest)?;
            let value = match key & 7 {
                0 => {
                    let number = varint(&mut rest)?;
                    let id = (ID_MIN..u64::MAX - (1 << 32)).contains(&number);
                    if id { self.name(number) } else { number.to_string() }
                }
                2 => {
                    let length = usize::try_from(varint(&mut rest)?).ok()?;
                    let inside = rest.get(..length)?;
                    rest = &rest[length..];
                    let known = self.ids.clone();
                    match self.fields(inside).filter(|fields| !fields.is_empty()) {
                        Some(fields) if key >> 3 != 0 && !is_text(inside) => {
                            format!("{{{fields}}}")
                        }
                        _ => {
                            self.ids = known;
                            format!("{:?}", self.text(&String::from_utf8_lossy(inside)))
                        }
                    }
                }
                _ => return None,
            };
            all.push(format!("{}: {value}", key >> 3));
        }
        Some(all.join(" "))
    }
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// What stands between two texts, and its name.
type Named = (&'static str, &'static str, &'static str);

/// How long something took, or has left, is another time each time.
const TIMES: &[Named] = &[
    ("took = ", "\n", "{took}"),
    ("\"took\":\"", "\"", "{took}"),
    ("\"Took\" : ", "\n", "{took}"),
    ("remaining(", "s)", "{left}"),
    ("\"ttl\":", ",\"granted", "{left}"),
    ("\"TTL\" : ", "\n\"Granted", "{left}"),
    // How large a file is depends on when pages are written.
    ("\"dbSize\":", ",", "{size}"),
    ("\"dbSizeInUse\":", "}", "{size}"),
    ("\"DBSize\" : ", "\n", "{size}"),
];

/// How many entries a log has is no server's promise.
const INDEXES: &[Named] = &[
    ("\"raftIndex\":", ",", "{index}"),
    ("\"raftAppliedIndex\":", ",", "{index}"),
    ("\"raftAppliedIndex\":", "}", "{index}"),
    ("\"RaftIndex\" : ", "\n", "{index}"),
    ("\"RaftAppliedIndex\" : ", "\n", "{index}"),
];

fn named(text: &str, table: &[Named]) -> String {
    let mut text = text.to_owned();
    for (before, after, name) in table {
        let mut from = 0;
        while let Some(at) = text[from..].find(before).map(|at| from + at + before.len()) {
            let Some(length) = text[at..].find(after) else { break };
            if !text[at..at + length].contains(['\n', ' ', '{', '-']) {
                text.replace_range(at..at + length, name);
            }
            from = at;
        }
    }
    text
}

fn times(text: &str) -> String {
    named(text, TIMES).split_inclusive('\n').map(|line| squeezed(&sizes(line))).collect()
}

/// The release that the sessions were recorded with.
const RECORDED: &str = "3.4.23";

/// What is said by either server, without what rightly differs at cairn.
fn like_cairn(text: &str) -> String {
    let text = named(text, INDEXES).replace(RECORDED, ETCD_VERSION);
    // An empty store uses nothing. And etcd has the revision of a sum since 3.6 only.
    let text = text.replace(",\"dbSizeInUse\":{size}", "");
    let text = without(&text, ",\"hash_revision\":");
    text.split_inclusive('\n').map(without_indexes).collect()
}

fn without(text: &str, field: &str) -> String {
    let mut pieces = text.split(field);
    let mut same = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        same.push_str(piece.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    }
    same
}

/// The two indexes of the log in a list or a table of members.
fn without_indexes(line: &str) -> String {
    for between in [", ", " | "] {
        let mut cells: Vec<_> = line.split(between).collect();
        if cells.len() > 8 && cells[2].starts_with("3.") {
            cells[7..9].fill("{index}");
            return cells.join(between);
        }
    }
    line.to_owned()
}

/// `20 kB` in a list or a table.
fn sizes(line: &str) -> String {
    match (line.contains(" kB"), line.find(", 3.").or_else(|| line.find("| "))) {
        (true, Some(_)) => {
            let (before, after) = line.split_once(" kB").expect("it is there");
            let number = before.trim_end_matches(|letter: char| letter.is_ascii_digit());
            format!("{number}{{size}}{after}")
        }
        _ => line.to_owned(),
    }
}

/// Lines of a table, whose columns are as wide as the longest id; and an id that is filled up with blanks.
fn squeezed(line: &str) -> String {
    let (table, member) = (
        line.starts_with(['+', '|']),
        line.starts_with("Member ") || line.starts_with("Leadership "),
    );
    // Members come in the order of their ids, which follow from their addresses.
    if let Some((name, list)) = line.trim_end().split_once("INITIAL_CLUSTER=\"") {
        let mut list: Vec<_> = list.trim_end_matches('"').split(',').collect();
        list.sort_unstable();
        return format!("{name}INITIAL_CLUSTER=\"{}\"\n", list.join(","));
    }
    if !table && !member {
        return line.to_owned();
    }
    let mut letters: Vec<char> = line.chars().collect();
    letters.dedup_by(|one, other| one == other && matches!(one, ' ' | '-'));
    letters.into_iter().collect()
}

/// A program with what it has said so far.
struct Talking {
    child: Child,
    streams: [Arc<Mutex<Vec<u8>>>; 2],
    readers: Vec<thread::JoinHandle<()>>,
}

impl Talking {
    fn start(tool: Tool, server: &Server, words: &[String], input: &str) -> Self {
        let set = words.iter().take_while(|word| {
            word.split_once('=').is_some_and(|(name, _)| name.starts_with("ETCDCTL_"))
        });
        let set: Vec<_> = set.filter_map(|word| word.split_once('=')).collect();
        let mut command = tool.command();
        let elsewhere = words.iter().any(|word| word.starts_with("--endpoints"));
        if !elsewhere {
            command.env("ETCDCTL_ENDPOINTS", server.addr().to_string());
        }
        command.env("ETCDCTL_API", "3").envs(set.iter().copied()).args(&words[set.len()..]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it can be started");
        // Who does not read its input may be gone by now.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        let mut readers = Vec::new();
        let mut listen = |mut from: Box<dyn std::io::Read + Send>| {
            let said = Arc::new(Mutex::new(Vec::new()));
            let copy = Arc::clone(&said);
            readers.push(thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = from.read(&mut buffer) {
                    copy.lock().expect("no reader panics").extend_from_slice(&buffer[..length]);
                }
            }));
            said
        };
        let streams = [
            listen(Box::new(child.stdout.take().expect("it is piped"))),
            listen(Box::new(child.stderr.take().expect("it is piped"))),
        ];
        Self { child, streams, readers }
    }

    fn said(&self) -> [Vec<u8>; 2] {
        self.streams.each_ref().map(|stream| stream.lock().expect("no reader panics").clone())
    }

    /// Ends it if it goes on.
    fn end(mut self, step: &Step, same: &mut Same, recording: bool) -> String {
        let begun = Instant::now();
        loop {
            let ended = self.child.try_wait().expect("a child can be asked").is_some();
            if ended {
                break;
            }
            let waited = begun.elapsed();
            let so_far = step.goes_on && {
                let mut copy = Same { places: same.places.clone(), ids: same.ids.clone() };
                let text = shown(&step.words, &self.said(), None, &mut copy);
                if recording {
                    waited > RECORDED_FOR
                } else {
                    step.recorded.starts_with(&text) && step.recorded[text.len()..].starts_with('[')
                }
            };
            if so_far || waited > PATIENCE {
                kill_process(Pid::from_child(&self.child), Signal::INT)
                    .expect("it can be signalled");
                self.child.wait().expect("it ends");
                break;
            }
            thread::sleep(POLL);
        }
        let status = self.child.wait().expect("it has ended");
        self.readers.drain(..).for_each(|reader| reader.join().expect("no reader panics"));
        // As a shell counts it.
        let code = status.code().unwrap_or_else(|| {
            use std::os::unix::process::ExitStatusExt as _;
            128 + status.signal().unwrap_or_default()
        });
        shown(&step.words, &self.said(), Some(code), same)
    }
}

/// What a command has said, as it is written down.
fn shown(
    words: &[String],
    [out, err]: &[Vec<u8>; 2],
    code: Option<i32>,
    same: &mut Same,
) -> String {
    let mut text = String::new();
    let protobuf = words.iter().any(|word| word == "protobuf");
    // What stands before a message are lines of text.
    let out = match protobuf.then(|| same.fields(out)).flatten() {
        Some(fields) if !out.is_empty() => format!("{fields}\n"),
        _ => same.text(&String::from_utf8_lossy(out)),
    };
    match out.starts_with("NAME:\n") {
        // The help is in our own words.
        true => text.push_str("{help}\n"),
        false => text.push_str(&out),
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str("{no end of line}\n");
    }
    // The real tool's libraries write lines of a log, and complain where a password is not typed at a terminal; what that log
    // says of connections, ours says in a line.
    let log = |line: &&str| {
        ["stty: ", "{\"level\":", "no connection to "].iter().any(|begin| line.starts_with(begin))
    };
    for line in same.text(&String::from_utf8_lossy(err)).lines().filter(|line| !log(line)) {
        let _ = writeln!(text, "! {line}");
    }
    if let Some(code) = code {
        let _ = writeln!(text, "[{code}]\n");
    }
    text
}

/// A server in its second term, as a new etcd of one member is; the shortest lease follows from how fast it elects.
fn start(flavor: Flavor) -> Server {
    if flavor == Flavor::Etcd {
        return Server::start(flavor);
    }
    for _ in 0..STARTS_MAX {
        let mut server =
            Server::start_with(flavor, &["--heartbeat-interval=60", "--election-timeout=600"]);
        server.kill();
        server.restart();
        // On a machine that stands still for a moment it needs one more.
        if term(&server) == 2 {
            return server;
        }
    }
    panic!("no member of {STARTS_MAX} was elected at once");
}

fn term(server: &Server) -> u64 {
    let request = Request::new("POST", "/v3/maintenance/status").body("{}");
    let reply = http::ask_within(server.addr(), &request, PATIENCE).expect("an answer");
    let status: serde_json::Value = serde_json::from_str(&reply.text()).expect("JSON");
    status["raftTerm"].as_str().and_then(|term| term.parse().ok()).expect("a number")
}

/// Runs the session and writes down what it says.
fn play(tool: Tool, flavor: Flavor, steps: &[Step], recording: bool) -> Vec<String> {
    let server = start(flavor);
    let mut same = Same::of(&server);
    let one = |step: &Step| {
        let words: Vec<_> = step.words.iter().map(|word| same.word(word)).collect();
        let said =
            Talking::start(tool, &server, &words, &step.input).end(step, &mut same, recording);
        step.head.clone() + &said
    };
    steps.iter().map(one).collect()
}

fn recorded(step: &Step) -> String {
    let recorded = step.recorded.trim_end_matches('\n');
    format!("{}{recorded}\n\n", step.head)
}

/// How many steps were the same; shows those that were not.
fn assert_same(steps: &[Step], said: &[String], like: fn(&str) -> String, who: &str) {
    let mut wrong = String::new();
    let mut same = 0;
    for (step, said) in steps.iter().zip(said) {
        if like(&recorded(step)) == like(said) {
            same += 1;
        } else {
            let _ = write!(wrong, "--- recorded\n{}--- said\n{said}", recorded(step));
        }
    }
    eprintln!("{who}: {same} of {} steps are the same", steps.len());
    assert!(wrong.is_empty(), "{who}: {same} of {} steps are the same\n{wrong}", steps.len());
}

fn session(name: &str) {
    if !etcd_is_there() {
        eprintln!("skipped: there is no etcd here");
        return;
    }
    let text = fs::read_to_string(fixture(name)).expect("the recording is there");
    let steps = steps(&text);
    if env::var_os("UPDATE").is_some_and(|v| v == "1") {
        let said = play(Tool::Real, Flavor::Etcd, &steps, true);
        fs::write(fixture(name), said.concat()).expect("it can be written");
        return;
    }
    let said = play(Tool::Ours, Flavor::Etcd, &steps, false);
    assert_same(&steps, &said, str::to_owned, "our tool at etcd");
}

/// The same session at cairn, with either tool.
fn at_cairn(name: &str, tool: Tool) {
    let text = fs::read_to_string(fixture(name)).expect("the recording is there");
    let steps = steps(&text);
    let said = play(tool, Flavor::Subject, &steps, false);
    assert_same(&steps, &said, like_cairn, &format!("{tool:?} at cairn"));
}

/// The same with the real tool, where it is.
fn real_at_cairn(name: &str) {
    if env::var_os("CAIRN_SKIP_ETCD").is_some_and(|v| v == "1") {
        eprintln!("skipped: the real etcdctl (CAIRN_SKIP_ETCD=1)");
        return;
    }
    at_cairn(name, Tool::Real);
}

#[test]
fn keys_transactions_and_watches_at_cairn_are_those_at_etcd() {
    at_cairn("session-v3-keys", Tool::Ours);
}

#[test]
fn leases_and_locks_at_cairn_are_those_at_etcd() {
    at_cairn("session-v3-leases", Tool::Ours);
}

#[test]
fn members_endpoints_and_maintenance_at_cairn_are_those_at_etcd() {
    at_cairn("session-v3-cluster", Tool::Ours);
}

#[test]
fn users_and_roles_at_cairn_are_those_at_etcd() {
    at_cairn("session-v3-users", Tool::Ours);
}

#[test]
fn the_real_tool_finds_keys_transactions_and_watches_at_cairn_as_at_etcd() {
    real_at_cairn("session-v3-keys");
}

#[test]
fn the_real_tool_finds_leases_and_locks_at_cairn_as_at_etcd() {
    real_at_cairn("session-v3-leases");
}

#[test]
fn the_real_tool_finds_members_endpoints_and_maintenance_at_cairn_as_at_etcd() {
    real_at_cairn("session-v3-cluster");
}

#[test]
fn the_real_tool_finds_users_and_roles_at_cairn_as_at_etcd() {
    real_at_cairn("session-v3-users");
}

#[test]
fn keys_transactions_and_watches_are_byte_for_byte_those_of_the_real_tool() {
    session("session-v3-keys");
}

#[test]
fn leases_and_locks_are_byte_for_byte_those_of_the_real_tool() {
    session("session-v3-leases");
}

#[test]
fn members_endpoints_and_maintenance_are_byte_for_byte_those_of_the_real_tool() {
    session("session-v3-cluster");
}

#[test]
fn users_and_roles_are_byte_for_byte_those_of_the_real_tool() {
    session("session-v3-users");
}

/// Questions that change nothing, asked by both tools of the same member: not one byte differs.
#[test]
fn both_tools_print_the_same_bytes_of_the_same_members() {
    if !etcd_is_there() {
        eprintln!("skipped: there is no etcd here");
        return;
    }
    let server = Server::start(Flavor::Etcd);
    let ask = |tool: Tool, words: &[&str]| {
        let address = server.addr().to_string();
        let mut command = tool.command();
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", address).args(words);
        command.stdin(Stdio::null()).output().expect("it can be started")
    };
    let granted = ask(Tool::Ours, &["lease", "grant", "1000"]);
    let granted = String::from_utf8(granted.stdout).expect("it is text");
    let lease = granted.split(' ').nth(1).expect("it has a number").to_owned();
    for words in [
        &["put", "a", "1", "--lease", &lease][..],
        &["put", "b\u{1}é\"", "2"],
        &["role", "add", "r"],
        &["role", "grant-permission", "r", "readwrite", "a", "--prefix"],
        &["user", "add", "u:p"],
        &["user", "grant-role", "u", "r"],
        // A learner that never starts takes no majority away.
        &[
            "member",
            "add",
            "n2",
            "--learner",
            "--peer-urls",
            "http://127.0.0.1:9,http://127.0.0.1:7",
        ],
    ] {
        let said = ask(Tool::Ours, words);
        assert!(said.status.success(), "{words:?}: {said:?}");
    }
    let mut count = 0;
    for format in ["simple", "json", "fields", "table", "protobuf"] {
        for words in [
            &["get", "", "--prefix"][..],
            &["get", "a", "--hex"],
            &["get", "none"],
            &["member", "list"],
            &["endpoint", "status"],
            &["endpoint", "hashkv"],
            &["lease", "list"],
            &["lease", "timetolive", "5"],
            &["user", "list"],
            &["user", "get", "u"],
            &["user", "get", "u", "--detail"],
            &["role", "list"],
            &["role", "get", "r"],
        ] {
            let words = [words, &["-w", format]].concat();
            let (real, ours) = (ask(Tool::Real, &words), ask(Tool::Ours, &words));
            assert_eq!(real.status.code(), ours.status.code(), "{words:?}");
            assert_eq!(real.stdout, ours.stdout, "{words:?}");
            assert_eq!(real.stderr, ours.stderr, "{words:?}");
            count += 1;
        }
    }
    eprintln!("{count} answers are the same byte for byte");
}

#[test]
fn what_differs_each_time_is_named() {
    let mut same = Same::default();
    assert_eq!(
        same.text(
            "lease 4770a22443764914 \"ID\":5147792650718824724, a/4770a22443764914 688da22432bf4320"
        ),
        "lease {id1} \"ID\":{id1}, a/{id1} {id2}"
    );
    assert_eq!(same.word("{id2}"), "688da22432bf4320");
    assert_eq!(
        times("took = 2.06ms\n\"ttl\":99,\"granted-ttl\":100"),
        "took = {took}\n\"ttl\":{left},\"granted-ttl\":100"
    );
    assert_eq!(
        like_cairn(
            "a, {id1}, 3.4.23, {size}, true, false, 2, 4, 5, \n| a | b | 3.4.23 | c | d | e | 2 | 4 | 5 | |\n\
            \"raftIndex\":6,\"raftTerm\":2,\"raftAppliedIndex\":6,\"dbSizeInUse\":{size}}"
        ),
        "a, {id1}, 3.4.37, {size}, true, false, 2, {index}, {index}, \n\
        | a | b | 3.4.37 | c | d | e | 2 | {index} | {index} | |\n\
        \"raftIndex\":{index},\"raftTerm\":2,\"raftAppliedIndex\":{index}}"
    );
    assert_eq!(same.fields(&[0x0a, 2, 8, 5, 0x12, 1, b'a']), Some("1: {1: 5} 2: \"a\"".to_owned()));
}
