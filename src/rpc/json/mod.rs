//! Messages as JSON, as etcd's gateway reads and writes them.
//!
//! Fields stand in the order of their numbers under their protobuf names; what is zero is left out; numbers of 64 bits are
//! strings, bytes are base64, choices are names. What is read may also be called as JavaScript would (`rangeEnd`), numbers need no
//! quotes, `null` is nothing, and unknown fields are ignored. Texts of errors are those of Go.

mod base64;
mod extent;
mod parse;

use bytes::Bytes;

pub use base64::text_of as base64_text;
pub use extent::Extent;
pub use parse::{JsonError, Unparsed, Value, parse};

use crate::model::json;

/// A message with fields that have names.
pub trait Json: Default {
    /// Appends what is not zero.
    fn write_fields(&self, out: &mut Object<'_>);

    /// Takes one field in; an unknown name changes nothing.
    ///
    /// # Errors
    /// When the value does not fit the field.
    fn read_field(&mut self, name: &str, value: &Value) -> Result<(), JsonError>;
}

/// Who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// A client of the gateway.
    Gateway,
    /// A script that reads what etcd's tool prints: Go's own way with structs. Numbers are numbers, choices too, and
    /// alternatives stand in an object each under their names in Go.
    Go,
}

/// A message as JSON.
pub fn write(message: &impl Json) -> Vec<u8> {
    let mut out = Vec::new();
    write_to(message, &mut out);
    out
}

/// A message as etcd's tool prints it.
pub fn write_go(message: &impl Json) -> Vec<u8> {
    let mut out = Vec::new();
    write_object(message, Out { bytes: &mut out, dialect: Dialect::Go });
    out
}

/// Appends a message as JSON.
pub fn write_to(message: &impl Json, out: &mut Vec<u8>) {
    write_object(message, Out { bytes: out, dialect: Dialect::Gateway });
}

fn write_object(message: &impl Json, out: Out<'_>) {
    let Out { bytes, dialect } = out;
    bytes.push(b'{');
    message.write_fields(&mut Object { out: bytes, dialect, begun: false });
    bytes.push(b'}');
}

/// Where a value goes.
pub(in crate::rpc) struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    dialect: Dialect,
}

/// A message out of JSON.
///
/// # Errors
/// When a value does not fit its field.
pub fn read<M: Json>(value: &Value) -> Result<M, JsonError> {
    let mut message = M::default();
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                message.read_field(name, value)?;
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Array(_) => {
            return Err(JsonError::misfit(value, "map[string]json.RawMessage"));
        }
    }
    Ok(message)
}

/// Is this what a field is called, in protobuf or in JavaScript?
pub(in crate::rpc) fn is_name(given: &str, name: &str) -> bool {
    if given == name {
        return true;
    }
    let mut given = given.bytes();
    let mut raised = false;
    for letter in name.bytes() {
        if letter == b'_' {
            raised = true;
            continue;
        }
        let wanted = if raised { letter.to_ascii_uppercase() } else { letter };
        raised = false;
        if given.next() != Some(wanted) {
            return false;
        }
    }
    given.next().is_none()
}

/// The fields of a message that is being written.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    dialect: Dialect,
    begun: bool,
}

impl Object<'_> {
    fn name(&mut self, name: &str) -> Out<'_> {
        if std::mem::replace(&mut self.begun, true) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        Out { bytes: self.out, dialect: self.dialect }
    }

    /// One of several alternatives: `name` to the gateway, `variant` of `choice` to Go.
    pub(in crate::rpc) fn alternative(
        &mut self,
        name: &str,
        (choice, variant): (&str, &str),
        value: &impl Field,
    ) {
        match self.dialect {
            Dialect::Gateway => value.write_set(self, name),
            Dialect::Go => {
                let Out { bytes, dialect } = self.name(choice);
                bytes.push(b'{');
                let mut object = Object { out: bytes, dialect, begun: false };
                value.write_set(&mut object, &format!("{choice}{variant}"));
                object.out.push(b'}');
            }
        }
    }

    /// A field that is one of several.
    pub(in crate::rpc) fn choice<C: Choice>(&mut self, name: &str, number: i32) {
        if number != 0 {
            write_choice::<C>(number, self.name(name));
        }
    }

    /// A list of such.
    pub(in crate::rpc) fn choices<C: Choice>(&mut self, name: &str, numbers: &[i32]) {
        if !numbers.is_empty() {
            list(self.name(name), numbers, |number, out| write_choice::<C>(*number, out));
        }
    }
}

