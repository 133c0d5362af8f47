//! Writes to version 3, so that nothing is overwritten or removed that a client of the target has written.
//!
//! Owns: which keys of the target are the copy's, and under which revision it wrote them. Never knows: why something is written.
//! Holds: every write of a key is made under the condition that it is still as the copy wrote it, or not there; what is a client's
//! is never written again.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::backup::flags::Said;
use crate::backup::who::{TlsFiles, endpoints, name_and_password, tls};
use crate::client::{Call, Client, Endpoint, Settings, Terms};
use crate::copy::leases;
use crate::copy::names::Names;
use crate::copy::picture::below;
use crate::mirror::shown::{Shown, Which};
use crate::mirror::side::{Round, Side, Trouble, until};
use crate::rpc::status::{
    AUTH_FAILED, DEADLINE_EXCEEDED, LEASE_NOT_FOUND, PERMISSION_DENIED, REQUEST_TOO_LARGE,
    TOO_MANY_OPS, USER_EMPTY,
};
use crate::rpc::{
    Code, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyValue, PutRequest,
    RangeRequest, RangeResponse, Request, RequestOp, Response, ResponseHeader, ResponseOp, Status,
    TargetUnion, TxnRequest, TxnResponse,
};

/// For a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// For an answer; then it is asked again, which every write here allows.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long nothing may come before the server is asked whether it is there, and how long it may take to say so.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Keys that are read at once.
const PAGE: i64 = 500;
/// Keys that are written at once: a transaction takes 128 unless its server is told otherwise.
pub(super) const BATCH_KEYS: usize = 100;
/// Their bytes: a request may have 1.5 MiB unless its server is told otherwise.
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// What a write has beside key and value, at most.
const FRAME_BYTES: usize = 200;
/// How often a write is made again whose lease has ended, or whose key has.
const TRIES: usize = 5;

/// A key of the target that is the copy's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// Where the copy wrote it.
    pub(super) revision: i64,
    /// What it is on; 0 for nothing.
    pub(super) lease: i64,
    /// When it ends in the source, in milliseconds of the source's clock.
    pub(super) ends_ms: Option<i64>,
}

/// What is to be done with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It gets this value.
    Put(String),
    /// It keeps its value, and gets another lifetime.
    Renew,
    /// It goes.
    Remove,
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// As version 2 calls it.
    pub(super) path: String,
    /// When it ends in the source.
    pub(super) ends_ms: Option<i64>,
    pub(super) what: What,
}

impl Change {
    /// What it takes of a request.
    pub(super) fn bytes(&self) -> usize {
        let value = match &self.what {
            What::Put(value) => value.len(),
            What::Renew | What::Remove => 0,
        };
        // The key stands in the condition, in the write, and in the look if that fails.
        FRAME_BYTES + 3 * self.path.len() + value
    }
}

/// An answer of the target.
pub(super) struct Asked<A> {
    pub(super) answer: Result<A, Status>,
    /// It was asked more than once, so what was asked may have been done before.
    pub(super) unsure: bool,
}

/// The target, and what in it is the copy's.
pub(super) struct Target {
    client: Client,
    cluster: OnceLock<u64>,
    pub(super) source: Arc<Side>,
    pub(super) names: Names,
    pub(super) own: BTreeMap<String, Own>,
    /// Keys that are clients'.
    pub(super) taken: BTreeSet<String>,
    /// Leases are kept up, so they may be a little longer: the end of a key is made as a change.
    pub(super) kept_up: bool,
    pub(super) shown: Arc<Shown>,
    stop: CancellationToken,
}

