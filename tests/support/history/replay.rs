//! The log, played again: what was under each key at each index.
//!
//! Owns: the states that the log says, by key and index. Never knows: what clients were told.

use std::collections::BTreeMap;

use super::{Event, Seen, VIOLATIONS_MAX, Violation};
use super::{Rule, shown};

/// What became of each key, from the log alone.
pub(crate) struct Replay<'a> {
    /// The versions of a key, oldest first: since when, and what.
    keys: BTreeMap<&'a str, Vec<(u64, Option<&'a Seen>)>>,
    /// Where each event stands in the log.
    events: BTreeMap<u64, &'a Event>,
}

impl<'a> Replay<'a> {
    /// Plays the log; what is wrong with the log itself is told as well.
    pub(crate) fn of(log: &'a [Event], violations: &mut Vec<Violation>) -> Self {
        let mut replay = Self { keys: BTreeMap::new(), events: BTreeMap::new() };
        let mut last = 0;
        for event in log {
            if event.index <= last {
                let text = format!("after index {last} comes {event}");
                violations.push(Violation::new(Rule::LogDisorder, text));
                continue;
            }
            last = event.index;
            let before = replay.at(&event.key, event.index);
            if before != event.prev.as_ref() {
                let text = format!("{event}; but the log says there was {}", shown(before));
                violations.push(Violation::new(Rule::BrokenChain, text));
            } else if let Some(why) = wrong_event(event) {
                violations.push(Violation::new(Rule::BrokenChain, format!("{event}; {why}")));
            }
            if violations.len() >= VIOLATIONS_MAX {
                break;
            }
            let versions = replay.keys.entry(&event.key).or_default();
            versions.push((event.index, event.node.as_ref()));
            replay.events.insert(event.index, event);
        }
        replay
    }

    /// What was under a key once everything up to `index` had happened.
    pub(crate) fn at(&self, key: &str, index: u64) -> Option<&'a Seen> {
        let versions = self.keys.get(key)?;
        let after = versions.partition_point(|(since, _)| *since <= index);
        versions[..after].last().and_then(|(_, seen)| *seen)
    }

    pub(crate) fn event(&self, index: u64) -> Option<&'a Event> {
        self.events.get(&index).copied()
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &'a Event> {
        self.events.values().copied()
    }

    /// Whether the key was removed by an event above `from`, up to `to`.
    pub(crate) fn removed_between(&self, key: &str, from: u64, to: u64) -> bool {
        let versions = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        versions.iter().any(|(since, seen)| seen.is_none() && *since > from && *since <= to)
    }

    /// Every file that is there once everything up to `index` had happened.
    pub(crate) fn files(&self, index: u64) -> BTreeMap<&'a str, &'a Seen> {
        self.keys.keys().filter_map(|key| Some((*key, self.at(key, index)?))).collect()
    }
}

/// Whether an event contradicts itself.
fn wrong_event(event: &Event) -> Option<String> {
    let removes = match event.action.as_str() {
        "set" | "create" | "update" | "compareAndSwap" | "put" => false,
        "delete" | "compareAndDelete" | "expire" | "remove" => true,
        other => return Some(format!("{other:?} is no action")),
    };
    let Some(node) = &event.node else {
        return match (removes, &event.prev) {
            (true, Some(_)) => None,
            (true, None) => Some("nothing was there to remove".to_owned()),
            (false, _) => Some("a write leaves something there".to_owned()),
        };
    };
    if removes {
        return Some("a removal leaves nothing".to_owned());
    }
    let created = match (event.action.as_str(), &event.prev) {
        ("create", Some(_)) => return Some("a create found the key there".to_owned()),
        ("update" | "compareAndSwap", None) => return Some("nothing was there".to_owned()),
        ("update" | "compareAndSwap" | "put", Some(prev)) => prev.created,
        _ => event.index,
    };
    if node.modified != event.index || node.created != created {
        return Some(format!("the indexes must be modified {}, created {created}", event.index));
    }
    None
}
