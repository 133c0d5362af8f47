//! JSON, piece by piece, from bytes that are all there: texts are borrowed where they can be.
//!
//! Owns: the grammar, as far as it has to be exact. Never knows: what the text means.
//! A library would build the whole of it, or go down a level of the stack for each level of the text; a snapshot of a million keys
//! may be half a gigabyte and as deep as its keys are.

use std::borrow::Cow;
use std::str::FromStr;

use thiserror::Error;

/// Text that is no JSON, or not what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("byte {at} of the JSON text: {expected} is expected")]
pub struct JsonError {
    /// Where.
    pub at: usize,
    /// What should stand there.
    pub expected: &'static str,
}

/// Reads a text from its first byte on.
#[derive(Clone, Debug)]
pub(super) struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Where the reader is among the members of an object or a list.
#[derive(Debug)]
pub(super) struct Members {
    first: bool,
}

impl<'a> Json<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn error(&self, expected: &'static str) -> JsonError {
        JsonError { at: self.at, expected }
    }

    /// The next byte that is no space; zero behind the last.
    pub(super) fn peek(&mut self) -> u8 {
        let rest = &self.bytes[self.at..];
        let spaces = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.at += spaces;
        rest.get(spaces).copied().unwrap_or(0)
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.peek() != byte {
            return Err(self.error(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            0 if self.at == self.bytes.len() => Ok(()),
            _ => Err(self.error("the end")),
        }
    }

    /// Begins an object.
    pub(super) fn object(&mut self) -> Result<Members, JsonError> {
        self.take(b'{', "an object")?;
        Ok(Members { first: true })
    }

    /// Begins a list.
    pub(super) fn list(&mut self) -> Result<Members, JsonError> {
        self.take(b'[', "a list")?;
        Ok(Members { first: true })
    }

    /// The name of the next member of an object, whose value follows; `None` behind the last.
    pub(super) fn name(
        &mut self,
        members: &mut Members,
    ) -> Result<Option<Cow<'a, [u8]>>, JsonError> {
        if !self.another(members, b'}')? {
            return Ok(None);
        }
        let name = self.text()?;
        self.take(b':', "a colon")?;
        Ok(Some(name))
    }

    /// Is there another item of a list?
    pub(super) fn item(&mut self, members: &mut Members) -> Result<bool, JsonError> {
        self.another(members, b']')
    }

    fn another(&mut self, members: &mut Members, end: u8) -> Result<bool, JsonError> {
        let first = std::mem::replace(&mut members.first, false);
        match self.peek() {
            byte if byte == end => {
                self.at += 1;
                Ok(false)
            }
            b',' if !first => {
                self.at += 1;
                Ok(true)
            }
            _ if first => Ok(true),
            _ => Err(self.error("a comma or the end")),
        }
    }

    /// Takes `null` if it stands there.
    pub(super) fn null(&mut self) -> Result<bool, JsonError> {
        if self.peek() != b'n' {
            return Ok(false);
        }
        self.word(b"null")?;
        Ok(true)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, JsonError> {
        match self.peek() {
            b't' => self.word(b"true").map(|()| true),
            _ => self.word(b"false").map(|()| false),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.error("null, true or false"));
        }
        self.at += word.len();
        Ok(())
    }

    /// A whole number without a sign.
    pub(super) fn number(&mut self) -> Result<u64, JsonError> {
        self.parsed("a whole number below 2^64")
    }

    /// A whole number that may have a sign.
    pub(super) fn signed(&mut self) -> Result<i64, JsonError> {
        self.parsed("a whole number")
    }

    fn parsed<N: FromStr>(&mut self, expected: &'static str) -> Result<N, JsonError> {
        self.peek();
        let digits = self.number_bytes();
        let text = std::str::from_utf8(digits).map_err(|_| self.error(expected))?;
        let number = text.parse().map_err(|_| self.error(expected))?;
        self.at += digits.len();
        Ok(number)
    }

    fn number_bytes(&self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let of_number = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
        &rest[..rest.iter().take_while(of_number).count()]
    }

    /// A text, in UTF-8.
    pub(super) fn text(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        self.take(b'"', "a text")?;
        let start = self.at;
        let plain = self.plain()?;
        if self.bytes[self.at] == b'"' {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut out = plain.to_vec();
        while self.bytes[self.at] != b'"' {
            self.escape(&mut out)?;
            out.extend_from_slice(self.plain()?);
        }
        self.at += 1;
        debug_assert!(self.at > start);
        Ok(Cow::Owned(out))
    }

    /// Up to the next quote or backslash, which is there then.
    fn plain(&mut self) -> Result<&'a [u8], JsonError> {
        let rest = &self.bytes[self.at..];
        let end = memchr::memchr2(b'"', b'\\', rest).ok_or(self.error("the end of a text"))?;
        let plain = &rest[..end];
        if std::str::from_utf8(plain).is_err() {
            return Err(self.error("UTF-8"));
        }
        self.at += end;
        Ok(plain)
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let letter = *self.bytes.get(self.at + 1).ok_or(self.error("an escape"))?;
        self.at += 2;
        let byte = match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let letter = self.unit_pair()?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.error("a known escape")),
        };
        out.push(byte);
        Ok(())
    }

    /// One or two UTF-16 units; one that stands alone is replaced, as Go does.
    fn unit_pair(&mut self) -> Result<char, JsonError> {
        let first = self.unit()?;
        if !(0xd800..0xdc00).contains(&first) || !self.bytes[self.at..].starts_with(b"\\u") {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.at;
        self.at += 2;
        let second = self.unit()?;
        if !(0xdc00..0xe000).contains(&second) {
            self.at = before;
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn unit(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes.get(self.at..self.at + 4).and_then(|four| {
            four.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
        });
        let unit = digits.ok_or(self.error("four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }

    /// Passes over a value, however deep it is.
    pub(super) fn skip(&mut self) -> Result<(), JsonError> {
        let mut ends = Vec::new();
        loop {
            match self.peek() {
                b'{' | b'[' => {
                    let (open, end) =
                        if self.bytes[self.at] == b'{' { (b'{', b'}') } else { (b'[', b']') };
                    self.take(open, "a value")?;
                    ends.push((end, Members { first: true }));
                }
                b'"' => drop(self.text()?),
                b'n' => drop(self.null()?),
                b't' | b'f' => drop(self.boolean()?),
                _ => {
                    let digits = self.number_bytes().len();
                    if digits == 0 {
                        return Err(self.error("a value"));
                    }
                    self.at += digits;
                }
            }
            // Up to the next value.
            loop {
                let Some((end, members)) = ends.last_mut() else { return Ok(()) };
                let end = *end;
                if self.another(members, end)? {
                    if end == b'}' {
                        self.text()?;
                        self.take(b':', "a colon")?;
                    }
                    break;
                }
                ends.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(json: &str) -> Result<Vec<u8>, JsonError> {
        let mut json = Json::of(json.as_bytes());
        let text = json.text()?.into_owned();
        json.end()?;
        Ok(text)
    }

    #[test]
    fn escapes_are_what_go_writes() {
        for (json, wanted) in [
            (r#""plain""#, "plain"),
            (r#""\u003ca\u003e\u0026\n\t\"\\\/\b\f\r""#, "<a>&\n\t\"\\/\u{8}\u{c}\r"),
            (r#""\ud83d\ude00 \ud83d \ude00 \ud83d\u0041""#, "😀 \u{fffd} \u{fffd} \u{fffd}A"),
            (r#""\u2028é\ufffd""#, "\u{2028}é\u{fffd}"),
        ] {
            assert_eq!(text(json).unwrap(), wanted.as_bytes(), "{json}");
        }
        for json in [r#"""#, r#""\x""#, r#""\u12""#, r#""\"#, r#""a" b"#, "\"\u{0}", "x"] {
            assert!(text(json).is_err(), "{json}");
        }
        assert!(Json::of(b"\"\xff\"").text().is_err());
    }

    #[test]
    fn values_of_any_depth_are_passed_over() {
        let deep = format!("{}{}", "[{\"a\":".repeat(100_000), "1");
        let whole = format!("{deep}{}", "}]".repeat(100_000));
        let mut json = Json::of(whole.as_bytes());
        json.skip().unwrap();
        json.end().unwrap();
        assert!(Json::of(deep.as_bytes()).skip().is_err());
        for wrong in ["{1:2}", "[1 2]", "{\"a\" 1}", "[,]", "", "]", "{\"a\":}", "tru"] {
            assert!(Json::of(wrong.as_bytes()).skip().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_another_reader_takes_is_taken(value in "[\\PC]{0,20}", number in any::<u64>(), signed in any::<i64>()) {
            let json = serde_json::json!({"a": [value, {"b": number}, null, true, signed, 1.5e3]});
            let bytes = serde_json::to_vec_pretty(&json).unwrap();
            let mut reader = Json::of(&bytes);
            reader.skip().unwrap();
            reader.end().unwrap();
            prop_assert_eq!(Json::of(number.to_string().as_bytes()).number(), Ok(number));
            prop_assert_eq!(Json::of(signed.to_string().as_bytes()).signed(), Ok(signed));
            let written = serde_json::to_string(&value).unwrap();
            let read = text(&written).unwrap();
            prop_assert_eq!(&read[..], value.as_bytes());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), json in "[\\[\\]{}:,\"\\\\u0-9a-f ]{0,40}") {
            let _ = Json::of(&bytes).skip();
            let _ = Json::of(json.as_bytes()).skip();
            let _ = text(&json);
        }
    }
}
