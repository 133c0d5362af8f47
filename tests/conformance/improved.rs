//! Where we differ from etcd on purpose, and where a proxy differs from a member.

use std::collections::BTreeMap;
use std::fs;

use crate::corpus;

/// A row of `improved.csv`.
#[derive(Clone, Debug)]
pub(crate) struct Improved {
    /// Number of the improvement in the reference.
    pub(crate) number: String,
    /// Whether it differs only now and then, so that passing is no surprise.
    pub(crate) flips: bool,
}

impl Improved {
    /// Only what stood there before is left out.
    pub(crate) fn only_prev(&self) -> bool {
        self.number == "unseen"
    }

    /// Only the words of a parser differ: status, code and headers must stay.
    pub(crate) fn only_words(&self) -> bool {
        self.number == "26"
    }
}

/// The table by case name. Its columns: case, number of the improvement, `flips` or nothing, reason.
pub(crate) fn improved() -> BTreeMap<String, Improved> {
    table("improved.csv")
}

/// The same of what differs where a proxy is in between.
pub(crate) fn proxied() -> BTreeMap<String, Improved> {
    table("proxied.csv")
}

fn table(name: &str) -> BTreeMap<String, Improved> {
    let table = fs::read_to_string(corpus().join(name)).expect("the table is there");
    let rows = table.lines().skip(1).filter(|line| !line.trim().is_empty());
    rows.map(|line| {
        let columns: Vec<&str> = line.splitn(4, ',').collect();
        let &[case, number, flips, reason] = columns.as_slice() else {
            panic!("{name}: four columns wanted: {line}");
        };
        assert!(!reason.is_empty() && matches!(flips, "" | "flips"), "{name}: {line}");
        (case.to_owned(), Improved { number: number.to_owned(), flips: flips == "flips" })
    })
    .collect()
}
