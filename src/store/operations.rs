//! What each command does.
//!
//! Every operation looks first and changes then, so that a refused one leaves no trace. The order in which an operation
//! looks is part of the wire contract: it decides which error a client sees.
//!
//! Source of the behaviour: etcd 3.4's `v2store`, observed on 3.4.23.

use std::sync::Arc;

use crate::model::{KeyPath, LogTime, Refusal, StoreIndex, Value};
use crate::store::auth::AuthCommand;
use crate::store::command::{Command, Condition, Write};
use crate::store::counters::Counter;
use crate::store::event::{Action, Event, Removed, Shown};
use crate::store::tree::{self, Node};
use crate::store::{Applied, Store};

impl Store {
    /// Changes the key space and counts the outcome. What is written dies at `expires`.
    pub(super) fn change(
        &mut self,
        command: &Command,
        expires: Option<LogTime>,
    ) -> Result<Event, Refusal> {
        let result = match command {
            Command::Set { path, write } => self.set(path, write, expires),
            Command::Create { path, write } => self.create(path, write, expires),
            Command::CreateInOrder { dir, write } => {
                let name = format!("{:020}", self.index.next().0);
                self.create(&dir.child(name.as_bytes()), write, expires)
            }
            Command::Update { path, write } => self.update(path, write, expires),
            Command::CompareAndSwap { path, write, condition } => {
                self.compare_and_swap(path, write, condition, expires)
            }
            Command::Delete { path, dir, recursive } => self.delete(path, *dir, *recursive),
            Command::CompareAndDelete { path, condition } => {
                self.compare_and_delete(path, condition)
            }
            Command::Tick { .. }
            | Command::AddMember { .. }
            | Command::UpdateMember { .. }
            | Command::PublishMember { .. }
            | Command::RemoveMember { .. }
            | Command::SetClusterVersion { .. }
            | Command::Auth(_)
            | Command::Mvcc(_) => unreachable!("apply sends these elsewhere"),
        };
        self.count(command, result.as_ref().err());
        result
    }

    fn set(
        &mut self,
        path: &KeyPath,
        write: &Write,
        expires: Option<LogTime>,
    ) -> Result<Event, Refusal> {
        let before = match self.tree.find(path) {
            Ok(node) => Some(node),
            Err(Refusal::KeyNotFound { .. }) if !write.refresh => None,
            Err(refusal) => return Err(refusal),
        };
        refuse_root(path)?;
        if before.is_some_and(|node| node.is_dir() || (write.refresh && write.dir)) {
            return Err(Refusal::NotAFile { path: Some(path.clone()) });
        }
        let kept = before.filter(|_| write.refresh).and_then(Node::value);
        let node = self.new_node(kept.unwrap_or(&write.value), write.dir, expires);
        let prev = before.map(Node::shown);
        self.put(Action::Set, path, node, prev, write.refresh)
    }

    fn create(
        &mut self,
        path: &KeyPath,
        write: &Write,
        expires: Option<LogTime>,
    ) -> Result<Event, Refusal> {
        refuse_root(path)?;
        match self.tree.find(path) {
            Ok(_) => return Err(Refusal::KeyExists { path: path.clone() }),
            Err(Refusal::KeyNotFound { .. }) => {}
            Err(refusal) => return Err(refusal),
        }
        let node = self.new_node(&write.value, write.dir, expires);
        // There is nothing to refresh: a new key wakes its watchers, whatever the client called it.
        self.put(Action::Create, path, node, None, false)
    }

    fn update(
        &mut self,
        path: &KeyPath,
        write: &Write,
        expires: Option<LogTime>,
    ) -> Result<Event, Refusal> {
        refuse_root(path)?;
        let before = self.tree.find(path)?;
        if before.is_dir() && !write.value.is_empty() {
            return Err(Refusal::NotAFile { path: Some(path.clone()) });
        }
        Ok(self.replace(Action::Update, path, write, expires))
    }

    fn compare_and_swap(
        &mut self,
        path: &KeyPath,
        write: &Write,
        condition: &Condition,
        expires: Option<LogTime>,
    ) -> Result<Event, Refusal> {
        refuse_root(path)?;
        compare(path, self.tree.find(path)?, condition)?;
        Ok(self.replace(Action::CompareAndSwap, path, write, expires))
    }

