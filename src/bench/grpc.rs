//! Loads on version 3: what a connection asks over gRPC, and how it waits for events.
//!
//! Owns: the requests of these loads and what their answers are counted as. Never knows: when a request is due, how results are
//! shown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::base::lock;
use crate::bench::answer;
use crate::bench::asks::Choice;
use crate::bench::crew::Hand;
use crate::bench::failure::{Failure, Kind};
use crate::bench::plan::{Load, Plan};
use crate::bench::request::{KEY_DIGITS, STAMP_DIGITS, write_digits};
use crate::bench::watching::{DIRECTORY, Fanout};
use crate::client::{Client, Endpoint, KeepAlive, Settings, Terms};
use crate::rpc::status::DEADLINE_EXCEEDED;
use crate::rpc::{
    Code, Compare, CompareResult, CompareTarget, DeleteRangeRequest, EventType, LeaseGrantRequest,
    PutRequest, RangeRequest, Request, RequestOp, Status, StatusRequest, TargetUnion, TxnRequest,
    WatchCreateRequest, WatchRequest, WatchRequestUnion,
};
use crate::tls::Tls;

/// So many watchers share a stream, as those of one program do.
const WATCHERS_PER_STREAM: usize = 100;
/// Before a watch that broke off is asked for again.
const PAUSE: Duration = Duration::from_millis(100);
/// A server that is there answers within this time, before the run.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// How many streams the watchers of a plan take.
pub(super) fn streams(plan: &Plan) -> usize {
    plan.connections.div_ceil(WATCHERS_PER_STREAM)
}

/// What all connections have in common.
#[derive(Clone)]
pub(super) struct Caller {
    settings: Settings,
    timeout: Duration,
    prefix: String,
    value: Bytes,
    ttl_s: i64,
    load: Load,
    watchers: usize,
}

