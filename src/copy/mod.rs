//! `cairn copy`: copies keys of version 2 into version 3, of the same cluster or another, while both serve.
//!
//! Owns: the order of things: a listing, then each change, until it is to end; a listing again where changes are missing. Never
//! knows: what servers are made of; both are asked over their client ports.
//! Holds: the target goes from one state that the source had to a later one; except while a difference is made.
//!
//! Version 2 and version 3 are apart even in one cluster, and nothing is written to version 2: there is no circle to go round in.
//! The source is asked, and its changes and lifetimes are read, by what `mirror` has for that.
//!
//! | file | what it is |
//! |---|---|
//! | `flags` | flags and help |
//! | `names` | what a key is called on the other side |
//! | `picture` | what a listing comes to without directories |
//! | `plan` | the difference between a listing and the target |
//! | `following` | what a change of the source comes to |
//! | `target` | writes that overwrite nobody else's |
//! | `leases` | leases in place of lifetimes |
//! | `report` | what was done, and the comparison at the end |

mod flags;
mod following;
mod leases;
mod names;
mod picture;
mod plan;
mod report;
mod target;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::backup::Ended;
use crate::backup::flags::{Asked, Said, read};
use crate::mirror::lifetimes::Lifetimes;
use crate::mirror::reader::{self, Next, READ_AHEAD, Read, next};
use crate::mirror::shown::{REFRESH, Shown, Which};
use crate::mirror::side::{Answer, Side, Trouble};
use crate::mirror::sync::{Differences, list, replaced};
use crate::mirror::task;
use crate::mirror::verify::Verdict;
use crate::mirror::wire::{Request, clean};
use names::Names;
use picture::{Deadlines, Picture, Ttl};
use report::Done;
use target::{Change, Target, What, batches};

/// Does what a command line asks for, until `stop` ends.
pub async fn run(
    words: Vec<String>,
    variables: Vec<(String, String)>,
    stop: impl Future<Output = ()>,
) -> Ended {
    let said = match read(&flags::COPY, words, variables) {
        Ok(Asked::Do(said)) => said,
        Ok(Asked::Help(text)) => return Ended::well(text),
        Err(complaint) => return Ended::badly(complaint, 2),
    };
    let wanted = match Wanted::of(&said) {
        Ok(wanted) => wanted,
        Err(complaint) => return Ended::badly(said.wrong(&complaint), 2),
    };
    let token = CancellationToken::new();
    let work = LocalSet::new();
    let mut copied = pin!(work.run_until(copy(&said, wanted, token.clone())));
    tokio::select! {
        ended = copied.as_mut() => ended,
        () = stop => {
            token.cancel();
            copied.await
        }
    }
}

/// What is wanted, as far as flags can be wrong.
struct Wanted {
    names: Names,
    ttl: Ttl,
    differences: Differences,
}

impl Wanted {
    fn of(said: &Said) -> Result<Self, String> {
        if said.argument != flags::WAY {
            return Err(format!("{:?}: the way that there is, is {}", said.argument, flags::WAY));
        }
        if said.text("from").is_empty() {
            return Err("--from is missing: name a URL".to_owned());
        }
        let follows = said.is_on("follow");
        if follows && said.is_on("dry-run") {
            return Err(
                "--dry-run writes nothing that --follow could go on with: give one of them"
                    .to_owned(),
            );
        }
        let prefix = clean(said.text("prefix"));
        let instead = match said.is_on("to-prefix") {
            true => said.text("to-prefix").trim_end_matches('/').to_owned(),
            false => prefix.clone(),
        };
        let ttl = match said.text("ttl") {
            "skip" => Ttl::Skip,
            "lease" => Ttl::Lease,
            "" if follows => Ttl::Lease,
            "" => Ttl::Skip,
            other => return Err(format!("--ttl {other:?}: it is skip or lease")),
        };
        let differences = Differences::named(said.text("differences"))?;
        Ok(Self { names: Names { prefix, instead }, ttl, differences })
    }
}

