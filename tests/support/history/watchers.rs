//! What watchers were told against the log.
//!
//! Owns: the comparison. Never knows: how a watcher watched; a watcher that changed members counts as one.

use super::{Event, Rule, Violation, Watcher};

/// A watcher gets every event below its directory, from its index on up to the last one that it got, once and in order.
///
/// One story of a watcher is enough: the rest would follow from it.
pub(crate) fn check_watcher(watcher: &Watcher, log: &[Event]) -> Option<Violation> {
    let expected: Vec<&Event> = log
        .iter()
        .filter(|event| event.index >= watcher.from && is_below(&event.key, &watcher.prefix))
        .collect();
    let told = &watcher.events;
    let tell = |rule, text: String| {
        Some(Violation::new(rule, format!("watcher {:?}: {text}", watcher.name)))
    };
    let same = told.iter().zip(&expected).take_while(|(told, expected)| *told == **expected);
    let next = same.count();
    let Some(event) = told.get(next) else {
        // Everything that it was told is right; was it all?
        let missed = expected.get(next).filter(|missed| missed.index <= watcher.until)?;
        return tell(Rule::WatcherMissed, format!("was never told {missed}"));
    };
    let Some(place) = expected.iter().position(|expected| expected.index == event.index) else {
        return tell(Rule::WatcherStranger, format!("got {event}, which is not for it"));
    };
    if expected[place] != event {
        let text = format!("got {event}, the log has {}", expected[place]);
        return tell(Rule::WatcherStranger, text);
    }
    if place < next {
        return tell(Rule::WatcherTwice, format!("got {event} a second time"));
    }
    let text = format!("got {event}, before it comes {}", expected[next]);
    // Told later all the same: then it is the order that is wrong.
    let late = told[next..].contains(expected[next]);
    tell(if late { Rule::WatcherDisorder } else { Rule::WatcherMissed }, text)
}

/// Whether a key is at or below a directory, by whole components.
pub(crate) fn is_below(key: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
