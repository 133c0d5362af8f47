//! What was done, in words and as JSON, and the comparison at the end.
//!
//! Owns: what counts as a difference. Never knows: how one comes about.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::copy::Copy;
use crate::copy::picture::Picture;
use crate::mirror::shown::Shown;
use crate::mirror::side::Trouble;
use crate::mirror::sync::{Differences, list};
use crate::mirror::verify::{Rounds, Verdict};

/// What a run came to, beside what is counted while it runs.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) follows: bool,
    pub(super) is_dry: bool,
    /// Writes that a dry run would have made.
    pub(super) planned: usize,
    /// Directories with nothing in them.
    pub(super) empty_dirs: usize,
    /// Keys that were left out because they have a lifetime.
    pub(super) mortal: usize,
    /// Keys that only the target has.
    pub(super) extra: usize,
    pub(super) verdict: Option<Verdict>,
    pub(super) took: Duration,
}

impl Done {
    /// In lines.
    pub(super) fn text(&self, shown: &Shown) -> String {
        let (index, keys, took) =
            (shown.applied_index.get(), shown.keys.get(), self.took.as_secs_f64());
        let mut text = match (self.is_dry, self.follows) {
            (true, _) => format!(
                "nothing was written: of the source at index {index}, {} keys would be, and {keys} are the same\n",
                self.planned
            ),
            (false, false) => format!(
                "copied as of index {index} of the source: {keys} keys, {} writes, in {took:.1} s\n",
                shown.writes.get()
            ),
            (false, true) => format!(
                "copied up to index {index} of the source: {keys} keys, {} changes, {} writes, in {took:.1} s\n",
                shown.events.get(),
                shown.writes.get()
            ),
        };
        let mut line = |count: u64, what: &str| {
            if count > 0 {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{count} {what}");
            }
        };
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        line(number(self.empty_dirs), "empty directories were left out: version 3 has none");
        line(number(self.mortal), "keys with a lifetime were left out: --ttl=lease copies them");
        line(number(self.extra), "keys that only the target has were left alone");
        line(shown.taken_over.get(), "keys were left to clients of the target");
        line(
            shown.replaced.get(),
            "keys or values hold U+FFFD: bytes that are no text do not come through version 2",
        );
        text.push_str(
            &self.verdict.as_ref().map(|verdict| verdict.text("keys")).unwrap_or_default(),
        );
        text
    }

    pub(super) fn json(&self, shown: &Shown) -> serde_json::Value {
        json!({
            "index": shown.applied_index.get(),
            "keys": shown.keys.get(),
            "events": shown.events.get(),
            "writes": shown.writes.get(),
            "renewals": shown.renewals.get(),
            "wouldWrite": self.is_dry.then_some(self.planned),
            "emptyDirectories": self.empty_dirs,
            "lifetimesLeftOut": self.mortal,
            "targetsOwn": self.extra,
            "takenOver": shown.taken_over.get(),
            "replaced": shown.replaced.get(),
            "seconds": self.took.as_secs_f64(),
            "verified": self.verdict.as_ref().map(Verdict::json),
        })
    }
}

/// A value, and whether it has a lifetime; nothing for a key that is not there.
type About = Option<(Bytes, bool)>;

impl Copy {
    /// Compares both sides, and brings over in between what has changed.
    pub(super) async fn verify(&mut self) -> Result<Verdict, Trouble> {
        let (mut rounds, mut verdict) = (Rounds::default(), Verdict::default());
        while rounds.next().await {
            self.sync(Differences::Own).await?;
            let mut there = BTreeMap::new();
            for (mut first, end) in self.target.names.ranges() {
                loop {
                    let page = self.target.page(first.clone(), end.clone()).await?;
                    for kv in page.kvs {
                        first = [&kv.key[..], &[0]].concat().into();
                        let path = self.target.names.path(&kv.key);
                        if let Some(path) = path.filter(|path| self.target.own.contains_key(path)) {
                            there.insert(path, (kv.value, kv.lease != 0));
                        }
                    }
                    if !page.more {
                        break;
                    }
                }
            }
            let (_, nodes) = list(&self.source, &self.prefix).await?;
            let picture = Picture::of(nodes, self.ttl);
            verdict.compared = 0;
            let mut found: BTreeMap<String, [About; 2]> = BTreeMap::new();
            for (path, key) in picture.keys {
                let there = there.remove(&path);
                if self.target.taken.contains(&path) {
                    continue;
                }
                verdict.compared += 1;
                let here = Some((Bytes::from(key.value), key.ends_ms.is_some()));
                if here != there {
                    found.insert(path, [here, there]);
                }
            }
            found.extend(there.into_iter().map(|(path, there)| (path, [None, Some(there)])));
            verdict.theirs = self.done.extra + self.target.taken.len();
            rounds.found(found);
        }
        (verdict.differing, verdict.changing) = rounds.end();
        Ok(verdict)
    }
}
