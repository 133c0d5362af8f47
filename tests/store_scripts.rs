//! Golden scripts of the store: `tests/scripts/store/<sentence_as_name>`.
//!
//! A script is commands, a line `---`, and what they print. `UPDATE=1 cargo test --test store_scripts` rewrites the part
//! below the line; `SCRIPT=part_of_a_name` runs only some. The clock starts at 1,000 s; it moves by `at`.
//!
//! ```text
//! limits events=N bytes=N                      first line only
//! at +1s COMMAND                               moves the clock (`-5s`, `+250ms`), then runs the command
//! repeat N COMMAND                             runs it N times, prints only the last; `$n` counts from 1
//! set|create|post|update PATH [value=V] [ttl=N] [dir] [refresh]
//! cas PATH [prevValue=V] [prevIndex=N] [value=V] [ttl=N] [refresh]
//! delete PATH [dir] [recursive]   cad PATH [prevValue=V] [prevIndex=N]   tick [nodes=N]
//! member add ID [checked=N] URL..   member update ID URL..   member publish ID NAME URL..   version V
//! member remove ID [checked=N]                 only if so many joined and left before
//! get PATH   ls PATH   tree   stats   members   index   deadline   history
//! watch NAME PATH [recursive] [from=N]         stays until the end, tells every event it sees
//! scan PATH [recursive] from=N                 the first event that the history has for such a watcher
//! keep   diff                                  remember the store; the records that changed since
//! reload                                       go on with a store loaded from its own records
//! ```
//!
//! Values and names take `\n`, `\\`, `\s` (a blank) and `\xNN`. Beyond the script, every command is followed by `Store::check`, by
//! a look at what a refused command may not change, and at the end live watchers are compared with the history.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cairn::model::{KeyPath, LogTime, MemberId, StoreIndex, Ttl};
use cairn::store::{
    Applied, Changes, Command, Condition, Counter, Event, Filter, Found, HistoryLimits, Loader,
    MembersRevision, Node, RecordChange, Removed, Scan, Shown, Store, Write,
};

const COUNTERS: [Counter; 13] = [
    Counter::SetsSuccess,
    Counter::SetsFail,
    Counter::DeleteSuccess,
    Counter::DeleteFail,
    Counter::UpdateSuccess,
    Counter::UpdateFail,
    Counter::CreateSuccess,
    Counter::CreateFail,
    Counter::CompareAndSwapSuccess,
    Counter::CompareAndSwapFail,
    Counter::CompareAndDeleteSuccess,
    Counter::CompareAndDeleteFail,
    Counter::ExpireCount,
];

const NANOS_PER_MS: u64 = 1_000_000;

const LIMITS: HistoryLimits = HistoryLimits { events_max: 1000, bytes_max: 1 << 24 };

/// A watcher, and what it was told while it happened.
struct Watcher {
    name: String,
    filter: Filter,
    from: StoreIndex,
    told: Vec<StoreIndex>,
}

struct Run {
    limits: HistoryLimits,
    clock: LogTime,
    store: Store,
    kept: Changes,
    watchers: Vec<Watcher>,
    out: String,
}

impl Run {
    fn new(limits: HistoryLimits) -> Self {
        let store = Store::new(limits);
        let kept = Changes::default();
        let clock = LogTime(1_000_000 * NANOS_PER_MS);
        Self { limits, clock, store, kept, watchers: Vec::new(), out: String::new() }
    }

    fn say(&mut self, line: impl AsRef<str>) {
        self.out.push_str(line.as_ref());
        self.out.push('\n');
    }

