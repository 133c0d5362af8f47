//! Writes to the target, so that nothing is overwritten or removed that a client of the target has written.
//!
//! Owns: which nodes of the target are the mirror's, and under which index it wrote them. Never knows: why something is written.
//! Holds: every write to a file is made under the condition that it is still as the mirror wrote it, or not there; a directory is
//! removed when it is empty, and only then.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use crate::mirror::side::{Answer, Side, Trouble};
use crate::mirror::wire::{Node, Refusal, Request, code, is_within};

/// How often a key may change between a look at it and the write before it is left to who changes it.
const TRIES: usize = 5;
/// Writes that are under way at a time, where their order does not matter.
pub(super) const ABREAST: usize = 32;
/// What the target gives a key longer than the source, in seconds: it is looked at once more when it ends in the source.
const GRACE_S: u64 = 1;

/// A node of the target that is the mirror's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) dir: bool,
    /// Where the mirror wrote it; nothing for a directory.
    pub(super) index: u64,
    /// When it ends in the source, in milliseconds of the source's clock.
    pub(super) ends_ms: Option<i64>,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is as it should be, since this index.
    Written(u64),
    /// It is a client's of the target.
    Taken,
    /// There is a file where a directory has to be.
    InTheWay(String),
}

/// The target, and what in it is the mirror's.
pub(super) struct Target {
    pub(super) side: Arc<Side>,
    source: Arc<Side>,
    pub(super) own: BTreeMap<String, Own>,
    /// The key or directory that is copied; nothing is kept of what is above it.
    prefix: String,
}

impl Target {
    pub(super) fn new(side: Arc<Side>, source: Arc<Side>, prefix: String) -> Self {
        Self { side, source, own: BTreeMap::new(), prefix }
    }

    /// From now on it is the mirror's.
    pub(super) fn adopt(&mut self, path: &str, node: &Node, index: u64) {
        let own = Own { dir: node.dir, index, ends_ms: node.ends_ms() };
        self.own.insert(path.to_owned(), own);
        // What was made on the way.
        for (at, _) in path.rmatch_indices('/').filter(|(at, _)| *at > 0) {
            let parent = &path[..at];
            if !is_within(parent, &self.prefix) || self.own.contains_key(parent) {
                break;
            }
            self.own.insert(parent.to_owned(), Own { dir: true, ..Own::default() });
        }
    }

    fn give_up(&mut self, path: &str) {
        self.own.remove(path);
        self.side.shown.taken(path);
    }

    /// Everything of the mirror's in this directory, and itself; the root is the empty path.
    pub(super) fn own_within(&self, dir: &str) -> Vec<String> {
        let itself = self.own.get_key_value(dir).map(|(path, _)| path.clone());
        // All that begins with the path and a slash, to which a `0` is next.
        let range = (Bound::Excluded(format!("{dir}/")), Bound::Excluded(format!("{dir}0")));
        let below = self.own.range(range).map(|(path, _)| path.clone());
        itself.into_iter().chain(below).collect()
    }

    /// Seconds that a node is given: as many as it has left in the source, and a little more.
    fn ttl(&self, node: &Node) -> Option<u64> {
        node.ends_ms().map(|ends_ms| self.source.remaining_s(ends_ms) + GRACE_S)
    }

    /// Makes the target have this node as the source has it.
    pub(super) async fn put(&mut self, node: &Node) -> Result<(), Trouble> {
        for _ in 0..TRIES {
            let path = &node.key;
            let fate = match node.dir {
                true => self.put_dir(node).await?,
                false => {
                    if self.own.get(path).is_some_and(|own| own.dir) {
                        self.remove(path).await?;
                    }
                    let known = self.own.get(path).map(|own| own.index);
                    write_file(&self.side, node, known, self.ttl(node)).await?
                }
            };
            match fate {
                Fate::Written(index) => {
                    self.adopt(path, node, index);
                    return Ok(());
                }
                Fate::Taken => break,
                Fate::InTheWay(file) if self.own.get(&file).is_some_and(|own| !own.dir) => {
                    self.remove(&file).await?;
                }
                Fate::InTheWay(_) => break,
            }
        }
        self.give_up(&node.key);
        Ok(())
    }