impl Target {
    /// The one that flags name.
    ///
    /// # Errors
    /// When they are wrong, or no password can be read.
    pub(super) fn new(
        said: &Said,
        source: Arc<Side>,
        names: Names,
        shown: Arc<Shown>,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        let both = said.text("to").is_empty();
        let urls = endpoints(said.text(if both { "from" } else { "to" }));
        let named = |to: &'static str, from: &'static str| match said.text(to) {
            "" if both => said.text(from),
            file => file,
        };
        let files = TlsFiles::of(|name| match name {
            "cert-file" => named("to-cert-file", "from-cert-file"),
            "key-file" => named("to-key-file", "from-key-file"),
            _ => named("to-ca-file", "from-ca-file"),
        });
        let user = said.text("to-username");
        let prompt = format!("Password of {user} for version 3: ");
        let settings = Settings {
            tls: tls(files, &urls)?,
            endpoints: urls
                .iter()
                .map(|url| Endpoint::parse(url, false).map_err(|error| error.to_string()))
                .collect::<Result<_, _>>()?,
            certified_name: None,
            user: name_and_password(user, &prompt)?,
            dial: CONNECT_MAX,
            keep_alive: KEEP_ALIVE,
        };
        Ok(Self {
            client: Client::new(settings),
            cluster: OnceLock::new(),
            source,
            names,
            own: BTreeMap::new(),
            taken: BTreeSet::new(),
            kept_up: said.is_on("follow"),
            shown,
            stop,
        })
    }

