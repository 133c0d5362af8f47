//! `cairn mirror`: copies a running server of the version 2 API into another, while both serve.
//!
//! Owns: the order of things: a listing, then each change, until it is to end; a listing again where changes are missing. Never
//! knows: what servers are made of; both are asked over their client ports.
//! Holds: changes are made one after the other, as the source had them, so a client of the target sees no state that the source did
//! not have; except while a difference between two listings is made.
//!
//! | file | what it is |
//! |---|---|
//! | `flags` | flags and help |
//! | `side` | one of the two servers, asked until it answers |
//! | `wire` | requests and answers |
//! | `reader` | the changes of the source |
//! | `target` | writes that overwrite nobody else's |
//! | `sync` | the difference between two listings |
//! | `lifetimes` | when lifetimes are looked at again |
//! | `marker` | why nothing goes round in a circle |
//! | `verify` | the comparison at the end |
//! | `shown` | the line on the terminal, the metrics |

pub(crate) mod flags;
pub(crate) mod lifetimes;
mod marker;
pub(crate) mod reader;
pub(crate) mod shown;
pub(crate) mod side;
pub(crate) mod sync;
mod target;
pub(crate) mod verify;
pub(crate) mod wire;

use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::backup::Ended;
use crate::backup::flags::{Asked, Said, read};
use lifetimes::Lifetimes;
use marker::Marker;
use reader::{Next, READ_AHEAD, Read, next};
use shown::{REFRESH, Shown, Which};
use side::{Side, Trouble};
use sync::{Differences, Pair};
use target::Target;
use verify::{Verdict, verify};
use wire::{Event, Request, clean, is_hidden, is_within};

