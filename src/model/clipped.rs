//! Texts of clients and peers on their way into the log.

use std::fmt;

/// The log gets so many bytes of a text that a client or a peer wrote.
const BYTES_MAX: usize = 200;

/// A text that a client or a peer wrote, on its way into the log: its beginning, and how long it is.
///
/// Control characters are escaped by the log itself.
#[derive(Clone, Copy, Debug)]
pub struct Clipped<'a>(pub &'a str);

impl fmt::Display for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match beginning(self.0, BYTES_MAX) {
            Some(beginning) => write!(f, "{beginning}... ({} bytes)", self.0.len()),
            None => f.write_str(self.0),
        }
    }
}

/// The beginning of a text that is longer than `bytes_max`: whole letters, and no more than that.
pub fn beginning(text: &str, bytes_max: usize) -> Option<&str> {
    if text.len() <= bytes_max {
        return None;
    }
    // A letter has at most four bytes.
    let end =
        (0..4).map(|back| bytes_max.saturating_sub(back)).find(|end| text.is_char_boundary(*end));
    Some(&text[..end.unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_letters() {
        assert_eq!(Clipped("short").to_string(), "short");
        assert_eq!(Clipped(&"x".repeat(200)).to_string(), "x".repeat(200));
        let long = Clipped(&"x".repeat(70_000)).to_string();
        assert_eq!(long, format!("{}... (70000 bytes)", "x".repeat(200)));
        assert_eq!(beginning("aüü", 4), Some("aü"));
        assert_eq!(beginning("🦀🦀", 3), Some(""));
    }
}
