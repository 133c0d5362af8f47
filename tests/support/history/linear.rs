//! The black-box check: is there any order of the calls of a key that explains their answers?
//!
//! Owns: the search for that order, after Wing and Gong, just in time as Lowe does it: a call is put in order when its answer
//! is due, with whatever must come before it. Never knows: indexes, except that a condition on an index means the value that
//! a client saw with it. Plain reads take no part; they may be stale.
//!
//! Every value is written once. So who overwrites a value is told by the answer that shows it as `prev`, and only calls of
//! unknown outcome leave a choice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Action, Call, Outcome, Rule, VIOLATIONS_MAX, Violation};

/// A search that must keep more states than this, for one key and one answer, is given up.
const CONFIGS_MAX: usize = 20_000;
/// Calls of one key that may be under way at the same time.
const SLOTS_MAX: usize = 64;
/// Writes of unknown outcome to one key of which each could matter in its own way.
const OPTIONS_MAX: usize = 128;

/// Looks for an order, key by key.
///
/// # Errors
/// What was broken, at most [`VIOLATIONS_MAX`]; [`Rule::TooHard`] when the search was given up.
pub(crate) fn check_linear(calls: &[Call]) -> Result<(), Vec<Violation>> {
    let mut keys: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in calls.iter().filter(|call| !call.is_plain_read()) {
        keys.entry(&call.key).or_default().push(call);
    }
    let violations = keys.values().filter_map(|calls| check_key(calls).err());
    let violations: Vec<Violation> = violations.take(VIOLATIONS_MAX).collect();
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// A value by its number; `None` is no key.
type State = Option<u32>;

/// What unknown writes write that nobody ever saw or asked for: one is as good as another.
const UNSEEN: u32 = 0;

/// What a call of known outcome says about the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It found this and left that.
    Change { from: State, to: State },
    /// It found this and changed nothing.
    Found(State),
    /// It found something, but not this value.
    FoundOther(Option<u32>),
}

impl Known {
    /// Whether it may come next, where it changes nothing.
    fn holds(self, state: State) -> bool {
        match self {
            Self::Change { .. } => false,
            Self::Found(found) => found == state,
            Self::FoundOther(not) => state.is_some() && state != not,
        }
    }

    fn observes(self, value: u32) -> bool {
        match self {
            Self::Change { from, .. } => from == Some(value),
            Self::Found(found) => found == Some(value),
            Self::FoundOther(_) => false,
        }
    }
}

/// What a call of unknown outcome may do, once, at any time after it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maybe {
    Set(u32),
    Create(u32),
    Update(u32),
    /// Over one value only.
    Swap(u32, u32),
    Delete,
    DeleteIf(u32),
}

impl Maybe {
    /// What it leaves; `None` when it does nothing to this state.
    fn step(self, state: State) -> Option<State> {
        let to = match (self, state) {
            (Self::Set(to), _) | (Self::Create(to), None) | (Self::Update(to), Some(_)) => Some(to),
            (Self::Swap(from, to), Some(there)) if there == from => Some(to),
            (Self::Delete, Some(_)) => None,
            (Self::DeleteIf(from), Some(there)) if there == from => None,
            _ => return None,
        };
        (to != state).then_some(to)
    }

    /// Those of the same kind whose value nobody saw can stand in for each other; so they are only counted.
    fn kind(self) -> Option<usize> {
        match self {
            Self::Set(UNSEEN) => Some(0),
            Self::Create(UNSEEN) => Some(1),
            Self::Update(UNSEEN) => Some(2),
            Self::Delete => Some(3),
            Self::Set(_)
            | Self::Create(_)
            | Self::Update(_)
            | Self::Swap(..)
            | Self::DeleteIf(_) => None,
        }
    }
}

const KINDS: [Maybe; 4] =
    [Maybe::Set(UNSEEN), Maybe::Create(UNSEEN), Maybe::Update(UNSEEN), Maybe::Delete];

/// How many of each of [`KINDS`].
type Counts = [u32; 4];

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Config {
    state: State,
    /// Calls under way that are in the order already, by slot.
    done: u64,
    /// Unknown writes that are in the order, by number.
    used: u128,
    counted: Counts,
}

/// Orders that no other one is better than. One that has used less of what it may use at will is better.
#[derive(Default)]
struct Frontier {
    configs: BTreeMap<(State, u64), Vec<(u128, Counts)>>,
    count: usize,
}

