//! Documents whose commands are run, and what stands in front of each block of them.
//!
//! Owns: the marks, which readers do not see. Never knows: where a block is run.
//!
//! ```text
//! <!-- test -->                  the next block is run to its end, and must succeed
//! <!-- test with A => B -->      the same with B in the place of A, which must be in it
//! <!-- test & NAME -->           the next block is one command, started in the background; $NAME is its process
//! <!-- test && NAME -->          the same for a block of several commands
//! <!-- test: BASH -->            steps that readers do not see; they may go over several lines
//! <!-- tests/FILE.rs: NAME -->   that test runs the next block, under this name
//! <!-- no test: REASON -->       nobody can run it
//! ```

use std::fs;
use std::path::Path;

/// What a mark says of the block behind it, and the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Run(String),
    Background {
        name: String,
        text: String,
        /// One command, and no script.
        single: bool,
    },
    Hidden(String),
    Elsewhere {
        test: String,
        name: String,
        text: String,
    },
    NotRun(String),
}

/// A mark that waits for its block.
enum Mark {
    Run(Vec<(String, String)>),
    Background { name: String, single: bool },
    Elsewhere { test: String, name: String },
    NotRun(String),
}

impl Mark {
    fn with(self, text: String) -> Part {
        match self {
            Self::Run(changes) => Part::Run(changes.iter().fold(text, |text, (from, to)| {
                assert!(text.contains(from), "{from:?} is not in the block:\n{text}");
                text.replace(from, to)
            })),
            Self::Background { name, single } => Part::Background { name, text, single },
            Self::Elsewhere { test, name } => Part::Elsewhere { test, name, text },
            Self::NotRun(why) => Part::NotRun(why),
        }
    }
}

/// A mark, or a step that has no block; `None` for a comment that is neither.
fn mark(comment: &str) -> Option<Result<Mark, Part>> {
    if let Some((test, name)) = comment.split_once(".rs: ")
        && test.starts_with("tests/")
    {
        let (test, name) = (format!("{test}.rs"), name.trim().to_owned());
        return Some(Ok(Mark::Elsewhere { test, name }));
    }
    if let Some(why) = comment.strip_prefix("no test:") {
        return Some(Ok(Mark::NotRun(why.trim().to_owned())));
    }
    let rest = comment.strip_prefix("test")?;
    if let Some(bash) = rest.strip_prefix(':') {
        return Some(Err(Part::Hidden(bash.trim().to_owned())));
    }
    let rest = rest.trim();
    let background =
        |name: &str, single| Some(Ok(Mark::Background { name: name.trim().to_owned(), single }));
    if let Some(name) = rest.strip_prefix("&&") {
        return background(name, false);
    }
    if let Some(name) = rest.strip_prefix('&') {
        return background(name, true);
    }
    let changes = rest.strip_prefix("with ").map(|changes| {
        let pairs = changes.split("; ").map(|pair| pair.split_once(" => ").expect("A => B"));
        pairs.map(|(from, to)| (from.to_owned(), to.to_owned())).collect()
    });
    assert!(rest.is_empty() || changes.is_some(), "no such mark: {comment}");
    Some(Ok(Mark::Run(changes.unwrap_or_default())))
}

/// Whether a block of this language holds commands.
fn holds_commands(language: &str) -> bool {
    matches!(language, "sh" | "bash" | "console" | "shell")
}

/// The parts of a page, in order.
///
/// # Panics
/// When a block of commands has no mark, a mark no block, or something does not end.
pub(crate) fn parts(page: &str) -> Vec<Part> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    parse(&fs::read_to_string(path).expect("a page"), page)
}

/// The same of a text.
pub(crate) fn parse(text: &str, page: &str) -> Vec<Part> {
    let (mut parts, mut waits) = (Vec::new(), None);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("<!--") {
            let mut comment = comment.to_owned();
            while !comment.ends_with("-->") {
                let more = lines.next().unwrap_or_else(|| panic!("{page}: {comment} has no end"));
                comment = format!("{comment}\n{}", more.trim_end());
            }
            match mark(comment.trim_end_matches("-->").trim()) {
                None => {}
                Some(Err(step)) => parts.push(step),
                Some(Ok(mark)) => {
                    assert!(waits.is_none(), "{page}: {comment} follows a mark without a block");
                    waits = Some(mark);
                }
            }
        } else if let Some(language) = line.strip_prefix("```") {
            let mut block = String::new();
            loop {
                let line = lines.next().unwrap_or_else(|| panic!("{page}: a block has no end"));
                if line.trim() == "```" {
                    break;
                }
                let margin = line.len() - line.trim_start().len();
                block.push_str(&line[indent.min(margin)..]);
                block.push('\n');
            }
            match waits.take() {
                Some(mark) => parts.push(mark.with(block)),
                None => {
                    assert!(!holds_commands(language), "{page}: nothing says who runs\n{block}")
                }
            }
        }
    }
    assert!(waits.is_none(), "{page}: the last mark has no block");
    parts
}

/// The block of this name that `test` runs.
///
/// # Panics
/// When there is none.
pub(crate) fn block(page: &str, test: &str, name: &str) -> String {
    let found = parts(page).into_iter().find_map(|part| {
        let Part::Elsewhere { test: by, name: called, text } = part else { return None };
        (by == test && called == name).then_some(text)
    });
    found.unwrap_or_else(|| panic!("{page} has no block <!-- {test}: {name} -->"))
}
