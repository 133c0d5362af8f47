//! openraft's state machine over the store: apply, publish, announce, answer.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine, Snapshot};

use crate::model::{LogPosition, MemberId};
use crate::mvcc::{self, LeaseId, Reply};
use crate::raft::Meter;
use crate::raft::adapter::types::{
    self, Answer, Entry, LogId, Origin, SnapshotMeta, StoredMembership, Types,
};
use crate::raft::clock::LogClock;
use crate::raft::requests::tickets::Tickets;
use crate::raft::storage::checkpoint::{Checkpoint, CheckpointBuilder, Checkpoints, Difference};
use crate::raft::storage::log::Log;
use crate::raft::storage::state::{Outcome, State};
use crate::store::{Applied, Event, Remains, Store};

/// Entries that are applied before their outcome is published; more would let the first ones wait.
const BATCH_MAX: usize = 256;

/// The state as of one log entry. It never changes: a reader needs no lock.
#[derive(Debug)]
pub struct View {
    /// The key space and all that belongs to it.
    pub store: Store,
    /// The last applied entry.
    pub position: LogPosition,
}

/// Is told of everything that is applied, in order.
pub trait Observer: Send + Sync {
    /// `view` is what reads see from now on; `events` led to it, in the order of their indexes. Called before the writers
    /// are answered, and by one thread at a time.
    fn published(&self, view: &Arc<View>, events: &[Arc<Event>]);

    /// A lease of v3 was granted, in what was published last.
    fn lease_granted(&self, _lease: LeaseId, _ttl_s: i64) {}

    /// The writers of what was published last have been answered. Called by the same thread, before the next is published.
    fn answered(&self);

    /// `view` took the place of everything before it: a snapshot. What led to it is in its history.
    fn replaced(&self, view: &Arc<View>);
}

/// What is told of applied entries.
pub(in crate::raft) struct Listeners {
    /// Readers and watchers.
    pub(in crate::raft) observer: Arc<dyn Observer>,
    /// Writers of this member.
    pub(in crate::raft) tickets: Arc<Tickets>,
    /// The time in the log.
    pub(in crate::raft) clock: Arc<LogClock>,
    /// How long applying takes.
    pub(in crate::raft) meter: Arc<dyn Meter>,
    /// Is called when facts of the cluster may have changed.
    pub(in crate::raft) facts: Box<dyn Fn(&View) + Send + Sync>,
}

/// The state machine. openraft owns the only one.
pub(in crate::raft) struct Machine {
    state: State,
    published: Arc<ArcSwap<View>>,
    listeners: Listeners,
    member: MemberId,
    /// None in openraft's own suite, which applies what stands in no log.
    log: Option<Log>,
    checkpoints: Arc<Checkpoints>,
    /// Kept until no newer view holds on to it, and then dropped elsewhere.
    remains: Remains,
}

/// An applied entry on its way out.
struct Applying {
    answer: Answer,
    origin: Option<Origin>,
    responder: Option<ApplyResponder<Types>>,
}

impl Machine {
    /// Starts from a state, which is published at once.
    pub(in crate::raft) fn new(
        state: State,
        listeners: Listeners,
        member: MemberId,
        log: Option<Log>,
        checkpoints: Arc<Checkpoints>,
    ) -> Self {
        let position = state.applied.as_ref().map(types::position).unwrap_or_default();
        listeners.clock.applied(state.store.stamp());
        checkpoints.heard_of(&state.difference.changes);
        let view = Arc::new(View { store: state.store.clone(), position });
        let published = Arc::new(ArcSwap::new(Arc::clone(&view)));
        (listeners.facts)(&view);
        listeners.observer.replaced(&view);
        listeners.tickets.skipped(position.index, position.term);
        let remains = Remains::default();
        Self { state, published, listeners, member, log, checkpoints, remains }
    }

    /// Where views appear.
    pub(in crate::raft) fn published(&self) -> Arc<ArcSwap<View>> {
        Arc::clone(&self.published)
    }

    fn apply_one(&mut self, entry: Entry, responder: Option<ApplyResponder<Types>>) -> Applying {
        let position = types::position(&entry.log_id);
        let Outcome { applied, origin, remains } = self.state.apply(entry);
        self.remains.append(remains);
        let answer = Answer { applied, index: self.state.store.index(), position };
        Applying { answer, origin, responder }
    }

    fn view(&self) -> Option<Arc<View>> {
        let position = types::position(self.state.applied.as_ref()?);
        Some(Arc::new(View { store: self.state.store.clone(), position }))
    }