    /// The same for many files, in any order. Directories that they need are there or are made.
    pub(super) async fn put_files(&mut self, nodes: Vec<Node>) -> Result<(), Trouble> {
        let (simple, other): (Vec<_>, Vec<_>) = nodes
            .into_iter()
            .partition(|node| !node.dir && self.own.get(&node.key).is_none_or(|own| !own.dir));
        let writes: Vec<_> = simple
            .into_iter()
            .map(|node| {
                let known = self.own.get(&node.key).map(|own| own.index);
                (self.side.clone(), self.ttl(&node), known, node)
            })
            .collect();
        let mut writes = stream::iter(writes)
            .map(async |(side, ttl, known, node)| {
                (write_file(&side, &node, known, ttl).await, node)
            })
            .buffer_unordered(ABREAST);
        let mut again = other;
        while let Some((fate, node)) = writes.next().await {
            match fate? {
                Fate::Written(index) => self.adopt(&node.key, &node, index),
                Fate::Taken => self.give_up(&node.key),
                Fate::InTheWay(_) => again.push(node),
            }
        }
        drop(writes);
        for node in again {
            self.put(&node).await?;
        }
        Ok(())
    }

    async fn put_dir(&mut self, node: &Node) -> Result<Fate, Trouble> {
        let (path, ttl) = (&node.key, self.ttl(node));
        let fresh = Request::renew(path, "dir=true&prevExist=false", ttl);
        let refusal = match self.write(&fresh).await? {
            Answer::Done(event, _) => return Ok(Fate::Written(event.node.modified)),
            Answer::Refused(refusal) => refusal,
        };
        match refusal.code {
            // The root is always there, and permanent.
            code::ROOT => return Ok(Fate::Written(0)),
            code::EXISTS => {}
            code::NOT_A_DIRECTORY => return Ok(Fate::InTheWay(cause(&refusal))),
            _ => return Err(self.unexpected(path, &refusal)),
        }
        match look(&self.side, path).await? {
            Some(there) if there.dir => {
                if there.ends_ms().is_some() || ttl.is_some() {
                    self.write(&Request::renew(path, "dir=true&prevExist=true", ttl)).await?;
                }
                Ok(Fate::Written(0))
            }
            Some(_) => Ok(Fate::InTheWay(path.clone())),
            None => Ok(Fate::InTheWay(String::new())),
        }
    }

    /// Gives a node the lifetime that it has in the source, where it was renewed without an event.
    pub(super) async fn renew(&mut self, node: &Node) -> Result<(), Trouble> {
        let Some(own) = self.own.get(&node.key).cloned() else { return Ok(()) };
        let conditions = match own.dir {
            true => "dir=true&prevExist=true&refresh=true".to_owned(),
            false => format!("prevExist=true&refresh=true&prevIndex={}", own.index),
        };
        let request = Request::renew(&node.key, &conditions, self.ttl(node));
        self.side.shown.renewals.add(1);
        match self.write(&request).await? {
            Answer::Done(event, index) => {
                let modified = event.node.modified.max(index);
                self.adopt(&node.key, node, if own.dir { 0 } else { modified });
                Ok(())
            }
            // It has ended in the target, or is another's: that is found out.
            Answer::Refused(_) => self.put(node).await,
        }
    }

    /// Removes a node and everything below it, as far as it is the mirror's.
    pub(super) async fn remove(&mut self, path: &str) -> Result<(), Trouble> {
        let paths = self.own_within(path);
        self.remove_all(paths).await
    }

    /// Removes these nodes.
    pub(super) async fn remove_all(&mut self, mut paths: Vec<String>) -> Result<(), Trouble> {
        // What is in a directory before the directory.
        paths.sort_by(|one, other| other.cmp(one));
        let own = |path: &String| self.own.get(path).cloned();
        let (dirs, files): (Vec<_>, Vec<_>) = paths
            .into_iter()
            .filter_map(|path| own(&path).map(|own| (path, own)))
            .partition(|(_, own)| own.dir);
        let side = self.side.clone();
        let removals = files.into_iter().map(|(path, own)| (side.clone(), path, own.index));
        let mut removals = stream::iter(removals.collect::<Vec<_>>())
            .map(async |(side, path, index)| {
                let request = Request::delete(&path, &format!("prevIndex={index}"));
                (write(&side, &request).await, path)
            })
            .buffer_unordered(ABREAST);
        let mut taken = Vec::new();
        while let Some((answer, path)) = removals.next().await {
            match answer? {
                Answer::Done(..) => {}
                // It was gone; or one of its parents is a file now.
                Answer::Refused(refusal)
                    if matches!(refusal.code, code::NOT_FOUND | code::NOT_A_DIRECTORY) => {}
                Answer::Refused(refusal)
                    if matches!(refusal.code, code::COMPARE_FAILED | code::NOT_A_FILE) =>
                {
                    taken.push(path);
                    continue;
                }
                Answer::Refused(refusal) => return Err(self.unexpected(&path, &refusal)),
            }
            self.own.remove(&path);
        }
        drop(removals);
        for path in taken {
            self.give_up(&path);
        }
        for (path, _) in dirs {
            let answer = self.write(&Request::delete(&path, "dir=true")).await?;
            if let Answer::Refused(refusal) = answer {
                let expected =
                    [code::NOT_FOUND, code::NOT_A_DIRECTORY, code::NOT_A_FILE, code::ROOT];
                // A client of the target has something in it.
                if refusal.code != code::NOT_EMPTY && !expected.contains(&refusal.code) {
                    return Err(self.unexpected(&path, &refusal));
                }
            }
            self.own.remove(&path);
        }
        Ok(())
    }

