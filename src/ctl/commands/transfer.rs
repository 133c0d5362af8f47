//! `export` and `import`: a part of the key space as one JSON document.
//!
//! Owns: the document. Never knows: which options other commands have.

use std::collections::BTreeSet;
use std::io::Read as _;

use serde::{Deserialize, Serialize};

use crate::ctl::client::Client;
use crate::ctl::commands::{Job, snapshot};
use crate::ctl::failure::{CtlError, Failure, code};
use crate::ctl::keys::{self, Reading, Writing};
use crate::ctl::print;
use crate::ctl::wire::{Node, clean};

/// The only form there is so far.
const VERSION: u32 = 1;
const NOT_A_FILE: u32 = 102;

/// What is exported.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    /// The form of this document.
    #[serde(rename = "cairnExport")]
    version: u32,
    /// The directory or key that was exported.
    root: String,
    /// Where the store was.
    index: u64,
    /// In the order in which they were created, directories before what is in them.
    nodes: Vec<Entry>,
}

/// A key or a directory.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    key: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dir: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Seconds that were left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<i64>,
}

fn entries(mut sorted: Vec<&Node>) -> Vec<Entry> {
    sorted.sort_by_key(|node| (node.created_index, node.key.matches('/').count()));
    let entry = |node: &Node| Entry {
        key: node.key.clone(),
        dir: node.dir,
        value: (!node.dir).then(|| node.value.clone()),
        ttl: (node.ttl != 0).then_some(node.ttl),
    };
    sorted.into_iter().map(entry).collect()
}

/// `export`
pub(super) async fn export(job: &Job<'_>) -> Result<(), Failure> {
    let root = job.arguments.first().map_or("/", String::as_str);
    let client = &mut Client::new(job.settings).await?;
    let (mut read, mut index) = (Vec::new(), 0);
    for key in [root].into_iter().chain(job.said.texts("hidden").iter().map(String::as_str)) {
        let request = keys::get(key, Reading { recursive: true, sorted: true, quorum: true });
        let event = client.within_total(async |client| keys::ask(client, &request).await).await;
        let event = event.map_err(|error| Failure::keys(code::SERVER, error))?;
        index = event.index.max(index);
        read.push(event.node);
    }
    let (mut all, mut seen) = (Vec::<&Node>::new(), BTreeSet::new());
    for node in &read {
        all.push(node);
        print::walk(node, &mut |below| all.push(below));
    }
    // The root of everything is always there; a hidden key may have been named twice.
    all.retain(|node| node.key != "/" && !node.key.is_empty() && seen.insert(node.key.as_str()));
    let document = Document { version: VERSION, root: clean(root), index, nodes: entries(all) };
    let text = serde_json::to_string_pretty(&document).expect("text and numbers are JSON");
    print::out(&format!("{text}\n"))
}

/// `import`
pub(super) async fn import(job: &Job<'_>) -> Result<(), Failure> {
    if let Some(file) = job.said.text("snap") {
        return snapshot::import(job, file).await;
    }
    let document = document(job)?;
    let client = &mut Client::new(job.settings).await?;
    let mut written = 0u64;
    for entry in &document.nodes {
        let writing = Writing { dir: entry.dir, ttl: entry.ttl.unwrap_or(0), ..Writing::default() };
        let request = keys::put(&entry.key, entry.value.as_deref().unwrap_or_default(), &writing);
        let done = client.within_total(async |client| keys::ask(client, &request).await).await;
        match done {
            Ok(_) => written += 1,
            // The directory is there already.
            Err(CtlError::Key(refusal)) if entry.dir && refusal.code == NOT_A_FILE => {}
            Err(error) => {
                print::note(&format!(
                    "imported {written} keys and directories, then {} was not",
                    entry.key
                ));
                return Err(Failure::keys(code::SERVER, error));
            }
        }
    }
    print::out(&format!("imported {written} keys and directories\n"))
}

fn document(job: &Job<'_>) -> Result<Document, Failure> {
    let name = job.arguments.first().map_or("-", String::as_str);
    let fail = |why: String| Failure::line(format!("import: {name}: {why}"));
    let mut text = String::new();
    let read = match name {
        "-" => std::io::stdin().read_to_string(&mut text).map(|_| text),
        name => std::fs::read_to_string(name),
    };
    let text = read.map_err(|error| fail(error.to_string()))?;
    let document: Document = serde_json::from_str(&text)
        .map_err(|error| fail(format!("it is no document of export: {error}")))?;
    match document.version {
        VERSION => Ok(document),
        other => Err(fail(format!("it has the form {other}, and this version reads {VERSION}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_created_first_stands_first() {
        let node = |key: &str, created_index, dir| Node {
            key: key.to_owned(),
            created_index,
            dir,
            ..Node::default()
        };
        let nodes = [
            node("/b/c/x", 5, false),
            node("/b", 5, true),
            node("/z", 3, false),
            node("/b/c", 5, true),
        ];
        let keys: Vec<_> =
            entries(nodes.iter().collect()).into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys, ["/z", "/b", "/b/c", "/b/c/x"]);
    }
}