    /// Lets readers, writers and watchers know, in this order: who is woken sees the change, and however many long polls wait for it,
    /// its writer does not wait for them.
    ///
    /// Not before it is on this member's own disk, though a majority of others may have it: what a member has shown it holds
    /// after a restart, so it may show that at once.
    async fn publish(
        &mut self,
        batch: &mut Vec<Applying>,
        begun: Option<Instant>,
    ) -> io::Result<()> {
        if let Some(begun) = begun {
            self.listeners.meter.applied(begun.elapsed());
        }
        if let (Some(log), Some(applied)) = (&self.log, &self.state.applied) {
            log.until_safe(applied.index).await?;
        }
        if self.announce(batch) == 1 {
            // Lets the task that was woken send its answer before openraft hears of the entry (ADR 37).
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Returns how many writers of this member were answered.
    fn announce(&mut self, batch: &mut Vec<Applying>) -> usize {
        let Some(view) = self.view() else { return 0 };
        if batch.iter().any(|done| matches!(done.answer.applied, Applied::Recorded)) {
            (self.listeners.facts)(&view);
        }
        self.listeners.clock.applied(self.state.store.stamp());
        self.published.store(Arc::clone(&view));
        self.checkpoints.heard_of(&self.state.difference.changes);
        let events: Vec<_> =
            batch.iter().flat_map(|done| done.answer.applied.events()).cloned().collect();
        self.listeners.observer.published(&view, &events);
        for done in batch.iter() {
            if let Applied::Mvcc(applied) = &done.answer.applied {
                self.listeners.meter.changed(applied);
            }
        }
        for (lease, ttl_s) in batch.iter().filter_map(|done| granted(&done.answer.applied)) {
            self.listeners.observer.lease_granted(lease, ttl_s);
        }
        let (mut responders, mut answered) = (Vec::new(), 0);
        let ours = batch.drain(..).filter_map(|done| {
            responders.extend(done.responder);
            let origin = done.origin.filter(|origin| origin.member == self.member)?;
            answered += 1;
            Some((origin.ticket, done.answer))
        });
        self.listeners.tickets.applied(view.position.index, view.position.term, ours);
        self.listeners.observer.answered();
        if !self.remains.is_empty() {
            self.checkpoints.let_go(Some(std::mem::take(&mut self.remains)));
        }
        // openraft wants to hear of each entry that it took from us.
        for responder in responders {
            responder.send(());
        }
        answered
    }
}

/// The lease that was granted, and its life in seconds.
fn granted(applied: &Applied) -> Option<(LeaseId, i64)> {
    let Applied::Mvcc(mvcc::Applied { reply: Ok(Reply::LeaseGrant { id, ttl_s }), .. }) = applied
    else {
        return None;
    };
    Some((*id, *ttl_s))
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Checkpoint;
    type SnapshotBuilder = CheckpointBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.state.applied, self.state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let (mut batch, mut begun) = (Vec::new(), None);
        let mut next = entries.next().await;
        while let Some(item) = next {
            let (entry, responder) = item?;
            begun.get_or_insert_with(Instant::now);
            batch.push(self.apply_one(entry, responder));
            // Whatever is ready belongs to the batch, which does not wait for more.
            let ready = if batch.len() < BATCH_MAX { entries.next().now_or_never() } else { None };
            next = match ready {
                Some(ready) => ready,
                None => {
                    self.publish(&mut batch, begun.take()).await?;
                    entries.next().await
                }
            };
        }
        if !batch.is_empty() {
            self.publish(&mut batch, begun).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> CheckpointBuilder {
        let state = self.state.checkpoint();
        let difference = std::mem::replace(&mut self.state.difference, Difference::to(&state));
        CheckpointBuilder::new(Arc::clone(&self.checkpoints), state, difference)
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: Checkpoint,
    ) -> io::Result<()> {
        Arc::clone(&self.checkpoints).replace(snapshot.clone()).await?;
        let difference = std::mem::replace(&mut self.state.difference, Difference::to(&snapshot));
        let before = std::mem::replace(&mut self.state.store, snapshot.store);
        self.state.applied = snapshot.applied;
        self.state.membership = snapshot.membership;
        self.listeners.clock.applied(self.state.store.stamp());
        if let Some(view) = self.view() {
            (self.listeners.facts)(&view);
            let shown_before = self.published.swap(Arc::clone(&view));
            self.checkpoints.let_go(Some((before, shown_before, difference)));
            self.listeners.observer.replaced(&view);
            self.listeners.tickets.skipped(view.position.index, view.position.term);
        }
        Ok(())
    }

    /// The state as it is now: that of the last checkpoint is only on disk. It is later, which spares the follower a part of
    /// the log.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<OpenraftSnapshot>> {
        let snapshot =
            || self.checkpoints.outgoing().to_send(|| self.state.checkpoint()).into_snapshot();
        Ok(self.state.applied.is_some().then(snapshot))
    }
}

type OpenraftSnapshot = openraft::type_config::alias::SnapshotOf<Types, Checkpoint>;

impl Checkpoint {
    /// In openraft's words.
    pub(in crate::raft) fn into_snapshot(self) -> OpenraftSnapshot {
        let meta =
            SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Snapshot { meta, snapshot: self }
    }
}
