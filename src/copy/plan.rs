//! The difference between a listing of the source and what is in the target.
//!
//! Owns: whose a key is that both sides have. Never knows: watches.
//! Holds: the target is read a page at a time, and no page is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytes::Bytes;

use crate::copy::leases::{self, APART_S, is_marked};
use crate::copy::picture::Key;
use crate::copy::target::{Change, Own, Target, What};
use crate::mirror::side::Trouble;
use crate::mirror::sync::Differences;
use crate::rpc::KeyValue;

/// Keys that a message names.
const NAMED_MAX: usize = 5;

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    /// How many keys only the target has.
    pub(super) extra: usize,
    /// How many keys the target has otherwise.
    differing: usize,
    /// Some of both, as version 3 calls them.
    named: Vec<String>,
}

impl Plan {
    fn name(&mut self, key: &[u8]) {
        if self.named.len() <= NAMED_MAX {
            self.named.push(String::from_utf8_lossy(key).into_owned());
        }
    }

    /// Why nothing is to be done.
    pub(super) fn refusal(&self) -> Option<String> {
        if self.differing + self.extra == 0 {
            return None;
        }
        let mut text = format!(
            "the target has {} keys that the source does not have, and {} that it has otherwise:",
            self.extra, self.differing
        );
        for key in self.named.iter().take(NAMED_MAX) {
            let _ = write!(text, " {key}");
        }
        if self.named.len() > NAMED_MAX {
            text.push_str(" ...");
        }
        text.push_str(
            ". Nothing was written. Say what becomes of those that differ: --differences=source overwrites them, --differences=target \
             leaves them alone; either leaves alone what only the target has. Or name another place with --to-prefix",
        );
        Some(text)
    }
}

/// What is wanted and not there yet, and what is the copy's and not seen yet.
struct Left<'a> {
    wanted: BTreeMap<String, Key>,
    own: BTreeSet<String>,
    /// Leases of earlier runs, and what they are to be.
    earlier: Vec<(String, i64, i64)>,
    differences: Differences,
    target: &'a mut Target,
    plan: Plan,
}

/// Compares the target with what is wanted.
pub(super) async fn plan(
    target: &mut Target,
    wanted: BTreeMap<String, Key>,
    differences: Differences,
) -> Result<Plan, Trouble> {
    let own = target.own.keys().cloned().collect();
    let (plan, earlier) = (Plan::default(), Vec::new());
    let mut left = Left { wanted, own, earlier, differences, target, plan };
    for (mut first, end) in left.target.names.ranges() {
        loop {
            let page = left.target.page(first.clone(), end.clone()).await?;
            let next = page.kvs.last().map(|kv| Bytes::from([&kv.key[..], &[0]].concat()));
            for kv in page.kvs {
                left.compare(kv);
            }
            match next.filter(|_| page.more) {
                Some(next) => first = next,
                None => break,
            }
        }
    }
    left.end().await
}

impl Left<'_> {
    fn change(&mut self, path: String, ends_ms: Option<i64>, what: What) {
        self.plan.changes.push(Change { path, ends_ms, what });
    }

    /// From now on it is the copy's.
    fn adopt(&mut self, path: &str, kv: &KeyValue, ends_ms: Option<i64>) {
        let own = Own { revision: kv.mod_revision, lease: kv.lease, ends_ms };
        self.target.own.insert(path.to_owned(), own);
    }

    /// A key that is in the target.
    fn compare(&mut self, kv: KeyValue) {
        let Some(path) = self.target.names.path(&kv.key) else {
            self.plan.extra += 1;
            return self.plan.name(&kv.key);
        };
        self.own.remove(&path);
        let wanted = self.wanted.remove(&path);
        if self.target.taken.contains(&path) {
            return;
        }
        let own = self.target.own.get(&path).cloned();
        match (own, wanted) {
            (Some(own), _) if own.revision != kv.mod_revision => self.target.give_up(&path),
            (Some(_), None) => self.change(path, None, What::Remove),
            (Some(_), Some(key)) if kv.value != key.value.as_bytes() => {
                self.change(path, key.ends_ms, What::Put(key.value));
            }
            (Some(own), Some(key)) if own.ends_ms != key.ends_ms => {
                self.change(path, key.ends_ms, What::Renew);
            }
            (Some(_), Some(_)) => {}
            (None, wanted) => self.compare_others(path, kv, wanted),
        }
    }

    /// A key that this run has not written: an earlier one did, if it is on a lease of such a one; or if it is the same, for all
    /// that can be known.
    fn compare_others(&mut self, path: String, kv: KeyValue, wanted: Option<Key>) {
        let begins = self.differences != Differences::Own;
        let Some(key) = wanted else {
            if is_marked(kv.lease) && begins {
                self.adopt(&path, &kv, None);
                self.change(path, None, What::Remove);
            } else {
                self.plan.extra += 1;
                self.plan.name(&kv.key);
            }
            return;
        };
        let same = kv.value == key.value.as_bytes();
        match key.ends_ms {
            _ if !begins => self.target.give_up(&path),
            None if same && kv.lease == 0 => self.adopt(&path, &kv, None),
            Some(ends_ms) if same && is_marked(kv.lease) => {
                self.adopt(&path, &kv, key.ends_ms);
                self.earlier.push((path, kv.lease, ends_ms));
            }
            ends_ms if is_marked(kv.lease) || self.differences == Differences::Source => {
                self.adopt(&path, &kv, None);
                self.change(path, ends_ms, What::Put(key.value));
            }
            _ if self.differences == Differences::Target => self.target.give_up(&path),
            _ => {
                self.plan.differing += 1;
                self.plan.name(&kv.key);
            }
        }
    }

    /// All of the target has been seen.
    async fn end(mut self) -> Result<Plan, Trouble> {
        for path in std::mem::take(&mut self.own) {
            self.target.own.remove(&path);
        }
        for (path, key) in std::mem::take(&mut self.wanted) {
            if !self.target.taken.contains(&path) {
                self.change(path, key.ends_ms, What::Put(key.value));
            }
        }
        let earlier = std::mem::take(&mut self.earlier);
        let ids = earlier.iter().map(|(_, lease, _)| *lease).collect();
        let left = leases::left(self.target, ids).await?;
        for ((path, _, ends_ms), left) in earlier.into_iter().zip(left) {
            let wanted = leases::seconds(self.target, ends_ms);
            if left.is_none_or(|left| left.abs_diff(wanted) > APART_S.unsigned_abs()) {
                self.change(path, Some(ends_ms), What::Renew);
            }
        }
        Ok(self.plan)
    }
}
