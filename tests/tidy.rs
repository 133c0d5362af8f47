//! The house rules that a compiler does not know: floors, words the core must not say, tables that must agree.

use std::fs;
use std::path::{Path, PathBuf};

/// What each module of `src/` may import from the others: only floors below it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("base", &["model"]),
    ("mvcc", &["model"]),
    ("store", &["model", "mvcc"]),
    ("rpc", &["model"]),
    ("archive", &["model", "mvcc", "store"]),
    ("etcd", &["model", "mvcc", "store"]),
    ("disk", &["base", "model"]),
    ("tls", &["config", "model"]),
    ("transport", &["base", "model"]),
    ("raft", &["base", "model", "mvcc", "store", "disk", "transport"]),
    ("replica", &["base", "model", "mvcc", "store", "raft"]),
    // Roles and views come from raft as they are: wrapping them once more would say nothing new.
    ("api", &["archive", "base", "model", "mvcc", "store", "transport", "raft", "replica", "rpc"]),
    (
        "server",
        &[
            "base",
            "model",
            "store",
            "disk",
            "transport",
            "raft",
            "replica",
            "api",
            "discovery",
            "config",
            "proxy",
            "tls",
        ],
    ),
    ("proxy", &["api", "base", "discovery", "model", "tls"]),
    ("discovery", &["model", "tls"]),
    ("config", &["model"]),
    ("client", &["rpc", "tls"]),
    ("program", &[]),
    // It reads and writes what members do, so it stands above all that they are made of; it never runs one.
    (
        "backup",
        &[
            "archive",
            "base",
            "config",
            "discovery",
            "disk",
            "model",
            "raft",
            "replica",
            "store",
            "tls",
        ],
    ),
    // It makes what `backup` makes, of another server's files.
    (
        "migrate",
        &[
            "archive", "backup", "config", "disk", "etcd", "model", "mvcc", "raft", "replica",
            "store",
        ],
    ),
    ("mirror", &["backup", "base", "discovery"]),
    // It reads what `mirror` reads, in the same way, and writes over gRPC.
    ("copy", &["backup", "base", "client", "mirror", "rpc"]),
    ("configuration", &["config", "disk", "server"]),
    // Of the words that all share it takes the version alone: what answers say it reads with words of its own.
    (
        "ctl",
        &[
            "archive",
            "backup",
            "base",
            "client",
            "config",
            "discovery",
            "etcd",
            "model",
            "rpc",
            "tls",
        ],
    ),
    ("health", &["config", "discovery", "program", "tls"]),
    ("bench", &["base", "client", "config", "model", "rpc", "tls"]),
];

/// What would make the replicated core depend on anything but its input.
const IMPURE: &[&str] =
    &["async ", "tokio", "Instant", "SystemTime", "HashMap", "HashSet", "rand::", "f32", "f64"];

/// Libraries that only one place may name.
const HIDDEN: &[(&str, &[&str])] = &[
    ("openraft::", &["src/raft/"]),
    ("redb::", &["src/disk/tables.rs", "src/disk/tables/paced.rs", "src/disk/tables/revisions.rs"]),
    ("prometheus::", &["src/api/metrics/"]),
    ("bcrypt::", &["src/api/access/passwords.rs", "src/etcd/passwords.rs"]),
    (
        "base64::",
        &[
            "src/api/access/basic.rs",
            "src/api/v3/jwt.rs",
            "src/backup/who.rs",
            "src/bench/request.rs",
            "src/ctl/client.rs",
            "src/etcd/requests.rs",
            "src/rpc/json/base64.rs",
            "src/rpc/json/mod.rs",
        ],
    ),
    ("prost::", &["src/rpc/", "src/client/"]),
    ("tonic::", &["src/api/v3/", "src/client/"]),
    ("tonic_prost::", &["src/api/v3/", "src/client/"]),
    ("hdrhistogram::", &["src/bench/tally.rs"]),
    ("httparse::", &["src/bench/answer.rs", "src/server/fast_path/head.rs"]),
    (
        "hyper::",
        &["src/server/", "src/proxy/", "src/discovery/http_client.rs", "src/client/channel.rs"],
    ),
    ("httpdate::", &["src/server/fast_path/date.rs"]),
    ("listenfd::", &["src/server/service/sockets.rs"]),
    ("use ring::", &["src/tls/signing.rs"]),
    ("rustls::", &["src/tls/"]),
    ("rcgen::", &["src/tls/auto.rs"]),
    ("x509_cert::", &["src/tls/"]),
    ("hickory_resolver::", &["src/discovery/dns.rs"]),
    ("SystemTime", &["src/server/clock.rs"]),
];

