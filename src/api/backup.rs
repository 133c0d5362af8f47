//! `/cairn/backup`: all that is replicated, as a backup file.
//!
//! Holds: the file is of one state, whatever is written meanwhile. A client that is slow, or gone, costs a pointer to that state and
//! what was overwritten since; no write waits for it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use crate::api::access;
use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::error::{self, X_ETCD_CLUSTER_ID, X_ETCD_INDEX};
use crate::archive::Archiver;
use crate::raft::View;

/// Backups at a time; each holds on to a state of its own. More are refused, not made to wait.
pub(super) const BACKUPS_MAX: usize = 2;

/// Pause after each block, for others who need the processor and the network: at most 128 MiB a second.
const BLOCK_PAUSE: Duration = Duration::from_millis(2);

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) async fn serve(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if request.method() != Method::GET {
        return error::method_not_allowed("GET");
    }
    let quorum = match request.uri().query() {
        None | Some("" | "quorum=true") => true,
        Some("quorum=false") => false,
        Some(_) => {
            let text = "the only parameter is quorum, which is true or false";
            return error::message(StatusCode::BAD_REQUEST, text);
        }
    };
    let (head, _) = request.into_parts();
    // Before anything is waited for: who may not ask learns nothing of how the cluster is.
    if let Err(denied) = access::manages(&api, &head).await {
        return error::denied_management(denied);
    }
    let Ok(permit) = Arc::clone(&api.backups).try_acquire_owned() else {
        let text = format!("{BACKUPS_MAX} backups are under way already: try again later");
        return error::message(StatusCode::SERVICE_UNAVAILABLE, &text);
    };
    let ready = match quorum {
        true => api.replica.read_barrier().await,
        false => api.replica.until_shown().await,
    };
    if let Err(why) = ready {
        let text = format!("{why}; with quorum=false this member gives what it has itself");
        return error::message(StatusCode::SERVICE_UNAVAILABLE, &text);
    }
    let view = api.replica.view();
    let index = view.store.index();
    let blocks = blocks(&api, &view, permit);
    let mut response = Response::new(Body::made_as_taken(blocks));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, OCTETS);
    headers.insert(X_ETCD_INDEX, HeaderValue::from(index.0));
    headers.insert(X_ETCD_CLUSTER_ID, api.cluster_header.clone());
    response
}

/// The backup file of one state. Each block is made when the client has taken the one before.
pub(super) fn blocks(
    api: &Context,
    view: &View,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Bytes> + Send + use<> {
    let member = api.replica.member();
    let ids = (member.cluster, member.id);
    let archiver = Archiver::new(view.store.clone(), view.position, ids, api.replica.wall());
    let state = (Held(Some(archiver)), Arc::clone(&api.renderers), permit);
    stream::unfold(state, async |(mut held, renderers, permit)| {
        tokio::time::sleep(BLOCK_PAUSE).await;
        let renderer = renderers.acquire().await.ok()?;
        let work = move || {
            let block = held.0.as_mut().and_then(Archiver::next_block);
            (block, held)
        };
        // It ends early only with the runtime.
        let (block, held) = tokio::task::spawn_blocking(work).await.ok()?;
        drop(renderer);
        Some((block?, (held, renderers, permit)))
    })
}

/// An archive that is given up where that may take its time: the last one who holds on to an old state frees what was overwritten
/// since.
struct Held(Option<Archiver>);

impl Drop for Held {
    fn drop(&mut self) {
        if let (Some(archiver), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            drop(runtime.spawn_blocking(move || drop(archiver)));
        }
    }
}
