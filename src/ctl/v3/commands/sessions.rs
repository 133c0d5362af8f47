//! `lock` and `elect`: the recipes of etcd's client, with keys, a lease and watches.
//!
//! Owns: who is first, and that a key goes when this tool does. Never knows: how a lease is renewed.

use std::process::Stdio;

use bytes::Bytes;
use tokio::time::sleep;

use crate::client::{Client, KeepAlive};
use crate::ctl::failure::Failure;
use crate::ctl::v3::commands::leases::pause;
use crate::ctl::v3::commands::watching::Watching;
use crate::ctl::v3::commands::{Job, Signals, execute, keys, wrong};
use crate::ctl::v3::format::Printer;
use crate::ctl::v3::{code, error, refused};
use crate::rpc::status::{CANCELED, LEASE_NOT_FOUND};
use crate::rpc::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, EventType, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse, Request, RequestOp, Response,
    SortOrder, SortTarget, Status, TargetUnion, TxnRequest,
};

/// Of an election's lease, in seconds.
const ELECTION_TTL: i64 = 60;

/// A lease, and the key that goes with it.
struct Session<'a> {
    job: &'a Job<'a>,
    client: &'a Client,
    lease: i64,
    ttl: i64,
    /// What all keys of those who want the same begin with.
    prefix: Bytes,
    key: Bytes,
    revision: i64,
}

fn one(key: Bytes) -> RangeRequest {
    RangeRequest { key, ..RangeRequest::default() }
}

impl<'a> Session<'a> {
    async fn begin(
        job: &'a Job<'a>,
        client: &'a Client,
        name: &str,
        ttl: i64,
    ) -> Result<Self, Failure> {
        let granted = job.ask(client, &LeaseGrantRequest { ttl, id: 0 }).await?;
        let lease = granted.id;
        let prefix = Bytes::from(format!("{name}/"));
        let key = Bytes::from(format!("{name}/{lease:x}"));
        Ok(Self { job, client, lease, ttl: granted.ttl, prefix, key, revision: 0 })
    }

    /// Renews the lease until it is gone.
    async fn renewed(&self) {
        let mut stream = None;
        loop {
            let renewed = async {
                if stream.is_none() {
                    stream = Some(KeepAlive::open(self.client, self.lease).await?);
                }
                stream.as_mut().expect("it was opened").renew().await
            };
            match renewed.await {
                Ok(_) => {}
                Err(status) if status == LEASE_NOT_FOUND => return,
                Err(_) => stream = None,
            }
            sleep(pause(self.ttl)).await;
        }
    }

    fn range(&self) -> (Bytes, Bytes) {
        (self.prefix.clone(), keys::behind_prefix(&self.prefix))
    }

    /// Puts the key, unless it is there.
    async fn enter(&mut self, value: &str) -> Result<(), Status> {
        let missing = Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Create as i32,
            key: self.key.clone(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            range_end: Bytes::new(),
        };
        let put = PutRequest {
            key: self.key.clone(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease: self.lease,
            ..PutRequest::default()
        };
        let op = |request| RequestOp { request: Some(request) };
        let txn = TxnRequest {
            compare: vec![missing],
            success: vec![op(Request::Put(put))],
            failure: vec![op(Request::Range(one(self.key.clone())))],
        };
        let answer = self.client.ask(&txn, self.job.terms()).await?;
        let found = answer.responses.first().and_then(|response| match &response.response {
            Some(Response::Range(found)) => found.kvs.first().map(|kv| kv.create_revision),
            Some(Response::Put(_) | Response::DeleteRange(_) | Response::Txn(_)) | None => None,
        });
        let now = answer.header.as_ref().map_or(0, |header| header.revision);
        self.revision = found.unwrap_or(now);
        Ok(())
    }

    /// Waits until all who came before are gone.
    async fn first(&self) -> Result<(), Status> {
        let (key, range_end) = self.range();
        loop {
            let before = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                limit: 1,
                sort_order: SortOrder::Descend as i32,
                sort_target: SortTarget::Create as i32,
                max_create_revision: self.revision - 1,
                ..RangeRequest::default()
            };
            let answer = self.client.ask(&before, self.job.terms()).await?;
            let Some(last) = answer.kvs.first() else { return Ok(()) };
            let from = answer.header.as_ref().map_or(0, |header| header.revision) + 1;
            let mut watching = Watching::of((last.key.clone(), Bytes::new()), from);
            while let Some(seen) = watching.next(self.client).await? {
                if seen.events.iter().any(|event| event.kind == EventType::Delete as i32) {
                    break;
                }
            }
        }
    }

    /// The key as it is.
    async fn own(&self) -> Result<RangeResponse, Failure> {
        self.job.ask(self.client, &one(self.key.clone())).await
    }

    /// Takes the key away, and the lease with it.
    async fn end(&self) -> Result<(), Failure> {
        let delete = DeleteRangeRequest { key: self.key.clone(), ..Default::default() };
        let deleted = self.job.ask(self.client, &delete).await.map(drop);
        // What is on it is gone; without it the lease would only live out its time.
        let revoke = LeaseRevokeRequest { id: self.lease };
        let _ = self.client.ask(&revoke, self.job.terms()).await;
        deleted
    }
}

/// What came first.
enum Won<T> {
    Done(T),
    Signalled,
    Expired,
}

