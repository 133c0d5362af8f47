//! Bytes as base64, with Go's word for where it is none.

use ::base64::Engine as _;
use ::base64::alphabet::STANDARD;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use crate::rpc::json::JsonError;

/// Padded, and whatever the bits behind the last byte are.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Appends bytes, in quotes.
pub(super) fn write(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let begin = out.len();
    out.resize(begin + bytes.len().div_ceil(3) * 4, 0);
    let written =
        BASE64.encode_slice(bytes, &mut out[begin..]).expect("four letters for three bytes");
    debug_assert_eq!(begin + written, out.len());
    out.push(b'"');
}

/// The bytes; line ends do not count.
pub(super) fn read(text: &str) -> Result<Bytes, JsonError> {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let decoded = if text.as_bytes().iter().any(is_break) {
        let joined: Vec<u8> = text.bytes().filter(|byte| !is_break(byte)).collect();
        BASE64.decode(joined)
    } else {
        BASE64.decode(text)
    };
    decoded.map(Bytes::from).map_err(|_| JsonError::not_base64(corrupt_at(text.as_bytes())))
}

/// A text that was written as base64.
///
/// # Errors
/// When it is none, or no text.
pub fn text_of(base64: &str) -> Result<String, JsonError> {
    let bytes = read(base64)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| JsonError::not_base64(0))
}

/// Where Go stops reading: four letters are read at a time.
fn corrupt_at(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let mut have = 0;
        while have < 4 {
            let Some(letter) = text.get(at) else { return at - have };
            at += 1;
            match letter {
                b'\n' | b'\r' => {}
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => have += 1,
                b'=' if have == 2 => {
                    return match text.get(at) {
                        None => text.len(),
                        Some(b'=') => at + 1,
                        Some(_) => at - 1,
                    };
                }
                // What follows the end is too much.
                b'=' if have == 3 => return at,
                _ => return at - 1,
            }
        }
    }
}
