//! What a change of the source comes to in a key space without directories.
//!
//! Owns: which keys a change is about, and how many changes are made as one. Never knows: how they are written.
//! Holds: of what is made as one, no two are of the same key.

use std::time::Instant;

use crate::copy::Copy;
use crate::copy::picture::Ttl;
use crate::copy::target::{BATCH_BYTES, BATCH_KEYS, Change, What};
use crate::mirror::reader::Read;
use crate::mirror::side::Trouble;
use crate::mirror::sync::look;
use crate::mirror::wire::{Event, clean, is_hidden, is_within};

/// Is this change about keys of those that wait to be written?
fn meets(waiting: &[Change], path: &str, is_dir: bool) -> bool {
    waiting.iter().any(|change| match is_dir {
        true => is_within(&change.path, path),
        false => change.path == path,
    })
}

impl Copy {
    /// Makes a change of the source, and those as one with it that were read behind it. Returns what was read and is no change.
    pub(super) async fn apply(
        &mut self,
        event: Event,
        since: Instant,
    ) -> Result<Option<Read>, Trouble> {
        self.shown.working_on(Some(since));
        let mut next = Some(Read::Event(event, since));
        let (mut waiting, mut bytes, mut count) = (Vec::new(), 0, 0);
        let mut index = self.shown.applied_index.get();
        while let Some(Read::Event(event, _)) = next {
            let path = clean(&event.node.key);
            let is_dir = event.node.dir || event.removes();
            if meets(&waiting, &path, is_dir) {
                self.write(std::mem::take(&mut waiting), false).await?;
            }
            self.shown.events.add(1);
            self.shown.source_index.raise(event.node.modified);
            index = event.node.modified;
            let changes = self.changes(event, path);
            bytes += changes.iter().map(Change::bytes).sum::<usize>();
            waiting.extend(changes);
            count += 1;
            if count == BATCH_KEYS || bytes >= BATCH_BYTES / 2 || self.is_stale {
                next = None;
                break;
            }
            next = self.reads.try_recv().ok();
        }
        self.write(waiting, false).await?;
        self.shown.applied_index.raise(index);
        Ok(next)
    }

    /// What a change comes to.
    fn changes(&mut self, event: Event, path: String) -> Vec<Change> {
        // Hidden keys are in a history, and not in what is told as it happens.
        if is_hidden(&path, &self.prefix) && self.prefix != path {
            return Vec::new();
        }
        if event.removes() {
            // What holds the whole prefix may have gone.
            let gone = if is_within(&self.prefix, &path) { self.prefix.clone() } else { path };
            return self.removals(&gone);
        }
        if !is_within(&path, &self.prefix) {
            return Vec::new();
        }
        let node = event.node;
        let before = self.deadlines.set(&path, node.ends_ms());
        let changes = match node.dir {
            true => self.of_dir(&path, before, node.ends_ms()),
            false => {
                let ends_ms = self.deadlines.of(&path);
                let what = match ends_ms {
                    Some(_) if self.ttl == Ttl::Skip => What::Remove,
                    _ => What::Put(node.value),
                };
                vec![Change { path: path.clone(), ends_ms, what }]
            }
        };
        self.schedule(&path);
        changes
    }

    fn removals(&mut self, gone: &str) -> Vec<Change> {
        for path in self.deadlines.within(gone) {
            self.deadlines.set(&path, None);
            self.lifetimes.drop(&path);
        }
        let own = self.target.own_within(gone).into_iter();
        own.map(|path| Change { path, ends_ms: None, what: What::Remove }).collect()
    }

    /// A directory was made or has another lifetime, and with it what is in it.
    fn of_dir(&mut self, path: &str, before: Option<i64>, now: Option<i64>) -> Vec<Change> {
        let mut own = self.target.own_within(path);
        if before == now {
            // It may stand where a key was.
            own.retain(|known| known == path);
        }
        // They were left out, and who they are is not told.
        self.is_stale |= self.ttl == Ttl::Skip && before.is_some() && now.is_none();
        let change = |known: String| {
            let ends_ms = self.deadlines.of(&known);
            let what = match ends_ms {
                _ if known == path => What::Remove,
                Some(_) if self.ttl == Ttl::Skip => What::Remove,
                _ => What::Renew,
            };
            Change { path: known, ends_ms, what }
        };
        own.into_iter().map(change).collect()
    }

    /// Asks the source how long keys live that could end in the target.
    pub(super) async fn look(&mut self) -> Result<(), Trouble> {
        let due = self.lifetimes.due(Instant::now());
        let nodes = look(&self.source, &due, &[&*self.prefix]).await?;
        let mut changes = Vec::new();
        for path in due {
            // Whoever is gone has an event that says so.
            let Some(node) = nodes.get(&path) else { continue };
            let before = self.deadlines.set(&path, node.ends_ms());
            if before != node.ends_ms() {
                let own = self.target.own_within(&path).into_iter();
                for path in own.filter(|own| node.dir || *own == path) {
                    let ends_ms = self.deadlines.of(&path);
                    changes.push(Change { path, ends_ms, what: What::Renew });
                }
            }
            self.schedule(&path);
        }
        // A key may have been due beside its directory.
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        changes.dedup_by(|one, other| one.path == other.path);
        for change in &mut changes {
            change.ends_ms = self.deadlines.of(&change.path);
        }
        self.shown.renewals.add(u64::try_from(changes.len()).unwrap_or(u64::MAX));
        self.write(changes, false).await
    }
}