impl Frontier {
    /// False when there was one at least as good.
    fn add(&mut self, config: Config) -> bool {
        let fewer = |a: &(u128, Counts), b: &(u128, Counts)| {
            a.0 & !b.0 == 0 && a.1.iter().zip(b.1).all(|(a, b)| *a <= b)
        };
        let new = (config.used, config.counted);
        let same = self.configs.entry((config.state, config.done)).or_default();
        if same.iter().any(|old| fewer(old, &new)) {
            return false;
        }
        self.count -= same.len();
        same.retain(|old| !fewer(&new, old));
        same.push(new);
        self.count += same.len();
        true
    }

    fn iter(&self) -> impl Iterator<Item = Config> {
        self.configs.iter().flat_map(|(&(state, done), used)| {
            used.iter().map(move |&(used, counted)| Config { state, done, used, counted })
        })
    }
}

/// One key's values, by number.
struct Values<'a> {
    numbers: BTreeMap<&'a str, u32>,
    names: Vec<&'a str>,
    /// The value that a client saw with an index.
    by_index: BTreeMap<u64, u32>,
    /// Values that an answer shows, other than that of who wrote it.
    seen: BTreeSet<u32>,
    /// Values that a condition asks for.
    asked_for: BTreeSet<u32>,
    /// Values that an acknowledged write found, and so was the one to overwrite.
    overwritten: BTreeSet<u32>,
}

