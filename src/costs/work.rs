//! What a fixed amount of work takes on the way of a request, compared with the figures in `tests/fixtures/instructions`.
//!
//! A change that makes any of it a tenth dearer fails; one that means to, or another compiler, writes new figures with `UPDATE=1`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::costs::{COUNTED, begin_count, count};
use crate::{api, raft, server, store};

/// Work whose instructions are counted.
pub(crate) struct Work {
    /// What is done.
    pub(crate) name: &'static str,
    /// Does it. The first time is not counted: what the work needs is made then.
    pub(crate) work: fn(),
}

/// More than this times the figure is too much.
const GROWTH_MAX: f64 = 1.1;

fn all() -> impl Iterator<Item = &'static Work> {
    let (api, server) = (api::costs::WORK, server::costs::WORK);
    api.iter().chain(server).chain(store::costs::WORK).chain(raft::costs::WORK)
}

/// callgrind knows it by this name, and writes down what was counted whenever it returns.
#[inline(never)]
fn work_counted(work: fn()) {
    work();
    // Not a tail call: the function would be left before `work` is.
    std::hint::black_box(());
}

#[test]
fn a_request_takes_no_more_instructions_than_it_did() {
    if std::env::var_os(COUNTED).is_some() {
        // The first call of all also counts what is done once in a program.
        begin_count();
        work_counted(|| {});
        for work in all() {
            (work.work)();
            begin_count();
            work_counted(work.work);
        }
        return;
    }
    let Some(counts) = count("costs::work::a_request_takes_no_more_instructions_than_it_did")
    else {
        return;
    };
    let counts = &counts[1..];
    assert_eq!(counts.len(), all().count(), "callgrind did not count every call");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/instructions");
    if std::env::var_os("UPDATE").is_some() {
        let mut text = String::new();
        for (work, count) in all().zip(counts) {
            writeln!(text, "{count:>8} {}", work.name).expect("a text takes all");
        }
        std::fs::write(path, text).expect("the figures can be written");
        return;
    }
    let text = std::fs::read_to_string(path).expect("the figures are there");
    let figure = |line: &str| {
        let (figure, name) = line.trim().split_once(' ')?;
        Some((name.to_owned(), figure.parse::<f64>().ok()?))
    };
    let figures: BTreeMap<_, _> = text.lines().filter_map(figure).collect();
    let mut wrong = Vec::new();
    for (work, count) in all().zip(counts) {
        let figure = figures.get(work.name).copied().unwrap_or_default();
        eprintln!("{count:>8} {figure:>8} {}", work.name);
        if *count > GROWTH_MAX * figure {
            wrong.push(work.name);
        }
    }
    assert!(
        wrong.is_empty(),
        "take more than a tenth more than tests/fixtures/instructions says: {wrong:?}"
    );
}