impl Session<'_> {
    /// Does it while the lease is renewed, unless a signal comes.
    async fn while_alive<T>(&self, signals: &mut Signals, work: impl Future<Output = T>) -> Won<T> {
        tokio::select! {
            done = work => Won::Done(done),
            _ = signals.next() => Won::Signalled,
            () = self.renewed() => Won::Expired,
        }
    }

    /// Becomes the first of those who want it.
    async fn win(&mut self, signals: &mut Signals, value: &str) -> Result<(), Failure> {
        self.enter(value).await.map_err(|status| refused(&status))?;
        let won = self.while_alive(signals, self.first()).await;
        let failure = match won {
            Won::Done(Ok(())) => return Ok(()),
            Won::Done(Err(status)) => refused(&status),
            Won::Signalled => error(code::ERROR, CANCELED.text),
            Won::Expired => error(code::ERROR, "session expired"),
        };
        let _ = self.end().await;
        Err(failure)
    }
}

pub(super) async fn lock(job: &Job<'_>) -> Result<(), Failure> {
    let [name, program @ ..] = job.arguments else {
        return Err(wrong("lock takes a lock name argument and an optional command to execute"));
    };
    let (client, printer) = job.client().await?;
    let mut signals = Signals::new();
    let ttl = job.said.text("ttl").map_or(10, |_| job.said.number("ttl"));
    let mut session = Session::begin(job, &client, name, ttl).await?;
    session.win(&mut signals, "").await?;
    if !program.is_empty() {
        let variables = [
            ("ETCD_LOCK_KEY", String::from_utf8_lossy(&session.key).into_owned()),
            ("ETCD_LOCK_REV", session.revision.to_string()),
        ];
        // A signal is the program's too: it ends, and then the lock is free.
        let ran = tokio::select! {
            ran = execute(program, &variables, Stdio::inherit()) => ran,
            () = session.renewed() => Err("session expired".to_owned()),
        };
        session.end().await?;
        return ran.map_err(|why| error(code::ERROR, why));
    }
    hold(&session, &printer, &mut signals, "lock lost on init", "session expired").await
}

/// Shows the key and holds it until a signal comes.
async fn hold(
    session: &Session<'_>,
    printer: &Printer,
    signals: &mut Signals,
    lost: &str,
    expired: &str,
) -> Result<(), Failure> {
    let shown = match session.own().await {
        Ok(own) if own.kvs.is_empty() => Err(error(code::ERROR, lost)),
        Ok(own) => printer.range(&own),
        Err(failure) => Err(failure),
    };
    if let Err(failure) = shown {
        let _ = session.end().await;
        return Err(failure);
    }
    match session.while_alive(signals, std::future::pending::<()>()).await {
        Won::Done(()) | Won::Signalled => session.end().await,
        Won::Expired => Err(error(code::ERROR, expired)),
    }
}

pub(super) async fn elect(job: &Job<'_>) -> Result<(), Failure> {
    let listen = job.said.is_on("listen");
    let (name, proposal) = match job.arguments {
        [name] => (name, None),
        [name, proposal] => (name, Some(proposal)),
        _ => {
            return Err(wrong(
                "elect takes one election name argument and an optional proposal argument",
            ));
        }
    };
    match proposal {
        None if !listen => return Err(wrong("no proposal argument but -l not set")),
        Some(_) if listen => return Err(wrong("proposal given but -l is set")),
        Some(_) | None => {}
    }
    let (client, printer) = job.client().await?;
    let mut signals = Signals::new();
    let Some(proposal) = proposal else {
        return tokio::select! {
            seen = observe(job, &client, &printer, name) => seen,
            _ = signals.next() => Ok(()),
        };
    };
    let mut session = Session::begin(job, &client, name, ELECTION_TTL).await?;
    session.win(&mut signals, proposal).await?;
    hold(&session, &printer, &mut signals, "no leader elected", "elect: session expired").await
}

/// Shows who leads, each time that changes.
async fn observe(
    job: &Job<'_>,
    client: &Client,
    printer: &Printer,
    name: &str,
) -> Result<(), Failure> {
    let prefix = Bytes::from(format!("{name}/"));
    let range = (prefix.clone(), keys::behind_prefix(&prefix));
    loop {
        let oldest = RangeRequest {
            key: range.0.clone(),
            range_end: range.1.clone(),
            limit: 1,
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            ..RangeRequest::default()
        };
        let answer = job.ask(client, &oldest).await?;
        let from = answer.header.as_ref().map_or(0, |header| header.revision) + 1;
        let Some(leader) = answer.kvs.first().cloned() else {
            // Until someone comes.
            let mut watching = Watching::of(range.clone(), from);
            let come = |event: &crate::rpc::Event| event.kind == EventType::Put as i32;
            while let Some(seen) = watching.next(client).await.map_err(|status| refused(&status))? {
                if seen.events.iter().any(come) {
                    break;
                }
            }
            continue;
        };
        let key = leader.key.clone();
        let shown = |kv, header| RangeResponse { header, kvs: vec![kv], ..Default::default() };
        printer.range(&shown(leader, answer.header))?;
        let mut watching = Watching::of((key, Bytes::new()), from);
        let mut leads = true;
        while leads
            && let Some(seen) = watching.next(client).await.map_err(|status| refused(&status))?
        {
            for event in seen.events {
                match event.kind == EventType::Delete as i32 {
                    true => leads = false,
                    false => {
                        printer.range(&shown(event.kv.unwrap_or_default(), seen.header.clone()))?;
                    }
                }
            }
        }
    }
}
