//! `/v2/keys`: from a request to an answer.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::api::access::{self, Credentials, Denied};
use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::error;
use crate::api::intake::{self, Unread};
use crate::api::keys::answer::{Answer, Success};
use crate::api::keys::listing::Listing;
use crate::api::keys::parse::{self, KeysRequest, Listed, Parsed, Raw};
use crate::api::keys::render::When;
use crate::api::keys::shown;
use crate::api::metrics::{Limit, MethodLabel};
use crate::model::{Clipped, KeyPath, Refusal, Reply, StoreIndex, Unavailable, codes};
use crate::raft::{Reserved, View};
use crate::store::{Access, Action, Applied, Asker, Command, Event};

/// Listings up to this size are rendered in place and sent as a whole; what is larger goes on in blocks of this size. Rendering
/// one takes about a tenth of a millisecond.
const BLOCK_BYTES: usize = 64 << 10;

/// Serves a request whose decoded path is `/v2/keys` followed by `path`.
pub(in crate::api) async fn serve<B>(
    api: &Context,
    path: &[u8],
    request: http::Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Some(label) = MethodLabel::of(request.method()) else {
        return error::method_not_allowed("HEAD,GET,PUT,POST,DELETE");
    };
    let unreadable = match read(api, path, request).await {
        Ok(read) => {
            return answer(api, label, read).await.into_response(&api.cluster_header);
        }
        Err(Unreadable::Overloaded(why)) => error::unavailable(why),
        Err(Unreadable::Refused(refusal)) => error::refused(&refusal, StoreIndex(0)),
        Err(Unreadable::CutOff) => error::text(StatusCode::BAD_REQUEST, "400 Bad Request"),
    };
    Answer::Other(unreadable).into_response(&api.cluster_header)
}

enum Unreadable {
    Refused(Refusal),
    Overloaded(Unavailable),
    CutOff,
}

/// A request that was understood, with its credentials, and what it holds of the budget.
pub(super) struct Read<C> {
    pub(super) request: KeysRequest,
    pub(super) access: Access,
    pub(super) credentials: C,
    pub(super) held: Option<Arc<Reserved>>,
}

/// Reads the form, if there is one, and checks everything.
async fn read<B>(
    api: &Context,
    path: &[u8],
    request: http::Request<B>,
) -> Result<Read<Parts>, Unreadable>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let content_type = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let query = head.uri.query().unwrap_or_default().as_bytes();
    let (form, reserved) = if matches!(parse::reads_body(&head.method, content_type), Ok(true)) {
        let bytes_max = api.settings.body_bytes_max;
        let budget = api.replica.budget();
        let (form, mut reserved) = intake::collect(budget, body, &head.headers, bytes_max)
            .await
            .map_err(|unread| match unread {
                Unread::TooLarge => {
                    api.metrics.hit(Limit::Body);
                    Unreadable::Refused(Refusal::BodyTooLarge { bytes_max })
                }
                Unread::Overloaded(why) => Unreadable::Overloaded(why),
                Unread::CutOff => Unreadable::CutOff,
            })?;
        reserved.grow(query.len()).map_err(Unreadable::Overloaded)?;
        (form, Some(reserved))
    } else {
        warn_of_unread_body(&head, &body);
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let reserve = || api.replica.budget().reserve(query.len()).map_err(Unreadable::Overloaded);
        (Bytes::new(), if reads { None } else { Some(reserve()?) })
    };
    let raw = Raw {
        method: &head.method,
        path,
        query,
        content_type,
        body: &form,
        limits: api.settings.path,
    };
    let Parsed { request, access } = parse::parse(&raw).map_err(Unreadable::Refused)?;
    Ok(Read { request, access, credentials: head, held: reserved.map(Arc::new) })
}

/// A write whose body is of another type stores an empty value, as in etcd; the log says so, because it is rarely meant.
fn warn_of_unread_body(head: &http::request::Parts, body: &impl http_body::Body) {
    if matches!(head.method, Method::PUT | Method::POST) && !body.is_end_stream() {
        let content_type = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let content_type = content_type.map(String::from_utf8_lossy);
        warn!(
            target: "etcdhttp",
            code = codes::BODY_NOT_READ,
            "{} {}: the body is not read, because its content type is \"{}\"; send it as \
             application/x-www-form-urlencoded",
            head.method,
            Clipped(head.uri.path()),
            Clipped(content_type.as_deref().unwrap_or("not given")),
        );
    }
}

/// Does what is asked, if this client may.
pub(super) async fn answer<C: Credentials>(
    api: &Context,
    label: MethodLabel,
    read: Read<C>,
) -> Answer {
    let Read { request, access, credentials, held } = read;
    let done = match request {
        KeysRequest::Watch { from, stream } => watch(api, &credentials, access, from, stream).await,
        KeysRequest::Get { listed, quorum } => {
            let label = label.quorum(quorum);
            get(api, label, &credentials, access, listed, quorum).await
        }
        KeysRequest::Write { command, terse } => {
            let asker = match may_write(api, credentials, &access).await {
                Ok(asker) => asker,
                Err(denied) => return Answer::Other(error::denied(denied)),
            };
            let timer = api.metrics.keys_request(label);
            let answer = write(api, command, held, terse, &asker, &access.path).await;
            timer.done(answer.status());
            Ok(answer)
        }
    };
    done.unwrap_or_else(|denied| Answer::Other(error::denied(denied)))
}

/// The head is not kept while the write waits for consensus.
async fn may_write(
    api: &Context,
    credentials: impl Credentials,
    access: &Access,
) -> Result<Asker, Denied> {
    api.replica.until_decided().await.map_err(Denied::Unavailable)?;
    let (_, asker) = access::admitted(api, &credentials, access).await?;
    Ok(asker)
}

