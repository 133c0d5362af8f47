//! The exact check: every answer against a replay of the log.
//!
//! Owns: the rules for calls and for what is left at the end. Never knows: why something went wrong. It sorts and looks up,
//! so that a million calls take seconds.

use std::collections::{BTreeMap, BTreeSet};

use super::replay::Replay;
use super::watchers::check_watcher;
use super::{
    Action, Call, Checked, Event, Final, History, Outcome, Rule, Seen, VIOLATIONS_MAX, Violation,
    shown,
};

/// Compares everything with the replay of the log.
///
/// # Errors
/// What was broken, at most [`VIOLATIONS_MAX`].
pub(crate) fn check(history: &History) -> Result<Checked, Vec<Violation>> {
    let mut violations = Vec::new();
    let replay = Replay::of(&history.log, &mut violations);
    let claims = claims(history, &replay, &mut violations);
    check_places(history, &claims, &mut violations);
    for call in &history.calls {
        violations.extend(check_answer(call, &replay));
    }
    check_creators(&history.calls, &replay, &mut violations);
    let told = history.watchers.iter().filter_map(|watcher| check_watcher(watcher, &history.log));
    violations.extend(told);
    check_finals(&history.finals, &replay, &mut violations);
    violations.truncate(VIOLATIONS_MAX);
    if violations.is_empty() { Ok(count(history, &claims)) } else { Err(violations) }
}

/// Which event each call made: its place in `calls`, the event's index.
type Claims = BTreeMap<usize, u64>;

/// Settles who made which event. Each event has exactly one call, each call at most one event.
fn claims(history: &History, replay: &Replay<'_>, violations: &mut Vec<Violation>) -> Claims {
    let mut claims = Claims::new();
    // Who made the event, by its index.
    let mut makers: BTreeMap<u64, usize> = BTreeMap::new();
    for (place, call) in history.calls.iter().enumerate() {
        let Outcome::Done { modified, .. } = call.outcome else { continue };
        if !call.action.writes() {
            continue;
        }
        if let Some(other) = makers.insert(modified, place) {
            let text = format!("{call}\n  and {}", history.calls[other]);
            violations.push(Violation::new(Rule::ClaimedTwice, text));
        }
        claims.insert(place, modified);
    }
    let mut by_value: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, call) in history.calls.iter().enumerate() {
        let Some(value) = call.action.value() else { continue };
        if let Some(other) = by_value.insert(value, place) {
            let text = format!("the same value twice: {call}\n  and {}", history.calls[other]);
            violations.push(Violation::new(Rule::Unfit, text));
        }
    }
    let mut removals = Removals::of(&history.calls);
    for event in replay.events().filter(|event| !makers.contains_key(&event.index)) {
        let maker = match &event.node {
            Some(node) => by_value.get(node.value.as_str()).copied(),
            None => removals.take(event),
        };
        let Some((place, call)) = maker.map(|place| (place, &history.calls[place])) else {
            violations.push(Violation::new(Rule::Unclaimed, event.to_string()));
            continue;
        };
        match call.outcome {
            Outcome::Unknown if call.key != event.key || !call.action.makes(&event.action) => {
                violations
                    .push(Violation::new(Rule::Unclaimed, format!("{event}; asked was {call}")));
            }
            Outcome::Unknown => {
                if let Some(first) = claims.insert(place, event.index) {
                    let text = format!("{call}\n  made the events {first} and {}", event.index);
                    violations.push(Violation::new(Rule::ClaimedTwice, text));
                }
                let there = replay.at(&event.key, event.index - 1);
                if call.action.refusal(there).is_some() {
                    let text = format!("{event}\n  made by {call}, whose condition did not hold");
                    violations.push(Violation::new(Rule::WrongCompare, text));
                }
            }
            Outcome::Nothing | Outcome::Refused { .. } => {
                let text = format!("{event}\n  made by {call}");
                violations.push(Violation::new(Rule::NothingButWritten, text));
            }
            // The event at its own index is in the log as another one, or not at all: that is told with its answer.
            Outcome::Done { .. } => {
                let text = format!("{call}\n  also made {event}");
                violations.push(Violation::new(Rule::ClaimedTwice, text));
            }
        }
    }
    claims
}

/// Removals of unknown outcome, to be matched with events: those tell no value.
struct Removals<'a> {
    calls: &'a [Call],
    /// By key, those that no event was found for.
    open: BTreeMap<&'a str, Vec<usize>>,
    /// For each call, the highest place that was answered before it began.
    floors: Vec<u64>,
}