    fn line(&mut self, words: &[&str]) {
        match words {
            ["at", by, rest @ ..] => {
                let (ahead, by) = match by.strip_prefix('-') {
                    Some(by) => (false, by),
                    None => (true, by.strip_prefix('+').expect("at +TIME or -TIME")),
                };
                let by = match by.strip_suffix("ms") {
                    Some(ms) => number(ms) * NANOS_PER_MS,
                    None => {
                        number(by.strip_suffix('s').expect("a time in s or ms"))
                            * 1000
                            * NANOS_PER_MS
                    }
                };
                self.clock = LogTime(if ahead { self.clock.0 + by } else { self.clock.0 - by });
                self.line(rest);
            }
            ["repeat", times, rest @ ..] => {
                let times = number(times);
                let before = self.out.len();
                for n in 1..=times {
                    self.out.truncate(before);
                    let words: Vec<String> =
                        rest.iter().map(|word| word.replace("$n", &n.to_string())).collect();
                    self.line(&words.iter().map(String::as_str).collect::<Vec<_>>());
                }
            }
            ["get", path] => {
                let reply = self.store.get(&key(path));
                let line = match reply.outcome {
                    Ok(node) => {
                        format!(
                            "{} {}",
                            key(path).as_bytes().escape_ascii(),
                            show_node(node, self.clock)
                        )
                    }
                    Err(refusal) => show_refusal(&refusal, reply.index),
                };
                self.say(line);
            }
            ["ls", path] => {
                let reply = self.store.get(&key(path));
                let mut lines = String::new();
                match reply.outcome {
                    Ok(node) => list(&key(path), node, self.clock, false, &mut lines),
                    Err(refusal) => lines = show_refusal(&refusal, reply.index) + "\n",
                }
                self.out.push_str(&lines);
            }
            ["tree"] => {
                let mut lines = String::new();
                let root = self.store.get(&KeyPath::root()).outcome.expect("the root is there");
                list(&KeyPath::root(), root, self.clock, true, &mut lines);
                self.out.push_str(&lines);
            }
            ["stats"] => {
                let mut line = String::from("stats");
                for counter in COUNTERS {
                    let count = self.store.counters().get(counter);
                    if count > 0 {
                        write!(line, " {counter:?}={count}").expect("strings take all");
                    }
                }
                self.say(line);
            }
            ["members"] => {
                let mut lines = vec![format!("version {:?}", self.store.members().version())];
                for (id, record) in self.store.members().iter() {
                    lines.push(format!(
                        "member {id} {:?} peers={:?} clients={:?}",
                        record.name, record.peer_urls, record.client_urls
                    ));
                }
                self.say(lines.join("\n"));
            }
            ["index"] => self.say(format!("index {}", self.store.index())),
            ["deadline"] => {
                let left = self
                    .store
                    .next_deadline()
                    .map(|at| (at.0 as i64 - self.clock.0 as i64) / NANOS_PER_MS as i64);
                self.say(left.map_or("no deadline".into(), |ms| format!("deadline in {ms} ms")));
            }
            ["history"] => {
                let history = self.store.history();
                let line =
                    format!("history {}..{}", history.oldest(), history.next().0.saturating_sub(1));
                self.say(line);
            }
            ["watch", name, rest @ ..] => {
                let (filter, from) = filter(rest);
                let from = from.unwrap_or(self.store.index().next());
                let mut watcher =
                    Watcher { name: (*name).to_owned(), filter, from, told: Vec::new() };
                let mut at = from;
                let mut seen = Vec::new();
                loop {
                    let scan = Scan { from: at, filter: &watcher.filter };
                    match self.store.history().find(scan) {
                        Ok(Found::Event(event)) => {
                            watcher.told.push(event.index);
                            seen.push(format!("{name} from history: {}", show_event(&event)));
                            at = event.index.next();
                        }
                        Ok(Found::NoneBefore(_)) => break,
                        Err(refusal) => {
                            self.say(format!(
                                "{name} {}",
                                show_refusal(&refusal, self.store.index())
                            ));
                            return;
                        }
                    }
                }
                if seen.is_empty() {
                    seen.push(format!("{name} waiting"));
                }
                self.say(seen.join("\n"));
                self.watchers.push(watcher);
            }
            ["scan", rest @ ..] => {
                let (filter, from) = filter(rest);
                let scan = Scan { from: from.expect("scan needs from"), filter: &filter };
                let line = match self.store.history().find(scan) {
                    Ok(Found::Event(event)) => format!("found {}", show_event(&event)),
                    Ok(Found::NoneBefore(index)) => format!("nothing before {index}"),
                    Err(refusal) => show_refusal(&refusal, self.store.index()),
                };
                self.say(line);
            }
            ["keep"] => self.kept = Changes::since(self.store.index()),
            ["diff"] => {
                let mut lines = Vec::new();
                self.store.changed_records(&self.kept, &mut |change| {
                    lines.push(match change {
                        RecordChange::DropBelow(dir) => format!("drop {dir}/*"),
                        RecordChange::PutNode(path, _) => format!("put {path}"),
                        RecordChange::DropNode(path) => format!("drop {path}"),
                    });
                });
                if lines.is_empty() {
                    lines.push("no difference".into());
                }
                self.say(lines.join("\n"));
            }
            ["reload"] => self.store = reload(&self.store, self.limits),
            _ => {
                let command = command(words);
                self.apply(&command);
            }
        }
    }