async fn copy(said: &Said, wanted: Wanted, stop: CancellationToken) -> Ended {
    let begun = Instant::now();
    let shown = Arc::new(Shown::of("copy"));
    let mut copy = match Copy::prepare(said, wanted, shown.clone(), stop).await {
        Ok(copy) => copy,
        Err(complaint) => return Ended::badly(complaint, 1),
    };
    let (verdict, complaint) = match copy.work(said).await {
        Ok(verdict) => (verdict, String::new()),
        Err(Trouble::Fatal(why)) => (None, why),
        Err(Trouble::Ended(why)) => (None, format!("ended before everything was copied: {why}")),
    };
    copy.end();
    let differing = verdict.as_ref().is_some_and(|verdict| !verdict.is_good());
    let done = Done { verdict, took: begun.elapsed(), ..copy.done };
    let text = match said.is_on("json") {
        true => format!("{}\n", done.json(&shown)),
        false => done.text(&shown),
    };
    let code = u8::from(differing || !complaint.is_empty());
    Ended { text, complaint, code }
}

/// A run.
struct Copy {
    source: Arc<Side>,
    target: Target,
    prefix: String,
    ttl: Ttl,
    differences: Differences,
    deadlines: Deadlines,
    lifetimes: Lifetimes,
    /// A change has made more keys permanent than it names: only a listing shows which.
    is_stale: bool,
    done: Done,
    shown: Arc<Shown>,
    stop: CancellationToken,
    reads_tx: mpsc::Sender<Read>,
    reads: mpsc::Receiver<Read>,
    follower: Option<AbortOnDropHandle<()>>,
    /// They end with the run.
    helpers: Vec<AbortOnDropHandle<()>>,
}

impl Copy {
    /// Reaches both servers.
    async fn prepare(
        said: &Said,
        wanted: Wanted,
        shown: Arc<Shown>,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        let Wanted { names, ttl, differences } = wanted;
        let (prefix, follows) = (names.prefix.clone(), said.is_on("follow"));
        let source = Side::new(Which::Source, said, shown.clone(), stop.clone()).map(Arc::new)?;
        let target = Target::new(said, source.clone(), names, shown.clone(), stop.clone())?;
        let why = |trouble| match trouble {
            Trouble::Fatal(why) | Trouble::Ended(why) => why,
        };
        match source.reach(&Request::get(&prefix, false)).await.map_err(why)? {
            Answer::Refused(_) if !follows => {
                return Err(format!(
                    "the source has no key or directory {prefix}: name another --prefix, or wait for it with --follow"
                ));
            }
            Answer::Done(event, _) if !event.node.dir && target.names.instead.is_empty() => {
                return Err(format!(
                    "{prefix} is a key: name the one in version 3 with --to-prefix"
                ));
            }
            Answer::Done(..) | Answer::Refused(_) => {}
        }
        target.reach().await.map_err(why)?;
        let (reads_tx, reads) = mpsc::channel(READ_AHEAD);
        Ok(Self {
            source,
            target,
            prefix,
            ttl,
            differences,
            deadlines: Deadlines::default(),
            lifetimes: Lifetimes::default(),
            is_stale: false,
            done: Done { follows, is_dry: said.is_on("dry-run"), ..Done::default() },
            shown,
            stop,
            reads_tx,
            reads,
            follower: None,
            helpers: Vec::new(),
        })
    }

    /// Copies, follows, and compares if that is wanted.
    async fn work(&mut self, said: &Said) -> Result<Option<Verdict>, Trouble> {
        let shown = self.shown.clone();
        self.helpers.push(task(async move {
            loop {
                shown.show();
                tokio::time::sleep(REFRESH).await;
            }
        }));
        self.shown.doing("copying all keys");
        let begun = Instant::now();
        let differences = self.differences;
        let index = self.sync(differences).await?;
        if self.done.is_dry {
            return Ok(None);
        }
        self.shown.say(&format!(
            "all {} keys are copied, up to index {index}, in {:.1} s",
            self.target.own.len(),
            begun.elapsed().as_secs_f64()
        ));
        if self.done.follows {
            self.shown.doing("following");
            self.follow(index);
            self.until_stopped().await?;
            self.shown.doing("ending");
            self.follower = None;
            // What is there now, and was not read yet; and lifetimes as they are.
            self.sync(Differences::Own).await?;
        }
        if !said.is_on("verify") {
            return Ok(None);
        }
        self.shown.doing("comparing");
        self.verify().await.map(Some)
    }

    fn end(&mut self) {
        self.helpers.clear();
        self.follower = None;
        self.shown.show_no_more();
    }

