//! Who is reached where.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::base::lock;
use crate::model::MemberId;

/// The peer URLs of the members, as far as they are known.
///
/// What the cluster has recorded counts; for members that it has not recorded yet, what they said of themselves.
#[derive(Debug, Default)]
pub struct AddressBook {
    entries: Mutex<BTreeMap<MemberId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    urls: Vec<String>,
    recorded: bool,
}

impl AddressBook {
    /// Starts with what was known when the member last ran, or with the founders.
    pub fn new(known: impl IntoIterator<Item = (MemberId, Vec<String>)>) -> Self {
        let entry = |(id, urls)| (id, Entry { urls, recorded: false });
        Self { entries: Mutex::new(known.into_iter().map(entry).collect()) }
    }

    /// Notes what the cluster has recorded. Members that it has not recorded stay as they are.
    pub fn record<'a>(&self, members: impl Iterator<Item = (MemberId, &'a [String])>) {
        let mut entries = self.lock();
        for (id, urls) in members {
            entries.insert(id, Entry { urls: urls.to_vec(), recorded: true });
        }
    }

    /// Notes what a member says of itself.
    pub fn learn(&self, id: MemberId, urls: &[String]) {
        let mut entries = self.lock();
        if !entries.get(&id).is_some_and(|entry| entry.recorded) && !urls.is_empty() {
            entries.insert(id, Entry { urls: urls.to_vec(), recorded: false });
        }
    }

    /// Where a member is reached; nothing when nobody said so.
    pub fn urls(&self, id: MemberId) -> Vec<String> {
        self.lock().get(&id).map(|entry| entry.urls.clone()).unwrap_or_default()
    }

    /// Everybody.
    pub fn all(&self) -> Vec<(MemberId, Vec<String>)> {
        self.lock().iter().map(|(id, entry)| (*id, entry.urls.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MemberId, Entry>> {
        // Nothing below panics half-way, so a poisoned lock still guards a whole map.
        lock(&self.entries)
    }
}