impl<'a> Values<'a> {
    fn of(calls: &[&'a Call]) -> Result<Self, Violation> {
        let mut values = Self {
            numbers: BTreeMap::new(),
            names: vec!["a value that nobody saw"],
            by_index: BTreeMap::new(),
            seen: BTreeSet::new(),
            asked_for: BTreeSet::new(),
            overwritten: BTreeSet::new(),
        };
        for call in calls {
            if let Some(value) = call.action.value() {
                if values.numbers.contains_key(value) {
                    let text = format!("{call}\n  writes what was written before");
                    return Err(Violation::new(Rule::Unfit, text));
                }
                values.number(value);
            }
        }
        for call in calls {
            let Outcome::Done { node, prev, .. } = &call.outcome else { continue };
            for seen in node.iter().chain(prev) {
                let number = values.number(&seen.value);
                if values.by_index.insert(seen.modified, number).is_some_and(|old| old != number) {
                    let text = format!("{call}\n  shows index {} with two values", seen.modified);
                    return Err(Violation::new(Rule::NotLinearizable, text));
                }
            }
            if let Some(prev) = prev.as_ref().map(|prev| values.number(&prev.value)) {
                values.seen.insert(prev);
                values.overwritten.insert(prev);
            }
            if let (false, Some(node)) = (call.action.writes(), node) {
                let number = values.number(&node.value);
                values.seen.insert(number);
            }
        }
        for call in calls {
            if let Action::Swap { if_value, if_index, .. }
            | Action::DeleteIf { if_value, if_index } = &call.action
            {
                let asked = values.asked(if_value.as_ref(), *if_index);
                values.asked_for.extend(asked.iter().flatten());
            }
        }
        Ok(values)
    }

    fn number(&mut self, value: &'a str) -> u32 {
        let next = u32::try_from(self.names.len()).expect("fewer values than numbers");
        let number = *self.numbers.entry(value).or_insert(next);
        if number == next {
            self.names.push(value);
        }
        number
    }

    fn get(&self, value: &str) -> u32 {
        // A value that nobody wrote and nobody saw equals none of the others.
        self.numbers.get(value).copied().unwrap_or(u32::MAX)
    }

    /// The values that the two conditions ask for, as far as somebody saw them.
    fn asked(&self, if_value: Option<&String>, if_index: Option<u64>) -> [Option<u32>; 2] {
        let by_index = if_index.and_then(|index| self.by_index.get(&index).copied());
        [if_value.map(|value| self.get(value)), by_index]
    }

    fn name(&self, state: State) -> String {
        let number = state.and_then(|number| usize::try_from(number).ok());
        number.map_or_else(|| "nothing".to_owned(), |number| format!("{:?}", self.names[number]))
    }

    /// What the answer says; the text when no store answers so.
    fn known(&self, call: &Call) -> Result<Known, String> {
        let value = |seen: &Option<super::Seen>| seen.as_ref().map(|seen| self.get(&seen.value));
        match (&call.action, &call.outcome) {
            (Action::Read { .. }, Outcome::Done { node, .. }) => Ok(Known::Found(value(node))),
            (action, Outcome::Done { node, prev, .. }) => {
                let (from, to) = (value(prev), value(node));
                if to != action.value().map(|value| self.get(value)) {
                    return Err("it wrote something else than it was asked to".to_owned());
                }
                let holds = match action {
                    Action::Create { .. } => from.is_none(),
                    Action::Swap { if_value, if_index, .. }
                    | Action::DeleteIf { if_value, if_index } => {
                        let asked = self.asked(if_value.as_ref(), *if_index);
                        from.is_some() && asked.iter().flatten().all(|asked| Some(*asked) == from)
                    }
                    Action::Delete => from.is_some(),
                    Action::Set { .. } | Action::Read { .. } => true,
                };
                holds.then_some(Known::Change { from, to }).ok_or_else(|| {
                    format!("it found {}, and so should have been refused", self.name(from))
                })
            }
            (action, Outcome::Refused { code, .. }) => self.refused(action, *code),
            (_, Outcome::Unknown | Outcome::Nothing) => Err("it has no answer".to_owned()),
        }
    }

    fn refused(&self, action: &Action, code: u32) -> Result<Known, String> {
        match (action, code) {
            (Action::Create { .. }, 105) => Ok(Known::FoundOther(None)),
            (
                Action::Read { .. }
                | Action::Swap { .. }
                | Action::Delete
                | Action::DeleteIf { .. },
                100,
            ) => Ok(Known::Found(None)),
            (
                Action::Swap { if_value, if_index, .. } | Action::DeleteIf { if_value, if_index },
                101,
            ) => {
                let asked = self.asked(if_value.as_ref(), *if_index);
                // Any value breaks two conditions that ask for different ones, or one on an index that nobody saw.
                Ok(Known::FoundOther(match asked {
                    [Some(value), Some(by_index)] if value != by_index => None,
                    [Some(_), None] if if_index.is_some() => None,
                    [value, by_index] => value.or(by_index),
                }))
            }
            _ => Err(format!("no store refuses this with {code}")),
        }
    }

    /// What it may do; nothing when its conditions can never hold.
    fn maybe(&self, action: &Action) -> Option<Maybe> {
        let to = action.value().map_or(UNSEEN, |value| self.get(value));
        let matters = self.seen.contains(&to) || self.asked_for.contains(&to);
        let to = if matters { to } else { UNSEEN };
        let conditions = |if_value: &Option<String>, if_index: &Option<u64>| match self
            .asked(if_value.as_ref(), *if_index)
        {
            [Some(value), Some(by_index)] if value != by_index => Err(()),
            [value, by_index] => Ok(value.or(by_index)),
        };
        match action {
            Action::Read { .. } => None,
            Action::Set { .. } => Some(Maybe::Set(to)),
            Action::Create { .. } => Some(Maybe::Create(to)),
            Action::Delete => Some(Maybe::Delete),
            // An index that nobody saw may be that of anything.
            Action::Swap { if_value, if_index, .. } => match conditions(if_value, if_index).ok()? {
                Some(from) if self.overwritten.contains(&from) => None,
                Some(from) => Some(Maybe::Swap(from, to)),
                None => Some(Maybe::Update(to)),
            },
            Action::DeleteIf { if_value, if_index } => match conditions(if_value, if_index).ok()? {
                Some(from) if self.overwritten.contains(&from) => None,
                Some(from) => Some(Maybe::DeleteIf(from)),
                None => Some(Maybe::Delete),
            },
        }
    }
}

struct Search<'a> {
    values: Values<'a>,
    /// Calls of known outcome under way, by slot.
    slots: Vec<Option<(&'a Call, Known)>>,
    /// Unknown writes that have begun and matter each in its own way.
    options: Vec<Maybe>,
    /// How many others have begun, by kind.
    counts: Counts,
    frontier: Frontier,
}

/// The calls of one key, put in order.
fn check_key(calls: &[&Call]) -> Result<(), Violation> {
    let mut frontier = Frontier::default();
    frontier.add(Config { state: None, done: 0, used: 0, counted: [0; 4] });
    let values = Values::of(calls)?;
    let mut search =
        Search { values, slots: Vec::new(), options: Vec::new(), counts: [0; 4], frontier };
    // What begins comes before what ends at the same time: only what is surely over is before.
    let mut moments: Vec<(Duration, bool, usize)> = Vec::new();
    for (place, call) in calls.iter().enumerate() {
        match call.outcome {
            Outcome::Done { .. } | Outcome::Refused { .. } => {
                moments.extend([(call.began, false, place), (call.ended, true, place)]);
            }
            Outcome::Unknown => moments.push((call.began, false, place)),
            Outcome::Nothing => {}
        }
    }
    moments.sort_unstable();
    for (_, ends, place) in moments {
        if ends { search.end(calls[place])? } else { search.begin(calls[place])? }
    }
    Ok(())
}

impl<'a> Search<'a> {
    fn begin(&mut self, call: &'a Call) -> Result<(), Violation> {
        if call.outcome == Outcome::Unknown {
            return self.offer(call);
        }
        let known = self
            .values
            .known(call)
            .map_err(|why| Violation::new(Rule::NotLinearizable, format!("{call}\n  {why}")))?;
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        if slot >= SLOTS_MAX {
            return Err(too_hard(call, "too many calls are under way"));
        }
        self.slots[slot] = Some((call, known));
        let before = std::mem::take(&mut self.frontier);
        for config in before.iter() {
            let config = self.settled(config);
            self.frontier.add(config);
        }
        Ok(())
    }

