//! Protocol buffers as etcd writes them: fields one after the other, each with its number and its wire type.
//!
//! Owns: the wire format. Never knows: which message it is.
//! Only what etcd's files need: no groups, no packed lists, no descriptors. Every length is checked against what is there.

use thiserror::Error;

/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: a text, bytes, or a message.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// Bytes that are no message of the kind that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProtoError {
    /// They end too early.
    #[error("the message ends inside of field {0}")]
    Short(u64),
    /// A number of more than 64 bits.
    #[error("field {0} holds a number that is too long")]
    Long(u64),
    /// A field number or wire type that no version of etcd writes there.
    #[error("field {number} with wire type {wire} does not belong there")]
    Unexpected {
        /// The field's number.
        number: u64,
        /// Its wire type.
        wire: u64,
    },
}

/// A field with its number.
pub type Field<'a> = (u64, Value<'a>);

/// The fields of a message, in the order in which they stand.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Reads a message from its first byte.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes are read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next field; `None` behind the last.
    ///
    /// # Errors
    /// See [`ProtoError`].
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, ProtoError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint(0)?;
        let (number, wire) = (key >> 3, key & 7);
        let value = match wire {
            0 => Value::Varint(self.varint(number)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array(number)?)),
            2 => {
                let length = self.varint(number)?;
                let length = usize::try_from(length).map_err(|_| ProtoError::Short(number))?;
                Value::Bytes(self.take(number, length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array(number)?)),
            _ => return Err(ProtoError::Unexpected { number, wire }),
        };
        Ok(Some((number, value)))
    }

    /// A bare number at this place: for a message that is read by hand.
    ///
    /// # Errors
    /// See [`ProtoError`].
    pub fn number(&mut self) -> Result<u64, ProtoError> {
        self.varint(0)
    }

    fn take(&mut self, number: u64, length: usize) -> Result<&'a [u8], ProtoError> {
        let rest = &self.bytes[self.at..];
        let found = rest.get(..length).ok_or(ProtoError::Short(number))?;
        self.at += length;
        Ok(found)
    }

    fn array<const N: usize>(&mut self, number: u64) -> Result<[u8; N], ProtoError> {
        let bytes = self.take(number, N)?;
        bytes.try_into().map_err(|_| ProtoError::Short(number))
    }

    fn varint(&mut self, number: u64) -> Result<u64, ProtoError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(ProtoError::Short(number))?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(ProtoError::Long(number));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtoError::Long(number))
    }
}

/// This field does not belong into the message.
pub fn unexpected(field: Field<'_>) -> ProtoError {
    let (number, value) = field;
    let wire = match value {
        Value::Varint(_) => 0,
        Value::Fixed64(_) => 1,
        Value::Bytes(_) => 2,
        Value::Fixed32(_) => 5,
    };
    ProtoError::Unexpected { number, wire }
}

/// Appends a message field by field: what an export writes, and what tests make up.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A number.
    #[must_use]
    pub fn varint(mut self, number: u64, value: u64) -> Self {
        self.push_varint(number << 3);
        self.push_varint(value);
        self
    }

    /// Bytes, a text, or a message.
    #[must_use]
    pub fn bytes(mut self, number: u64, value: &[u8]) -> Self {
        self.push_varint(number << 3 | 2);
        self.push_varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// The head of a field of bytes, which the caller appends.
    #[must_use]
    pub fn bytes_head(mut self, number: u64, length: usize) -> Self {
        self.push_varint(number << 3 | 2);
        self.push_varint(length as u64);
        self
    }

    /// What was appended.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, ProtoError> {
        let mut fields = Fields::of(bytes);
        let mut found = Vec::new();
        while let Some(field) = fields.next_field()? {
            found.push(field);
        }
        assert_eq!(fields.position(), bytes.len());
        Ok(found)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in prop::collection::vec((1_u64..3000, any::<u64>(), prop::option::of(any::<Vec<u8>>())), 0..8)) {
            let mut message = Message::default();
            for (number, value, bytes) in &fields {
                message = match bytes {
                    Some(bytes) => message.bytes(*number, bytes),
                    None => message.varint(*number, *value),
                };
            }
            let bytes = message.finish();
            let wanted: Vec<_> = fields.iter().map(|(number, value, bytes)| match bytes {
                Some(bytes) => (*number, Value::Bytes(bytes)),
                None => (*number, Value::Varint(*value)),
            }).collect();
            prop_assert_eq!(all(&bytes), Ok(wanted));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = all(&bytes);
        }
    }

    #[test]
    fn other_wire_types_are_read_and_broken_ones_refused() {
        assert_eq!(all(&[0x09, 1, 0, 0, 0, 0, 0, 0, 0]), Ok(vec![(1, Value::Fixed64(1))]));
        assert_eq!(all(&[0x0d, 1, 0, 0, 0]), Ok(vec![(1, Value::Fixed32(1))]));
        assert_eq!(all(&[0x0b]), Err(ProtoError::Unexpected { number: 1, wire: 3 }));
        assert_eq!(all(&[0x0a, 5, 1]), Err(ProtoError::Short(1)));
        assert_eq!(all(&[0x08]), Err(ProtoError::Short(1)));
        let long = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(all(&long), Err(ProtoError::Long(1)));
    }
}
