//! Answers → text: the formats of etcd's tool, and tables.
//!
//! Owns: how answers look; standard output. Never knows: where answers come from.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use crate::ctl::failure::{Failure, code};
use crate::ctl::wire::{Event, Node};

/// How answers are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The value alone.
    Simple,
    /// With indexes and TTL.
    Extended,
    /// As JSON.
    Json,
    /// As a table.
    Table,
    /// None that is known; it is said when something is to be printed, as in etcd's tool.
    Unknown(String),
}

impl Format {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "simple" => Self::Simple,
            "extended" => Self::Extended,
            "json" => Self::Json,
            "table" => Self::Table,
            other => Self::Unknown(other.to_owned()),
        }
    }
}

/// Writes to standard output.
///
/// # Errors
/// When the reading end of the pipe is closed: the tool ends without a word, as programs do in a pipe; or when it cannot be written.
pub(super) fn out(text: &str) -> Result<(), Failure> {
    out_bytes(text.as_bytes())
}

/// As [`out`], of what need not be text.
///
/// # Errors
/// As there.
pub(super) fn out_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure::code(code::NOBODY_READS))
        }
        Err(error) => Err(Failure::line(format!("cannot write to standard output: {error}"))),
    }
}

/// Says something beside the answer, on standard error.
pub(super) fn note(text: &str) {
    // Where standard error is closed, there is no other place to report that.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What a command on one key prints.
///
/// # Errors
/// As [`out`].
pub(super) fn event(event: &Event, format: &Format) -> Result<(), Failure> {
    match event_text(event, format) {
        Some(text) => out(&text),
        None => {
            if let Format::Unknown(name) = format {
                note(&format!("Unsupported output format: {name}"));
            }
            Ok(())
        }
    }
}

fn event_text(event: &Event, format: &Format) -> Option<String> {
    let (node, previous) = (&event.node, event.previous.as_ref());
    let removed = event.action == "delete";
    Some(match format {
        Format::Simple if removed => {
            let value = previous.map_or("", |previous| previous.value.as_str());
            format!("PrevNode.Value: {value}\n")
        }
        Format::Simple => format!("{}\n", node.value),
        Format::Extended => {
            let mut text = format!(
                "Key: {}\nCreated-Index: {}\nModified-Index: {}\n",
                node.key, node.created_index, node.modified_index
            );
            if let Some(previous) = previous {
                let _ = writeln!(text, "PrevNode.Value: {}", previous.value);
            }
            let _ = writeln!(text, "TTL: {}\nIndex: {}", node.ttl, event.index);
            if !removed {
                let _ = writeln!(text, "\n{}", node.value);
            }
            text
        }
        Format::Json => format!("{}\n", go_json(event)),
        Format::Table => nodes_table(&[node]),
        Format::Unknown(_) => return None,
    })
}

/// A listing: one key a line, what is in directories behind them.
pub(super) fn listing(node: &Node, slashes: bool) -> String {
    let mut text = String::new();
    if !node.dir {
        let _ = writeln!(text, "{}", node.key);
    }
    walk(node, &mut |below| {
        let slash = if below.dir && slashes { "/" } else { "" };
        let _ = writeln!(text, "{}{slash}", below.key);
    });
    text
}

/// Everything below a node, each directory before what is in it.
pub(super) fn walk<'a>(node: &'a Node, visit: &mut impl FnMut(&'a Node)) {
    // The server lets keys be a thousand deep; a stack of one's own does not care.
    let mut open: Vec<_> = node.nodes.iter().flatten().rev().collect();
    while let Some(next) = open.pop() {
        visit(next);
        open.extend(next.nodes.iter().flatten().rev());
    }
}

/// A table of nodes.
pub(super) fn nodes_table(nodes: &[&Node]) -> String {
    let row = |node: &&Node| {
        let kind = if node.dir { "dir" } else { "key" };
        let ttl = if node.ttl == 0 { String::new() } else { node.ttl.to_string() };
        let (created, modified) = (node.created_index.to_string(), node.modified_index.to_string());
        vec![node.key.clone(), kind.to_owned(), node.value.clone(), created, modified, ttl]
    };
    let heads = ["KEY", "KIND", "VALUE", "CREATED", "MODIFIED", "TTL"];
    table(&heads, &nodes.iter().map(row).collect::<Vec<_>>())
}

/// A table with lines around its fields.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<_> = heads.iter().map(|&head| head.to_owned()).collect();
    let shown: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|field| one_line(field)).collect()).collect();
    let width = |column: usize| {
        let fields = shown.iter().chain([&heads]).filter_map(|row| row.get(column));
        fields.map(|field| field.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    let rule = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+");
    let line = |row: &Vec<String>| {
        let field = |(field, width): (&String, &usize)| format!(" {field:width$} ");
        let fields = row.iter().zip(&widths).map(field).collect::<Vec<_>>();
        format!("|{}|\n", fields.join("|"))
    };
    let body: String = shown.iter().map(line).collect();
    format!("+{rule}+\n{}+{rule}+\n{body}+{rule}+\n", line(&heads))
}

/// What would break the lines of a table, or steer a terminal, is shown escaped.
fn one_line(field: &str) -> String {
    field
        .chars()
        .flat_map(|letter| match letter.is_control() {
            true => letter.escape_default().collect::<Vec<_>>(),
            false => vec![letter],
        })
        .collect()
}

/// JSON as Go writes it: `<`, `>` and `&` are escaped, so that it may stand in a web page.
pub(super) fn go_json(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut writer = Serializer::with_formatter(&mut bytes, GoEscapes);
    value
        .serialize(&mut writer)
        .expect("what is printed has no keys but text, and memory takes it");
    String::from_utf8(bytes).expect("JSON is text")
}

struct GoEscapes;

impl Formatter for GoEscapes {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        let special = |letter| matches!(letter, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        while let Some(at) = rest.find(special) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let letter = rest[at..].chars().next().expect("one was found");
            write!(writer, "\\u{:04x}", u32::from(letter))?;
            rest = &rest[at + letter.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match escape {
            CharEscape::Backspace => writer.write_all(b"\\u0008"),
            CharEscape::FormFeed => writer.write_all(b"\\u000c"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(key: &str, value: &str) -> Node {
        Node {
            key: key.to_owned(),
            value: value.to_owned(),
            created_index: 4,
            modified_index: 5,
            ..Node::default()
        }
    }

    #[test]
    fn an_event_has_three_forms() {
        let event = |action: &str| Event {
            action: action.to_owned(),
            node: file("/a", "new"),
            previous: Some(file("/a", "old")),
            index: 9,
        };
        let text = |action, format| event_text(&event(action), &format).unwrap();
        assert_eq!(text("set", Format::Simple), "new\n");
        assert_eq!(text("delete", Format::Simple), "PrevNode.Value: old\n");
        let head =
            "Key: /a\nCreated-Index: 4\nModified-Index: 5\nPrevNode.Value: old\nTTL: 0\nIndex: 9\n";
        assert_eq!(text("delete", Format::Extended), head);
        assert_eq!(text("set", Format::Extended), format!("{head}\nnew\n"));
        assert_eq!(event_text(&event("set"), &Format::named("foo")), None);
    }

    #[test]
    fn json_is_escaped_as_in_go() {
        let text = "a<b>&\u{2028}\"\\\n\t\r\u{8}\u{c}\u{1}\u{7f}é";
        let expected =
            "\"a\\u003cb\\u003e\\u0026\\u2028\\\"\\\\\\n\\t\\r\\u0008\\u000c\\u0001\u{7f}é\"";
        assert_eq!(go_json(&text), expected);
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let dir = |key: &str, nodes| Node { dir: true, nodes: Some(nodes), ..file(key, "") };
        let root = dir(
            "/",
            vec![dir("/d", vec![file("/d/a", ""), dir("/d/e", Vec::new())]), file("/f", "")],
        );
        assert_eq!(listing(&root, true), "/d/\n/d/a\n/d/e/\n/f\n");
        assert_eq!(listing(&file("/f", ""), true), "/f\n");
    }

    #[test]
    fn a_table_stays_a_table_whatever_is_in_it() {
        let rows = [vec!["é\n".to_owned(), "x".to_owned()], vec![String::new(), "yy".to_owned()]];
        let expected =
            "+-----+----+\n| A   | B  |\n+-----+----+\n| é\\n | x  |\n|     | yy |\n+-----+----+\n";
        assert_eq!(table(&["A", "B"], &rows), expected);
    }
}