const LINES_MAX: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `dir`, relative to the project, with its text.
fn sources(dir: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(dir)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there").flatten() {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("sources are text")));
            }
        }
    }
    found.sort();
    found
}

/// The lines of code, numbered: no comments, nothing behind the start of the unit tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(place, line)| (place + 1, line));
    lines
        .take_while(|(_, line)| !line.starts_with("mod tests {"))
        .map(|(place, line)| (place, line.split("//").next().unwrap_or_default()))
}

/// Modules of this crate that a line names.
fn imports(line: &str) -> Vec<&str> {
    line.match_indices("crate::")
        .map(|(at, name)| {
            let rest = &line[at + name.len()..];
            let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
        .collect()
}

fn module_of(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    inside.split(['/', '.']).next().unwrap_or_default()
}

/// What is wrong with the imports of one file.
fn wrong_imports(file: &str, text: &str) -> Vec<String> {
    let module = module_of(file);
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
        return Vec::new();
    };
    let known = |name: &&str| MAY_IMPORT.iter().any(|(module, _)| module == name);
    let mut wrong = Vec::new();
    for (place, line) in code(text) {
        for name in imports(line).into_iter().filter(known) {
            if name != module && !allowed.contains(&name) {
                wrong.push(format!(
                    "{file}:{place}: `{module}` must not know `{name}`: move what it needs down, or hand it in from above"
                ));
            }
        }
    }
    wrong
}

fn impure(file: &str, text: &str) -> Vec<String> {
    if !matches!(module_of(file), "model" | "mvcc" | "store") {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (place, line) in code(text) {
        for word in IMPURE.iter().filter(|word| line.contains(**word)) {
            wrong.push(format!(
                "{file}:{place}: the core must not say `{word}`: settle it above and hand it in"
            ));
        }
    }
    wrong
}

fn exposed(file: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (place, line) in code(text) {
        for (library, homes) in HIDDEN {
            let at_home = homes.iter().any(|home| file.starts_with(home));
            if !at_home && line.contains(library) {
                wrong.push(format!("{file}:{place}: only {homes:?} may name `{library}`"));
            }
        }
    }
    wrong
}

/// Tests that a table names as `binary::module::sentence` and that are not there.
fn missing_tests(table: &str, sources: &[(String, String)]) -> Vec<String> {
    let named = table.split('`').filter(|name| {
        name.contains("::")
            && name.chars().all(|letter| letter.is_alphanumeric() || "_:".contains(letter))
    });
    let is_there = |name: &str| {
        let (binary, _) = name.split_once("::").unwrap_or((name, ""));
        let function = format!("fn {}()", name.rsplit("::").next().unwrap_or_default());
        // A test from outside, or one that stands beside the code of a floor.
        let homes = ["tests", "src"]
            .map(|home| [format!("{home}/{binary}.rs"), format!("{home}/{binary}/")]);
        let homes = homes.as_flattened();
        sources.iter().any(|(file, text)| {
            homes.iter().any(|home| file.starts_with(home)) && text.contains(&function)
        })
    };
    named.filter(|name| !is_there(name)).map(|name| format!("no test is called `{name}`")).collect()
}

fn assert_tidy(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn floors_import_only_what_is_below_them() {
    let wrong = sources("src").iter().flat_map(|(file, text)| wrong_imports(file, text)).collect();
    assert_tidy(wrong);
}

#[test]
fn the_core_is_a_value() {
    let wrong = sources("src").iter().flat_map(|(file, text)| impure(file, text)).collect();
    assert_tidy(wrong);
}

#[test]
fn libraries_are_named_in_one_place() {
    let wrong = sources("src").iter().flat_map(|(file, text)| exposed(file, text)).collect();
    assert_tidy(wrong);
}

#[test]
fn every_file_says_what_it_is_and_has_one_subject() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src") {
        if !text.starts_with("//!") && !text.starts_with("#![doc") {
            wrong.push(format!("{file}:1: begin with what this file owns (`//!`)"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{file}: {lines} lines have two subjects: split it"));
        }
        for (place, line) in text.lines().enumerate() {
            if ["TODO", "FIXME", "XXX"].iter().any(|word| line.contains(word)) {
                wrong.push(format!("{file}:{}: do it or write it down elsewhere", place + 1));
            }
        }
    }
    assert_tidy(wrong);
}

#[test]
fn every_decision_has_all_its_parts() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root().join("docs/adr")).expect("decisions are there").flatten() {
        let text = fs::read_to_string(entry.path()).expect("decisions are text");
        for part in ["Context", "Decision", "Refused", "Costs", "Checked by"] {
            if !text.lines().any(|line| line.starts_with(part)) {
                wrong.push(format!("{}: no line begins with `{part}`", entry.path().display()));
            }
        }
    }
    assert_tidy(wrong);
}

#[test]
fn files_name_the_release_that_we_say_we_are() {
    let version = cairn::model::ETCD_VERSION;
    let mut wrong = Vec::new();
    for (file, text, count) in [
        ("packaging/debian/control", format!("(= {version})"), 3),
        ("api-spec/openapi.yaml", format!("etcdserver: {version}"), 1),
        ("docs/session.md", format!("\"etcdserver\":\"{version}\""), 1),
    ] {
        let found =
            fs::read_to_string(root().join(file)).expect("it is text").matches(&text).count();
        if found != count {
            wrong.push(format!("{file}: {found} times `{text}` instead of {count}"));
        }
    }
    assert_tidy(wrong);
}

#[test]
fn each_difference_names_a_test_that_is_there() {
    let table = fs::read_to_string(root().join("api-spec/deviations.md")).expect("it is text");
    assert_tidy(missing_tests(&table, &[sources("tests"), sources("src")].concat()));
}

#[test]
fn each_rule_can_be_broken() {
    let sources = ["tests/a/b.rs", "src/d/b/tests.rs"]
        .map(|file| (file.to_owned(), "fn it_is_so() {".to_owned()));
    let table = "| `a::b::it_is_so`, `x = y::z`, `d::b::tests::it_is_so` |";
    assert!(missing_tests(table, &sources).is_empty());
    assert_eq!(missing_tests("| `a::b::it_is` | `c::it_is_so` |", &sources).len(), 2);
    assert_eq!(wrong_imports("src/store/tree.rs", "use crate::raft::Raft;").len(), 1);
    assert_eq!(wrong_imports("src/store/tree.rs", "    crate::api::x(); // crate::raft").len(), 1);
    assert!(wrong_imports("src/store/tree.rs", "use crate::model::KeyPath;").is_empty());
    assert!(wrong_imports("src/raft/mod.rs", "mod tests {\nuse crate::api::X;").is_empty());
    assert_eq!(impure("src/model/time.rs", "let now = Instant::now();").len(), 1);
    assert!(impure("src/server/clock.rs", "let now = Instant::now();").is_empty());
    assert_eq!(exposed("src/api/mod.rs", "use openraft::Raft;").len(), 1);
    assert!(exposed("src/raft/mod.rs", "use openraft::Raft;").is_empty());
}