    fn offer(&mut self, call: &Call) -> Result<(), Violation> {
        let Some(maybe) = self.values.maybe(&call.action) else { return Ok(()) };
        if let Some(kind) = maybe.kind() {
            self.counts[kind] += 1;
        } else if self.options.len() < OPTIONS_MAX {
            self.options.push(maybe);
        } else {
            return Err(too_hard(call, "too many outcomes are unknown"));
        }
        Ok(())
    }

    /// Its answer is due: every order must have it from here on.
    fn end(&mut self, call: &Call) -> Result<(), Violation> {
        let slot = self.slots.iter().position(|slot| slot.is_some_and(|(other, _)| other == call));
        let slot = slot.expect("what ends has begun");
        let before = std::mem::take(&mut self.frontier);
        let mut reached = Frontier::default();
        let mut tried = Frontier::default();
        let mut open: Vec<Config> = before.iter().collect();
        while let Some(config) = open.pop() {
            if config.done & (1 << slot) != 0 {
                reached.add(Config { done: config.done & !(1 << slot), ..config });
                continue;
            }
            if tried.add(config) {
                self.steps(config, slot, &mut open);
            }
            if tried.count + reached.count > CONFIGS_MAX {
                return Err(too_hard(call, "too many orders are possible"));
            }
        }
        self.slots[slot] = None;
        self.frontier = reached;
        if self.frontier.count > 0 {
            return Ok(());
        }
        let states: BTreeSet<State> = before.iter().map(|config| config.state).collect();
        let states: Vec<String> =
            states.iter().take(10).map(|state| self.values.name(*state)).collect();
        let mut text = format!("no order explains {call}\n  before it: {}", states.join(" or "));
        for (other, _) in self.slots.iter().flatten() {
            text.push_str(&format!("\n  beside it: {other}"));
        }
        Err(Violation::new(Rule::NotLinearizable, text))
    }

    /// Every order that has one call more, on the way to the one in `goal`.
    fn steps(&self, config: Config, goal: usize, open: &mut Vec<Config>) {
        for (slot, known) in self.waiting(config) {
            if let Known::Change { from, to } = known
                && from == config.state
            {
                let done = config.done | (1 << slot);
                open.push(self.settled(Config { state: to, done, ..config }));
            }
        }
        // The write that found this value is the one that overwrites it.
        if config.state.is_some_and(|value| self.values.overwritten.contains(&value)) {
            return;
        }
        for (kind, maybe) in KINDS.iter().enumerate() {
            if let (true, Some(state)) =
                (config.counted[kind] < self.counts[kind], maybe.step(config.state))
            {
                let mut counted = config.counted;
                counted[kind] += 1;
                open.push(self.settled(Config { state, counted, ..config }));
            }
        }
        let any_will_do = matches!(self.slots[goal], Some((_, Known::FoundOther(_))));
        for (number, maybe) in self.options.iter().enumerate() {
            let Some(state) = maybe.step(config.state) else { continue };
            // Too early for a value that is seen, but by nobody who is waiting.
            let wanted = state.is_none_or(|value| {
                !self.values.seen.contains(&value)
                    || self.waiting(config).any(|(_, known)| known.observes(value))
            });
            if config.used & (1 << number) == 0 && (wanted || any_will_do) {
                let used = config.used | (1 << number);
                open.push(self.settled(Config { state, used, ..config }));
            }
        }
    }

    /// Calls under way that are not in this order yet.
    fn waiting(&self, config: Config) -> impl Iterator<Item = (usize, Known)> {
        let slots = self.slots.iter().enumerate();
        slots
            .filter_map(|(slot, call)| Some((slot, call.as_ref()?.1)))
            .filter(move |(slot, _)| config.done & (1 << slot) == 0)
    }

    /// Puts everything in order that changes nothing and may come now: it can never come better.
    fn settled(&self, mut config: Config) -> Config {
        for (slot, known) in self.waiting(config) {
            if known.holds(config.state) {
                config.done |= 1 << slot;
            }
        }
        config
    }
}

fn too_hard(call: &Call, why: &str) -> Violation {
    Violation::new(Rule::TooHard, format!("{why} at {call}"))
}