    /// Does it answer at all? Asked once, so that a wrong URL is told and not waited for.
    pub(super) async fn reach(&self) -> Result<(), Trouble> {
        let (first, end) = self.names.ranges().swap_remove(0);
        let look = RangeRequest { key: first, range_end: end, limit: 1, ..RangeRequest::default() };
        match self.client.ask(&look, Terms::within(ANSWER_MAX)).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.refused("", &self.told(status).await)),
        }
    }

    /// In place of a deadline alone, why it passed.
    async fn told(&self, status: Status) -> Status {
        match self.client.unreachable().await {
            Some(why) if status == DEADLINE_EXCEEDED => Status::with(Code::Unavailable, why),
            _ => status,
        }
    }

    /// Asks until there is an answer.
    pub(super) async fn ask<C: Call>(&self, request: &C) -> Result<Asked<C::Answer>, Trouble> {
        let times = Cell::new(0_u32);
        let answer = until(Which::Target, &self.shown, &self.stop, async || {
            times.set(times.get().saturating_add(1));
            match self.client.ask(request, Terms::within(ANSWER_MAX)).await {
                Err(status) if is_passing(&status) => {
                    Err(Round::Away(self.told(status).await.to_string()))
                }
                answer => Ok(answer),
            }
        });
        Ok(Asked { answer: answer.await?, unsure: times.get() > 1 })
    }

    /// A no that ends the run.
    pub(super) fn refused(&self, what: &str, status: &Status) -> Trouble {
        let fix = match status {
            status if [PERMISSION_DENIED, USER_EMPTY, AUTH_FAILED].contains(status) => {
                "; name a user of version 3 with the rights with --to-username"
            }
            status if *status == TOO_MANY_OPS => "; start its members with --max-txn-ops=128",
            status if *status == REQUEST_TOO_LARGE || status.code == Code::ResourceExhausted => {
                "; start its members with a larger --max-request-bytes, or copy another --prefix"
            }
            status if status.code == Code::Unimplemented => "; it does not serve version 3",
            _ => "",
        };
        let what = if what.is_empty() { String::new() } else { format!(" {what}") };
        Trouble::Fatal(format!("the target refuses{what}: {status}{fix}"))
    }

    /// Is it the cluster that it was?
    fn same_cluster(&self, header: Option<&ResponseHeader>) -> Result<(), Trouble> {
        let Some(header) = header else { return Ok(()) };
        let known = *self.cluster.get_or_init(|| header.cluster_id);
        if known == header.cluster_id {
            return Ok(());
        }
        Err(Trouble::Fatal(format!(
            "the target is of cluster {:x}, and not of {known:x} any more",
            header.cluster_id
        )))
    }

    /// Some of the keys between two, and whether there are more.
    pub(super) async fn page(&self, first: Bytes, end: Bytes) -> Result<RangeResponse, Trouble> {
        let page =
            RangeRequest { key: first, range_end: end, limit: PAGE, ..RangeRequest::default() };
        let answer = self.ask(&page).await?.answer;
        let answer = answer.map_err(|status| self.refused("a listing", &status))?;
        self.same_cluster(answer.header.as_ref())?;
        Ok(answer)
    }

    /// The copy's keys at or below a path.
    pub(super) fn own_within(&self, path: &str) -> Vec<String> {
        let itself = self.own.get_key_value(path).map(|(path, _)| path.clone());
        let below = self.own.range(below(path)).map(|(path, _)| path.clone());
        itself.into_iter().chain(below).collect()
    }

    /// A client has written it, and it is left to that one.
    pub(super) fn give_up(&mut self, path: &str) {
        self.own.remove(path);
        if self.taken.insert(path.to_owned()) {
            self.shown.taken(path);
        }
    }

    /// Makes changes, all of different keys, as one; they must fit. Returns which keys have gone whose lifetime was to change.
    pub(super) async fn write(&mut self, changes: Vec<Change>) -> Result<Vec<String>, Trouble> {
        let mut left = changes;
        left.retain(|Change { path, what, .. }| match what {
            What::Put(_) => !self.taken.contains(path),
            What::Renew | What::Remove => self.own.contains_key(path),
        });
        let mut gone = Vec::new();
        for _ in 0..TRIES {
            if left.is_empty() {
                break;
            }
            let granted = leases::grant(self, &left).await?;
            let operations = left.iter().zip(&granted).map(|(change, lease)| {
                let known = self.own.get(&change.path).map_or(0, |own| own.revision);
                guarded(self.names.key(&change.path), known, &change.what, *lease)
            });
            let request = TxnRequest { success: operations.collect(), ..TxnRequest::default() };
            let asked = self.ask(&request).await?;
            match asked.answer {
                Ok(answer) => {
                    self.same_cluster(answer.header.as_ref())?;
                    let count = u64::try_from(left.len()).expect("a length fits 64 bits");
                    self.shown.writes.add(count);
                    left = self.settle(left, &granted, answer, asked.unsure, &mut gone).await?;
                }
                // It has ended while the target did not answer.
                Err(status) if status == LEASE_NOT_FOUND => leases::revoke(self, granted).await?,
                Err(status) => {
                    let largest = left.iter().max_by_key(|change| change.bytes());
                    let what = largest.map(|change| format!("{} and others", change.path));
                    return Err(self.refused(&what.unwrap_or_default(), &status));
                }
            }
        }
        for change in left {
            self.give_up(&change.path);
        }
        Ok(gone)
    }

    /// Takes note of what became of changes; returns those that are to be made again.
    async fn settle(
        &mut self,
        changes: Vec<Change>,
        granted: &[i64],
        answer: TxnResponse,
        unsure: bool,
        gone: &mut Vec<String>,
    ) -> Result<Vec<Change>, Trouble> {
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        let (mut again, mut unused) = (Vec::new(), Vec::new());
        for ((change, lease), response) in
            changes.into_iter().zip(granted.iter().copied()).zip(answer.responses)
        {
            let Change { path, ends_ms, what } = &change;
            let written = |revision| Own { revision, lease, ends_ms: *ends_ms };
            let before = self.own.get(path).map_or(0, |own| own.lease);
            match (fate(response), what) {
                (Fate::Done, What::Remove) | (Fate::Gone, What::Remove) => {
                    self.own.remove(path);
                    unused.push(before);
                }
                (Fate::Done, What::Put(_) | What::Renew) => {
                    self.own.insert(path.clone(), written(revision));
                    unused.push(before);
                }
                (Fate::Gone, What::Renew) => {
                    self.own.remove(path);
                    unused.push(lease);
                    gone.push(path.clone());
                }
                (Fate::Gone, What::Put(_)) => {
                    self.own.remove(path);
                    unused.push(lease);
                    again.push(change);
                }
                (Fate::Other(kv), what) if unsure && is_ours(&kv, what, lease) => {
                    self.own.insert(path.clone(), written(kv.mod_revision));
                    unused.push(before);
                }
                (Fate::Other(_), _) => {
                    unused.push(lease);
                    self.give_up(path);
                }
            }
        }
        leases::revoke(self, unused).await?;
        Ok(again)
    }
}