    async fn write(&self, request: &Request) -> Result<Answer, Trouble> {
        write(&self.side, request).await
    }

    fn unexpected(&self, path: &str, refusal: &Refusal) -> Trouble {
        unexpected(path, refusal)
    }
}

fn unexpected(path: &str, refusal: &Refusal) -> Trouble {
    let Refusal { code, message, cause, .. } = refusal;
    Trouble::Fatal(format!("the target refuses {path}: {code} {message} ({cause})"))
}

/// The file of which a refusal says that it is in the way.
fn cause(refusal: &Refusal) -> String {
    refusal.cause.clone()
}

async fn write(side: &Side, request: &Request) -> Result<Answer, Trouble> {
    side.shown.writes.add(1);
    side.ask(request).await
}

async fn look(side: &Side, path: &str) -> Result<Option<Node>, Trouble> {
    match side.ask(&Request::get(path, false)).await? {
        Answer::Done(event, _) => Ok(Some(event.node)),
        Answer::Refused(_) => Ok(None),
    }
}

/// Writes a file that is as the mirror left it at `known`, or that is not there.
///
/// A write whose answer was lost is sent again, and then refused: a look finds it done.
async fn write_file(
    side: &Side,
    node: &Node,
    mut known: Option<u64>,
    ttl: Option<u64>,
) -> Result<Fate, Trouble> {
    let path = &node.key;
    for _ in 0..TRIES {
        let condition = match known {
            Some(index) => format!("prevIndex={index}"),
            None => "prevExist=false".to_owned(),
        };
        let request = Request::put(path, &condition, &node.value, ttl);
        let refusal = match write(side, &request).await? {
            Answer::Done(event, _) => return Ok(Fate::Written(event.node.modified)),
            Answer::Refused(refusal) => refusal,
        };
        match refusal.code {
            // It has ended in the target.
            code::NOT_FOUND => known = None,
            code::NOT_A_DIRECTORY => return Ok(Fate::InTheWay(cause(&refusal))),
            code::NOT_A_FILE => return Ok(Fate::Taken),
            code::COMPARE_FAILED | code::EXISTS => match look(side, path).await? {
                None => known = None,
                Some(there) if there.is_as(node) => {
                    if there.ends_ms().is_none() && ttl.is_none() {
                        return Ok(Fate::Written(there.modified));
                    }
                    // The lifetime is to be right, too.
                    known = Some(there.modified);
                }
                Some(_) => return Ok(Fate::Taken),
            },
            _ => return Err(unexpected(path, &refusal)),
        }
    }
    Ok(Fate::Taken)
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::backup::flags::{Asked, read};
    use crate::mirror::flags::MIRROR;
    use crate::mirror::shown::{Shown, Which};

    fn target(prefix: &str) -> Target {
        let words = ["--from", "http://a:1", "--to", "http://b:1"].map(str::to_owned);
        let Ok(Asked::Do(said)) = read(&MIRROR, words.to_vec(), Vec::new()) else {
            panic!("the flags are right")
        };
        let side = |which| {
            let side =
                Side::new(which, &said, Arc::new(Shown::default()), CancellationToken::new());
            Arc::new(side.unwrap())
        };
        Target::new(side(Which::Target), side(Which::Source), prefix.to_owned())
    }

    #[test]
    fn directories_on_the_way_are_the_mirrors_and_those_above_the_prefix_are_not() {
        let mut target = target("/a");
        target.adopt("/a/b/c/d", &Node::default(), 7);
        assert_eq!(target.own.keys().collect::<Vec<_>>(), ["/a", "/a/b", "/a/b/c", "/a/b/c/d"]);
        assert_eq!(target.own["/a/b/c/d"].index, 7);
    }

    #[test]
    fn what_is_in_a_directory_is_not_what_is_called_alike() {
        let mut target = target("");
        for path in ["/d", "/d-x", "/d/a", "/d/a/b", "/d0", "/dd/a"] {
            target.adopt(path, &Node { dir: !path.contains('a'), ..Node::default() }, 1);
        }
        assert_eq!(target.own_within("/d"), ["/d", "/d/a", "/d/a/b"]);
        assert_eq!(target.own_within("/x"), [""; 0]);
        assert_eq!(target.own_within("").len(), target.own.len());
    }
}
