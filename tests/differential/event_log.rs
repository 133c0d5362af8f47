//! What the writes so far mean for a watch.

use std::collections::{BTreeMap, BTreeSet};

use crate::program::Watch;
use crate::support::http::{Reply, Request};
use crate::support::json::Json;

#[derive(Clone, Debug)]
pub(crate) struct Logged {
    index: u64,
    key: String,
    silent: bool,
    /// What was below a removed directory.
    buried: BTreeSet<String>,
}

/// All writes so far, as etcd told them.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventLog {
    events: Vec<Logged>,
    /// What exists, directories with an empty value.
    pub(crate) nodes: BTreeMap<String, (String, u64)>,
    pub(crate) index: u64,
}

impl EventLog {
    pub(crate) fn learn(&mut self, request: &Request, reply: &Reply) {
        if let Some(index) = reply.index().filter(|&index| index > 0) {
            self.index = index;
        }
        if reply.status() / 100 != 2
            || !matches!(request.method.as_str(), "PUT" | "POST" | "DELETE")
        {
            return;
        }
        let Some(json) = Json::parse(&reply.text()) else { return };
        let action = json.get("action").and_then(Json::text).unwrap_or_default().to_owned();
        let Some(node) = json.get("node") else { return };
        let key = unescape(node.get("key").and_then(Json::text).unwrap_or_default());
        let index = node.get("modifiedIndex").and_then(Json::number).unwrap_or_default();
        if !matches!(action.as_str(), "delete" | "compareAndDelete") {
            // A create is told to watchers even when it says refresh.
            let silent = action != "create" && request.to_string().contains("refresh=true");
            return self.written(key, index, node, silent);
        }
        let below = |path: &String| *path == key || path.starts_with(&format!("{key}/"));
        let mut buried = BTreeSet::new();
        if node.get("dir").is_some() {
            buried = self.nodes.keys().filter(|path| below(path)).cloned().collect();
        }
        self.nodes.retain(|path, _| !below(path));
        self.events.push(Logged { index, key, silent: false, buried });
    }

    pub(crate) fn written(&mut self, key: String, index: u64, node: &Json, silent: bool) {
        let value = node.get("value").and_then(Json::text).map(unescape);
        self.nodes.insert(key.clone(), (value.unwrap_or_default(), index));
        for (at, _) in key.match_indices('/').skip(1) {
            self.nodes.entry(key[..at].to_owned()).or_default();
        }
        self.events.push(Logged { index, key, silent, buried: BTreeSet::new() });
    }

    /// The indexes of the events that must reach a watch, in order.
    pub(crate) fn due(&self, watch: &Watch) -> Vec<u64> {
        let from = self.events.iter().filter(|e| e.index >= watch.from && !e.silent);
        from.filter(|e| Self::reaches(e, watch)).map(|e| e.index).collect()
    }

    pub(crate) fn reaches(event: &Logged, watch: &Watch) -> bool {
        if event.key == watch.key || event.buried.contains(&watch.key) {
            return true;
        }
        let above = if watch.key == "/" { "" } else { watch.key.as_str() };
        let below = event.key.strip_prefix(above).and_then(|rest| rest.strip_prefix('/'));
        watch.recursive && below.is_some_and(|b| !b.split('/').any(|part| part.starts_with('_')))
    }
}

/// The text that a JSON string stands for.
pub(crate) fn unescape(text: &str) -> String {
    serde_json::from_str(&format!("\"{text}\"")).unwrap_or_default()
}
