//! A watch that does not lose its place.
//!
//! Owns: the revision behind the last one that was handed out. Never knows: what is done with events.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::client::{Answers, Client, Terms};
use crate::rpc::status::{AUTH_OLD_REVISION, INVALID_TOKEN};
use crate::rpc::{
    Code, Status, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchRequestUnion,
    WatchResponse,
};

/// Between two tries to reach a member.
const PAUSE: Duration = Duration::from_millis(100);
/// Questions that wait to be sent: the one that creates the watcher, and some for progress.
const QUESTIONS: usize = 16;

/// One watcher on a stream of its own, which is opened again when it breaks.
pub(super) struct Watching {
    request: WatchCreateRequest,
    stream: Option<(mpsc::Sender<WatchRequest>, Answers<WatchResponse>)>,
    /// The server has ended it.
    ended: bool,
    /// The token was refused and replaced, and nothing was watched since.
    renewed: bool,
}

impl Watching {
    /// For this; nothing is asked yet.
    pub(super) fn new(request: WatchCreateRequest) -> Self {
        Self { request, stream: None, ended: false, renewed: false }
    }

    /// A whole range from a revision on; 0: from now on.
    pub(super) fn of((key, range_end): (Bytes, Bytes), start_revision: i64) -> Self {
        Self::new(WatchCreateRequest { key, range_end, start_revision, ..Default::default() })
    }

    /// The next answer that has something in it: events, how far it is, or that it is over. `None` behind that.
    ///
    /// # Errors
    /// When the server refuses for good.
    pub(super) async fn next(&mut self, client: &Client) -> Result<Option<WatchResponse>, Status> {
        while !self.ended {
            let answer = match self.answer(client).await {
                Ok(Some(answer)) => answer,
                // The stream is over: a member stops, or has lost its leader. Another one goes on.
                Ok(None) => {
                    self.again().await;
                    continue;
                }
                Err(status) if is_passing(&status) => {
                    self.again().await;
                    continue;
                }
                Err(status) => return Err(status),
            };
            if answer.canceled && is_of_token(&answer) && !self.renewed && client.renew().await {
                self.renewed = true;
                self.again().await;
                continue;
            }
            if answer.created && !answer.canceled {
                self.renewed = false;
                // Whoever breaks off before the first event has to begin here.
                if self.request.start_revision == 0 {
                    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
                    self.request.start_revision = revision + 1;
                }
                continue;
            }
            if let Some(last) = answer.events.last().and_then(|event| event.kv.as_ref())
                && !answer.fragment
            {
                self.request.start_revision = last.mod_revision + 1;
            }
            self.ended = answer.canceled;
            return Ok(Some(answer));
        }
        Ok(None)
    }

    async fn answer(&mut self, client: &Client) -> Result<Option<WatchResponse>, Status> {
        if self.stream.is_none() {
            let (mut questions, _) = mpsc::channel(QUESTIONS);
            let queue = || {
                let (questions_tx, queue) = mpsc::channel(QUESTIONS);
                let create = WatchRequestUnion::Create(self.request.clone());
                let _ = questions_tx.try_send(WatchRequest { request_union: Some(create) });
                questions = questions_tx;
                Box::pin(stream::unfold(queue, async |mut queue: mpsc::Receiver<_>| {
                    queue.recv().await.map(|question| (question, queue))
                }))
            };
            let terms = Terms { leader: true, ..Terms::default() };
            let answers = client.stream(queue, terms).await?;
            self.stream = Some((questions, answers));
        }
        let (_, answers) = self.stream.as_mut().expect("it was opened");
        answers.next().await
    }

    /// What asks this watcher's server how far it is.
    pub(super) fn progress(&self) -> Option<mpsc::Sender<WatchRequest>> {
        self.stream.as_ref().map(|(questions, _)| questions.clone())
    }

    async fn again(&mut self) {
        self.stream = None;
        sleep(PAUSE).await;
    }
}

/// The question how far a server is.
pub(super) fn progress_question() -> WatchRequest {
    let union = WatchRequestUnion::Progress(WatchProgressRequest {});
    WatchRequest { request_union: Some(union) }
}

/// Does the server not take the token any more? It says so in words.
fn is_of_token(answer: &WatchResponse) -> bool {
    [INVALID_TOKEN, AUTH_OLD_REVISION].iter().any(|status| answer.cancel_reason == status.nested())
}

/// Is it worth asking again?
fn is_passing(status: &Status) -> bool {
    matches!(status.code, Code::Unavailable | Code::Internal | Code::Cancelled | Code::Unknown)
}