    fn apply(&mut self, command: &Command) {
        let before = self.store.clone();
        let applied = self.store.apply(self.clock, command);
        applied.events().iter().for_each(|event| self.kept.note(event));
        self.store.check();
        match &applied {
            Applied::Changed(event) => self.say(show_event(event)),
            Applied::Refused(refusal) => {
                assert_eq!(before.index(), self.store.index(), "a refusal takes no index");
                assert_eq!(records(&before), records(&self.store), "a refusal changes nothing");
                self.say(show_refusal(refusal, self.store.index()));
            }
            Applied::Expired(events) if events.is_empty() => self.say("nothing expired"),
            Applied::Expired(events) => {
                for event in events {
                    self.say(show_event(event));
                }
            }
            Applied::Recorded => self.say(format!("{} recorded", self.store.index())),
            Applied::Known => self.say(format!("{} known", self.store.index())),
            Applied::Outdated => self.say(format!("{} outdated", self.store.index())),
            Applied::AuthChanged(_) | Applied::AuthRefused(_) | Applied::Mvcc(_) => {
                unreachable!("no script changes users or keys of version 3")
            }
        }
        for event in applied.events() {
            for watcher in &mut self.watchers {
                if event.index >= watcher.from && watcher.filter.sees(event) {
                    watcher.told.push(event.index);
                    writeln!(self.out, "{} sees {}", watcher.name, event.index)
                        .expect("strings take all");
                }
            }
        }
    }

    /// What is still kept must be told from the history exactly as it was told live.
    fn compare_watchers_with_the_history(&self) {
        let oldest = self.store.history().oldest();
        for watcher in &self.watchers {
            let mut from = watcher.from.max(oldest);
            let mut again = Vec::new();
            while let Found::Event(event) = self
                .store
                .history()
                .find(Scan { from, filter: &watcher.filter })
                .expect("it starts at what is kept")
            {
                again.push(event.index);
                from = event.index.next();
            }
            let live: Vec<_> =
                watcher.told.iter().copied().filter(|index| *index >= oldest).collect();
            assert_eq!(live, again, "watcher {} live and from the history", watcher.name);
        }
    }
}

/// All nodes, in the order of a checkpoint.
fn records(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    store.nodes(&mut |path, record| drop(records.insert(path.as_bytes().to_vec(), record)));
    records
}

fn reload(store: &Store, limits: HistoryLimits) -> Store {
    let mut loader = Loader::new(limits, &store.header()).expect("a header");
    for (path, record) in &records(store) {
        loader.node(path, record).expect("a node");
    }
    store.events_since(StoreIndex(0), &mut |index, record| {
        loader.event(index, &record).expect("an event");
    });
    let loaded = loader.finish().expect("all of it");
    assert_eq!(loaded.digest(), store.digest(), "loading changes nothing");
    loaded.check();
    loaded
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'n') => bytes.push(b'\n'),
            Some(b's') => bytes.push(b' '),
            Some(b'\\') => bytes.push(b'\\'),
            Some(b'x') => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                let digits = str::from_utf8(&digits).expect("two hex digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("two hex digits"));
            }
            other => panic!("unknown escape {other:?} in {text}"),
        }
    }
    bytes
}

fn key(text: &str) -> KeyPath {
    assert!(text.starts_with('/'), "a key starts with a slash: {text}");
    KeyPath::clean(&unescape(text))
}

fn filter(words: &[&str]) -> (Filter, Option<StoreIndex>) {
    let mut filter = Filter { path: key(words[0]), recursive: false };
    let mut from = None;
    for word in &words[1..] {
        match word.strip_prefix("from=") {
            Some(index) => from = Some(StoreIndex(number(index))),
            None if *word == "recursive" => filter.recursive = true,
            None => panic!("unknown word {word}"),
        }
    }
    (filter, from)
}

