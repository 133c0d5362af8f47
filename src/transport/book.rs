//! Who is reached where.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::base::lock;
use crate::model::MemberId;

/// URLs that are kept of what one member says of itself. Members have one or two; each that is dead costs time when the member
/// is looked for.
const SAID_MAX: usize = 4;

/// Members that are kept on their own word alone. A cluster that grows has one or two that are not recorded yet.
const STRANGERS_MAX: usize = 32;

/// The peer URLs of the members, as far as they are known.
///
/// What the cluster has recorded comes first. Behind it is what a member says of itself when it connects: one that moved, and that
/// was not recorded at its new URL, is found there. What a peer says of itself is never a reason not to look where the cluster
/// says; and the member that answers must introduce itself as the member that was looked for, so members are not mixed up.
///
/// Members do not prove who they are yet. A stranger on their network that knows the cluster's id can say that it is a member
/// that is down, and is then called in its stead, as it would be at a recorded address that it took over. The member itself
/// takes the place back with the next word it says.
#[derive(Debug, Default)]
pub struct AddressBook {
    entries: Mutex<BTreeMap<MemberId, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    /// By the cluster, or by the list of founders.
    recorded: Vec<String>,
    /// By the member itself, when it last connected.
    said: Vec<String>,
    /// Where it was found the last time.
    found: Option<String>,
}

impl AddressBook {
    /// Starts with what was known when the member last ran, or with the founders.
    pub fn new(known: impl IntoIterator<Item = (MemberId, Vec<String>)>) -> Self {
        let entry = |(id, recorded)| (id, Entry { recorded, ..Entry::default() });
        Self { entries: Mutex::new(known.into_iter().map(entry).collect()) }
    }

    /// Notes what the cluster has recorded. Members that it has not recorded stay as they are.
    pub fn record<'a>(&self, members: impl Iterator<Item = (MemberId, &'a [String])>) {
        let mut entries = self.lock();
        for (id, urls) in members {
            let entry = entries.entry(id).or_default();
            if entry.recorded != urls {
                entry.recorded = urls.to_vec();
                // It was moved: what was found before counts no more.
                entry.found = None;
            }
        }
    }

    /// Notes what a member says of itself.
    pub fn learn(&self, id: MemberId, urls: &[String]) {
        let mut entries = self.lock();
        let strangers = entries.values().filter(|entry| entry.recorded.is_empty()).count();
        if !entries.contains_key(&id) && strangers >= STRANGERS_MAX {
            return;
        }
        let entry = entries.entry(id).or_default();
        entry.said = urls.iter().take(SAID_MAX).cloned().collect();
    }

    /// Notes where a member was found.
    pub(super) fn found(&self, id: MemberId, url: &str) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(&id)
            && entry.found.as_deref() != Some(url)
        {
            entry.found = Some(url.to_owned());
        }
    }

    /// Where to look for a member, in this order; nothing when no URL is known. First where it was found the last time, if that is
    /// still one of the places.
    pub fn urls(&self, id: MemberId) -> Vec<String> {
        let entries = self.lock();
        let Some(entry) = entries.get(&id) else { return Vec::new() };
        let places = || entry.recorded.iter().chain(&entry.said);
        let mut urls: Vec<String> = Vec::new();
        for url in places().filter(|url| Some(*url) == entry.found.as_ref()).chain(places()) {
            if !urls.contains(url) {
                urls.push(url.clone());
            }
        }
        urls
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MemberId, Entry>> {
        // Nothing below panics half-way, so a poisoned lock still guards a whole map.
        lock(&self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: MemberId = MemberId(1);

    fn texts(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|url| (*url).to_owned()).collect()
    }

    #[test]
    fn what_is_recorded_comes_before_what_was_said_and_where_a_member_was_found_before_both() {
        let book = AddressBook::new([(ONE, texts(&["http://first"]))]);
        book.learn(ONE, &texts(&["http://said", "http://first"]));
        assert_eq!(book.urls(ONE), ["http://first", "http://said"]);
        book.record([(ONE, &texts(&["http://a", "http://b"])[..])].into_iter());
        assert_eq!(book.urls(ONE), ["http://a", "http://b", "http://said", "http://first"]);
        book.found(ONE, "http://said");
        assert_eq!(book.urls(ONE), ["http://said", "http://a", "http://b", "http://first"]);
        // Its last words count, and a URL that is named no more is dropped.
        book.learn(ONE, &texts(&["http://now"]));
        assert_eq!(book.urls(ONE), ["http://a", "http://b", "http://now"]);
        book.found(ONE, "http://now");
        book.record([(ONE, &texts(&["http://c"])[..])].into_iter());
        assert_eq!(book.urls(ONE), ["http://c", "http://now"], "the operator has the first word");
    }

    #[test]
    fn a_peer_that_names_many_urls_does_not_fill_the_book() {
        let book = AddressBook::default();
        let many: Vec<_> = (0..100).map(|n| format!("http://h{n}")).collect();
        book.learn(ONE, &many);
        assert_eq!(book.urls(ONE).len(), SAID_MAX);
        for id in 0..1000 {
            book.learn(MemberId(id), &many);
        }
        assert_eq!(book.lock().len(), STRANGERS_MAX);
        book.record((0..100).map(|id| (MemberId(id), &many[..1])));
        book.learn(MemberId(99), &texts(&["http://said"]));
        assert_eq!(book.urls(MemberId(99)), ["http://h0", "http://said"]);
    }
}