impl<'a> Removals<'a> {
    fn of(calls: &'a [Call]) -> Self {
        let mut open: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, call) in calls.iter().enumerate() {
            let removes = matches!(call.action, Action::Delete | Action::DeleteIf { .. });
            // One that is said to have done nothing is found too, so that the lie can be told.
            if removes && matches!(call.outcome, Outcome::Unknown | Outcome::Nothing) {
                open.entry(&call.key).or_default().push(place);
            }
        }
        Self { calls, open, floors: floors(calls).into_iter().map(|(floor, _)| floor).collect() }
    }

    /// The call that made this event. Any unconditional one that had begun will do: those after it in the log may use the
    /// others just as well, and conditions on values that are written once fit one event only.
    fn take(&mut self, event: &Event) -> Option<usize> {
        let open = self.open.get_mut(event.key.as_str())?;
        let fits = |place: &usize| {
            let call = &self.calls[*place];
            call.action.makes(&event.action)
                && self.floors[*place] < event.index
                && call.action.refusal(event.prev.as_ref()).is_none()
        };
        let unknown = |place: &usize| self.calls[*place].outcome == Outcome::Unknown;
        let at = open.iter().position(|place| fits(place) && unknown(place));
        let at = at.or_else(|| open.iter().position(fits))?;
        Some(open.remove(at))
    }
}

/// For each call the highest place of those that had ended when it began, and which call that was.
fn floors(calls: &[Call]) -> Vec<(u64, Option<usize>)> {
    let places: Vec<Option<u64>> = calls.iter().map(Call::place).collect();
    floors_of(calls, &places, |_| true)
}

fn floors_of(
    calls: &[Call],
    places: &[Option<u64>],
    counts: impl Fn(&Call) -> bool,
) -> Vec<(u64, Option<usize>)> {
    let mut by_end: Vec<usize> = (0..calls.len()).filter(|&place| counts(&calls[place])).collect();
    by_end.sort_by_key(|&place| calls[place].ended);
    let mut by_begin: Vec<usize> = (0..calls.len()).collect();
    by_begin.sort_by_key(|&place| calls[place].began);
    let mut floors = vec![(0, None); calls.len()];
    let (mut ended, mut floor) = (by_end.into_iter().peekable(), (0, None));
    for place in by_begin {
        while let Some(before) = ended.next_if(|&other| calls[other].ended < calls[place].began) {
            let index = places[before].unwrap_or(0);
            // An unknown write has no end.
            let known = !matches!(calls[before].outcome, Outcome::Unknown | Outcome::Nothing);
            if known && index > floor.0 {
                floor = (index, Some(before));
            }
        }
        floors[place] = floor;
    }
    floors
}

/// What had ended when a call began is before it, also as far as indexes tell.
fn check_places(history: &History, claims: &Claims, violations: &mut Vec<Violation>) {
    let calls = &history.calls;
    let mut places: Vec<Option<u64>> = calls.iter().map(Call::place).collect();
    for (&place, &index) in claims {
        places[place] = Some(index);
    }
    let all = floors_of(calls, &places, |_| true);
    for (place, call) in calls.iter().enumerate() {
        let (Some(index), (floor, Some(before))) = (places[place], all[place]) else { continue };
        let before = &calls[before];
        if call.action.writes() && claims.contains_key(&place) {
            if index <= floor {
                let text =
                    format!("{call}\n  is at {index}, but had not begun when {before} ended");
                violations.push(Violation::new(Rule::OutOfOrder, text));
            }
        } else if !call.is_plain_read() && index < floor {
            let rule = if call.action.writes() { Rule::OutOfOrder } else { Rule::StaleQuorumRead };
            let text = format!("{call}\n  is at {index}, but began after {before} ended");
            violations.push(Violation::new(rule, text));
        }
    }
    let members: BTreeSet<usize> = calls.iter().map(|call| call.member).collect();
    for member in members {
        let floors = floors_of(calls, &places, |call| call.member == member);
        for (call, (floor, before)) in calls.iter().zip(floors) {
            let (Some(index), Some(before)) = (call.place(), before) else { continue };
            if call.member == member && call.is_plain_read() && index < floor {
                let text = format!("{call}\n  shows index {index}, after {}", calls[before]);
                violations.push(Violation::new(Rule::WentBack, text));
            }
        }
    }
}

/// One answer against the replay.
fn check_answer(call: &Call, replay: &Replay<'_>) -> Option<Violation> {
    let tell = |rule, why: String| Some(Violation::new(rule, format!("{call}\n  {why}")));
    match &call.outcome {
        Outcome::Refused { code, index } => {
            let there = replay.at(&call.key, *index);
            let must = call.action.refusal(there);
            if must == Some(*code) {
                return None;
            }
            let must = must.map_or_else(|| "no refusal".to_owned(), |code| code.to_string());
            let why = format!("at {index} there was {}, so it must be {must}", shown(there));
            let rule = match call.action {
                Action::Read { quorum: true } => Rule::WrongQuorumRead,
                Action::Read { quorum: false } => Rule::WrongPlainRead,
                Action::Set { .. }
                | Action::Create { .. }
                | Action::Swap { .. }
                | Action::Delete
                | Action::DeleteIf { .. } => Rule::WrongRefusal,
            };
            tell(rule, why)
        }
        Outcome::Done { node, index, .. } if !call.action.writes() => {
            let there = replay.at(&call.key, *index);
            if there == node.as_ref() {
                return None;
            }
            let plain = call.is_plain_read();
            let rule = if plain { Rule::WrongPlainRead } else { Rule::WrongQuorumRead };
            tell(rule, format!("at {index} there was {}", shown(there)))
        }
        Outcome::Done { node, prev, modified, index } => {
            let answer = (node.as_ref(), prev.as_ref());
            check_write(call, answer, (*modified, *index), replay)
        }
        Outcome::Unknown | Outcome::Nothing => None,
    }
}

