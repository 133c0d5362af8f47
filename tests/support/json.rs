//! JSON that keeps every byte of its atoms and the order of its fields.
//!
//! Owns: a reader and a writer without loss. The usual value type would sort the fields and decode
//! the escapes, and both are part of what clients see.

use std::fmt::Write as _;

/// A value; an atom (string, number, word) is kept as it was written, a string with its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    Atom(String),
}

impl Json {
    /// Reads one value; `None` when there is anything else, apart from one newline at the end.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { text: text.strip_suffix('\n').unwrap_or(text), at: 0 };
        let value = reader.value(0)?;
        (reader.at == reader.text.len()).then_some(value)
    }

    /// The value of a field, named without quotes.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(fields) = self else { return None };
        fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text of an atom as it was written, strings without their quotes.
    pub(crate) fn text(&self) -> Option<&str> {
        let Self::Atom(text) = self else { return None };
        Some(text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text))
    }

    pub(crate) fn number(&self) -> Option<u64> {
        let Self::Atom(text) = self else { return None };
        text.parse().ok()
    }

    /// Puts every list of `nodes` in the order of its keys.
    pub(crate) fn sort_nodes(&mut self) {
        match self {
            Self::Object(fields) => {
                for (name, value) in fields {
                    value.sort_nodes();
                    if let (true, Self::Array(nodes)) = (name == "nodes", value) {
                        nodes.sort_by_key(|n| {
                            n.get("key").and_then(Json::text).unwrap_or("").to_owned()
                        });
                    }
                }
            }
            Self::Array(items) => items.iter_mut().for_each(Self::sort_nodes),
            Self::Atom(_) => {}
        }
    }

    /// Calls `see` with each object, outer ones first.
    pub(crate) fn each_object(&mut self, see: &mut impl FnMut(&mut Vec<(String, Self)>)) {
        match self {
            Self::Object(fields) => {
                see(fields);
                fields.iter_mut().for_each(|(_, value)| value.each_object(see));
            }
            Self::Array(items) => items.iter_mut().for_each(|item| item.each_object(see)),
            Self::Atom(_) => {}
        }
    }

    /// The value without any blank.
    pub(crate) fn write(&self) -> String {
        let mut out = String::new();
        self.write_to(&mut out);
        out
    }

    fn write_to(&self, out: &mut String) {
        match self {
            Self::Object(fields) => {
                out.push('{');
                for (n, (name, value)) in fields.iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    write!(out, "{comma}\"{name}\":").expect("a string takes all");
                    value.write_to(out);
                }
                out.push('}');
            }
            Self::Array(items) => {
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    item.write_to(out);
                }
                out.push(']');
            }
            Self::Atom(text) => out.push_str(text),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    /// Deeper than any key can be; a test must not die of a broken answer.
    const DEPTH_MAX: usize = 2000;

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.blank();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > Self::DEPTH_MAX {
            return None;
        }
        self.blank();
        match self.peek()? {
            b'{' => {
                let mut fields = Vec::new();
                self.items(b'{', b'}', |r| {
                    r.blank();
                    let name = r.string()?;
                    r.take(b':')?;
                    fields.push((name[1..name.len() - 1].to_owned(), r.value(depth + 1)?));
                    Some(())
                })?;
                Some(Json::Object(fields))
            }
            b'[' => {
                let mut items = Vec::new();
                self.items(b'[', b']', |r| {
                    items.push(r.value(depth + 1)?);
                    Some(())
                })?;
                Some(Json::Array(items))
            }
            b'"' => self.string().map(Json::Atom),
            _ => self.word().map(Json::Atom),
        }
    }

    fn items(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.take(open)?;
        if self.take(close).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            if self.take(b',').is_none() {
                return self.take(close);
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        (self.peek()? == b'"').then_some(())?;
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at).map(str::to_owned)
    }

    fn word(&mut self) -> Option<String> {
        let rest = &self.text[self.at..];
        let end = rest.find([',', '}', ']', ' ', '\n', ':', '"', '{', '[']).unwrap_or(rest.len());
        let word = &rest[..end];
        let known = matches!(word, "true" | "false" | "null") || word.parse::<f64>().is_ok();
        self.at += end;
        known.then(|| word.to_owned())
    }
}