/// Does what a command line asks for, until `stop` ends.
pub async fn run(
    words: Vec<String>,
    variables: Vec<(String, String)>,
    stop: impl Future<Output = ()>,
) -> Ended {
    let said = match read(&flags::MIRROR, words, variables) {
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
    let mirrored = work.run_until(mirror(&said, wanted, token.clone()));
    let mut mirrored = pin!(mirrored);
    tokio::select! {
        ended = mirrored.as_mut() => ended,
        () = stop => {
            token.cancel();
            mirrored.await
        }
    }
}

/// What is wanted, as far as flags can be wrong.
struct Wanted {
    prefix: String,
    hidden: Vec<String>,
    differences: Differences,
}

impl Wanted {
    fn of(said: &Said) -> Result<Self, String> {
        for flag in ["from", "to"] {
            if said.text(flag).is_empty() {
                return Err(format!("--{flag} is missing: name a URL"));
            }
        }
        let prefix = clean(said.text("prefix"));
        let hidden: Vec<_> = said.text("hidden").split(',').map(clean).collect();
        let hidden: Vec<_> = hidden.into_iter().filter(|path| !path.is_empty()).collect();
        for path in &hidden {
            if !is_within(path, &prefix) || !is_hidden(path, &prefix) {
                return Err(format!(
                    "--hidden {path}: name hidden keys below --prefix, with a part that begins with an underscore"
                ));
            }
        }
        if let Some(path) =
            hidden.iter().chain([&prefix]).find(|path| is_within(path, marker::MARKS))
        {
            return Err(format!("{path} is where mirrors mark what they do, and is not copied"));
        }
        let differences = Differences::named(said.text("differences"))?;
        Ok(Self { prefix, hidden, differences })
    }
}

async fn mirror(said: &Said, wanted: Wanted, stop: CancellationToken) -> Ended {
    let begun = Instant::now();
    let shown = Arc::new(Shown::of("mirror"));
    let done = match Mirror::prepare(said, wanted, shown.clone(), stop).await {
        Ok(mut mirror) => {
            let done = mirror.work(said).await;
            mirror.end().await;
            done
        }
        Err(complaint) => return Ended::badly(complaint, 1),
    };
    let (verdict, complaint) = match done {
        Ok(verdict) => (verdict, String::new()),
        Err(Trouble::Fatal(why)) => (None, why),
        Err(Trouble::Ended(why)) => (None, format!("ended before everything was copied: {why}")),
    };
    let differing = verdict.as_ref().is_some_and(|verdict| !verdict.is_good());
    let text = match said.is_on("json") {
        true => format!("{}\n", as_json(&shown, verdict.as_ref(), begun.elapsed())),
        false => report(&shown, verdict.as_ref(), begun.elapsed()),
    };
    let code = u8::from(differing || !complaint.is_empty());
    Ended { text, complaint, code }
}

/// A run.
struct Mirror {
    pair: Pair,
    prefix: String,
    differences: Differences,
    lifetimes: Lifetimes,
    shown: Arc<Shown>,
    stop: CancellationToken,
    /// The mark in the target, and of which run it is.
    mark: Option<(String, String)>,
    reads_tx: mpsc::Sender<Read>,
    reads: mpsc::Receiver<Read>,
    follower: Option<AbortOnDropHandle<()>>,
    /// They end with the run.
    helpers: Vec<AbortOnDropHandle<()>>,
}

impl Mirror {
    /// Reaches both servers, and looks whether one may be copied into the other.
    async fn prepare(
        said: &Said,
        wanted: Wanted,
        shown: Arc<Shown>,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        let side = |which| Side::new(which, said, shown.clone(), stop.clone()).map(Arc::new);
        let (source, target) = (side(Which::Source)?, side(Which::Target)?);
        let Wanted { prefix, hidden, differences } = wanted;
        let mut helpers = Vec::new();
        if !said.text("metrics-addr").is_empty() {
            let address = said.text("metrics-addr");
            let listener = TcpListener::bind(address).await;
            let listener =
                listener.map_err(|error| format!("--metrics-addr {address}: {error}"))?;
            let shown = shown.clone();
            helpers.push(task(async move { shown.serve(listener).await }));
        }
        for side in [&source, &target] {
            let reached = side.reach(&Request::get(&prefix, false)).await;
            reached.map_err(|trouble| match trouble {
                Trouble::Fatal(why) | Trouble::Ended(why) => why,
            })?;
        }
        let (reads_tx, reads) = mpsc::channel(READ_AHEAD);
        let pair =
            Pair { target: Target::new(target, source.clone(), prefix.clone()), source, hidden };
        let (lifetimes, mark, follower) = (Lifetimes::default(), None, None);
        Ok(Self {
            pair,
            prefix,
            differences,
            lifetimes,
            shown,
            stop,
            mark,
            reads_tx,
            reads,
            follower,
            helpers,
        })
    }

    /// Copies, follows, and compares if that is wanted.
    async fn work(&mut self, said: &Said) -> Result<Option<Verdict>, Trouble> {
        let (source, target) = (self.pair.source.clone(), self.pair.target.side.clone());
        let mut marker = Marker::new(source, target, self.prefix.clone());
        self.mark = Some(marker.name());
        if let Err(trouble) = marker.begin().await {
            self.mark = None;
            return Err(trouble);
        }
        self.helpers.push(task(marker.keep(self.reads_tx.clone())));
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
        let index = self.sync_all(differences).await?;
        self.shown.say(&format!(
            "all {} keys and directories are copied, up to index {index}, in {:.1} s",
            self.pair.target.own.len(),
            begun.elapsed().as_secs_f64()
        ));
        if !said.is_on("once") {
            self.shown.doing("following");
            self.listen(index);
            self.follow(index);
            self.until_stopped().await?;
            self.shown.doing("ending");
            self.follower = None;
            // What is there now, and was not read yet; and lifetimes as they are.
            self.sync_all(Differences::Own).await?;
        }
        if !said.is_on("verify") {
            return Ok(None);
        }
        self.shown.doing("comparing");
        verify(&mut self.pair, &self.prefix).await.map(Some)
    }

    /// Takes the mark away. A target that does not answer is not waited for: the mark ends by itself.
    async fn end(&mut self) {
        self.helpers.clear();
        self.follower = None;
        self.stop.cancel();
        if let Some((path, run)) = self.mark.take() {
            let _ = Marker::end(&self.pair.target.side, &path, &run).await;
        }
        self.shown.show_no_more();
    }

    fn follow(&mut self, index: u64) {
        let (source, reads) = (self.pair.source.clone(), self.reads_tx.clone());
        self.follower = Some(task(reader::follow(source, self.prefix.clone(), index + 1, reads)));
    }

    /// For each hidden directory, tells when something changes there.
    fn listen(&mut self, index: u64) {
        for hidden in &self.pair.hidden {
            let (source, reads) = (self.pair.source.clone(), self.reads_tx.clone());
            self.helpers.push(task(reader::listen(source, hidden.clone(), index + 1, reads)));
        }
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
        match read {
            Read::Event(event, since) => {
                self.shown.working_on(Some(since));
                self.shown.events.add(1);
                let index = event.node.modified;
                self.shown.source_index.raise(index);
                self.apply(event).await?;
                self.shown.applied_index.raise(index);
                if self.reads.is_empty() {
                    self.shown.working_on(None);
                }
            }
            Read::Cleared => {
                self.shown.say(
                    "changes are missing: the source remembers no more. All keys are compared",
                );
                self.follower = None;
                let index = self.sync_all(Differences::Own).await?;
                self.follow(index);
                self.shown.working_on(None);
            }
            Read::Bell(hidden) => self.sync(&hidden, Differences::Own).await.map(drop)?,
            Read::Failed(trouble) => return Err(trouble),
        }
        Ok(())
    }

    /// Makes a change of the source.
    async fn apply(&mut self, event: Event) -> Result<(), Trouble> {
        let removes = event.removes();
        let mut node = event.node;
        let path = clean(&node.key);
        node.key.clone_from(&path);
        // Hidden keys are in a history, and not in what is told as it happens: those that are wanted are listed.
        if is_hidden(&path, &self.prefix) && self.prefix != path {
            return Ok(());
        }
        if removes {
            // What holds the whole prefix may have gone.
            let gone = if is_within(&self.prefix, &path) { self.prefix.clone() } else { path };
            if is_within(&gone, &self.prefix) {
                for path in self.pair.target.own_within(&gone) {
                    self.lifetimes.drop(&path);
                }
                self.pair.target.remove(&gone).await?;
                let below = self.pair.hidden.iter().filter(|hidden| is_within(hidden, &gone));
                for hidden in below.cloned().collect::<Vec<_>>() {
                    self.sync(&hidden, Differences::Own).await?;
                }
            }
            return Ok(());
        }
        if !is_within(&path, &self.prefix) {
            return Ok(());
        }
        self.pair.target.put(&node).await?;
        self.schedule(&path);
        Ok(())
    }

    /// Lists everything; returns where the source was at the first listing of keys that are not hidden.
    async fn sync_all(&mut self, differences: Differences) -> Result<u64, Trouble> {
        for hidden in self.pair.hidden.clone() {
            self.sync(&hidden, differences).await?;
        }
        let prefix = self.prefix.clone();
        let index = self.sync(&prefix, differences).await?;
        self.shown.applied_index.set(index);
        Ok(index)
    }

    async fn sync(&mut self, scope: &str, differences: Differences) -> Result<u64, Trouble> {
        let before = self.pair.target.own_within(scope);
        let index = self.pair.sync(scope, differences).await?;
        for path in before.into_iter().chain(self.pair.target.own_within(scope)) {
            self.schedule(&path);
        }
        self.count();
        Ok(index)
    }

    /// When a key is to be looked at.
    fn schedule(&mut self, path: &str) {
        let Some(ends_ms) = self.pair.target.own.get(path).and_then(|own| own.ends_ms) else {
            return self.lifetimes.drop(path);
        };
        let left_ms = u64::try_from(self.pair.source.remaining_ms(ends_ms)).unwrap_or(0);
        let left = (left_ms > 0).then(|| Duration::from_millis(left_ms));
        self.lifetimes.set(path, left, Instant::now());
    }

    fn count(&self) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.shown.keys.set(number(self.pair.target.own.len()));
        self.shown.lifetimes.set(number(self.lifetimes.count()));
    }

    /// Asks the source how long keys live that could end in the target.
    async fn look(&mut self) -> Result<(), Trouble> {
        let due = self.lifetimes.due(Instant::now());
        let hidden = self.pair.hidden.iter().map(String::as_str);
        let scopes: Vec<_> = [&*self.prefix].into_iter().chain(hidden).collect();
        let nodes = sync::look(&self.pair.source, &due, &scopes).await?;
        for path in due {
            let Some(own) = self.pair.target.own.get(&path) else { continue };
            // Whoever is gone or permanent has an event that says so.
            let Some(node) = nodes.get(&path) else { continue };
            let Some(ends_ms) = node.ends_ms() else { continue };
            if own.dir == node.dir && own.ends_ms != Some(ends_ms) {
                self.pair.target.renew(node).await?;
            }
            self.schedule(&path);
        }
        Ok(())
    }
}

