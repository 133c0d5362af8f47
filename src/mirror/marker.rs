//! Marks in the target what is copied into it, so that nothing goes round in a circle.
//!
//! Owns: the hidden keys below `/_cairn_mirror`. Never knows: what is copied.
//! Holds: a mark names all clusters from which the keys come, so circles over several clusters are seen as well; it is written before
//! the source's own marks are read, so of two mirrors that begin at once one sees the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::base::system_random;
use crate::mirror::reader::Read;
use crate::mirror::side::{Answer, Side, Trouble};
use crate::mirror::wire::{Request, code, flat, is_within};

/// Where marks are.
pub(super) const MARKS: &str = "/_cairn_mirror";
/// How long a mark outlives the mirror that made it.
const LIFETIME_S: u64 = 20;
/// How often it is renewed, and the source's marks are read.
const RENEWAL: Duration = Duration::from_secs(5);
/// How often a mark of another run is looked at, until it is gone.
const LOOK: Duration = Duration::from_millis(500);

/// Keys below this path come from this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    cluster: String,
    prefix: String,
}

/// The text of a mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Tells one run from another.
    run: String,
    /// First the source, then where its keys come from.
    origins: Vec<Origin>,
}

/// The mark of this run.
pub(super) struct Marker {
    source: Arc<Side>,
    target: Arc<Side>,
    prefix: String,
    run: String,
    path: String,
    /// Where it was written.
    index: Option<u64>,
}

impl Marker {
    pub(super) fn new(source: Arc<Side>, target: Arc<Side>, prefix: String) -> Self {
        let encoded = utf8_percent_encode(&prefix, NON_ALPHANUMERIC);
        let path = format!("{MARKS}/{}{encoded}", source.cluster());
        Self { source, target, prefix, run: format!("{:016x}", system_random()), path, index: None }
    }

