//! Makes the target as the source is, by a listing of each.
//!
//! Owns: the difference between two listings, and whose it is. Never knows: watches.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use crate::mirror::side::{Answer, Side, Trouble};
use crate::mirror::target::{ABREAST, Target};
use crate::mirror::wire::{Node, Request, flat, is_within};

/// Keys that are looked at one by one; of more, all are listed.
const LOOKS_MAX: usize = 64;
/// Keys that a message names.
const NAMED_MAX: usize = 5;
/// How far apart two lifetimes may be: the target gives a little more, and clocks tell whole seconds.
pub(super) const LIFETIMES_APART_S: i64 = 4;
/// What stands for bytes that are no text.
const REPLACEMENT: char = '\u{fffd}';

/// Whose the keys are that both sides have, and not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Differences {
    /// Nothing is begun.
    Refuse,
    /// The source's.
    Source,
    /// The target's.
    Target,
    /// The source's where the mirror wrote last, else the target's.
    Own,
}

impl Differences {
    /// What a flag says.
    ///
    /// # Errors
    /// When it is none of those that there are.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        match name {
            "refuse" => Ok(Self::Refuse),
            "source" => Ok(Self::Source),
            "target" => Ok(Self::Target),
            other => Err(format!("--differences {other:?}: it is refuse, source or target")),
        }
    }
}

/// A listing, and where the store was.
pub(crate) type Listing = (u64, BTreeMap<String, Node>);

/// Everything at or below a path, but what is hidden, at one index.
pub(crate) async fn list(side: &Side, scope: &str) -> Result<Listing, Trouble> {
    side.shown.listings.add(1);
    match side.ask(&Request::get(scope, true)).await? {
        Answer::Done(event, index) => Ok((index, flat(event.node))),
        Answer::Refused(refusal) => Ok((refusal.index, BTreeMap::new())),
    }
}

/// These nodes, as far as they are there: one by one, or of many what listings of `scopes` show.
pub(crate) async fn look(
    source: &Arc<Side>,
    due: &[String],
    scopes: &[&str],
) -> Result<BTreeMap<String, Node>, Trouble> {
    let mut nodes = BTreeMap::new();
    if due.len() > LOOKS_MAX {
        for scope in scopes {
            nodes.extend(list(source, scope).await?.1);
        }
        return Ok(nodes);
    }
    let looks = due.iter().cloned().map(|path| (source.clone(), path));
    let mut looks = stream::iter(looks.collect::<Vec<_>>())
        .map(async |(source, path)| source.ask(&Request::get(&path, false)).await)
        .buffer_unordered(ABREAST);
    while let Some(answer) = looks.next().await {
        if let Answer::Done(event, _) = answer? {
            nodes.insert(event.node.key.clone(), event.node);
        }
    }
    Ok(nodes)
}

/// How many of these hold what stands for bytes that are no text: version 2 does not let them through.
pub(crate) fn replaced<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> u64 {
    let replaced =
        |node: &&Node| node.key.contains(REPLACEMENT) || node.value.contains(REPLACEMENT);
    u64::try_from(nodes.into_iter().filter(replaced).count()).unwrap_or(0)
}

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    removals: Vec<String>,
    dirs: Vec<Node>,
    files: Vec<Node>,
    renewals: Vec<Node>,
    /// What speaks against it.
    differing: Vec<String>,
}

/// The two servers, and what is copied.
pub(super) struct Pair {
    pub(super) source: Arc<Side>,
    pub(super) target: Target,
    /// Hidden directories that are copied too.
    pub(super) hidden: Vec<String>,
}

impl Pair {
    /// Does the listing of `scope` show this path, or another listing?
    fn is_of(&self, path: &str, scope: &str) -> bool {
        let nearest = self.hidden.iter().filter(|hidden| is_within(path, hidden));
        let nearest = nearest.max_by_key(|hidden| hidden.len());
        is_within(path, scope) && nearest.is_none_or(|hidden| is_within(scope, hidden))
    }

