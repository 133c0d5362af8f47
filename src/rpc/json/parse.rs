//! JSON as Go reads it, with Go's words for what is wrong: clients see them.

use thiserror::Error;

/// Values inside of values.
const DEPTH_MAX: usize = 128;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Its letters: which numbers fit is the field's business.
    Number(String),
    /// What was in quotes.
    Text(String),
    /// Values in a row.
    Array(Vec<Value>),
    /// Fields as they came; of equal ones the last counts.
    Object(Vec<(String, Value)>),
}

/// Why a text is no message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct JsonError(String);

impl JsonError {
    /// A value of another kind than the field.
    pub(in crate::rpc) fn misfit(value: &Value, type_: &str) -> Self {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::Text(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        Self(format!("json: cannot unmarshal {kind} into Go value of type {type_}"))
    }

    pub(in crate::rpc) fn odd_number(digits: &str, type_: &str) -> Self {
        Self(format!("json: cannot unmarshal number {digits} into Go value of type {type_}"))
    }

    pub(in crate::rpc) fn unknown_choice(name: &str, type_: &str) -> Self {
        Self(format!("unknown value {name:?} for enum {type_}"))
    }

    pub(in crate::rpc) fn not_base64(at: usize) -> Self {
        Self(format!("illegal base64 data at input byte {at}"))
    }

    fn letter(letter: u8, place: &str) -> Self {
        let shown = match letter {
            b'\'' => r"'\''".to_owned(),
            b'"' => r#"'"'"#.to_owned(),
            b'\\' => r"'\\'".to_owned(),
            b'\n' => r"'\n'".to_owned(),
            b'\r' => r"'\r'".to_owned(),
            b'\t' => r"'\t'".to_owned(),
            0x20..=0x7e => format!("'{}'", char::from(letter)),
            0xa1..=0xff if letter != 0xad => format!("'{}'", char::from(letter)),
            0x80.. => format!(r"'\u{letter:04x}'"),
            0x00..0x20 | 0x7f => format!(r"'\x{letter:02x}'"),
        };
        Self(format!("invalid character {shown} {place}"))
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unparsed {
    /// There is only white space.
    Empty,
    /// The text ends in the middle of it.
    Cut,
    /// It is none.
    Wrong(JsonError),
}

impl Unparsed {
    /// What Go says when no more is to come.
    pub fn at_the_end(self) -> JsonError {
        match self {
            Self::Empty => JsonError("EOF".to_owned()),
            Self::Cut => JsonError("unexpected EOF".to_owned()),
            Self::Wrong(error) => error,
        }
    }
}

/// The first value of a text, and how many bytes it takes.
///
/// # Errors
/// When there is none, or not yet.
pub fn parse(text: &[u8]) -> Result<(Value, usize), Unparsed> {
    let mut parser = Parser { text, at: 0 };
    if parser.peek().is_none() {
        return Err(Unparsed::Empty);
    }
    let value = parser.value(0)?;
    // The digits of a number may go on in what has not come yet; Go waits for it as well.
    Ok((value, parser.at))
}

/// A text that is one value.
pub(super) fn whole(text: &[u8]) -> Result<Value, JsonError> {
    let (value, bytes) = parse(text).map_err(|unparsed| match unparsed {
        Unparsed::Empty | Unparsed::Cut => JsonError("unexpected end of JSON input".to_owned()),
        Unparsed::Wrong(error) => error,
    })?;
    let mut rest = Parser { text, at: bytes };
    match rest.peek() {
        None => Ok(value),
        Some(letter) => Err(JsonError::letter(letter, "after top-level value")),
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    /// The next letter that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn need(&mut self) -> Result<u8, Unparsed> {
        self.peek().ok_or(Unparsed::Cut)
    }

    fn wrong<T>(letter: u8, place: &str) -> Result<T, Unparsed> {
        Err(Unparsed::Wrong(JsonError::letter(letter, place)))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Unparsed> {
        if depth > DEPTH_MAX {
            return Err(Unparsed::Wrong(JsonError("exceeded max depth".to_owned())));
        }
        match self.need()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Value::Text),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            b'-' | b'0'..=b'9' => self.number(),
            other => Self::wrong(other, "looking for beginning of value"),
        }
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, Unparsed> {
        for letter in word.bytes() {
            match self.text.get(self.at) {
                None => return Err(Unparsed::Cut),
                Some(given) if *given == letter => self.at += 1,
                Some(given) => {
                    let wanted = char::from(letter);
                    return Self::wrong(
                        *given,
                        &format!("in literal {word} (expecting '{wanted}')"),
                    );
                }
            }
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, Unparsed> {
        let begin = self.at;
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        let digits = &self.text[begin..self.at];
        Ok(Value::Number(String::from_utf8_lossy(digits).into_owned()))
    }

    /// At least one.
    fn digits(&mut self, place: &str) -> Result<(), Unparsed> {
        match self.text.get(self.at) {
            None => return Err(Unparsed::Cut),
            Some(letter) if !letter.is_ascii_digit() => return Self::wrong(*letter, place),
            Some(_) => {}
        }
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, Unparsed> {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0x00..0x20));
            let Some(plain) = plain else { return Err(Unparsed::Cut) };
            bytes.extend_from_slice(&rest[..plain]);
            self.at += plain + 1;
            match rest[plain] {
                b'"' => break,
                b'\\' => self.escape(&mut bytes)?,
                control => return Self::wrong(control, "in string literal"),
            }
        }
        // Each byte that is none is one sign.
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| {
            let mut text = String::new();
            for chunk in error.as_bytes().utf8_chunks() {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
            }
            text
        }))
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Unparsed> {
        let letter = *self.text.get(self.at).ok_or(Unparsed::Cut)?;
        self.at += 1;
        let meant = match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let first = self.four_digits()?;
                let letter = self.pair(first)?;
                bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            other => return Self::wrong(other, "in string escape code"),
        };
        bytes.push(meant);
        Ok(())
    }

    fn four_digits(&mut self) -> Result<u32, Unparsed> {
        let mut number = 0;
        for _ in 0..4 {
            let letter = *self.text.get(self.at).ok_or(Unparsed::Cut)?;
            let Some(digit) = char::from(letter).to_digit(16) else {
                return Self::wrong(letter, r"in \u hexadecimal character escape");
            };
            number = number * 16 + digit;
            self.at += 1;
        }
        Ok(number)
    }

    /// Halves of a pair belong together; one alone is no letter.
    fn pair(&mut self, first: u32) -> Result<char, Unparsed> {
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let letter = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn array(&mut self, depth: usize) -> Result<Value, Unparsed> {
        self.at += 1;
        let mut items = Vec::new();
        if self.need()? == b']' {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            match self.need()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                other => return Self::wrong(other, "after array element"),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Unparsed> {
        self.at += 1;
        let mut fields = Vec::new();
        if self.need()? == b'}' {
            self.at += 1;
            return Ok(Value::Object(fields));
        }
        loop {
            match self.need()? {
                b'"' => {}
                other => return Self::wrong(other, "looking for beginning of object key string"),
            }
            let name = self.string()?;
            match self.need()? {
                b':' => self.at += 1,
                other => return Self::wrong(other, "after object key"),
            }
            fields.push((name, self.value(depth + 1)?));
            match self.need()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(Value::Object(fields));
                }
                other => return Self::wrong(other, "after object key:value pair"),
            }
        }
    }
}