    fn delete(&mut self, path: &KeyPath, dir: bool, recursive: bool) -> Result<Event, Refusal> {
        refuse_root(path)?;
        let node = self.tree.find(path)?;
        if node.is_dir() {
            if !dir && !recursive {
                return Err(Refusal::NotAFile { path: Some(path.clone()) });
            }
            if node.nodes_below() > 0 && !recursive {
                return Err(Refusal::DirNotEmpty { path: path.clone() });
            }
        }
        Ok(self.remove(Action::Delete, path))
    }

    fn compare_and_delete(
        &mut self,
        path: &KeyPath,
        condition: &Condition,
    ) -> Result<Event, Refusal> {
        compare(path, self.tree.find(path)?, condition)?;
        Ok(self.remove(Action::CompareAndDelete, path))
    }

    /// Lets keys die whose deadline has passed, soonest first, until `nodes_max` nodes are gone; each takes an index of its own.
    ///
    /// What counts is what an event shows, for that is the same on each member. A directory goes whole, however much is in it.
    pub(super) fn expire(&mut self, nodes_max: Option<u64>) -> Applied {
        let mut events = Vec::new();
        let mut gone = 0;
        while nodes_max.is_none_or(|max| gone < max)
            && let Some(path) = self.tree.due(self.now)
        {
            let event = Arc::new(self.remove(Action::Expire, &path));
            self.counters.count(Counter::ExpireCount);
            self.history.push(Arc::clone(&event));
            gone += 1 + event.removed.len();
            events.push(event);
        }
        Applied::Expired(events)
    }

    /// Records a fact of the cluster. It takes as many indexes as in etcd, where such facts are hidden keys; a
    /// fact that is known already takes none, so that two leaders in a row may both say it.
    pub(super) fn record(&mut self, command: &Command) -> Applied {
        if let Command::AddMember { checked, .. } | Command::RemoveMember { checked, .. } = command
            && checked.is_some_and(|revision| revision != self.members.revision())
        {
            return Applied::Outdated;
        }
        let slots = match command {
            Command::AddMember { id, peer_urls, .. } => {
                usize::from(self.members.add(*id, peer_urls))
            }
            Command::UpdateMember { id, peer_urls } => {
                usize::from(self.members.update(*id, peer_urls))
            }
            Command::PublishMember { id, name, client_urls } => {
                usize::from(self.members.publish(*id, name, client_urls))
            }
            Command::RemoveMember { id, .. } => 2 * usize::from(self.members.remove(*id)),
            Command::SetClusterVersion { version } => {
                usize::from(self.members.set_version(version))
            }
            Command::Set { .. }
            | Command::Create { .. }
            | Command::CreateInOrder { .. }
            | Command::Update { .. }
            | Command::CompareAndSwap { .. }
            | Command::Delete { .. }
            | Command::CompareAndDelete { .. }
            | Command::Tick { .. }
            | Command::Auth(_)
            | Command::Mvcc(_) => unreachable!("apply sends these elsewhere"),
        };
        self.take_indexes(slots as u64);
        if slots > 0 { Applied::Recorded } else { Applied::Known }
    }

    /// Changes users, roles or the flag.
    pub(super) fn change_auth(&mut self, command: &AuthCommand) -> Applied {
        let (outcome, indexes) = self.auth.apply(command);
        self.take_indexes(indexes);
        match outcome {
            Ok(change) => Applied::AuthChanged(change),
            Err(refusal) => Applied::AuthRefused(refusal),
        }
    }

    /// Takes indexes for what no watcher sees.
    pub(super) fn take_indexes(&mut self, count: u64) {
        for _ in 0..count {
            self.index = self.index.next();
            self.history.push_silent();
        }
    }

    /// A node that the next index makes.
    fn new_node(&self, value: &[u8], dir: bool, expires: Option<LogTime>) -> Node {
        if dir {
            Node::dir(self.index.next(), expires)
        } else {
            Node::file(self.index.next(), expires, value)
        }
    }

    /// When what a command writes dies, if the command says so.
    pub(super) fn deadline(&self, command: &Command) -> Option<LogTime> {
        command.write()?.ttl.map(|ttl| self.now.after(ttl))
    }

    /// Puts a new node, in place of the file `prev` if there was one.
    fn put(
        &mut self,
        action: Action,
        path: &KeyPath,
        node: Node,
        prev: Option<Shown>,
        refresh: bool,
    ) -> Result<Event, Refusal> {
        let shown = node.shown();
        self.tree.put(path, node)?;
        self.index = self.index.next();
        Ok(Event { refresh, ..self.event(action, path, shown, prev) })
    }