    /// Makes one listing of the target as that of the source; returns where the source was.
    pub(super) async fn sync(
        &mut self,
        scope: &str,
        differences: Differences,
    ) -> Result<u64, Trouble> {
        let (index, source) = list(&self.source, scope).await?;
        let (_, there) = list(&self.target.side, scope).await?;
        self.source.shown.source_index.raise(index);
        self.source.shown.replaced.raise(replaced(source.values()));
        let plan = self.plan(scope, source, &there, differences);
        if !plan.differing.is_empty() {
            return Err(Trouble::Fatal(refusal(&plan.differing)));
        }
        self.target.remove_all(plan.removals).await?;
        for dir in plan.dirs {
            self.target.put(&dir).await?;
        }
        self.target.put_files(plan.files).await?;
        for node in plan.renewals {
            self.target.renew(&node).await?;
        }
        Ok(index)
    }

    fn plan(
        &mut self,
        scope: &str,
        source: BTreeMap<String, Node>,
        there: &BTreeMap<String, Node>,
        differences: Differences,
    ) -> Plan {
        let mut plan = Plan::default();
        let adopt = differences == Differences::Source;
        for (path, node) in there {
            let own = self.target.own.get(path);
            if adopt || own.is_some_and(|own| own.dir != node.dir) {
                // It counts as what the mirror wrote, and may be overwritten.
                self.target.own.remove(path);
                if adopt {
                    self.target.adopt(path, node, node.modified);
                }
            }
        }
        plan.removals = self.target.own_within(scope);
        plan.removals.retain(|path| {
            let other =
                |node: &Node| self.target.own.get(path).is_some_and(|own| own.dir != node.dir);
            self.is_of(path, scope) && source.get(path).is_none_or(other)
        });
        if differences == Differences::Refuse {
            let only = there.keys().filter(|path| !source.contains_key(*path));
            plan.differing.extend(only.cloned());
        }
        for (path, node) in source {
            let Some(other) = there.get(&path) else {
                match node.dir {
                    true => plan.dirs.push(node),
                    false => plan.files.push(node),
                }
                continue;
            };
            let own = self.target.own.get(&path).is_some_and(|own| own.index == other.modified);
            if other.is_as(&node) {
                // A client of the target may have written the same.
                if own || node.dir || differences != Differences::Own {
                    self.same(&mut plan, node, other);
                } else if self.target.own.remove(&path).is_some() {
                    self.source.shown.taken(&path);
                }
                continue;
            }
            match differences {
                Differences::Refuse => plan.differing.push(path),
                Differences::Source | Differences::Own if own || adopt => match node.dir {
                    true => plan.dirs.push(node),
                    false => plan.files.push(node),
                },
                Differences::Source | Differences::Target | Differences::Own => {
                    if self.target.own.remove(&path).is_some() || differences != Differences::Own {
                        self.source.shown.taken(&path);
                    }
                }
            }
        }
        plan
    }

    /// Both sides have it; their lifetimes may differ.
    fn same(&mut self, plan: &mut Plan, node: Node, other: &Node) {
        let (path, index) = (node.key.clone(), if node.dir { 0 } else { other.modified });
        let known = self.target.own.get(&path).and_then(|own| own.ends_ms);
        self.target.adopt(&path, &node, index);
        match (node.ends_ms(), other.ends_ms()) {
            (None, None) => {}
            (Some(ends_ms), Some(_)) => {
                let apart = other.ttl.saturating_sub(node.ttl);
                // What is known may be as old as the last look.
                let stale = known.is_some_and(|known| known != ends_ms);
                if stale || !(0..=LIFETIMES_APART_S).contains(&apart) {
                    plan.renewals.push(node);
                }
            }
            _ if node.dir => plan.dirs.push(node),
            _ => plan.files.push(node),
        }
    }
}

fn refusal(differing: &[String]) -> String {
    let mut text = format!(
        "the target has {} keys or directories that the source does not have, or has otherwise:",
        differing.len()
    );
    for path in differing.iter().take(NAMED_MAX) {
        let _ = write!(text, " {path}");
    }
    if differing.len() > NAMED_MAX {
        text.push_str(" ...");
    }
    text.push_str(
        ". Nothing was written. Say whose they are: --differences=source overwrites and removes them, --differences=target leaves them",
    );
    text
}