/// Numbers with names.
pub(in crate::rpc) trait Choice {
    /// What Go calls the type.
    const TYPE: &'static str;
    /// Every name, and its number.
    const NAMES: &'static [(&'static str, i32)];
}

fn write_choice<C: Choice>(number: i32, out: Out<'_>) {
    let known = C::NAMES.iter().find(|(_, known)| *known == number);
    match known.filter(|_| out.dialect == Dialect::Gateway) {
        Some((name, _)) => json::string(out.bytes, name.as_bytes()),
        None => json::number(out.bytes, number),
    }
}

pub(in crate::rpc) fn read_choice<C: Choice>(value: &Value) -> Result<i32, JsonError> {
    match value {
        Value::Null => Ok(0),
        Value::Text(name) => match C::NAMES.iter().find(|(known, _)| known == name) {
            Some((_, number)) => Ok(*number),
            None => Err(JsonError::unknown_choice(name, C::TYPE)),
        },
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            integer(value, C::TYPE)
        }
    }
}

pub(in crate::rpc) fn read_choices<C: Choice>(value: &Value) -> Result<Vec<i32>, JsonError> {
    items(value)?.iter().map(read_choice::<C>).collect()
}

fn items(value: &Value) -> Result<&[Value], JsonError> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Object(_) => {
            Err(JsonError::misfit(value, "[]json.RawMessage"))
        }
    }
}

/// A number as JSON has it.
fn integer<N: std::str::FromStr>(value: &Value, type_: &str) -> Result<N, JsonError> {
    match value {
        Value::Number(digits) => digits.parse().map_err(|_| JsonError::odd_number(digits, type_)),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::Array(_) | Value::Object(_) => {
            Err(JsonError::misfit(value, type_))
        }
    }
}

/// A number of 64 bits, which may stand in quotes.
fn long<N: std::str::FromStr + Default>(value: &Value, type_: &str) -> Result<N, JsonError> {
    match value {
        Value::Null => Ok(N::default()),
        Value::Text(inside) => {
            let inside = parse::whole(inside.as_bytes())?;
            if inside == Value::Null { Ok(N::default()) } else { integer(&inside, type_) }
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            integer(value, type_)
        }
    }
}

fn list<T>(out: Out<'_>, items: &[T], mut write: impl FnMut(&T, Out<'_>)) {
    let Out { bytes, dialect } = out;
    bytes.push(b'[');
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            bytes.push(b',');
        }
        write(item, Out { bytes, dialect });
    }
    bytes.push(b']');
}

fn long_number(out: Out<'_>, number: impl json::Integer) {
    match out.dialect {
        Dialect::Gateway => {
            out.bytes.push(b'"');
            json::number(out.bytes, number);
            out.bytes.push(b'"');
        }
        Dialect::Go => json::number(out.bytes, number),
    }
}

