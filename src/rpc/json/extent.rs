//! Where a value ends, found while its bytes come: each is looked at once, however many pieces they come in.

/// How far a value is known. What is wrong in it is not noticed here.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    /// So many bytes were looked at.
    at: usize,
    depth: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Between words, or before the value.
    #[default]
    Between,
    InText,
    /// Behind a backslash.
    Escaped,
    /// In a number or a word that is not inside of anything.
    InWord,
    Ended,
}

impl Extent {
    /// Looks at what is new in a text that has grown. `true` when the first value in it has ended, if it is one.
    pub fn grow(&mut self, text: &[u8]) -> bool {
        while self.state != State::Ended
            && let Some(byte) = text.get(self.at)
        {
            self.at += 1;
            self.state = self.behind(*byte);
        }
        self.state == State::Ended
    }

    fn behind(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::Ended, _) => State::Ended,
            (State::Escaped, _) => State::InText,
            (State::InText, b'\\') => State::Escaped,
            (State::InText, b'"') if self.depth == 0 => State::Ended,
            (State::InText, b'"') => State::Between,
            (State::InText, _) => State::InText,
            // Of a number or a word only what stands behind it shows that it has ended.
            (State::InWord, byte) => match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.' => State::InWord,
                _ => State::Ended,
            },
            (State::Between, b'"') => State::InText,
            (State::Between, b'{' | b'[') => {
                self.depth += 1;
                State::Between
            }
            (State::Between, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 { State::Ended } else { State::Between }
            }
            (State::Between, b' ' | b'\t' | b'\r' | b'\n') => State::Between,
            (State::Between, _) if self.depth == 0 => State::InWord,
            (State::Between, _) => State::Between,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_ended_with_its_last_byte_and_not_before() {
        for text in [
            r#"{}"#,
            r#"  {"a": [1, {"b": "}]\"\\"}], "c": null}"#,
            r#"[[[]]]"#,
            r#""a\\\"b{""#,
            "\n{\"\\u007d\":1}",
        ] {
            let mut extent = Extent::default();
            for end in 0..=text.len() {
                assert_eq!(extent.grow(&text.as_bytes()[..end]), end == text.len(), "{text} {end}");
            }
            assert!(super::super::parse(text.as_bytes()).is_ok_and(|(_, end)| end == text.len()));
            assert!(Extent::default().grow(format!("{text}{{").as_bytes()), "{text}");
        }
        for (text, ended) in [
            ("12", false),
            ("12 ", true),
            ("true", false),
            ("null{", true),
            (" ", false),
            ("}", true),
        ] {
            assert_eq!(Extent::default().grow(text.as_bytes()), ended, "{text}");
        }
    }
}
