//! A lease that is renewed again and again over one stream.
//!
//! Owns: the questions on that stream, one at a time. Never knows: when a lease is to be renewed.

use futures_util::stream;
use tokio::sync::mpsc;

use crate::client::{Answers, Client, Terms};
use crate::rpc::status::{LEASE_NOT_FOUND, STOPPED};
use crate::rpc::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, Status};

/// How many questions may be on their way to the stream: one at a time is asked.
const QUESTIONS: usize = 1;

/// A stream on which one lease is renewed.
pub struct KeepAlive {
    id: i64,
    questions: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Answers<LeaseKeepAliveResponse>,
    /// A question has been sent that was not answered yet.
    asked: bool,
}

impl KeepAlive {
    /// Opens it, and asks: a server may begin to answer only then.
    ///
    /// # Errors
    /// As [`Client::stream`].
    pub async fn open(client: &Client, id: i64) -> Result<Self, Status> {
        let (mut questions, _) = mpsc::channel(QUESTIONS);
        let queue = || {
            let (questions_tx, queue) = mpsc::channel(QUESTIONS);
            let _ = questions_tx.try_send(LeaseKeepAliveRequest { id });
            questions = questions_tx;
            Box::pin(stream::unfold(queue, async |mut queue| {
                queue.recv().await.map(|question| (question, queue))
            }))
        };
        let answers = client.stream(queue, Terms::default()).await?;
        Ok(Self { id, questions, answers, asked: true })
    }

    /// Renews.
    ///
    /// # Errors
    /// [`LEASE_NOT_FOUND`] when there is no such lease any more; what breaks the stream.
    pub async fn renew(&mut self) -> Result<LeaseKeepAliveResponse, Status> {
        if !self.asked {
            let question = LeaseKeepAliveRequest { id: self.id };
            self.questions.send(question).await.map_err(|_| STOPPED)?;
        }
        self.asked = true;
        let answer = self.answers.next().await?.ok_or(STOPPED)?;
        self.asked = false;
        if answer.ttl <= 0 { Err(LEASE_NOT_FOUND) } else { Ok(answer) }
    }
}
