//! What clients saw of a cluster, and whether one store can have shown them that.
//!
//! Owns: the words for a recorded run and the checks of it. Never knows: sockets, processes, faults; a history may as well come
//! from a simulation. The checks trust nothing but the clock of the recorder: one monotonic clock for the whole run.
//!
//! [`check`] is exact: a write tells its place in the one order of all writes, so everything is compared with a replay of
//! the log. [`check_linear`] believes no index and looks for any order at all that explains the answers of a key; it catches
//! indexes that lie.

mod exact;
mod linear;
mod replay;
mod watchers;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub(crate) use exact::check;
pub(crate) use linear::check_linear;

/// One request of one client, as the client saw it. Times count from the start of the run, on one monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) client: u32,
    /// Whom it asked: the place in the list of members.
    pub(crate) member: usize,
    pub(crate) key: String,
    pub(crate) action: Action,
    pub(crate) began: Duration,
    /// When the answer or the failure was seen.
    pub(crate) ended: Duration,
    pub(crate) outcome: Outcome,
}

/// What was asked. Every written value is used once in a run, so that an event tells which call made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Read {
        quorum: bool,
    },
    Set {
        value: String,
    },
    /// `prevExist=false`.
    Create {
        value: String,
    },
    /// Compare-and-swap; without any condition `prevExist=true`.
    Swap {
        value: String,
        if_value: Option<String>,
        if_index: Option<u64>,
    },
    Delete,
    /// Compare-and-delete; at least one condition is given.
    DeleteIf {
        if_value: Option<String>,
        if_index: Option<u64>,
    },
}

/// What the client learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It worked.
    Done {
        /// What is there now; `None` after a delete.
        node: Option<Seen>,
        /// `prevNode`.
        prev: Option<Seen>,
        /// `modifiedIndex` of the event of a write; of a read that of the node.
        modified: u64,
        /// `X-Etcd-Index`.
        index: u64,
    },
    /// The store said no: 100 not found, 101 compare failed, 105 exists. Of a read, 100 is the usual way to find nothing.
    Refused { code: u32, index: u64 },
    /// No answer, or one that leaves it open: a write may have happened, or may happen later.
    Unknown,
    /// Surely nothing happened and never will: no connection, or an answer that says so.
    Nothing,
}

/// A file as an answer or an event shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) value: String,
    pub(crate) modified: u64,
    pub(crate) created: u64,
}

/// One event, as a watcher got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// `set`, `create`, `update`, `compareAndSwap`, `delete`, `compareAndDelete`, `expire`; of version 3 `put`, `remove`.
    pub(crate) action: String,
    pub(crate) key: String,
    /// What is there now; `None` after a removal.
    pub(crate) node: Option<Seen>,
    pub(crate) prev: Option<Seen>,
    /// `modifiedIndex` of the event.
    pub(crate) index: u64,
}

/// What one watcher got, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watcher {
    pub(crate) name: String,
    /// The first index that it asked for.
    pub(crate) from: u64,
    /// It was waited for until it had been told everything up to this index; 0 when it was not waited for.
    pub(crate) until: u64,
    /// The directory that it watched, recursively.
    pub(crate) prefix: String,
    pub(crate) events: Vec<Event>,
}

/// What a member holds when all is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Final {
    pub(crate) member: usize,
    /// The store's index of the listing.
    pub(crate) index: u64,
    /// Every file below the directory that the log covers.
    pub(crate) files: BTreeMap<String, Seen>,
}

/// A recorded run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// In any order. All keys are files below the directory that the log covers, and no other client writes there.
    pub(crate) calls: Vec<Call>,
    /// Every event below that directory from the start to the end of the run, in the order of a watcher that saw all. The
    /// directory was empty before.
    pub(crate) log: Vec<Event>,
    pub(crate) watchers: Vec<Watcher>,
    /// Of each member that is there at the end, once nothing is under way any more.
    pub(crate) finals: Vec<Final>,
}

