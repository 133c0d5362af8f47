//! Bytes of our stored and peer formats: little-endian numbers, varints, length-prefixed bytes.
//!
//! Every format that uses it starts with a version byte of its own and is only ever appended to.

use thiserror::Error;

/// Stored or received bytes that do not follow their format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the bytes end inside {0}")]
    Short(&'static str),
    /// A tag or version that this build does not know.
    #[error("unknown {what} {found}; a newer version of cairn wrote it")]
    Unknown {
        /// What the number stands for.
        what: &'static str,
        /// The number.
        found: u64,
    },
    /// Bytes are left over, or a value breaks an invariant.
    #[error("malformed {0}")]
    Malformed(&'static str),
}

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// One byte: a tag, a version or a flag set.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Eight bytes, for numbers that are large more often than not.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// One to ten bytes, seven bits each, lowest first.
    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push((value & 0x7f) as u8);
        self
    }

    /// A number with a sign: small ones of either sign are short.
    pub fn signed(&mut self, value: i64) -> &mut Self {
        self.varint(((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    /// A varint length and the bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    /// Bytes written so far.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes values from the front of a slice; never panics, whatever the bytes.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(DecodeError::Short(what))?;
        self.rest = tail;
        Ok(head)
    }

    /// The counterpart of [`Writer::u8`].
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.take(1, what)?[0])
    }

    /// The counterpart of [`Writer::u64`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let bytes = self.take(8, what)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("take gives eight bytes")))
    }

    /// The counterpart of [`Writer::varint`].
    pub fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Malformed(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed(what))
    }

    /// The counterpart of [`Writer::signed`].
    pub fn signed(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        let value = self.varint(what)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The counterpart of [`Writer::bytes`].
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.varint(what)?;
        let length = usize::try_from(length).map_err(|_| DecodeError::Malformed(what))?;
        self.take(length, what)
    }

    /// [`Reader::bytes`] that must be UTF-8.
    pub fn text(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let bytes = self.bytes(what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Malformed(what))
    }

    /// Bytes that are not read yet.
    pub fn length(&self) -> usize {
        self.rest.len()
    }

    /// Is everything read?
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// # Errors
    /// [`DecodeError::Malformed`] when bytes are left over.
    pub fn end(&self, what: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Malformed(what)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_numbers_of_either_sign_take_one_byte() {
        for value in [0, -1, 1, -64, 63] {
            let mut writer = Writer::default();
            writer.signed(value);
            assert_eq!(writer.length(), 1, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            number in any::<u64>(),
            signed in any::<i64>(),
            bytes in any::<Vec<u8>>(),
        ) {
            let mut writer = Writer::default();
            writer.u8(7).varint(number).u64(number).signed(signed).bytes(&bytes);
            let encoded = writer.finish();
            let mut reader = Reader::new(&encoded);
            prop_assert_eq!(reader.u8("tag").unwrap(), 7);
            prop_assert_eq!(reader.varint("number").unwrap(), number);
            prop_assert_eq!(reader.u64("number").unwrap(), number);
            prop_assert_eq!(reader.signed("signed").unwrap(), signed);
            prop_assert_eq!(reader.bytes("bytes").unwrap(), &bytes[..]);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() {
                if reader.bytes("bytes").is_err() || reader.varint("number").is_err() {
                    break;
                }
            }
        }
    }
}