pub(crate) fn task(work: impl Future<Output = ()> + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(spawn_local(work))
}

fn report(shown: &Shown, verdict: Option<&Verdict>, took: Duration) -> String {
    let mut text = format!(
        "mirrored up to index {} of the source: {} keys and directories, {} changes, {} writes, in {:.1} s\n",
        shown.applied_index.get(),
        shown.keys.get(),
        shown.events.get(),
        shown.writes.get(),
        took.as_secs_f64()
    );
    // Writing to a string does not fail.
    if shown.taken_over.get() > 0 {
        let _ = writeln!(text, "left to clients of the target: {} keys", shown.taken_over.get());
    }
    if shown.replaced.get() > 0 {
        let _ = writeln!(
            text,
            "{} keys or values hold U+FFFD: bytes that are no text do not come through version 2; cairn migrate keeps them",
            shown.replaced.get()
        );
    }
    text.push_str(&verdict.map(|verdict| verdict.text("keys and directories")).unwrap_or_default());
    text
}

fn as_json(shown: &Shown, verdict: Option<&Verdict>, took: Duration) -> serde_json::Value {
    json!({
        "index": shown.applied_index.get(),
        "keys": shown.keys.get(),
        "events": shown.events.get(),
        "writes": shown.writes.get(),
        "renewals": shown.renewals.get(),
        "takenOver": shown.taken_over.get(),
        "replaced": shown.replaced.get(),
        "seconds": took.as_secs_f64(),
        "verified": verdict.map(Verdict::json),
    })
}
