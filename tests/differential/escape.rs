//! What a request line can hold, and back.

/// A path or query with everything escaped that a request line cannot hold.
pub(crate) fn escaped(text: &str) -> String {
    escape(text, |c| c.is_ascii_graphic() && !b"\"<>%".contains(&c))
}

pub(crate) fn escaped_all(text: &str) -> String {
    escape(text, |c| c.is_ascii_alphanumeric())
}

pub(crate) fn escape(text: &str, plain: impl Fn(u8) -> bool) -> String {
    text.bytes()
        .map(|c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02x}") })
        .collect()
}

pub(crate) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&c, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| c == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(c);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
