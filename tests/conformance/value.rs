//! Fields of a case, and words for what went wrong.

use std::io;

use serde_json::Value;

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {name}: {value}"))
}

pub(crate) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).unwrap_or_else(|| panic!("no list {name}: {value}"))
}

pub(crate) fn strings<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    list(value, name).iter().filter_map(Value::as_str)
}

pub(crate) fn object<'a>(
    value: &'a Value,
    name: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(name).and_then(Value::as_object).into_iter().flatten()
}

pub(crate) fn describe(step: &Value) -> String {
    let request = &step["request"];
    match request.is_object() {
        true => cut(&format!(
            "{} {} {}",
            text(request, "method"),
            text(request, "target"),
            text(request, "body")
        )),
        false => format!("{} {}", text(step, "op"), text(step, "id")),
    }
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(crate) fn shown(e: io::Error) -> String {
    format!("{:?}: {e}", e.kind())
}

/// A long text with its middle left out.
pub(crate) fn cut(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() < 1500 {
        return text.to_owned();
    }
    let (head, tail) = (&chars[..700], &chars[chars.len() - 300..]);
    format!("{} ... {}", head.iter().collect::<String>(), tail.iter().collect::<String>())
}