/// What can stand in a field.
pub(in crate::rpc) trait Field: Sized {
    /// Writes it unless it is zero.
    fn write(&self, out: &mut Object<'_>, name: &str);

    /// Writes it also then.
    fn write_set(&self, out: &mut Object<'_>, name: &str);

    fn read(value: &Value) -> Result<Self, JsonError>;
}

/// What can stand in a list.
pub(in crate::rpc) trait Item: Sized {
    fn is_zero(&self) -> bool;

    fn write_item(&self, out: Out<'_>);

    fn read_item(value: &Value) -> Result<Self, JsonError>;
}

impl<I: Item> Field for I {
    fn write(&self, out: &mut Object<'_>, name: &str) {
        if !self.is_zero() {
            self.write_item(out.name(name));
        }
    }

    fn write_set(&self, out: &mut Object<'_>, name: &str) {
        self.write_item(out.name(name));
    }

    fn read(value: &Value) -> Result<Self, JsonError> {
        I::read_item(value)
    }
}

impl<I: Item> Field for Vec<I> {
    fn write(&self, out: &mut Object<'_>, name: &str) {
        if !self.is_empty() {
            self.write_set(out, name);
        }
    }

    fn write_set(&self, out: &mut Object<'_>, name: &str) {
        list(out.name(name), self, I::write_item);
    }

    fn read(value: &Value) -> Result<Self, JsonError> {
        items(value)?.iter().map(I::read_item).collect()
    }
}

impl<M: Json> Field for Option<M> {
    fn write(&self, out: &mut Object<'_>, name: &str) {
        if self.is_some() {
            self.write_set(out, name);
        }
    }

    fn write_set(&self, out: &mut Object<'_>, name: &str) {
        if let Some(message) = self {
            write_object(message, out.name(name));
        }
    }

    fn read(value: &Value) -> Result<Self, JsonError> {
        match value {
            Value::Null => Ok(None),
            Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Array(_)
            | Value::Object(_) => read(value).map(Some),
        }
    }
}

impl<M: Json> Item for M {
    /// One that is there is written, whatever is in it.
    fn is_zero(&self) -> bool {
        false
    }

    fn write_item(&self, out: Out<'_>) {
        write_object(self, out);
    }

    fn read_item(value: &Value) -> Result<Self, JsonError> {
        read(value)
    }
}

impl Item for bool {
    fn is_zero(&self) -> bool {
        !self
    }

    fn write_item(&self, out: Out<'_>) {
        out.bytes.extend_from_slice(if *self { b"true" } else { b"false" });
    }

    fn read_item(value: &Value) -> Result<Self, JsonError> {
        match value {
            Value::Null => Ok(false),
            Value::Bool(set) => Ok(*set),
            Value::Number(_) | Value::Text(_) | Value::Array(_) | Value::Object(_) => {
                Err(JsonError::misfit(value, "bool"))
            }
        }
    }
}

impl Item for i64 {
    fn is_zero(&self) -> bool {
        *self == 0
    }

    fn write_item(&self, out: Out<'_>) {
        long_number(out, *self);
    }

    fn read_item(value: &Value) -> Result<Self, JsonError> {
        long(value, "int64")
    }
}

impl Item for u64 {
    fn is_zero(&self) -> bool {
        *self == 0
    }

    fn write_item(&self, out: Out<'_>) {
        long_number(out, *self);
    }

    fn read_item(value: &Value) -> Result<Self, JsonError> {
        long(value, "uint64")
    }
}

impl Item for u32 {
    fn is_zero(&self) -> bool {
        *self == 0
    }

    fn write_item(&self, out: Out<'_>) {
        json::number(out.bytes, *self);
    }

    fn read_item(value: &Value) -> Result<Self, JsonError> {
        long(value, "uint32")
    }
}

impl Item for String {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write_item(&self, out: Out<'_>) {
        json::string(out.bytes, self.as_bytes());
    }

    fn read_item(value: &Value) -> Result<Self, JsonError> {
        match value {
            Value::Null => Ok(Self::new()),
            Value::Text(text) => Ok(text.clone()),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Err(JsonError::misfit(value, "string"))
            }
        }
    }
}

impl Item for Bytes {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write_item(&self, out: Out<'_>) {
        base64::write(out.bytes, self);
    }

    fn read_item(value: &Value) -> Result<Self, JsonError> {
        match value {
            Value::Null => Ok(Self::new()),
            Value::Text(text) => base64::read(text),
            // So Go reads what it takes for a list of numbers.
            Value::Array(items) => items.iter().map(|item| integer::<u8>(item, "uint8")).collect(),
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                Err(JsonError::misfit(value, "[]uint8"))
            }
        }
    }
}
