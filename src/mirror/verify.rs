//! Compares both sides at the end.
//!
//! Owns: what counts as a difference. Never knows: how one comes about.
//! Holds: two servers that serve cannot be listed at one moment, so a difference is one that is the same in every round; what changes
//! from round to round is told apart from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::mirror::side::Trouble;
use crate::mirror::sync::{Differences, LIFETIMES_APART_S, Listing, Pair, list};
use crate::mirror::wire::Node;

/// Keys that a report names.
const NAMED_MAX: usize = 10;
/// How often both sides are listed, as long as they differ.
const ROUNDS: usize = 5;
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);

/// What differs: the value and the lifetime here and there; nothing for a node that is not there.
type Found = BTreeMap<String, [Option<(bool, String, bool)>; 2]>;

/// What the comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Keys and directories that were compared.
    pub(crate) compared: usize,
    /// Those that differ.
    pub(crate) differing: Vec<String>,
    /// Those that were changed so often that they could not be compared.
    pub(crate) changing: Vec<String>,
    /// Those that the target's clients have written, which are theirs.
    pub(crate) theirs: usize,
}

impl Verdict {
    /// Are both sides the same?
    pub(crate) fn is_good(&self) -> bool {
        self.differing.is_empty() && self.changing.is_empty()
    }

    /// In lines; `what` was compared.
    pub(crate) fn text(&self, what: &str) -> String {
        let Self { compared, differing, changing, theirs } = self;
        let mut text = match self.is_good() {
            true => format!("verified: {compared} {what} are the same on both sides\n"),
            false => format!(
                "NOT the same: {} of {compared} {what} differ, {} were changed while they were compared\n",
                differing.len(),
                changing.len()
            ),
        };
        // Writing to a string does not fail.
        if !differing.is_empty() {
            let _ = writeln!(text, "they differ: {}", some(differing));
        }
        if !changing.is_empty() {
            let _ = writeln!(text, "they were changed: {}", some(changing));
        }
        if *theirs > 0 {
            let _ = writeln!(text, "not compared: {theirs} that are the target's own");
        }
        text
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "compared": self.compared,
            "differing": self.differing,
            "changing": self.changing,
            "targetsOwn": self.theirs,
        })
    }
}

/// Some paths of many.
fn some(paths: &[String]) -> String {
    let mut text = paths.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(" ");
    if paths.len() > NAMED_MAX {
        text.push_str(" ...");
    }
    text
}

/// Compares, and brings over in between what has changed.
pub(super) async fn verify(pair: &mut Pair, prefix: &str) -> Result<Verdict, Trouble> {
    let mut verdict = Verdict::default();
    let mut rounds = Rounds::default();
    while rounds.next().await {
        let mut found = Found::new();
        (verdict.compared, verdict.theirs) = (0, 0);
        for scope in pair.hidden.clone().iter().map(String::as_str).chain([prefix]) {
            pair.sync(scope, Differences::Own).await?;
            let target = list(&pair.target.side, scope).await?;
            let source = list(&pair.source, scope).await?;
            let own = |path: &str| pair.target.own.contains_key(path);
            let theirs = compare(&source, &target, own, &mut found);
            verdict.compared += source.1.len() - theirs.differing;
            verdict.theirs += theirs.differing + theirs.more;
        }
        rounds.found(found);
    }
    (verdict.differing, verdict.changing) = rounds.end();
    Ok(verdict)
}

/// Rounds of comparing, as long as something differs.
#[derive(Debug)]
pub(crate) struct Rounds<T> {
    begun: usize,
    /// What the last round found, and the one before.
    last: Option<BTreeMap<String, T>>,
    before: Option<BTreeMap<String, T>>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self { begun: 0, last: None, before: None }
    }
}

impl<T: PartialEq> Rounds<T> {
    /// Is there to be another round? Waits a while before it.
    pub(crate) async fn next(&mut self) -> bool {
        if self.begun == ROUNDS || self.last.as_ref().is_some_and(BTreeMap::is_empty) {
            return false;
        }
        if self.begun > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        self.begun += 1;
        true
    }

    /// A round has found these differences.
    pub(crate) fn found(&mut self, found: BTreeMap<String, T>) {
        self.before = self.last.replace(found);
    }

    /// What differs, and what was changed so often that it cannot be said: another round has seen it otherwise.
    pub(crate) fn end(self) -> (Vec<String>, Vec<String>) {
        let found = self.last.unwrap_or_default();
        let lasting = |path: &str| match &self.before {
            Some(before) => before.get(path) == found.get(path),
            None => true,
        };
        found.keys().cloned().partition(|path| lasting(path))
    }
}

/// Nodes that are the target's own.
#[derive(Debug, PartialEq, Eq)]
struct Theirs {
    /// That the source has too.
    differing: usize,
    /// That it does not have.
    more: usize,
}

/// Adds what differs; returns how many nodes are the target's own.
fn compare(
    (_, source): &Listing,
    (_, target): &Listing,
    own: impl Fn(&str) -> bool,
    found: &mut Found,
) -> Theirs {
    let about = |node: &Node| (node.dir, node.value.clone(), node.ends_ms().is_some());
    let mut theirs = Theirs { differing: 0, more: 0 };
    for (path, node) in source {
        let there = target.get(path);
        let lifetimes = |there: &Node| match (node.ends_ms(), there.ends_ms()) {
            (Some(_), Some(_)) => {
                (-1..=LIFETIMES_APART_S).contains(&there.ttl.saturating_sub(node.ttl))
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        match there {
            Some(there) if there.is_as(node) && lifetimes(there) => {}
            // A client of the target has written it, or it has ended there.
            _ if !own(path) => theirs.differing += 1,
            there => drop(found.insert(path.clone(), [Some(about(node)), there.map(about)])),
        }
    }
    for (path, node) in target.iter().filter(|(path, _)| !source.contains_key(*path)) {
        if own(path) {
            found.insert(path.clone(), [None, Some(about(node))]);
        } else {
            theirs.more += 1;
        }
    }
    theirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: &str, ttl: i64) -> Node {
        let expiration = (ttl > 0).then(|| "2030-01-01T00:00:00Z".to_owned());
        Node { value: value.to_owned(), ttl, expiration, ..Node::default() }
    }

    #[test]
    fn values_and_lifetimes_are_compared_and_the_targets_own_are_counted() {
        let listing = |nodes: &[(&str, Node)]| {
            (1, nodes.iter().map(|(path, node)| ((*path).to_owned(), node.clone())).collect())
        };
        let source = listing(&[
            ("/same", node("1", 0)),
            ("/value", node("1", 0)),
            ("/missing", node("1", 0)),
            ("/longer", node("1", 10)),
            ("/much_longer", node("1", 10)),
            ("/permanent", node("1", 10)),
            ("/theirs", node("1", 0)),
        ]);
        let target = listing(&[
            ("/same", node("1", 0)),
            ("/value", node("2", 0)),
            ("/longer", node("1", 12)),
            ("/much_longer", node("1", 30)),
            ("/permanent", node("1", 0)),
            ("/theirs", node("2", 0)),
            ("/extra", node("2", 0)),
        ]);
        let mut found = Found::new();
        let theirs = compare(&source, &target, |path| path != "/theirs", &mut found);
        assert_eq!(theirs, Theirs { differing: 1, more: 0 });
        let paths: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(paths, ["/extra", "/missing", "/much_longer", "/permanent", "/value"]);
    }
}
