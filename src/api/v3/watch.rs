//! `etcdserverpb.Watch`: many watchers on one stream, each of which goes on until it is cancelled.
//!
//! Events are rendered once for all watchers that see the same; each answer is that behind a head of its own.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::api::context::Context;
use crate::api::v3::call::{Answers, Call, Requests};
use crate::api::v3::dispatch::Form;
use crate::api::v3::{access, convert, header_of_members, message_bytes_max};
use crate::model::Unavailable;
use crate::mvcc::{Intent, KeyRange, Revision};
use crate::replica::v3::watch::{
    self, Created, Notice, Told, Wanted, Wants, WatchRefusal, WatchStream,
};
use crate::rpc::{
    self, FilterType, Status, WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse,
    json, status,
};

/// What etcd calls a watcher that it refuses.
const REFUSED_ID: i64 = -1;

/// Serves one stream of watchers. Its client may have no more to ask; the watchers go on.
pub(super) async fn watch(
    api: Arc<Context>,
    call: Call,
    requests: Requests<WatchRequest>,
    form: Form,
) -> Result<Answers<Bytes>, Status> {
    let watchers = api.replica.hub().v3().stream(api.settings.watch_progress_interval);
    let (requests, answers, fragments) = (Some(requests), VecDeque::new(), BTreeSet::new());
    let session = Session { api, call, requests, watchers, form, answers, fragments };
    Ok(Box::pin(stream::unfold(Some(session), |session| async {
        let mut session = session?;
        match session.next().await {
            Ok(answer) => Some((Ok(answer), Some(session))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

struct Session {
    api: Arc<Context>,
    call: Call,
    /// Until the client has no more to ask.
    requests: Option<Requests<WatchRequest>>,
    watchers: WatchStream,
    form: Form,
    /// What is rendered and waits to be sent; no more than one answer comes to.
    answers: VecDeque<Bytes>,
    /// The watchers whose large answers may come in pieces.
    fragments: BTreeSet<i64>,
}

impl Session {
    /// The next answer; an error ends the stream.
    async fn next(&mut self) -> Result<Bytes, Status> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(answer);
            }
            let request = async {
                match &mut self.requests {
                    Some(requests) => requests.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                request = request => match request {
                    Some(Ok(request)) => self.handle(request).await,
                    Some(Err(status)) if status == status::CANCELED => return Err(status::WATCH_CANCELED),
                    Some(Err(status)) => return Err(status),
                    None => self.requests = None,
                },
                told = self.watchers.next() => match told {
                    Some(told) => self.tell(told),
                    None => return Err(status::STOPPED),
                },
            }
        }
    }

    async fn handle(&mut self, request: WatchRequest) {
        match request.request_union {
            None => {}
            Some(WatchRequestUnion::Create(request)) => self.create(&request).await,
            Some(WatchRequestUnion::Cancel(request)) => {
                let watch_id = request.watch_id;
                if self.watchers.cancel(watch_id) {
                    self.fragments.remove(&watch_id);
                    let header = Some(convert::header(&self.api, self.now()));
                    let answer =
                        WatchResponse { header, watch_id, canceled: true, ..Default::default() };
                    self.answer(&answer);
                }
            }
            Some(WatchRequestUnion::Progress(_)) => self.watchers.want_progress(),
        }
    }

    fn now(&self) -> Revision {
        self.api.replica.view().store.mvcc().revision()
    }

    async fn create(&mut self, request: &WatchCreateRequest) {
        let asker = access::asker(&self.api, &self.call).await;
        let created = asker
            .and_then(|asker| {
                let range = range(request);
                access::check(&self.api, &asker, Intent::Read, &range)?;
                Ok(range)
            })
            .map_err(|status| status.nested())
            .and_then(|range| self.watchers.create(wanted(request, range)).map_err(reason));
        let answer = match created {
            Ok(Created { id, now }) => {
                if request.fragment {
                    self.fragments.insert(id);
                }
                let header = Some(convert::header(&self.api, now));
                WatchResponse { header, watch_id: id, created: true, ..Default::default() }
            }
            Err(cancel_reason) => WatchResponse {
                header: Some(convert::header(&self.api, self.now())),
                watch_id: REFUSED_ID,
                created: true,
                canceled: true,
                cancel_reason,
                ..Default::default()
            },
        };
        self.answer(&answer);
    }

    fn tell(&mut self, told: Told) {
        match told {
            Told::Events { id, notice, now } => self.tell_events(id, &notice, now),
            Told::Progress { id, now } => {
                let header = Some(convert::header(&self.api, now));
                let watch_id = id.unwrap_or(REFUSED_ID);
                self.answer(&WatchResponse { header, watch_id, ..Default::default() });
            }
            Told::Compacted { id, compacted } => {
                self.fragments.remove(&id);
                self.answer(&WatchResponse {
                    header: Some(header_of_members(&self.api)),
                    watch_id: id,
                    canceled: true,
                    compact_revision: convert::revision(compacted),
                    ..Default::default()
                });
            }
        }
    }

    fn answer(&mut self, answer: &WatchResponse) {
        self.answers.push_back(self.form.write(answer));
    }

    fn tell_events(&mut self, id: i64, notice: &Notice, now: Revision) {
        let header = Some(convert::header(&self.api, now));
        let head = WatchResponse { header, watch_id: id, ..Default::default() };
        let bytes_max = message_bytes_max(&self.api);
        let fragments = self.fragments.contains(&id) && notice.events.len() > 1;
        if fragments && notice.protobuf(protobuf).len() + rpc::message_bytes(&head) >= bytes_max {
            self.tell_in_pieces(head, notice, bytes_max);
            return;
        }
        let answer = match self.form {
            Form::Framed => rpc::framed_with(&head, &notice.protobuf(protobuf)),
            Form::Json => {
                let mut out = json::write(&head);
                // A head is never empty, and events stand last.
                let brace = out.pop();
                debug_assert_eq!(brace, Some(b'}'));
                out.extend_from_slice(&notice.json(as_json));
                out.push(b'}');
                out.into()
            }
        };
        self.answers.push_back(answer);
    }

    /// Pieces that are smaller than `bytes_max`, unless one event is not.
    fn tell_in_pieces(&mut self, head: WatchResponse, notice: &Notice, bytes_max: usize) {
        let mut piece = WatchResponse { fragment: true, ..head };
        let mut bytes = rpc::message_bytes(&piece);
        for event in &notice.events {
            let event = event_of(event);
            let event_bytes = rpc::event_bytes(&event);
            if !piece.events.is_empty() && bytes + event_bytes >= bytes_max {
                self.answer(&piece);
                piece.events.clear();
                bytes = rpc::message_bytes(&piece);
            }
            bytes += event_bytes;
            piece.events.push(event);
        }
        piece.fragment = false;
        self.answer(&piece);
    }
}

/// No key is the first one that there can be.
fn range(request: &WatchCreateRequest) -> KeyRange {
    let key = if request.key.is_empty() { &[0][..] } else { &request.key };
    KeyRange::new(key.into(), (*request.range_end).into())
}

fn wanted(request: &WatchCreateRequest, range: KeyRange) -> Wanted {
    let without = |filter: FilterType| request.filters.contains(&(filter as i32));
    // Of one before the first, everything is seen that is kept.
    let from = u64::try_from(request.start_revision).unwrap_or(1);
    Wanted {
        id: request.watch_id,
        range,
        from: (from > 0).then_some(Revision(from)),
        wants: Wants {
            puts: !without(FilterType::NoPut),
            deletes: !without(FilterType::NoDelete),
            previous: request.prev_kv,
        },
        progress: request.progress_notify,
    }
}

fn reason(refusal: WatchRefusal) -> String {
    match refusal {
        WatchRefusal::DuplicateId => {
            "mvcc: duplicate watch ID provided on the WatchStream".to_owned()
        }
        WatchRefusal::EmptyRange => "mvcc: watcher range is empty".to_owned(),
        WatchRefusal::TooMany => Unavailable::TooManyWatchers.to_string(),
    }
}

fn event_of(event: &watch::Event) -> rpc::Event {
    let kind = if event.kv.is_deletion() { rpc::EventType::Delete } else { rpc::EventType::Put };
    rpc::Event {
        kind: kind as i32,
        kv: Some(convert::key_value(&event.kv)),
        prev_kv: event.previous.as_deref().map(convert::key_value),
    }
}

/// The events as they stand in an answer.
fn protobuf(events: &[watch::Event]) -> Bytes {
    rpc::written_events(events.iter().map(event_of))
}

/// The same in JSON, with the comma in front.
fn as_json(events: &[watch::Event]) -> Bytes {
    let mut out = b",\"events\":[".to_vec();
    for (number, event) in events.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        json::write_to(&event_of(event), &mut out);
    }
    out.push(b']');
    out.into()
}
