//! Templates of the conformance corpus: text with placeholders, compared with what came.
//!
//! Owns: the meaning of `${...}`. The list of placeholders is in `tests/conformance/README.md`.

use std::collections::BTreeMap;

use super::time::{parse_time, since_1970, time_len};

/// Seconds that an expiration may be away from the expected one.
const TIME_TOLERANCE: f64 = 3.0;
/// Seconds that a `ttl` may have counted down.
const TTL_SLACK: i64 = 2;

/// The values of the placeholders in one run of one case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    /// `${P}`
    pub(crate) prefix: String,
    /// `${i}`
    pub(crate) index: u64,
    bound: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Uint,
    Float,
    Hex,
    Str,
    Any,
    Time,
    TimeIn(f64),
    Ttl(i64),
    Duration,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Hole(Kind, Option<String>),
}

impl Values {
    pub(crate) fn new(prefix: &str, index: u64) -> Self {
        Self { prefix: prefix.to_owned(), index, bound: BTreeMap::new() }
    }

    /// Puts the values into a request.
    ///
    /// # Errors
    /// When a placeholder has no value.
    pub(crate) fn expand(&self, template: &str) -> Result<String, String> {
        let mut out = String::new();
        for piece in pieces(template) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Mark(mark) => out.push_str(
                    &self.value(mark).ok_or_else(|| format!("${{{mark}}} has no value"))?,
                ),
            }
        }
        Ok(out)
    }

    fn value(&self, mark: &str) -> Option<String> {
        if mark == "P" {
            return Some(self.prefix.clone());
        }
        if let Some(run) = mark.strip_prefix("rep:") {
            let (text, count) = run.rsplit_once('*')?;
            return Some(text.repeat(count.parse().ok()?));
        }
        if let Some(offset) = mark.strip_prefix('i') {
            let (offset, padded) = match offset.strip_suffix(":020") {
                Some(offset) => (offset, true),
                None => (offset, false),
            };
            let offset: i64 = if offset.is_empty() { 0 } else { signed(offset)? };
            let index = self.index.checked_add_signed(offset)?;
            return Some(if padded { format!("{index:020}") } else { index.to_string() });
        }
        self.bound.get(mark).cloned()
    }

    fn parts(&self, template: &str) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        for piece in pieces(template) {
            let mark = match piece {
                Piece::Text(plain) => {
                    text.push_str(plain);
                    continue;
                }
                Piece::Mark(mark) => mark,
            };
            if let Some(value) = self.value(mark) {
                text.push_str(&value);
                continue;
            }
            let (kind, name) = match mark.split_once(':') {
                Some((kind, name)) => (kind, Some(name)),
                None => (mark, None),
            };
            if let Some(value) = name.and_then(|name| self.bound.get(name)) {
                text.push_str(value);
                continue;
            }
            let kind = kind_of(kind).ok_or_else(|| format!("unknown placeholder ${{{mark}}}"))?;
            parts.push(Part::Text(std::mem::take(&mut text)));
            parts.push(Part::Hole(kind, name.map(str::to_owned)));
        }
        parts.push(Part::Text(text));
        Ok(parts)
    }

    /// Compares `got` with the template and keeps the names that it binds.
    ///
    /// `sent_at` (seconds since 1970) is what `${time+N}` counts from.
    ///
    /// # Errors
    /// Where and why it does not fit.
    pub(crate) fn fit(&mut self, template: &str, got: &str, sent_at: f64) -> Result<(), String> {
        let parts = self.parts(template)?;
        let mut fitting = Fitting { got, sent_at, names: Vec::new(), furthest: 0, why: None };
        if !fitting.from(&parts, 0) {
            let at = fitting.furthest;
            let near: String =
                String::from_utf8_lossy(&got.as_bytes()[at..]).chars().take(60).collect::<String>();
            let why = fitting.why.unwrap_or_else(|| "differs".to_owned());
            return Err(format!("{why} from byte {at} on: {near:?}"));
        }
        let names: Vec<(String, String)> =
            fitting.names.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        self.bound.extend(names);
        Ok(())
    }

    /// The template with the known values put in, for reading.
    pub(crate) fn show(&self, template: &str) -> String {
        pieces(template)
            .map(|piece| match piece {
                Piece::Text(text) => text.to_owned(),
                Piece::Mark(mark) if mark.starts_with("rep:") => format!("${{{mark}}}"),
                Piece::Mark(mark) => self.value(mark).unwrap_or_else(|| format!("${{{mark}}}")),
            })
            .collect()
    }
}

enum Piece<'a> {
    Text(&'a str),
    Mark(&'a str),
}

fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(start) = rest.find("${") else {
            return Some(Piece::Text(std::mem::take(&mut rest)));
        };
        if start > 0 {
            let text = &rest[..start];
            rest = &rest[start..];
            return Some(Piece::Text(text));
        }
        let Some(end) = rest.find('}') else {
            return Some(Piece::Text(std::mem::take(&mut rest)));
        };
        let mark = &rest[2..end];
        rest = &rest[end + 1..];
        Some(Piece::Mark(mark))
    })
}

/// A number with a sign that must be there.
fn signed(text: &str) -> Option<i64> {
    text.starts_with(['+', '-']).then(|| text.parse().ok())?
}

