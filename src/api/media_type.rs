//! `Content-Type`, read as Go's `mime` package reads it.

use std::collections::BTreeSet;

use thiserror::Error;

/// A content type that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum MediaTypeError {
    #[error("mime: no media type")]
    Empty,
    #[error("mime: expected slash after first token")]
    NoSlash,
    #[error("mime: expected token after slash")]
    NoSubtype,
    #[error("mime: unexpected content after media subtype")]
    Trailing,
    #[error("mime: invalid media parameter")]
    Parameter,
    #[error("mime: duplicate parameter name")]
    Duplicate,
}

/// The type and subtype in lower case.
///
/// # Errors
/// When the type or one of its parameters is malformed.
pub(crate) fn parse(content_type: &[u8]) -> Result<String, MediaTypeError> {
    let text = String::from_utf8_lossy(content_type);
    let (media_type, mut rest) = match text.find(';') {
        Some(at) => text.split_at(at),
        None => (&*text, ""),
    };
    let media_type = media_type.trim().to_ascii_lowercase();
    check(&media_type)?;
    let mut names = BTreeSet::new();
    while !rest.trim_start().is_empty() {
        rest = rest.trim_start();
        let (name, tail) = match parameter(rest) {
            Some(found) => found,
            // A lone semicolon at the end is forgiven.
            None if rest.trim() == ";" => break,
            None => return Err(MediaTypeError::Parameter),
        };
        if !names.insert(name) {
            return Err(MediaTypeError::Duplicate);
        }
        rest = tail;
    }
    Ok(media_type)
}

fn check(media_type: &str) -> Result<(), MediaTypeError> {
    let (kind, rest) = token(media_type);
    if kind.is_empty() {
        return Err(MediaTypeError::Empty);
    }
    if rest.is_empty() {
        return Ok(());
    }
    let Some(rest) = rest.strip_prefix('/') else { return Err(MediaTypeError::NoSlash) };
    let (subtype, rest) = token(rest);
    if subtype.is_empty() {
        return Err(MediaTypeError::NoSubtype);
    }
    if rest.is_empty() { Ok(()) } else { Err(MediaTypeError::Trailing) }
}

/// `; name=value` at the front: the name and what follows.
fn parameter(text: &str) -> Option<(String, &str)> {
    let rest = text.strip_prefix(';')?.trim_start();
    let (name, rest) = token(rest);
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let rest = match rest.strip_prefix('"') {
        Some(quoted) => end_of_quoted(quoted)?,
        None => {
            let (value, rest) = token(rest);
            if value.is_empty() {
                return None;
            }
            rest
        }
    };
    Some((name.to_ascii_lowercase(), rest))
}

fn end_of_quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(&text[at + 1..]),
            '\r' | '\n' => return None,
            _ => {}
        }
    }
    None
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |letter: char| {
        letter.is_ascii_graphic()
            && !matches!(
                letter,
                '(' | ')'
                    | '<'
                    | '>'
                    | '@'
                    | ','
                    | ';'
                    | ':'
                    | '\\'
                    | '"'
                    | '/'
                    | '['
                    | ']'
                    | '?'
                    | '='
            )
    };
    let end = text.find(|letter| !is_token(letter)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_blanks_and_parameters_do_not_matter() {
        for text in ["a/b", " A/B ", "a/b;", "a/b; charset=utf-8", "a/b ; c=\"x;y\"; d=1"] {
            assert_eq!(parse(text.as_bytes()).as_deref(), Ok("a/b"), "{text}");
        }
        assert_eq!(parse(b"application").as_deref(), Ok("application"));
    }

    #[test]
    fn malformed_types_are_named() {
        for (text, error) in [
            ("text plain", MediaTypeError::NoSlash),
            ("a/b/c", MediaTypeError::Trailing),
            ("a/", MediaTypeError::NoSubtype),
            (";x=1", MediaTypeError::Empty),
            ("x; charset", MediaTypeError::Parameter),
            ("a/b; c=1; c=2", MediaTypeError::Duplicate),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text}");
        }
    }
}