    /// Marks the target, if nothing speaks against that.
    pub(super) async fn begin(&mut self) -> Result<(), Trouble> {
        let (source, target) = (self.source.cluster(), self.target.cluster());
        if source == target {
            return Err(Trouble::Fatal(format!(
                "--from and --to name one and the same cluster, {source}: nothing can be copied into itself. If they are two, they were made \
                 with the same peer URLs and the same token, so they have the same id: make the new one with another \
                 --initial-cluster-token"
            )));
        }
        let began = Instant::now();
        loop {
            match self.renew().await {
                // A mirror that was killed leaves a mark that ends by itself.
                Err(Refused::Other(_)) if began.elapsed().as_secs() <= LIFETIME_S => {
                    if began.elapsed() < LOOK {
                        self.target.shown.say(&format!(
                            "another mirror of this source has marked the target; waiting up to {LIFETIME_S} s for the mark to end"
                        ));
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Err(refused) => return Err(refused.trouble()),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Keeps the mark for ever; ends with what speaks against that.
    pub(super) async fn keep(mut self, reads: mpsc::Sender<Read>) {
        loop {
            tokio::time::sleep(RENEWAL).await;
            if let Err(refused) = self.renew().await {
                // Who does not listen any more has ended.
                let _ = reads.send(Read::Failed(refused.trouble())).await;
                return;
            }
        }
    }

    /// Takes a mark away that this run has made.
    pub(super) async fn end(target: &Side, path: &str, run: &str) -> Result<(), Trouble> {
        if let Answer::Done(event, _) = target.ask(&Request::get(path, false)).await? {
            let mark: Option<Mark> = serde_json::from_str(&event.node.value).ok();
            if mark.is_some_and(|mark| mark.run == run) {
                let condition = format!("prevIndex={}", event.node.modified);
                target.ask(&Request::delete(path, &condition)).await?;
            }
        }
        Ok(())
    }

    /// Where the mark is, and of which run it is.
    pub(super) fn name(&self) -> (String, String) {
        (self.path.clone(), self.run.clone())
    }

    async fn renew(&mut self) -> Result<(), Refused> {
        let origins = self.origins().await?;
        self.write(&origins).await?;
        // A mirror back may have begun meanwhile.
        self.check(&self.origins().await?)
    }

    fn check(&self, origins: &[Origin]) -> Result<(), Refused> {
        let target = self.target.cluster();
        match origins.iter().find(|origin| origin.cluster == target) {
            Some(origin) => Err(Refused::Circle(format!(
                "the source gets its keys below {}/ from the target, cluster {target}: copied back, they would go round in a circle. End \
                 that mirror first",
                origin.prefix
            ))),
            None => Ok(()),
        }
    }

    /// Where the keys come from that are copied.
    async fn origins(&self) -> Result<Vec<Origin>, Refused> {
        let here =
            Origin { cluster: self.source.cluster().to_owned(), prefix: self.prefix.clone() };
        let answer = match self.source.ask(&Request::get(MARKS, true)).await {
            Ok(answer) => answer,
            // Who may not read the marks sees the circle at its other end.
            Err(Trouble::Fatal(_)) => return Ok(vec![here]),
            Err(trouble) => return Err(trouble.into()),
        };
        let marks = match answer {
            Answer::Done(event, _) => flat(event.node),
            Answer::Refused(_) => return Ok(vec![here]),
        };
        let origins = marks
            .into_values()
            .filter_map(|node| serde_json::from_str::<Mark>(&node.value).ok())
            .flat_map(|mark| mark.origins)
            .filter_map(|origin| {
                let prefix = common(&origin.prefix, &self.prefix)?.to_owned();
                Some(Origin { prefix, ..origin })
            });
        let mut all = vec![here];
        for origin in origins {
            if !all.contains(&origin) {
                all.push(origin);
            }
        }
        self.check(&all)?;
        Ok(all)
    }

    async fn write(&mut self, origins: &[Origin]) -> Result<(), Refused> {
        let mark = Mark { run: self.run.clone(), origins: origins.to_vec() };
        let text = serde_json::to_string(&mark).expect("names are JSON");
        let mut tried = false;
        loop {
            let condition = match self.index {
                Some(index) => format!("prevIndex={index}"),
                None => "prevExist=false".to_owned(),
            };
            let request = Request::put(&self.path, &condition, &text, Some(LIFETIME_S));
            match self.target.ask(&request).await? {
                Answer::Done(event, _) => {
                    self.index = Some(event.node.modified);
                    return Ok(());
                }
                Answer::Refused(refusal) if refusal.code == code::NOT_FOUND && !tried => {
                    self.index = None;
                }
                Answer::Refused(_) => {
                    // It may be this run's, if an answer was lost.
                    match self.target.ask(&Request::get(&self.path, false)).await? {
                        Answer::Done(event, _) => {
                            let there: Option<Mark> = serde_json::from_str(&event.node.value).ok();
                            if tried || there.is_none_or(|mark| mark.run != self.run) {
                                return Err(Refused::Other(format!(
                                    "another mirror of the same source writes to the target, and marks it in {}",
                                    self.path
                                )));
                            }
                            self.index = Some(event.node.modified);
                        }
                        Answer::Refused(_) => self.index = None,
                    }
                }
            }
            tried = true;
        }
    }
}

/// Why there can be no mark.
enum Refused {
    Circle(String),
    /// Another run has one.
    Other(String),
    Trouble(Trouble),
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Refused {
    fn trouble(self) -> Trouble {
        match self {
            Self::Circle(why) | Self::Other(why) => Trouble::Fatal(why),
            Self::Trouble(trouble) => trouble,
        }
    }
}

/// What is below both paths: the longer one, if it is below the other.
fn common<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    if is_within(one, other) { Some(one) } else { is_within(other, one).then_some(other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_overlaps_goes_round() {
        assert_eq!(common("", "/a"), Some("/a"));
        assert_eq!(common("/a/b", "/a"), Some("/a/b"));
        assert_eq!(common("/a", "/ab"), None);
    }
}
