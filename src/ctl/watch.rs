//! Events of a key, one after the other, none left out.
//!
//! Owns: where a watch stands, and how it goes on when the connection breaks or the members have forgotten what came meanwhile.
//! Never knows: what is done with events.

use std::collections::VecDeque;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::ctl::client::{self, Client};
use crate::ctl::failure::CtlError;
use crate::ctl::keys::{self, Reading};
use crate::ctl::print::{note, walk};
use crate::ctl::wire::{Event, Node};

/// The history no longer reaches back to where the watch stands.
const HISTORY_CLEARED: u32 = 401;
/// Of Raft and elections: it passes.
const PASSING: [u32; 2] = [300, 301];
const KEY_NOT_FOUND: u32 = 100;

/// Between two tries to reach a member again; twice as long each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A watch.
pub(super) struct Watch {
    key: String,
    recursive: bool,
    /// The first index that matters; 0 for whatever comes next.
    next: u64,
    /// It goes on, whatever happens to the connection.
    steady: bool,
    /// Some member has answered it.
    begun: bool,
    cluster: Option<String>,
    /// Read again, not yet handed out.
    caught_up: VecDeque<Event>,
}

impl Watch {
    /// Of a key, behind `after` if that is not 0. A steady one ends only when a server refuses it for good.
    pub(super) fn new(key: &str, recursive: bool, after: u64, steady: bool) -> Self {
        let next = if after == 0 { 0 } else { after.saturating_add(1) };
        let (cluster, caught_up) = (None, VecDeque::new());
        Self { key: key.to_owned(), recursive, next, steady, begun: false, cluster, caught_up }
    }

    /// The next event.
    ///
    /// # Errors
    /// When a server refuses, or belongs to another cluster than before; of a watch that is not steady also when no server answers.
    pub(super) async fn next(&mut self, client: &mut Client) -> Result<Event, CtlError> {
        let (mut pause, mut lost) = (RETRY_FIRST, false);
        loop {
            if let Some(event) = self.caught_up.pop_front() {
                return Ok(event);
            }
            let failed = match self.once(client, &mut lost).await {
                Ok(Some(event)) => return Ok(event),
                // The server has ended it without an event.
                Ok(None) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                    continue;
                }
                Err(CtlError::Key(refusal)) if refusal.code == HISTORY_CLEARED && self.steady => {
                    note(&format!(
                        "watch: events from index {} on are no longer known ({refusal}); reading {} again, removals in between are not shown",
                        self.next, self.key
                    ));
                    match self.catch_up(client).await {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if !self.steady || !self.begun || !is_passing(&failed) {
                return Err(failed);
            }
            if !lost {
                note(&format!(
                    "watch: lost the members, trying again: {}",
                    failed.to_string().trim_end()
                ));
                lost = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Waits on one connection. `lost` is whether there was none before.
    async fn once(
        &mut self,
        client: &mut Client,
        lost: &mut bool,
    ) -> Result<Option<Event>, CtlError> {
        let answer = client.ask(&keys::wait(&self.key, self.recursive, self.next)).await?;
        self.check_cluster(&answer.headers)?;
        let Some(coming) = answer.coming else {
            return keys::read(answer.status, &answer.headers, &answer.body).map(Some);
        };
        self.begun = true;
        if std::mem::take(lost) {
            note("watch: connected again");
        }
        let index = keys::index(&answer.headers);
        if let (0, Some(index)) = (self.next, index) {
            // It waits from here on; should the connection break, this is where to go on.
            self.next = index + 1;
        }
        let body = coming.body().await.map_err(|error| CtlError::One(client::attempt(&error).0))?;
        if body.iter().all(u8::is_ascii_whitespace) {
            // Everything up to the index in its head has been looked through.
            self.next = self.next.max(index.map_or(0, |index| index + 1));
            return Ok(None);
        }
        let event = keys::read(StatusCode::OK, &answer.headers, &body)?;
        self.next = event.node.modified_index + 1;
        Ok(Some(event))
    }

    /// A member that was founded anew counts from the start again: a watch would wait for an index that has long been.
    fn check_cluster(&mut self, headers: &HeaderMap) -> Result<(), CtlError> {
        let id =
            headers.get("x-etcd-cluster-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        match (&self.cluster, &id) {
            (Some(before), Some(now)) if before != now => Err(CtlError::Plain(format!(
                "watch: the members that answer now are of cluster {now}, those before were of {before}"
            ))),
            _ => {
                self.cluster = id.or(self.cluster.take());
                Ok(())
            }
        }
    }

    /// Reads the key and makes events of what was changed since.
    async fn catch_up(&mut self, client: &mut Client) -> Result<(), CtlError> {
        let reading = Reading { recursive: self.recursive, quorum: true, sorted: false };
        let request = keys::get(&self.key, reading);
        let read = client.within_total(async |client| keys::ask(client, &request).await).await;
        let (node, index) = match read {
            Ok(event) => (event.node, event.index),
            Err(CtlError::Key(refusal)) if refusal.code == KEY_NOT_FOUND => {
                note(&format!("watch: {} is not there at index {}", self.key, refusal.index));
                (Node::default(), refusal.index)
            }
            Err(error) => return Err(error),
        };
        self.begun = true;
        self.caught_up = changed_since(&node, self.next, index);
        self.next = self.next.max(index + 1);
        Ok(())
    }
}

/// Keys that were changed at `from` or later, in the order of their changes.
fn changed_since(node: &Node, from: u64, index: u64) -> VecDeque<Event> {
    let mut changed = Vec::new();
    let mut look = |node: &Node| {
        if !node.dir && !node.key.is_empty() && node.modified_index >= from {
            changed.push(Node { nodes: None, ..node.clone() });
        }
    };
    look(node);
    walk(node, &mut look);
    changed.sort_by(|a, b| (a.modified_index, &a.key).cmp(&(b.modified_index, &b.key)));
    let event = |node| Event { action: "get".to_owned(), node, previous: None, index };
    changed.into_iter().map(event).collect()
}

fn is_passing(error: &CtlError) -> bool {
    match error {
        CtlError::Key(refusal) => PASSING.contains(&refusal.code),
        CtlError::Cluster(_) | CtlError::One(_) | CtlError::Deadline => true,
        CtlError::Plain(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(key: &str, modified_index: u64, nodes: Option<Vec<Node>>) -> Node {
        Node { key: key.to_owned(), dir: nodes.is_some(), modified_index, nodes, ..Node::default() }
    }

    #[test]
    fn what_was_read_again_comes_in_the_order_of_its_changes() {
        let inner = node("/d/e", 3, Some(vec![node("/d/e/x", 9, None), node("/d/e/y", 4, None)]));
        let root = node("/d", 2, Some(vec![node("/d/a", 12, None), inner, node("/d/b", 7, None)]));
        let keys = |from| {
            let events = changed_since(&root, from, 20);
            events.iter().map(|event| event.node.key.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(7), "/d/b /d/e/x /d/a");
        assert_eq!(keys(1), "/d/e/y /d/b /d/e/x /d/a");
        assert_eq!(keys(13), "");
    }
}