/// Will it be otherwise if one only waits?
fn is_passing(status: &Status) -> bool {
    match status.code {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted
        | Code::Internal
        | Code::Unknown => true,
        // There is no space, or too much is asked: but for what is too large, that passes.
        Code::ResourceExhausted => status.text.starts_with("etcdserver: "),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// A write that is made if the key still has this revision, 0 for one that is not there; else a look at it.
fn guarded(key: Bytes, known: i64, what: &What, lease: i64) -> RequestOp {
    let put = |value: &str, ignore_value| {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let key = key.clone();
        Request::Put(PutRequest { key, value, lease, ignore_value, ..PutRequest::default() })
    };
    let write = match what {
        What::Put(value) => put(value, false),
        What::Renew => put("", true),
        What::Remove => Request::DeleteRange(DeleteRangeRequest {
            key: key.clone(),
            ..DeleteRangeRequest::default()
        }),
    };
    let look = Request::Range(RangeRequest { key: key.clone(), ..RangeRequest::default() });
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key,
        target_union: Some(TargetUnion::ModRevision(known)),
        ..Compare::default()
    };
    let one = |request| RequestOp { request: Some(request) };
    one(Request::Txn(TxnRequest {
        compare: vec![compare],
        success: vec![one(write)],
        failure: vec![one(look)],
    }))
}

/// What became of a write.
enum Fate {
    Done,
    /// The key is not there.
    Gone,
    /// It is not as the copy wrote it.
    Other(KeyValue),
}

fn fate(response: ResponseOp) -> Fate {
    let Some(Response::Txn(answer)) = response.response else { return Fate::Gone };
    if answer.succeeded {
        return Fate::Done;
    }
    let look = answer.responses.into_iter().next().and_then(|response| response.response);
    let Some(Response::Range(look)) = look else { return Fate::Gone };
    look.kvs.into_iter().next().map_or(Fate::Gone, Fate::Other)
}

/// Is it what was to be written? Then that was done the first time, and the answer was lost.
fn is_ours(kv: &KeyValue, what: &What, lease: i64) -> bool {
    kv.lease == lease
        && match what {
            What::Put(value) => kv.value == value.as_bytes(),
            // No client knows the lease, but any may know that there is none.
            What::Renew => lease != 0,
            What::Remove => false,
        }
}

/// Parts that each fit a request, in the same order.
pub(super) fn batches(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let (mut all, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for change in changes {
        let more = change.bytes();
        if batch.len() == BATCH_KEYS || (bytes + more > BATCH_BYTES && !batch.is_empty()) {
            all.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += more;
        batch.push(change);
    }
    if !batch.is_empty() {
        all.push(batch);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &str, bytes: usize) -> Change {
        Change { path: path.to_owned(), ends_ms: None, what: What::Put("x".repeat(bytes)) }
    }

    #[test]
    fn batches_keep_the_order_and_both_limits() {
        let sizes =
            |changes: Vec<Change>| batches(changes).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes((0..250).map(|n| put(&format!("/{n}"), 1)).collect()), [100, 100, 50]);
        let large = 600 << 10;
        assert_eq!(sizes(vec![put("/a", large), put("/b", large), put("/c", 1)]), [1, 2]);
        assert_eq!(sizes(vec![put("/a", 1), put("/b", 3 << 20), put("/c", 1)]), [1, 1, 1]);
        assert_eq!(sizes(Vec::new()), [0; 0]);
    }

    #[test]
    fn a_write_whose_answer_was_lost_is_known_by_its_lease() {
        let kv = |value: &'static str, lease| KeyValue {
            value: value.into(),
            lease,
            ..KeyValue::default()
        };
        let wanted = What::Put("1".to_owned());
        assert!(is_ours(&kv("1", 7), &wanted, 7) && is_ours(&kv("1", 0), &wanted, 0));
        assert!(!is_ours(&kv("2", 7), &wanted, 7) && !is_ours(&kv("1", 8), &wanted, 7));
        assert!(is_ours(&kv("2", 7), &What::Renew, 7) && !is_ours(&kv("1", 0), &What::Renew, 0));
    }

    #[test]
    fn what_is_too_large_does_not_pass_by_waiting() {
        use crate::rpc::status::{NO_SPACE, TIMEOUT};
        assert!(is_passing(&NO_SPACE) && is_passing(&TIMEOUT));
        assert!(!is_passing(&REQUEST_TOO_LARGE) && !is_passing(&PERMISSION_DENIED));
    }
}
