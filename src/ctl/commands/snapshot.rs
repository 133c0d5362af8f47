//! `import --snap`: the keys of a snapshot of etcd 0.4.
//!
//! Owns: how that was written. Never knows: the document of `export`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use chrono::DateTime;
use futures_util::future::try_join_all;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use crate::ctl::client::Client;
use crate::ctl::commands::Job;
use crate::ctl::failure::{CtlError, Failure, code};
use crate::ctl::keys::{self, Writing};
use crate::ctl::print;

/// Keys that would go sooner get so many seconds, time enough for those who keep them alive to find the new cluster.
const TTL_MIN: i64 = 300;
/// Members take no more from one client.
const CLIENTS_MAX: i64 = 100;
const CLIENTS: i64 = 10;

#[derive(Deserialize)]
struct Snapshot {
    #[serde(rename = "Root")]
    root: Node,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "Path")]
    path: String,
    #[serde(default, rename = "CreatedIndex")]
    created_index: u64,
    /// The year 1 for never.
    #[serde(default, rename = "ExpireTime")]
    expires: String,
    #[serde(default, rename = "Value")]
    value: String,
    /// `null` for a file.
    #[serde(default, rename = "Children")]
    children: Option<BTreeMap<String, Node>>,
}

impl Node {
    /// Hidden from those who do not name it.
    fn is_hidden(&self) -> bool {
        self.path.rsplit('/').next().is_some_and(|name| name.starts_with('_'))
    }

    fn ttl(&self, now: i64) -> i64 {
        let seconds = DateTime::parse_from_rfc3339(&self.expires).map(|date| date.timestamp());
        match seconds {
            Ok(seconds) if seconds > 0 => seconds.saturating_sub(now).max(TTL_MIN),
            Ok(_) | Err(_) => 0,
        }
    }

    fn below<'a>(&'a self, files: &mut Vec<&'a Self>) {
        match &self.children {
            None => files.push(self),
            Some(children) => {
                let shown = children.values().filter(|child| !child.is_hidden());
                shown.for_each(|child| child.below(files));
            }
        }
    }

    fn find(&self, path: &str) -> Option<&Self> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        names.try_fold(self, |node, name| node.children.as_ref()?.get(name))
    }
}

pub(super) async fn import(job: &Job<'_>, file: &str) -> Result<(), Failure> {
    let text = std::fs::read(file)
        .map_err(|error| Failure::line(format!("cannot read snapshot file {file}: {error}")))?;
    let snapshot: Snapshot = serde_json::from_slice(&text)
        .map_err(|error| Failure::line(format!("{file} is no snapshot of etcd 0.4: {error}")))?;
    let clients = if job.said.text("c").is_some() { job.said.number("c") } else { CLIENTS };
    let clients = clients.clamp(1, CLIENTS_MAX);
    print::out(&format!("starting to import snapshot {file} with {clients} clients\n"))?;
    let mut files = Vec::new();
    snapshot.root.below(&mut files);
    for hidden in job.said.texts("hidden") {
        let node = snapshot.root.find(hidden);
        let node = node.ok_or_else(|| Failure::line(format!("{hidden} is not in {file}")))?;
        node.below(&mut files);
    }
    files.sort_by_key(|node| node.created_index);
    let (count, now) = (files.len(), clock_gettime(ClockId::Realtime).tv_sec);
    let client = Client::new(job.settings).await?;
    let files = RefCell::new(files.into_iter());
    let work = (0..clients).map(|_| write(client.clone(), &files, now));
    try_join_all(work).await.map_err(|error| Failure::keys(code::SERVER, error))?;
    print::out(&format!("finished importing {count} keys\n"))
}

/// Writes what the others have not taken.
async fn write(
    mut client: Client,
    files: &RefCell<std::vec::IntoIter<&Node>>,
    now: i64,
) -> Result<(), CtlError> {
    loop {
        let next = files.borrow_mut().next();
        let Some(node) = next else { return Ok(()) };
        let writing = Writing { ttl: node.ttl(now), ..Writing::default() };
        let request = keys::put(&node.path, &node.value, &writing);
        client.within_total(async |client| keys::ask(client, &request).await).await?;
    }
}
