//! A session of commands, word by word as the real tool has it: what is printed where, and the exit codes.
//!
//! `tests/fixtures/etcdctl/session` was recorded with the real tool against the real etcd. Ours has to say the same to cairn, and
//! where etcd is installed, each of both has to say it to each of both. `UPDATE=1` records it again.
//!
//! Numbers that depend on where a store begins are written relative to that: `{+3}` is the third index of the session.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::support::http::{self, Request};
use crate::support::server::{Flavor, Server};
use crate::tool::{Said, Tool};

/// Above this, a number in a session is no index.
const INDEX_MAX: u64 = 100_000;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/etcdctl/session")
}

/// One command of the session.
struct Step {
    /// As it stands in the file, input too.
    head: String,
    words: Vec<String>,
    input: String,
}

/// Reads the commands: `$ ` before each, `< ` before its input; quotes hold words together.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        if let Some(words) = line.strip_prefix("$ ") {
            let head = format!("{line}\n");
            steps.push(Step { head, words: split(words), input: String::new() });
        } else if let (Some(input), Some(step)) = (line.strip_prefix("< "), steps.last_mut()) {
            let _ = writeln!(step.head, "{line}");
            let _ = writeln!(step.input, "{input}");
        }
    }
    steps
}

pub(crate) fn split(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for letter in text.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// What differs from one run to the next, made the same.
struct Same {
    base: u64,
    client: String,
    peer: String,
    id: String,
}

impl Same {
    fn of(server: &Server) -> Self {
        let ask = |target: &str| {
            let addr: SocketAddr = server.addr();
            http::ask_within(addr, &Request::get(target), crate::tool::PATIENCE).expect("an answer")
        };
        let base = ask("/v2/keys/").head.get("X-Etcd-Index").expect("every answer has it");
        let members = ask("/v2/members").text();
        let id = members.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
        Self {
            base: base.parse().expect("a number"),
            client: server.addr().to_string(),
            peer: server.peer_addr().to_string(),
            id: id.expect("a member has an id").to_owned(),
        }
    }

    fn text(&self, text: &str) -> String {
        let text = text.replace(&self.client, "{client}").replace(&self.peer, "{peer}");
        let text = text.replace(&self.id, "{id}");
        let mut same = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
            let digits = rest[at..].find(|letter: char| !letter.is_ascii_digit());
            let end = digits.map_or(rest.len(), |length| at + length);
            let number = self.number(&rest[..at], &rest[at..end], &rest[end..]);
            let _ = write!(same, "{}{number}", &rest[..at]);
            rest = &rest[end..];
        }
        same + rest
    }

    /// A number with what stands around it.
    fn number(&self, before: &str, digits: &str, after: &str) -> String {
        let value: u64 = digits.parse().unwrap_or(u64::MAX);
        let in_order = digits.len() == 20;
        let labelled = before.ends_with("Index: ") || before.ends_with("Index\":");
        let of_error = (before.ends_with('[') || before.ends_with(" != "))
            && (after.starts_with("]") || after.starts_with(" != "));
        match value.checked_sub(self.base) {
            Some(offset) if (in_order || labelled || of_error) && value < INDEX_MAX => {
                format!("{{+{offset}}}")
            }
            _ => digits.to_owned(),
        }
    }
}

/// Runs the session and writes down what it says.
fn play(tool: Tool, flavor: Flavor, steps: &[Step]) -> String {
    let server = Server::start(flavor);
    let same = Same::of(&server);
    let mut text = String::new();
    for step in steps {
        let words: Vec<_> =
            step.words.iter().map(|word| word.replace("{client}", &same.client)).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let Said { out, err, code } = tool.ask(server.addr(), &words, &step.input);
        text.push_str(&step.head);
        for line in same.text(&out).split_inclusive('\n') {
            let _ = write!(text, "{line}");
        }
        if !out.is_empty() && !out.ends_with('\n') {
            text.push_str("{no end of line}\n");
        }
        // Without a terminal the real tool complains of that, where it asks for a password.
        for line in same.text(&err).lines().filter(|line| !line.starts_with("stty: ")) {
            let _ = writeln!(text, "! {line}");
        }
        let _ = writeln!(text, "[{}]\n", code.expect("it ended by itself"));
    }
    text
}

fn real_tool_is_there() -> bool {
    if env::var_os("CAIRN_SKIP_ETCD").is_some_and(|v| v == "1") {
        eprintln!("skipped: the real etcdctl (CAIRN_SKIP_ETCD=1)");
        return false;
    }
    true
}

/// The first step that differs, with both texts.
fn assert_same(recorded: &str, said: &str, who: &str) {
    for (recorded, said) in recorded.split("\n\n$ ").zip(said.split("\n\n$ ")) {
        assert!(recorded == said, "{who}\n--- recorded\n{recorded}\n--- said\n{said}");
    }
    assert_eq!(recorded.len(), said.len(), "{who}");
}

#[test]
fn a_session_is_word_for_word_that_of_the_real_tool() {
    let recorded = fs::read_to_string(fixture()).expect("the recording is there");
    let steps = steps(&recorded);
    assert!(steps.len() > 100, "{} steps", steps.len());
    if env::var_os("UPDATE").is_some_and(|v| v == "1") {
        fs::write(fixture(), play(Tool::Real, Flavor::Etcd, &steps)).expect("it can be written");
        return;
    }
    let said = play(Tool::Ours, Flavor::Subject, &steps);
    assert_same(&recorded, &said, "our tool at cairn");
}

#[test]
fn both_tools_say_the_same_to_both_servers() {
    if !real_tool_is_there() {
        return;
    }
    let recorded = fs::read_to_string(fixture()).expect("the recording is there");
    let steps = steps(&recorded);
    for (tool, flavor) in
        [(Tool::Real, Flavor::Etcd), (Tool::Real, Flavor::Subject), (Tool::Ours, Flavor::Etcd)]
    {
        assert_same(&recorded, &play(tool, flavor, &steps), &format!("{tool:?} at {flavor:?}"));
    }
}

#[test]
fn numbers_are_told_apart() {
    let own = |text: &str| text.to_owned();
    let same = Same { base: 4, client: own("host:1"), peer: own("host:2"), id: own("8e9a") };
    for (text, expected) in [
        ("Created-Index: 7\n", "Created-Index: {+3}\n"),
        ("\"modifiedIndex\":12,\"ttl\":12", "\"modifiedIndex\":{+8},\"ttl\":12"),
        ("100: Key not found (/a) [9]", "100: Key not found (/a) [{+5}]"),
        ("/q/00000000000000000006", "/q/{+2}"),
        ("set /1 2", "set /1 2"),
        ("8e9a: clientURLs=http://host:1", "{id}: clientURLs=http://{client}"),
    ] {
        assert_eq!(same.text(text), expected);
    }
    assert_eq!(split("set '/a b' '' 'x'y"), ["set", "/a b", "", "xy"]);
}