    /// Changes an existing node in place: a file's value and lifetime, a directory's lifetime.
    fn replace(
        &mut self,
        action: Action,
        path: &KeyPath,
        write: &Write,
        expires: Option<LogTime>,
    ) -> Event {
        self.index = self.index.next();
        let index = self.index;
        let (prev, shown) = self.tree.change(path, |node| {
            let prev = node.shown();
            if node.is_dir() {
                // It keeps the index it was made with, as in etcd: some clients compare listings.
                node.change(|facts| facts.expires = expires);
            } else if write.refresh {
                node.change(|facts| (facts.modified, facts.expires) = (index, expires));
            } else {
                *node = Node::file_modified(node.created, index, expires, &write.value);
            }
            (prev, node.shown())
        });
        let shown = Shown { modified: index, ..shown };
        Event { refresh: write.refresh, ..self.event(action, path, shown, Some(prev)) }
    }

    /// Takes a node out with everything below it.
    fn remove(&mut self, action: Action, path: &KeyPath) -> Event {
        self.index = self.index.next();
        let node = self.tree.remove(path);
        let shown = Shown {
            value: None,
            dir: node.is_dir(),
            modified: self.index,
            created: node.created,
            expires: None,
        };
        let removed = tree::removed_below(&node);
        let event = Event { removed, ..self.event(action, path, shown, Some(node.shown())) };
        self.remains.bury(node);
        event
    }

    fn event(&self, action: Action, path: &KeyPath, node: Shown, prev: Option<Shown>) -> Event {
        Event {
            action,
            index: self.index,
            at: self.now,
            offset: self.offset,
            path: path.clone(),
            node,
            prev,
            refresh: false,
            removed: Removed::Nothing,
        }
    }

    /// Counts an outcome where etcd counts it, accidents included: dashboards compare these numbers.
    fn count(&mut self, command: &Command, refusal: Option<&Refusal>) {
        let on_root = matches!(refusal, Some(Refusal::RootReadOnly));
        let on_dir = matches!(refusal, Some(Refusal::NotAFile { .. }));
        let unequal = matches!(refusal, Some(Refusal::CompareFailed { .. }));
        let failed = refusal.is_some();
        let (success, fail, failed) = match command {
            Command::Set { .. } => (Counter::SetsSuccess, Counter::SetsFail, failed),
            Command::Create { .. } | Command::CreateInOrder { .. } => {
                if matches!(refusal, Some(Refusal::NotADirectory { .. })) {
                    self.counters.count(Counter::SetsFail);
                }
                (Counter::CreateSuccess, Counter::CreateFail, failed)
            }
            Command::Update { .. } => {
                (Counter::UpdateSuccess, Counter::UpdateFail, failed && !on_root && !on_dir)
            }
            Command::CompareAndSwap { .. } => {
                (Counter::CompareAndSwapSuccess, Counter::CompareAndSwapFail, failed && !on_root)
            }
            Command::Delete { .. } => {
                (Counter::DeleteSuccess, Counter::DeleteFail, failed && !on_root)
            }
            Command::CompareAndDelete { .. } => (
                Counter::CompareAndDeleteSuccess,
                Counter::CompareAndDeleteFail,
                failed && !on_dir && !unequal,
            ),
            Command::Tick { .. }
            | Command::AddMember { .. }
            | Command::UpdateMember { .. }
            | Command::PublishMember { .. }
            | Command::RemoveMember { .. }
            | Command::SetClusterVersion { .. }
            | Command::Auth(_)
            | Command::Mvcc(_) => return,
        };
        self.counters.count(if failed { fail } else { success });
    }
}

fn refuse_root(path: &KeyPath) -> Result<(), Refusal> {
    if path.is_root() { Err(Refusal::RootReadOnly) } else { Ok(()) }
}

/// Does `condition` hold of the file `node`?
fn compare(path: &KeyPath, node: &Node, condition: &Condition) -> Result<(), Refusal> {
    let Some(value) = node.value() else {
        let path = (!path.is_root()).then(|| path.clone());
        return Err(Refusal::NotAFile { path });
    };
    let wanted = condition.value.as_ref().filter(|wanted| ***wanted != *value);
    let values = wanted.map(|wanted| (Arc::clone(wanted), Value::from(value)));
    let unequal = condition.index != StoreIndex(0) && condition.index != node.modified;
    let indexes = unequal.then_some((condition.index, node.modified));
    if values.is_none() && indexes.is_none() {
        return Ok(());
    }
    Err(Refusal::CompareFailed { values, indexes })
}
