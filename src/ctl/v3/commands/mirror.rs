//! `make-mirror`: a copy of the keys in another cluster, kept up to date.
//!
//! Owns: what is written there, in the order in which it was written here. Never knows: how a watch keeps its place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::client::Client;
use crate::ctl::failure::Failure;
use crate::ctl::print;
use crate::ctl::v3::commands::watching::Watching;
use crate::ctl::v3::commands::{Job, keys, wrong};
use crate::ctl::v3::{code, error, refused};
use crate::rpc::status::COMPACTED;
use crate::rpc::{
    DeleteRangeRequest, Event, EventType, PutRequest, RangeRequest, Request, RequestOp, TxnRequest,
    WatchCreateRequest,
};

/// Keys that are read at once.
const PAGE: i64 = 1000;
/// What a transaction takes unless a server is told otherwise.
const OPERATIONS_MAX: usize = 128;
/// Between two lines that say how many keys have been written.
const REPORT: Duration = Duration::from_secs(30);

struct Mirror<'a> {
    job: &'a Job<'a>,
    source: Client,
    destination: Client,
    prefix: String,
    /// What stands there in place of the prefix.
    instead: String,
    written: AtomicU64,
}

pub(super) async fn run(job: &Job<'_>) -> Result<(), Failure> {
    let destination = job.argument("make-mirror takes one destination argument")?;
    let text = |name| job.said.text(name).unwrap_or_default().to_owned();
    let no_prefix = job.said.is_on("no-dest-prefix");
    if no_prefix && !text("dest-prefix").is_empty() {
        let why =
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one";
        return Err(wrong(why));
    }
    let destination = job.settings.client_of(destination, job.said)?;
    let (source, _) = job.client().await?;
    let prefix = text("prefix");
    let instead = match (no_prefix, text("dest-prefix")) {
        (true, _) => String::new(),
        (false, empty) if empty.is_empty() => prefix.clone(),
        (false, given) => given,
    };
    let mirror = Mirror { job, source, destination, prefix, instead, written: AtomicU64::new(0) };
    tokio::select! {
        done = mirror.keep() => done,
        failed = mirror.report() => failed,
    }
}

impl Mirror<'_> {
    async fn report(&self) -> Result<(), Failure> {
        loop {
            sleep(REPORT).await;
            print::out(&format!("{}\n", self.written.load(Ordering::Relaxed)))?;
        }
    }

    /// A key as it is called there.
    fn there(&self, key: &[u8]) -> Bytes {
        let rest = key.strip_prefix(self.prefix.as_bytes()).unwrap_or(key);
        [self.instead.as_bytes(), rest].concat().into()
    }

    fn put(&self, key: &[u8], value: Bytes) -> PutRequest {
        PutRequest { key: self.there(key), value, ..PutRequest::default() }
    }

    /// All that is there, then all that happens.
    async fn keep(&self) -> Result<(), Failure> {
        let range = keys::prefix(&self.prefix);
        let revision = self.copy(&range).await?;
        let mut watching = Watching::new(WatchCreateRequest {
            key: range.0,
            range_end: range.1,
            start_revision: revision + 1,
            progress_notify: true,
            ..WatchCreateRequest::default()
        });
        while let Some(seen) =
            watching.next(&self.source).await.map_err(|status| refused(&status))?
        {
            if seen.compact_revision != 0 {
                return Err(error(code::ERROR, COMPACTED.text));
            }
            if seen.canceled {
                return Err(error(code::ERROR, seen.cancel_reason));
            }
            self.apply(seen.events).await?;
        }
        Ok(())
    }

    /// Copies what is there, all as of one revision, which it returns.
    async fn copy(&self, (first, end): &(Bytes, Bytes)) -> Result<i64, Failure> {
        let (mut key, mut revision) = (first.clone(), 0);
        loop {
            let page = RangeRequest {
                key: key.clone(),
                range_end: end.clone(),
                limit: PAGE,
                revision,
                ..RangeRequest::default()
            };
            let answer = self.job.ask(&self.source, &page).await?;
            if revision == 0 {
                revision = answer.header.as_ref().map_or(0, |header| header.revision);
            }
            let last = answer.kvs.last().map(|kv| kv.key.clone());
            for kv in answer.kvs {
                self.job.ask(&self.destination, &self.put(&kv.key, kv.value)).await?;
                self.written.fetch_add(1, Ordering::Relaxed);
            }
            match last.filter(|_| answer.more) {
                Some(last) => key = [&last[..], &[0]].concat().into(),
                None => return Ok(revision),
            }
        }
    }

    /// Does what happened, each revision as one.
    async fn apply(&self, events: Vec<Event>) -> Result<(), Failure> {
        let (mut operations, mut revision) = (Vec::new(), 0);
        for event in events {
            let kv = event.kv.unwrap_or_default();
            if kv.mod_revision != revision || operations.len() == OPERATIONS_MAX {
                self.write(std::mem::take(&mut operations)).await?;
                revision = kv.mod_revision;
            }
            let request = match event.kind == EventType::Delete as i32 {
                true => Request::DeleteRange(DeleteRangeRequest {
                    key: self.there(&kv.key),
                    ..DeleteRangeRequest::default()
                }),
                false => Request::Put(self.put(&kv.key, kv.value)),
            };
            operations.push(RequestOp { request: Some(request) });
        }
        self.write(operations).await
    }

    async fn write(&self, success: Vec<RequestOp>) -> Result<(), Failure> {
        if success.is_empty() {
            return Ok(());
        }
        let count = u64::try_from(success.len()).expect("a length fits 64 bits");
        self.job.ask(&self.destination, &TxnRequest { success, ..TxnRequest::default() }).await?;
        self.written.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}