    fn follow(&mut self, index: u64) {
        let (source, reads) = (self.source.clone(), self.reads_tx.clone());
        self.follower = Some(task(reader::follow(source, self.prefix.clone(), index + 1, reads)));
    }

    /// Makes the changes of the source, until it is to end.
    async fn until_stopped(&mut self) -> Result<(), Trouble> {
        loop {
            self.count();
            match next(&self.stop, self.lifetimes.next(), &mut self.reads).await {
                Next::Stop => return Ok(()),
                Next::Look => self.look().await?,
                Next::Handle(read) => self.handle(read).await?,
            }
        }
    }

    async fn handle(&mut self, read: Read) -> Result<(), Trouble> {
        let next = match read {
            Read::Event(event, since) => self.apply(event, since).await?,
            other @ (Read::Cleared | Read::Bell(_) | Read::Failed(_)) => Some(other),
        };
        if std::mem::take(&mut self.is_stale) {
            self.sync(Differences::Own).await?;
        }
        match next {
            None | Some(Read::Event(..) | Read::Bell(_)) => {}
            Some(Read::Cleared) => {
                self.shown.say(
                    "changes are missing: the source remembers no more. All keys are compared",
                );
                self.follower = None;
                let index = self.sync(Differences::Own).await?;
                self.follow(index);
            }
            Some(Read::Failed(trouble)) => return Err(trouble),
        }
        if self.reads.is_empty() {
            self.shown.working_on(None);
        }
        Ok(())
    }

    /// Makes the target as one listing of the source; returns at which index that was.
    async fn sync(&mut self, differences: Differences) -> Result<u64, Trouble> {
        let (index, nodes) = list(&self.source, &self.prefix).await?;
        self.shown.source_index.raise(index);
        self.shown.replaced.raise(replaced(nodes.values()));
        let picture = Picture::of(nodes, self.ttl);
        self.deadlines = picture.deadlines;
        (self.done.empty_dirs, self.done.mortal) = (picture.empty_dirs, picture.mortal);
        let plan = plan::plan(&mut self.target, picture.keys, differences).await?;
        self.done.extra = plan.extra;
        if let Some(refusal) = plan.refusal().filter(|_| differences == Differences::Refuse) {
            return Err(Trouble::Fatal(refusal));
        }
        if self.done.is_dry {
            self.done.planned = plan.changes.len();
        } else {
            self.write(plan.changes, differences != Differences::Own).await?;
        }
        self.lifetimes = Lifetimes::default();
        for path in self.deadlines.within("") {
            self.schedule(&path);
        }
        self.count();
        self.shown.applied_index.set(index);
        Ok(index)
    }

    /// Writes in parts that each fit a request. The first copy can be ended between two of them; what is written then stays.
    async fn write(&mut self, changes: Vec<Change>, can_end: bool) -> Result<(), Trouble> {
        let mut gone = Vec::new();
        for batch in batches(changes) {
            if can_end && self.stop.is_cancelled() {
                return Err(Trouble::Ended("it was told to".to_owned()));
            }
            gone.append(&mut self.target.write(batch).await?);
            self.count();
        }
        // They ended in the target while nobody looked, and live in the source.
        let mut again = Vec::new();
        for path in gone {
            let answer = self.source.ask(&Request::get(&path, false)).await?;
            let Answer::Done(event, _) = answer else { continue };
            let ends_ms = self.deadlines.of(&path);
            if !event.node.dir {
                again.push(Change { path, ends_ms, what: What::Put(event.node.value) });
            }
        }
        for batch in batches(again) {
            self.target.write(batch).await?;
        }
        Ok(())
    }

    /// When a key or a directory is to be looked at.
    fn schedule(&mut self, path: &str) {
        let ends_ms = self
            .deadlines
            .own(path)
            .filter(|_| self.ttl == Ttl::Lease && !self.target.taken.contains(path));
        let Some(ends_ms) = ends_ms else { return self.lifetimes.drop(path) };
        let left_ms = u64::try_from(self.source.remaining_ms(ends_ms)).unwrap_or(0);
        let left = (left_ms > 0).then(|| Duration::from_millis(left_ms));
        self.lifetimes.set(path, left, Instant::now());
    }

    fn count(&self) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.shown.keys.set(number(self.target.own.len()));
        self.shown.lifetimes.set(number(self.lifetimes.count()));
    }
}
