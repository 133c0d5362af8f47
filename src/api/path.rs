//! Request paths: decoding, and the cleaning that etcd answers with a redirect.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Undoes `%xx`.
///
/// # Errors
/// The broken escape, in Go's words.
pub(crate) fn percent_decode(text: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let Some(first) = text.iter().position(|byte| *byte == b'%') else {
        return Ok(Cow::Borrowed(text));
    };
    let mut decoded = text[..first].to_vec();
    let mut rest = &text[first..];
    while let Some(byte) = rest.first() {
        let mut taken = 1;
        if *byte == b'%' {
            let digits = rest.get(1..3).and_then(|pair| Some((hex(pair[0])?, hex(pair[1])?)));
            let Some((high, low)) = digits else {
                let shown = String::from_utf8_lossy(&rest[..rest.len().min(3)]).into_owned();
                return Err(format!("invalid URL escape \"{shown}\""));
            };
            decoded.push(high << 4 | low);
            taken = 3;
        } else {
            decoded.push(*byte);
        }
        rest = &rest[taken..];
    }
    Ok(Cow::Owned(decoded))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// What Go leaves as it is in a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// The clean form of a decoded path, escaped for a `Location`; `None` when it is clean already.
///
/// A slash at the end survives; `//`, `/.` and `/..` do not.
pub(crate) fn redirect(path: &[u8]) -> Option<String> {
    if !path.windows(2).any(|pair| pair == b"//" || pair == b"/.") {
        return None;
    }
    let mut rest = path.split(|byte| *byte == b'/').skip(1).peekable();
    let mut unclean = false;
    while let Some(name) = rest.next() {
        let last = rest.peek().is_none();
        unclean |= matches!(name, b"." | b"..") || (name.is_empty() && !last);
    }
    if !unclean {
        return None;
    }
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let mut clean = Vec::with_capacity(path.len());
    for name in &names {
        clean.push(b'/');
        clean.extend_from_slice(name);
    }
    if path.ends_with(b"/") || clean.is_empty() {
        clean.push(b'/');
    }
    Some(percent_encode(&clean, ESCAPED).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, clean) in [
            ("/v2/keys//a", "/v2/keys/a"),
            ("/v2/keys/a//", "/v2/keys/a/"),
            ("/v2/keys/./a", "/v2/keys/a"),
            ("/v2/keys/a/..", "/v2/keys"),
            ("/v2/keys/a/.", "/v2/keys/a"),
            ("/v2/keys/../machines", "/v2/machines"),
            ("//", "/"),
            ("/..", "/"),
            ("/a//<b>!", "/a/%3Cb%3E%21"),
        ] {
            assert_eq!(redirect(path.as_bytes()).as_deref(), Some(clean), "{path}");
        }
        for path in ["/", "/v2/keys/a/", "/v2/keys/.a", "/v2/keys/..a/b..", "/v2/keys/a."] {
            assert_eq!(redirect(path.as_bytes()), None, "{path}");
        }
    }
}