/// What was broken, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// The recording itself is of no use; the text says why.
    Unfit,
    /// A write or a read has its place before something that had ended when it began.
    OutOfOrder,
    /// A quorum read misses what had been answered before it began.
    StaleQuorumRead,
    /// A member shows less than it had shown before.
    WentBack,
    /// An acknowledged write is not in the log as it was acknowledged.
    LostWrite,
    /// `prevNode` is not what was there before.
    WrongPrevNode,
    /// A node, an index or a status of an acknowledged write is not as it must be.
    WrongAnswer,
    /// A condition held by its answer, but not in the log.
    WrongCompare,
    /// A refusal that the log does not explain.
    WrongRefusal,
    /// Two `prevExist=false` of a key won without a removal between them.
    TwoCreators,
    /// Two calls claim the same event, or one call made two.
    ClaimedTwice,
    /// A quorum read shows what was not there at its index.
    WrongQuorumRead,
    /// A plain read shows what was not there at its index.
    WrongPlainRead,
    /// An event that no client asked for.
    Unclaimed,
    /// A write that is said to have done nothing is in the log.
    NothingButWritten,
    /// The log is not in the order of its indexes.
    LogDisorder,
    /// `prevNode` of an event is not the node of the event before.
    BrokenChain,
    /// A watcher was not told an event.
    WatcherMissed,
    /// A watcher was told an event twice.
    WatcherTwice,
    /// A watcher was told events in the wrong order.
    WatcherDisorder,
    /// A watcher was told what is not in the log, or not its business.
    WatcherStranger,
    /// Members hold different things at the end.
    UnequalFinals,
    /// Members hold something else than the replay of the log.
    WrongFinal,
    /// No order of the calls of a key explains their answers.
    NotLinearizable,
    /// The search for an order was given up; that says nothing about the store.
    TooHard,
}

/// One rule that was broken, and the story of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) text: String,
}

impl Violation {
    pub(crate) fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

/// How much was checked: a run in which nothing happened proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Writes with an answer that they worked.
    pub(crate) written: usize,
    /// Conditions and reads that were answered with a no.
    pub(crate) refused: usize,
    pub(crate) quorum_reads: usize,
    pub(crate) plain_reads: usize,
    /// Writes without an answer, and how many of them are in the log.
    pub(crate) unknown: usize,
    pub(crate) unknown_in_log: usize,
    pub(crate) events: usize,
    /// Events that the watchers got, all together.
    pub(crate) watched: usize,
}

/// Both checks.
///
/// # Errors
/// What was broken, at most [`VIOLATIONS_MAX`] for each check.
pub(crate) fn check_all(history: &History) -> Result<Checked, Vec<Violation>> {
    let exact = check(history);
    let linear = check_linear(&history.calls);
    match (exact, linear) {
        (Ok(checked), Ok(())) => Ok(checked),
        (Ok(_), Err(violations)) | (Err(violations), Ok(())) => Err(violations),
        (Err(mut violations), Err(more)) => {
            violations.extend(more);
            Err(violations)
        }
    }
}

/// As [`check_all`], for the end of a test.
///
/// # Panics
/// When a rule was broken; `story` says how to have that run again.
pub(crate) fn assert_sound(history: &History, story: &str) -> Checked {
    check_all(history).unwrap_or_else(|violations| {
        let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
        panic!("{story}: {} rules broken\n{}", lines.len(), lines.join("\n"))
    })
}

/// More than these say nothing new.
pub(crate) const VIOLATIONS_MAX: usize = 20;

impl Action {
    pub(crate) fn writes(&self) -> bool {
        !matches!(self, Self::Read { .. })
    }

    /// What it writes.
    pub(crate) fn value(&self) -> Option<&str> {
        match self {
            Self::Set { value } | Self::Create { value } | Self::Swap { value, .. } => Some(value),
            Self::Read { .. } | Self::Delete | Self::DeleteIf { .. } => None,
        }
    }

