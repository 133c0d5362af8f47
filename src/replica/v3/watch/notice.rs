//! What watchers are told of one revision, made and rendered once for all who see the same of it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::mvcc::{Change, KeyValue, Revision};

/// The changes of one revision, in their order.
#[derive(Debug)]
pub(super) struct Revised {
    pub(super) revision: Revision,
    pub(super) changes: Vec<Change>,
}

/// One change, as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key as it is now; of one that went only its name and the revision.
    pub kv: Arc<KeyValue>,
    /// What it was before, if the watcher wants to know, and it was something.
    pub previous: Option<Arc<KeyValue>>,
}

/// The events of one revision for watchers that see the same of it; or of several, for one that looks into the history.
#[derive(Debug)]
pub struct Notice {
    /// The last of them.
    pub revision: Revision,
    /// What happened, in order; never nothing.
    pub events: Vec<Event>,
    /// About what the events take in memory.
    pub(super) bytes: usize,
    protobuf: OnceLock<Bytes>,
    json: OnceLock<Bytes>,
}

/// What an event takes beside its keys and values.
const EVENT_BYTES: usize = 128;

impl Notice {
    pub(super) fn of(revised: &Revised, changes: &[usize], previous: bool) -> Self {
        let events = changes.iter().map(|number| {
            let change = &revised.changes[*number];
            let previous = change.prev.clone().filter(|_| previous);
            Event { kv: Arc::clone(&change.kv), previous }
        });
        let events: Vec<_> = events.collect();
        let bytes = events.iter().map(bytes_of).sum();
        let (protobuf, json) = (OnceLock::new(), OnceLock::new());
        Self { revision: revised.revision, events, bytes, protobuf, json }
    }

    /// What several say, in their order.
    pub(super) fn joined(notices: &[Arc<Self>]) -> Arc<Self> {
        let [.., last] = notices else { unreachable!("they are some") };
        if notices.len() == 1 {
            return Arc::clone(last);
        }
        let events = notices.iter().flat_map(|notice| notice.events.iter().cloned()).collect();
        let bytes = notices.iter().map(|notice| notice.bytes).sum();
        let (protobuf, json) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { revision: last.revision, events, bytes, protobuf, json })
    }

    /// The events in protobuf, made by `render` the first time. All callers must render alike.
    pub fn protobuf(&self, render: impl FnOnce(&[Event]) -> Bytes) -> Bytes {
        self.protobuf.get_or_init(|| render(&self.events)).clone()
    }

    /// The events in JSON, likewise.
    pub fn json(&self, render: impl FnOnce(&[Event]) -> Bytes) -> Bytes {
        self.json.get_or_init(|| render(&self.events)).clone()
    }
}

fn bytes_of(event: &Event) -> usize {
    let of = |kv: &KeyValue| kv.key.len() + kv.value.len();
    EVENT_BYTES + of(&event.kv) + event.previous.as_deref().map_or(0, of)
}