impl Caller {
    /// Asks each server whether it is there.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) async fn of(plan: &Plan, tls: Option<Arc<Tls>>) -> Result<Self, String> {
        let endpoints = plan.endpoints.iter().map(|url| Endpoint::parse(&url.to_string(), false));
        let endpoints = endpoints.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let user = plan.user.as_deref().and_then(|user| user.split_once(':'));
        let settings = Settings {
            endpoints,
            tls,
            certified_name: None,
            user: user.map(|(name, password)| (name.to_owned(), password.to_owned())),
            dial: plan.timeout,
            keep_alive: (Duration::ZERO, plan.timeout),
        };
        let caller = Self {
            settings,
            timeout: plan.timeout,
            prefix: plan.prefix.clone(),
            value: vec![b'x'; plan.value_bytes].into(),
            ttl_s: i64::try_from(plan.ttl_s).unwrap_or(i64::MAX),
            load: plan.load,
            watchers: plan.connections,
        };
        for number in 0..caller.settings.endpoints.len() {
            let client = caller.client(number);
            let terms = Terms::within(ANSWERS_WITHIN.min(plan.timeout));
            if let Err(status) = client.ask(&StatusRequest {}, terms).await {
                return Err(client.unreachable().await.unwrap_or_else(|| {
                    format!("{} does not answer: {status}", client.endpoints()[0].written)
                }));
            }
        }
        Ok(caller)
    }

    /// The client of the connection with this number; they take turns with the servers.
    pub(super) fn client(&self, number: usize) -> Client {
        let endpoints = &self.settings.endpoints;
        let endpoint = endpoints[number % endpoints.len()].clone();
        Client::new(Settings { endpoints: vec![endpoint], ..self.settings.clone() })
    }

    fn key(&self, directory: &str, number: u64) -> Bytes {
        let mut key = format!("{}/{directory}/", self.prefix).into_bytes();
        let digits = key.len();
        key.resize(digits + KEY_DIGITS, b'0');
        write_digits(&mut key[digits..], number);
        key.into()
    }

    fn put(&self, key: Bytes) -> PutRequest {
        PutRequest { key, value: self.value.clone(), ..PutRequest::default() }
    }

    /// Asks until the run is over.
    pub(super) async fn ask(self, hand: Hand, load: Load, mut choice: Choice) {
        let client = self.client(hand.number);
        let mut lease = None;
        while let Some(turn) = hand.turn().await {
            if turn.counts {
                lock(&hand.tally).sent += 1;
            }
            let answer = if load == Load::KeepAliveV3 {
                let renewed = self.keep_alive(&client, &mut lease);
                let renewed = tokio::time::timeout(self.timeout, renewed).await;
                renewed.unwrap_or(Err(DEADLINE_EXCEEDED))
            } else {
                self.ask_once(&client, load, self.key("keys", choice.number())).await
            };
            let now = Instant::now();
            if !turn.counts {
                continue;
            }
            let mut tally = lock(&hand.tally);
            match counted(answer) {
                Ok(status) => tally.answer(status, load.expects(status), turn.due, now),
                Err(failure) => tally.fail(failure, now),
            }
        }
    }

    async fn ask_once(&self, client: &Client, load: Load, key: Bytes) -> Result<(), Status> {
        let terms = Terms::within(self.timeout);
        let range =
            |key, serializable| RangeRequest { key, serializable, ..RangeRequest::default() };
        if matches!(load, Load::RangeV3 | Load::SerializableV3) {
            let serializable = load == Load::SerializableV3;
            return client.ask(&range(key, serializable), terms).await.map(drop);
        }
        if load != Load::TxnV3 {
            return client.ask(&self.put(key), terms).await.map(drop);
        }
        let is_there = Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Create.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            range_end: Bytes::new(),
        };
        let op = |request| RequestOp { request: Some(request) };
        let put = Request::Put(self.put(key.clone()));
        let success = vec![op(put), op(Request::Range(range(key, false)))];
        let txn = TxnRequest { compare: vec![is_there], success, failure: Vec::new() };
        client.ask(&txn, terms).await.map(drop)
    }

    async fn keep_alive(
        &self,
        client: &Client,
        lease: &mut Option<KeepAlive>,
    ) -> Result<(), Status> {
        let mut alive = match lease.take() {
            Some(alive) => alive,
            None => {
                let grant = LeaseGrantRequest { ttl: self.ttl_s, id: 0 };
                let granted = client.ask(&grant, Terms::within(self.timeout)).await?;
                KeepAlive::open(client, granted.id).await?
            }
        };
        alive.renew().await?;
        *lease = Some(alive);
        Ok(())
    }

    /// Puts a value that begins with the moment at which it was to be sent; says how that is counted.
    pub(super) async fn put_stamped(
        &self,
        client: &Client,
        number: u64,
        nanoseconds: u64,
    ) -> Result<u16, Failure> {
        let mut value = vec![b'x'; self.value.len().max(STAMP_DIGITS)];
        write_digits(&mut value[..STAMP_DIGITS], nanoseconds);
        let put = PutRequest { value: value.into(), ..self.put(self.key(DIRECTORY, number)) };
        counted(client.ask(&put, Terms::within(self.timeout)).await.map(drop))
    }

    /// Watchers on a stream; never ends.
    pub(super) async fn watch(self, hand: Hand, fanout: Arc<Fanout>) {
        let client = self.client(hand.number);
        let from = hand.number * WATCHERS_PER_STREAM;
        let mut progress = Progress {
            next: vec![0; WATCHERS_PER_STREAM.min(self.watchers.saturating_sub(from))],
            first: true,
        };
        loop {
            let failure = self.watch_once(&hand, &client, &fanout, &mut progress).await;
            {
                let mut tally = lock(&hand.tally);
                tally.sent += 1;
                tally.fail(failure, Instant::now());
            }
            progress.first = false;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn watch_once(
        &self,
        hand: &Hand,
        client: &Client,
        fanout: &Fanout,
        progress: &mut Progress,
    ) -> Failure {
        let broken = |why: &str| Failure::new(Kind::Broken, why);
        let is_one = self.load == Load::WatchOneV3;
        let from = hand.number * WATCHERS_PER_STREAM;
        let create = |(place, start_revision): (usize, &i64)| {
            let number = if is_one { 0 } else { (from + place) as u64 };
            let create = WatchCreateRequest {
                key: self.key(DIRECTORY, number),
                start_revision: *start_revision,
                ..WatchCreateRequest::default()
            };
            WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) }
        };
        let asked: Vec<_> = progress.next.iter().enumerate().map(create).collect();
        // The stream stays open behind the questions.
        let questions = || stream::iter(asked.clone()).chain(stream::pending());
        let opened = client.stream(questions, Terms::default()).await;
        let mut answers = match opened {
            Ok(answers) => answers,
            Err(status) => return failure(&status),
        };
        loop {
            let answer = match answers.next().await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Failure::closed(),
                Err(status) => return failure(&status),
            };
            if answer.canceled {
                return broken("a watch was cancelled");
            }
            // Numbers are given in the order in which watchers were asked for, from 0 on.
            let place = usize::try_from(answer.watch_id).ok();
            let Some(next) = place.and_then(|place| progress.next.get_mut(place)) else {
                return broken("an answer of a watch that was not asked for");
            };
            if answer.created {
                if progress.first {
                    fanout.is_taken();
                }
                let revision = answer.header.map_or(0, |header| header.revision);
                *next = (*next).max(revision + 1);
                continue;
            }
            let now = Instant::now();
            for event in answer.events {
                let Some(kv) = event.kv.filter(|_| event.kind == i32::from(EventType::Put)) else {
                    continue;
                };
                let Some(sent) = kv.value.get(..STAMP_DIGITS).and_then(answer::number) else {
                    return broken("an event without the moment of its put");
                };
                *next = (*next).max(kv.mod_revision + 1);
                fanout.came(sent, now, &mut lock(&hand.tally).latencies);
                // A watcher on a stream waits on.
                fanout.is_taken();
            }
        }
    }

    /// Removes all keys.
    pub(super) async fn sweep(&self) -> Result<(), String> {
        // Behind a slash comes a zero.
        let [key, range_end] = ["/", "0"].map(|end| Bytes::from(format!("{}{end}", self.prefix)));
        let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
        let swept = self.client(0).ask(&delete, Terms::within(self.timeout)).await;
        swept.map(drop).map_err(|status| format!("the keys stay: {status}"))
    }
}

/// How far the watchers of a stream are.
struct Progress {
    /// The revision that each of them asks for next.
    next: Vec<i64>,
    /// They have not been taken before.
    first: bool,
}

/// The status that an answer is counted under: the gateway's for the same.
fn counted(answer: Result<(), Status>) -> Result<u16, Failure> {
    match answer {
        Ok(()) => Ok(Code::Ok.http()),
        Err(status) if status == DEADLINE_EXCEEDED || status.code == Code::Unavailable => {
            Err(failure(&status))
        }
        Err(status) => Ok(status.code.http()),
    }
}

fn failure(status: &Status) -> Failure {
    let kind = if *status == DEADLINE_EXCEEDED { Kind::TimedOut } else { Kind::Closed };
    Failure::new(kind, status.to_string())
}