fn kind_of(text: &str) -> Option<Kind> {
    Some(match text {
        "uint" => Kind::Uint,
        "float" => Kind::Float,
        "hex" => Kind::Hex,
        "str" => Kind::Str,
        "any" => Kind::Any,
        "time" => Kind::Time,
        "duration" => Kind::Duration,
        _ => match (text.strip_prefix("time"), text.strip_prefix("ttl~")) {
            (Some(offset), _) => Kind::TimeIn(i32::try_from(signed(offset)?).ok()?.into()),
            (None, Some(ttl)) => Kind::Ttl(ttl.parse().ok()?),
            (None, None) => return None,
        },
    })
}

struct Fitting<'a> {
    got: &'a str,
    sent_at: f64,
    names: Vec<(&'a str, &'a str)>,
    furthest: usize,
    why: Option<String>,
}

impl<'a> Fitting<'a> {
    /// Whether `parts` fit all of the text from `at` on.
    fn from(&mut self, parts: &'a [Part], at: usize) -> bool {
        if at > self.furthest {
            self.furthest = at;
            self.why = None;
        }
        let Some((part, others)) = parts.split_first() else { return at == self.got.len() };
        match part {
            Part::Text(text) => {
                let (want, have) = (text.as_bytes(), &self.got.as_bytes()[at..]);
                let same = want.iter().zip(have).take_while(|(a, b)| a == b).count();
                if same == want.len() {
                    return self.from(others, at + same);
                }
                if at + same > self.furthest {
                    self.furthest = at + same;
                    self.why = None;
                }
                false
            }
            Part::Hole(kind, name) => self.hole(kind, name.as_deref(), others, at),
        }
    }

    fn hole(&mut self, kind: &Kind, name: Option<&'a str>, others: &'a [Part], at: usize) -> bool {
        let got = self.got;
        for len in lengths(kind, &got.as_bytes()[at..]) {
            let Some(text) = got.get(at..at + len) else { continue };
            if let Err(why) = self.holds(kind, text) {
                self.furthest = at;
                self.why = Some(why);
                continue;
            }
            let known = self.names.iter().find(|(n, _)| Some(*n) == name).map(|(_, v)| *v);
            if known.is_some_and(|value| value != text) {
                continue;
            }
            let before = self.names.len();
            if let (Some(name), None) = (name, known) {
                self.names.push((name, text));
            }
            if self.from(others, at + len) {
                return true;
            }
            self.names.truncate(before);
        }
        false
    }

    fn holds(&self, kind: &Kind, text: &str) -> Result<(), String> {
        match kind {
            Kind::TimeIn(offset) => {
                let time = parse_time(text).ok_or_else(|| format!("{text} is no time"))?;
                let off = time - (self.sent_at + offset);
                if off.abs() > TIME_TOLERANCE {
                    return Err(format!("time {text} is {off:.1} s off (now {offset:+} s)"));
                }
            }
            Kind::Ttl(ttl) => {
                let left: i64 = text.parse().map_err(|_| format!("{text} is no ttl"))?;
                if !(ttl - TTL_SLACK..=*ttl).contains(&left) {
                    return Err(format!("ttl {left} is not about {ttl}"));
                }
            }
            Kind::Uint
            | Kind::Float
            | Kind::Hex
            | Kind::Str
            | Kind::Any
            | Kind::Time
            | Kind::Duration => {}
        }
        Ok(())
    }
}

/// The lengths that a placeholder may take, in the order in which they are tried.
fn lengths(kind: &Kind, text: &[u8]) -> Vec<usize> {
    let run = |fits: &dyn Fn(u8) -> bool| text.iter().take_while(|&&c| fits(c)).count();
    let down_to = |low: usize, high: usize| (low..=high).rev().collect::<Vec<_>>();
    match kind {
        Kind::Uint => down_to(1, run(&|c| c.is_ascii_digit())),
        Kind::Hex => down_to(1, run(&|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)).min(16)),
        Kind::Str => down_to(0, run(&|c| c != b'"')),
        Kind::Any => (0..=text.len()).collect(),
        Kind::Time | Kind::TimeIn(_) => time_len(text).into_iter().collect(),
        Kind::Ttl(_) => {
            let sign = usize::from(text.first() == Some(&b'-'));
            let digits = text[sign..].iter().take_while(|c| c.is_ascii_digit()).count();
            if digits == 0 { Vec::new() } else { vec![sign + digits] }
        }
        Kind::Float => {
            let end = run(&|c| c.is_ascii_digit() || b"+-.eE".contains(&c));
            let number = |&len: &usize| {
                let text = std::str::from_utf8(&text[..len]).unwrap_or("");
                text.parse::<f64>().is_ok() && !text.starts_with('+') && !text.ends_with('.')
            };
            down_to(1, end).into_iter().filter(number).collect()
        }
        Kind::Duration => duration_len(text).into_iter().collect(),
    }
}

/// Length of the Go duration, such as `1m3.5s`, that `text` begins with.
fn duration_len(text: &[u8]) -> Option<usize> {
    const UNITS: [&[u8]; 6] = [b"ms", "µs".as_bytes(), b"ns", b"h", b"m", b"s"];
    let mut at = 0;
    loop {
        let number = text[at..].iter().take_while(|c| c.is_ascii_digit() || **c == b'.').count();
        let after = &text[at + number..];
        let unit = UNITS.iter().find(|unit| after.starts_with(unit)).filter(|_| number > 0);
        match unit {
            Some(unit) => at += number + unit.len(),
            None => return (at > 0).then_some(at),
        }
    }
}

/// The moment from which `${time+N}` counts, as [`Values::fit`] wants it.
pub(crate) fn now() -> f64 {
    since_1970().as_secs_f64()
}