/// Rights are those of the state that is shown. A quorum read that would be refused by what this member knows already does not
/// wait for others to say so.
async fn get(
    api: &Context,
    label: MethodLabel,
    credentials: &impl Credentials,
    access: Access,
    listed: Listed,
    quorum: bool,
) -> Result<Answer, Denied> {
    let mut known = None;
    if !quorum || api.replica.is_shown() {
        api.replica.until_shown().await.map_err(Denied::Unavailable)?;
        known = Some(access::admitted(api, credentials, &access).await?);
    }
    let timer = api.metrics.keys_request(label);
    let view = match known {
        Some((view, _)) if !quorum => Ok(view),
        known => quorum_view(api, credentials, &access, known.map(|(_, asker)| asker)).await,
    };
    let answer = match view {
        Ok(view) => shown_at(api, &view, access.path, listed),
        Err(denied) => Answer::Other(error::denied(denied)),
    };
    timer.done(answer.status());
    Ok(answer)
}

/// A state that is not stale, in which the asker may read.
async fn quorum_view(
    api: &Context,
    credentials: &impl Credentials,
    access: &Access,
    asker: Option<Asker>,
) -> Result<Arc<View>, Denied> {
    api.replica.read_barrier().await.map_err(Denied::Unavailable)?;
    let Some(asker) = asker else {
        return access::admitted(api, credentials, access).await.map(|(view, _)| view);
    };
    let view = api.replica.view();
    if view.store.allows(&asker, access) { Ok(view) } else { Err(Denied::Insufficient) }
}

fn shown_at(api: &Context, view: &Arc<View>, path: KeyPath, listed: Listed) -> Answer {
    let Reply { index, outcome } = view.store.get(&path);
    let reads = api.replica.reads();
    reads.count(listed.recursive, outcome.is_ok());
    let node = match outcome {
        Ok(node) => node,
        Err(refusal) => return Answer::Other(error::refused(&refusal, index)),
    };
    let when = When { now: api.replica.now(), offset: view.store.wall_offset() };
    let position = view.position;
    let (first, rest) = Listing::begin(view, node, path, listed.recursive, when, BLOCK_BYTES);
    let body = match rest {
        None => Body::whole(first),
        Some(listing) => Body::blocks(first, rest_of(listing, Arc::clone(&api.renderers))),
    };
    Answer::Success(Success { status: StatusCode::OK, body, index, position })
}

/// The blocks behind the first, each made when it is asked for: away from the threads that serve all connections, and no more at a
/// time than there are processors, so that nothing that consensus does there ever waits behind them.
fn rest_of(listing: Listing, renderers: Arc<Semaphore>) -> impl Stream<Item = Bytes> {
    stream::unfold((listing, renderers), async |(mut listing, renderers)| {
        if listing.is_done() {
            return None;
        }
        let permit = renderers.acquire().await.ok()?;
        let render = move || {
            let block = listing.next_block(BLOCK_BYTES);
            (block, listing)
        };
        // It ends early only with the runtime.
        let (block, listing) = tokio::task::spawn_blocking(render).await.ok()?;
        drop(permit);
        Some((block, (listing, renderers)))
    })
}

async fn write(
    api: &Context,
    command: Command,
    held: Option<Arc<Reserved>>,
    terse: bool,
    asker: &Asker,
    path: &KeyPath,
) -> Answer {
    let answer = match api.replica.write_held(command, held).await {
        Ok(answer) => answer,
        Err(why) => return Answer::Other(error::unavailable(why)),
    };
    let view = api.replica.view();
    match &answer.applied {
        Applied::Changed(event) => {
            let body = shown::written(view.store.shows(asker, &event.path), event, terse);
            Answer::Success(Success {
                status: written_status(event),
                body: Body::whole(body),
                index: answer.index,
                position: answer.position,
            })
        }
        Applied::Refused(refusal) => {
            let refusal = shown::refused(view.store.shows(asker, path), refusal);
            Answer::Other(error::refused(&refusal, answer.index))
        }
        Applied::Expired(_)
        | Applied::Recorded
        | Applied::Known
        | Applied::Outdated
        | Applied::AuthChanged(_)
        | Applied::AuthRefused(_)
        | Applied::Mvcc(_) => {
            unreachable!("no client sends such commands")
        }
    }
}

fn written_status(event: &Event) -> StatusCode {
    let fresh =
        event.action == Action::Create || (event.action == Action::Set && event.prev.is_none());
    if fresh { StatusCode::CREATED } else { StatusCode::OK }
}

async fn watch(
    api: &Context,
    credentials: &impl Credentials,
    access: Access,
    from: Option<StoreIndex>,
    stream: bool,
) -> Result<Answer, Denied> {
    api.replica.until_shown().await.map_err(Denied::Unavailable)?;
    let (view, asker) = access::admitted(api, credentials, &access).await?;
    let hub = api.replica.hub();
    let reply = hub.watch(&view, access, asker, from, stream).map_err(Denied::Unavailable)?;
    let watch = match reply.outcome {
        Ok(watch) => watch,
        Err(Refusal::NotAllowed) => return Err(Denied::Insufficient),
        Err(refusal) => return Ok(Answer::Other(error::refused(&refusal, reply.index))),
    };
    let events = stream::unfold(watch, async |mut watch| {
        let notice = watch.next().await?;
        let told = shown::told(watch.shows(&notice), &notice);
        Some((told, watch))
    });
    Ok(Answer::Success(Success {
        status: StatusCode::OK,
        body: Body::stream(events),
        index: reply.index,
        position: view.position,
    }))
}