/// `checked=N` in front of the rest.
fn checked<'a>(words: &'a [&'a str]) -> (Option<MembersRevision>, &'a [&'a str]) {
    let [first, rest @ ..] = words else { return (None, words) };
    let Some(revision) = first.strip_prefix("checked=") else { return (None, words) };
    (Some(MembersRevision(revision.parse().expect("a number"))), rest)
}

fn command(words: &[&str]) -> Command {
    let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let id = |text: &&str| MemberId::parse(text).expect("a member id in hex");
    match words {
        ["tick"] => return Command::tick(),
        ["tick", nodes_max] => {
            let nodes_max = nodes_max.strip_prefix("nodes=").expect("tick nodes=N");
            return Command::Tick { nodes_max: Some(number(nodes_max)) };
        }
        ["version", version] => {
            return Command::SetClusterVersion { version: (*version).to_owned() };
        }
        ["member", "add", member, urls @ ..] => {
            let (checked, urls) = checked(urls);
            return Command::AddMember { id: id(member), peer_urls: texts(urls), checked };
        }
        ["member", "update", member, urls @ ..] => {
            return Command::UpdateMember { id: id(member), peer_urls: texts(urls) };
        }
        ["member", "publish", member, name, urls @ ..] => {
            let (name, client_urls) = ((*name).to_owned(), texts(urls));
            return Command::PublishMember { id: id(member), name, client_urls };
        }
        ["member", "remove", member, rest @ ..] => {
            return Command::RemoveMember { id: id(member), checked: checked(rest).0 };
        }
        _ => {}
    }
    let [verb, path, options @ ..] = words else { panic!("unknown command {words:?}") };
    let path = key(path);
    let mut write = Write { value: Vec::new().into(), dir: false, ttl: None, refresh: false };
    let mut condition = Condition { value: None, index: StoreIndex(0) };
    let mut recursive = false;
    for option in options {
        match option.split_once('=') {
            Some(("value", value)) => write.value = unescape(value).into(),
            Some(("ttl", ttl)) => write.ttl = Some(Ttl::from_s(number(ttl)).expect("a ttl")),
            Some(("prevValue", value)) => condition.value = Some(unescape(value).into()),
            Some(("prevIndex", index)) => condition.index = StoreIndex(number(index)),
            None if *option == "dir" => write.dir = true,
            None if *option == "refresh" => write.refresh = true,
            None if *option == "recursive" => recursive = true,
            _ => panic!("unknown option {option}"),
        }
    }
    match *verb {
        "set" => Command::Set { path, write },
        "create" => Command::Create { path, write },
        "post" => Command::CreateInOrder { dir: path, write },
        "update" => Command::Update { path, write },
        "cas" => Command::CompareAndSwap { path, write, condition },
        "delete" => Command::Delete { path, dir: write.dir, recursive },
        "cad" => Command::CompareAndDelete { path, condition },
        _ => panic!("unknown command {verb}"),
    }
}

fn show_bytes(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn show(shown: &Shown, at: LogTime) -> String {
    let mut text = shown.modified.to_string();
    if shown.dir {
        text.push_str(" dir");
    }
    if let Some(value) = &shown.value {
        text = format!("{text} {}", show_bytes(value));
    }
    if let Some(expires) = shown.expires {
        text = format!("{text} ttl={}", expires.seconds_left(at));
    }
    if shown.created != shown.modified {
        text = format!("{text} created={}", shown.created);
    }
    text
}

fn show_node(node: &Node, at: LogTime) -> String {
    let shown = Shown {
        value: node.value().map(Into::into),
        dir: node.is_dir(),
        modified: node.modified,
        created: node.created,
        expires: node.expires,
    };
    show(&shown, at)
}

/// `INDEX ACTION KEY NODE [prev=(NODE)] [with PATHS] [(refresh)]`; the node's own index goes without saying.
fn show_event(event: &Event) -> String {
    assert_eq!(event.node.modified, event.index, "an event shows the index it took");
    let node = show(&event.node, event.at);
    let node = node.strip_prefix(&event.index.to_string()).expect("it starts with the index");
    let key = event.path.as_bytes().escape_ascii();
    let mut text = format!("{} {} {key}{node}", event.index, event.action.as_str());
    if let Some(prev) = &event.prev {
        text = format!("{text} prev=({})", show(prev, event.at));
    }
    match &event.removed {
        Removed::Nothing => {}
        Removed::Paths(paths) => {
            let paths: Vec<_> = paths.iter().map(|path| path.escape_ascii().to_string()).collect();
            text = format!("{text} with {}", paths.join(" "));
        }
        Removed::Many => text.push_str(" with many"),
    }
    if event.refresh {
        text.push_str(" (refresh)");
    }
    text
}

fn show_refusal(refusal: &cairn::model::Refusal, index: StoreIndex) -> String {
    let (code, message, _) = refusal.row();
    format!("refused {code} {message} [{}] at {index}", refusal.cause().escape_ascii())
}

/// A node and what a recursive listing shows below it, or everything.
fn list(path: &KeyPath, node: &Node, at: LogTime, hidden_too: bool, out: &mut String) {
    let indent = "  ".repeat(path.depth());
    let name = path.split_last().map_or("/".into(), |(_, name)| name.escape_ascii().to_string());
    writeln!(out, "{indent}{name} {}", show_node(node, at)).expect("strings take all");
    if hidden_too {
        if let Some(dir) = node.as_dir() {
            for (name, child) in dir.children() {
                list(&path.child(name), child, at, true, out);
            }
        }
    } else {
        for (name, child) in node.visible_children() {
            list(&path.child(name), child, at, false, out);
        }
    }
}

/// Runs the commands of a script and returns what they print.
fn run(commands: &str) -> String {
    let mut run = Run::new(LIMITS);
    for line in commands.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["limits", ref limits @ ..] => {
                let mut chosen = LIMITS;
                for limit in limits {
                    match limit.split_once('=') {
                        Some(("events", max)) => chosen.events_max = size(max),
                        Some(("bytes", max)) => chosen.bytes_max = size(max),
                        _ => panic!("unknown limit {limit}"),
                    }
                }
                run = Run::new(chosen);
            }
            ref words => run.line(words),
        }
    }
    run.compare_watchers_with_the_history();
    run.out
}

