//! Calls whose client wants a leader: they fail at once where there is none, and streams end some time after it is lost.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;

use crate::api::context::Context;
use crate::api::v3::call::{Answers, Call};
use crate::rpc::{Status, status};

/// A stream ends when there has been no leader for so many elections.
const ELECTIONS: u32 = 3;

/// Does this member know a leader?
pub(super) fn is_there(api: &Context) -> bool {
    api.replica.status().leadership.leader.is_some()
}

/// The answers of a stream, which end if its client wants a leader and there is none for long.
pub(super) fn cut(api: &Arc<Context>, call: &Call, answers: Answers<Bytes>) -> Answers<Bytes> {
    if !call.needs_leader {
        return answers;
    }
    let api = Arc::clone(api);
    let lost = Box::pin(async move { lost(&api).await });
    Box::pin(Cut { answers: Some(answers), lost })
}

/// Resolves when there has been no leader for long.
async fn lost(api: &Context) {
    let patience: Duration = ELECTIONS * api.replica.member().election;
    let mut leadership = api.replica.raft().leadership();
    loop {
        let is_there = |now: &crate::raft::Leadership| now.leader.is_some();
        if leadership.wait_for(|now| !is_there(now)).await.is_err() {
            return;
        }
        match tokio::time::timeout(patience, leadership.wait_for(is_there)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

struct Cut<L> {
    answers: Option<Answers<Bytes>>,
    lost: L,
}

impl<L: Future<Output = ()> + Unpin> Stream for Cut<L> {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let Some(answers) = &mut self.answers else { return Poll::Ready(None) };
        if let Poll::Ready(answer) = answers.as_mut().poll_next(cx) {
            return Poll::Ready(answer);
        }
        std::task::ready!(Pin::new(&mut self.lost).poll(cx));
        self.answers = None;
        Poll::Ready(Some(Err(status::NO_LEADER)))
    }
}