/// One acknowledged write against its event and against what was there before.
fn check_write(
    call: &Call,
    (node, prev): (Option<&Seen>, Option<&Seen>),
    (modified, index): (u64, u64),
    replay: &Replay<'_>,
) -> Option<Violation> {
    let tell = |rule, why: String| Some(Violation::new(rule, format!("{call}\n  {why}")));
    let Some(event) = replay.event(modified) else {
        return tell(Rule::LostWrite, format!("the log has nothing at {modified}"));
    };
    let written = event.node.as_ref().map(|node| node.value.as_str());
    let is_asked = event.key == call.key && call.action.makes(&event.action);
    if !is_asked || written != call.action.value() {
        return tell(Rule::LostWrite, format!("the log has in its place {event}"));
    }
    let there = replay.at(&call.key, modified - 1);
    if prev != there {
        return tell(Rule::WrongPrevNode, format!("before it there was {}", shown(there)));
    }
    if let Some(code) = call.action.refusal(there) {
        let why = format!("before it there was {}, so it must be refused: {code}", shown(there));
        return tell(Rule::WrongCompare, why);
    }
    if node != event.node.as_ref() {
        return tell(Rule::WrongAnswer, format!("the log has {event}"));
    }
    if index != modified {
        return tell(Rule::WrongAnswer, format!("the store was at {modified} after it"));
    }
    None
}

/// Of those who create a key only one wins, until it is removed.
fn check_creators(calls: &[Call], replay: &Replay<'_>, violations: &mut Vec<Violation>) {
    let mut winners: BTreeMap<&str, Vec<(u64, &Call)>> = BTreeMap::new();
    for call in calls {
        if let (Action::Create { .. }, Outcome::Done { modified, .. }) =
            (&call.action, &call.outcome)
        {
            winners.entry(&call.key).or_default().push((*modified, call));
        }
    }
    for (key, mut winners) in winners {
        winners.sort_by_key(|(modified, _)| *modified);
        for pair in winners.windows(2) {
            let [(first, winner), (second, other)] = pair else { continue };
            if !replay.removed_between(key, *first, *second) {
                let text = format!("{winner}\n  and {other}");
                violations.push(Violation::new(Rule::TwoCreators, text));
            }
        }
    }
}

/// All members hold the same at the end, and it is what the log says.
fn check_finals(finals: &[Final], replay: &Replay<'_>, violations: &mut Vec<Violation>) {
    let Some(first) = finals.first() else { return };
    for other in &finals[1..] {
        if let Some(difference) = difference(first, other) {
            let members = format!("members {} and {}", first.member, other.member);
            violations
                .push(Violation::new(Rule::UnequalFinals, format!("{members}: {difference}")));
        }
    }
    let files = replay.files(u64::MAX).into_iter();
    let files = files.map(|(key, seen)| (key.to_owned(), seen.clone())).collect();
    let last = replay.events().last().map_or(0, |event| event.index);
    for found in finals {
        let expected = Final {
            member: found.member,
            index: found.index.max(last),
            files: BTreeMap::clone(&files),
        };
        if let Some(difference) = difference(&expected, found) {
            let text = format!("replay and member {}: {difference}", found.member);
            violations.push(Violation::new(Rule::WrongFinal, text));
        }
    }
}

/// The first thing in which two ends differ.
fn difference(one: &Final, other: &Final) -> Option<String> {
    if one.index != other.index {
        return Some(format!("index {} and {}", one.index, other.index));
    }
    let mut keys: Vec<&String> = one.files.keys().chain(other.files.keys()).collect();
    keys.sort();
    let (key, a, b) = keys
        .into_iter()
        .map(|key| (key, one.files.get(key), other.files.get(key)))
        .find(|(_, a, b)| a != b)?;
    Some(format!("under {key} there is {} and {}", shown(a), shown(b)))
}

fn count(history: &History, claims: &Claims) -> Checked {
    let mut checked = Checked { events: history.log.len(), ..Checked::default() };
    checked.watched = history.watchers.iter().map(|watcher| watcher.events.len()).sum();
    for (place, call) in history.calls.iter().enumerate() {
        let counter = match (&call.outcome, &call.action) {
            (Outcome::Done { .. } | Outcome::Refused { .. }, Action::Read { quorum: true }) => {
                &mut checked.quorum_reads
            }
            (Outcome::Done { .. } | Outcome::Refused { .. }, Action::Read { quorum: false }) => {
                &mut checked.plain_reads
            }
            (Outcome::Done { .. }, _) => &mut checked.written,
            (Outcome::Refused { .. }, _) => &mut checked.refused,
            (Outcome::Unknown, action) if action.writes() => {
                checked.unknown_in_log += usize::from(claims.contains_key(&place));
                &mut checked.unknown
            }
            (Outcome::Unknown | Outcome::Nothing, _) => continue,
        };
        *counter += 1;
    }
    checked
}