fn size(text: &str) -> usize {
    usize::try_from(number(text)).expect("a size")
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/store");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of the scripts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

/// Both texts side by side, where they differ.
fn difference(wanted: &str, found: &str) -> String {
    let (wanted, found): (Vec<_>, Vec<_>) = (wanted.lines().collect(), found.lines().collect());
    let mut text = String::new();
    for at in 0..wanted.len().max(found.len()) {
        let (wanted, found) = (wanted.get(at), found.get(at));
        if wanted == found {
            continue;
        }
        if let Some(line) = wanted {
            writeln!(text, "  {:3} - {line}", at + 1).expect("strings take all");
        }
        if let Some(line) = found {
            writeln!(text, "  {:3} + {line}", at + 1).expect("strings take all");
        }
    }
    text
}

#[test]
fn every_script_prints_what_it_says() {
    let update = std::env::var_os("UPDATE").is_some();
    let only = std::env::var("SCRIPT").unwrap_or_default();
    let mut failures = String::new();
    let mut count = 0;
    for path in scripts() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).expect("a script");
        let (commands, wanted) = text.split_once("---\n").unwrap_or((&text, ""));
        let commands = commands.to_owned();
        let found = match std::panic::catch_unwind(|| run(&commands)) {
            Ok(found) => found,
            Err(_) => {
                writeln!(failures, "{name}: panicked, see above").expect("strings take all");
                continue;
            }
        };
        if update {
            let end = if commands.ends_with('\n') { "" } else { "\n" };
            std::fs::write(&path, format!("{commands}{end}---\n{found}")).expect("to write it");
        } else if found != wanted {
            let lines = difference(wanted, &found);
            writeln!(failures, "{name}: wanted (-), found (+)\n{lines}").expect("strings take all");
        }
    }
    assert!(count > 0, "no script matches");
    assert!(failures.is_empty(), "\n{failures}\nUPDATE=1 rewrites them; read the diff before.");
}