    /// What its event is called.
    pub(crate) fn event(&self) -> &'static str {
        match self {
            Self::Read { .. } => "get",
            Self::Set { .. } => "set",
            Self::Create { .. } => "create",
            Self::Swap { if_value: None, if_index: None, .. } => "update",
            Self::Swap { .. } => "compareAndSwap",
            Self::Delete => "delete",
            Self::DeleteIf { .. } => "compareAndDelete",
        }
    }

    /// Is an event of this name of such a call? Version 3 has two kinds of events only, `put` and `remove`.
    pub(crate) fn makes(&self, event: &str) -> bool {
        match event {
            "put" => self.value().is_some(),
            "remove" => matches!(self, Self::Delete | Self::DeleteIf { .. }),
            event => event == self.event(),
        }
    }

    /// The code with which a store in which `there` is must refuse it; `None` when it must not.
    pub(crate) fn refusal(&self, there: Option<&Seen>) -> Option<u32> {
        let compare = |if_value: &Option<String>, if_index: &Option<u64>| match there {
            None => Some(100),
            Some(seen) => {
                let value_holds = if_value.as_ref().is_none_or(|value| *value == seen.value);
                let index_holds = if_index.is_none_or(|index| index == seen.modified);
                (!value_holds || !index_holds).then_some(101)
            }
        };
        match self {
            Self::Set { .. } => None,
            Self::Create { .. } => there.map(|_| 105),
            Self::Read { .. } | Self::Delete => there.is_none().then_some(100),
            Self::Swap { if_value, if_index, .. } | Self::DeleteIf { if_value, if_index } => {
                compare(if_value, if_index)
            }
        }
    }
}

impl Call {
    /// Its place in the order of everything, if it has one: the index at which it was answered.
    pub(crate) fn place(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Done { modified, .. } if self.action.writes() => Some(modified),
            Outcome::Done { index, .. } | Outcome::Refused { index, .. } => Some(index),
            Outcome::Unknown | Outcome::Nothing => None,
        }
    }

    pub(crate) fn is_plain_read(&self) -> bool {
        self.action == Action::Read { quorum: false }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (modified {}, created {})", self.value, self.modified, self.created)
    }
}

/// What is there, or that nothing is.
pub(crate) fn shown(seen: Option<&Seen>) -> String {
    seen.map_or_else(|| "nothing".to_owned(), Seen::to_string)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { quorum: true } => write!(f, "quorum read"),
            Self::Read { quorum: false } => write!(f, "plain read"),
            Self::Set { value } => write!(f, "set {value:?}"),
            Self::Create { value } => write!(f, "create {value:?}"),
            Self::Delete => write!(f, "delete"),
            Self::Swap { value, if_value, if_index } => {
                write!(f, "swap {value:?}")?;
                conditions(f, if_value.as_ref(), *if_index)
            }
            Self::DeleteIf { if_value, if_index } => {
                write!(f, "delete")?;
                conditions(f, if_value.as_ref(), *if_index)
            }
        }
    }
}

fn conditions(
    f: &mut fmt::Formatter<'_>,
    if_value: Option<&String>,
    if_index: Option<u64>,
) -> fmt::Result {
    if let Some(value) = if_value {
        write!(f, " if value is {value:?}")?;
    }
    if_index.map_or(Ok(()), |index| write!(f, " if index is {index}"))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { node, prev, modified, index } => {
                write!(f, "done at {modified}: {}", shown(node.as_ref()))?;
                prev.iter().try_for_each(|prev| write!(f, ", over {prev}"))?;
                write!(f, "; store at {index}")
            }
            Self::Refused { code, index } => write!(f, "refused with {code}; store at {index}"),
            Self::Unknown => write!(f, "outcome unknown"),
            Self::Nothing => write!(f, "surely nothing happened"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            f,
            "[client {} at member {}, {:.3}-{:.3} ms] {} {} -> {}",
            self.client,
            self.member,
            ms(self.began),
            ms(self.ended),
            self.key,
            self.action,
            self.outcome
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = shown(self.node.as_ref());
        write!(f, "event {} {} {}: {node}", self.index, self.action, self.key)?;
        self.prev.iter().try_for_each(|prev| write!(f, ", over {prev}"))
    }
}
