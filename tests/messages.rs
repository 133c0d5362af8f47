//! Each message that an operator can get at the levels WARNING and ERROR has a code, and each code a section in `docs/messages.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cairn::model::codes;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the program without its unit tests.
fn sources() -> Vec<(PathBuf, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("sources are text");
                let code = text.split("\nmod tests {").next().unwrap_or_default().to_owned();
                found.push((path, code));
            }
        }
    }
    found
}

/// What stands between the parentheses of each call of a macro.
fn calls<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, called) in text.match_indices(&format!("{name}!(")) {
        let before = text[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || before == '_' {
            continue;
        }
        let body = &text[at + called.len()..];
        let (mut depth, mut quoted, mut escaped) = (1, false, false);
        let end = body.find(|letter: char| {
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        found.push(&body[..end.expect("each call ends")]);
    }
    found
}

/// Names of the table's rows, by code.
fn table() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("src/model/codes.rs")).expect("it is there");
    let rows = text.lines().filter_map(|line| {
        let (name, code) = line.trim().strip_suffix("\",")?.split_once(" = \"")?;
        Some((code.to_owned(), name.to_owned()))
    });
    rows.collect()
}

#[test]
fn every_warning_and_error_has_a_code() {
    let names: BTreeSet<_> = table().into_values().collect();
    let (mut used, mut wrong, mut count) = (BTreeSet::new(), Vec::new(), 0);
    for (path, text) in sources() {
        for call in calls(&text, "warn").into_iter().chain(calls(&text, "error")) {
            count += 1;
            let code = call.split_once("code = codes::");
            let name = code.map(|(_, rest)| rest.split(',').next().unwrap_or_default().to_owned());
            match name.filter(|name| names.contains(name)) {
                Some(name) => drop(used.insert(name)),
                None => wrong.push(format!("{}: {call}", path.display())),
            }
        }
        // One is said by the log itself, which cannot log.
        for name in names.iter().filter(|name| text.contains(&format!("codes::{name}.to_owned"))) {
            used.insert(name.clone());
        }
    }
    assert!(count > 40, "the sources are read");
    assert!(wrong.is_empty(), "give each a code of src/model/codes.rs:\n{}", wrong.join("\n"));
    let idle: Vec<_> = names.difference(&used).collect();
    assert!(idle.is_empty(), "no line has these codes: {idle:?}");
}

#[test]
fn every_code_has_a_section_that_says_what_to_do_and_no_section_is_left_over() {
    let table = table();
    assert_eq!(table.keys().map(String::as_str).collect::<BTreeSet<_>>(), {
        let all: BTreeSet<_> = codes::ALL.iter().copied().collect();
        assert_eq!(all.len(), codes::ALL.len(), "no code is used twice");
        all
    });
    let text = fs::read_to_string(root().join("docs/messages.md")).expect("it is there");
    let sections: BTreeMap<_, _> = text
        .split("\n### ")
        .skip(1)
        .map(|section| section.split_once('\n').expect("a heading is a line"))
        .collect();
    let documented: Vec<_> = sections.keys().copied().collect();
    assert_eq!(documented, codes::ALL.to_vec(), "sections and codes");
    for (code, section) in sections {
        for part in ["** Says: ", "**What to do:** "] {
            assert!(section.contains(part), "{code} has no {part:?}");
        }
    }
}

#[test]
fn packages_whose_level_can_be_set_are_those_that_say_something() {
    let levels = root().join("src/server/telemetry/levels.rs");
    let text = fs::read_to_string(levels).expect("it is there");
    let list = text.split("PACKAGES: &[&str] = &[").nth(1).and_then(|rest| rest.split(']').next());
    let known: BTreeSet<_> =
        list.expect("there is a list").split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let mut said = BTreeSet::new();
    for (_, text) in sources() {
        for (at, begins) in text.match_indices("target: \"") {
            said.insert(text[at + begins.len()..].split('"').next().expect("it ends").to_owned());
        }
    }
    assert_eq!(known, said);
}
