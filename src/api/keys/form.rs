//! Parameters from the query and from a form, decoded as Go decodes them.
//!
//! Values are bytes: what is not UTF-8 is stored as it came.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::model::Refusal;

/// The parameters that `/v2/keys` knows, each with its first value.
#[derive(Debug, Default)]
pub(super) struct Form<'a> {
    pub(super) value: Field<'a>,
    pub(super) dir: Field<'a>,
    pub(super) ttl: Field<'a>,
    pub(super) refresh: Field<'a>,
    pub(super) prev_value: Field<'a>,
    pub(super) prev_index: Field<'a>,
    pub(super) prev_exist: Field<'a>,
    pub(super) recursive: Field<'a>,
    pub(super) sorted: Field<'a>,
    pub(super) quorum: Field<'a>,
    pub(super) wait: Field<'a>,
    pub(super) wait_index: Field<'a>,
    pub(super) stream: Field<'a>,
    pub(super) no_value_on_success: Field<'a>,
}

/// A parameter; `None` when it was not given.
pub(super) type Field<'a> = Option<Cow<'a, [u8]>>;

impl<'a> Form<'a> {
    /// Reads `name=value&…`. What is already there wins, so the body is read before the query.
    ///
    /// # Errors
    /// The first thing that cannot be decoded, or that there is a semicolon; the rest is read all the same, as in Go.
    pub(super) fn read(&mut self, encoded: &'a [u8]) -> Result<(), Refusal> {
        let mut wrong = None;
        let mut rest = Some(encoded);
        while let Some(text) = rest {
            let (pair, behind) = match memchr(b'&', text) {
                Some(at) => (&text[..at], Some(&text[at + 1..])),
                None => (text, None),
            };
            rest = behind;
            if pair.is_empty() {
                continue;
            }
            if memchr(b';', pair).is_some() {
                wrong = Some("invalid semicolon separator in query".to_owned());
            } else if let Err(cause) = self.read_pair(pair) {
                wrong.get_or_insert(cause);
            }
        }
        wrong.map_or(Ok(()), |cause| Err(Refusal::InvalidForm { cause }))
    }

    fn read_pair(&mut self, pair: &'a [u8]) -> Result<(), String> {
        let equals = memchr(b'=', pair);
        let (name, value) = match equals {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &pair[pair.len()..]),
        };
        let (name, value) = (decode(name)?, decode(value)?);
        let field = match &*name {
            b"value" => &mut self.value,
            b"dir" => &mut self.dir,
            b"ttl" => &mut self.ttl,
            b"refresh" => &mut self.refresh,
            b"prevValue" => &mut self.prev_value,
            b"prevIndex" => &mut self.prev_index,
            b"prevExist" => &mut self.prev_exist,
            b"recursive" => &mut self.recursive,
            b"sorted" => &mut self.sorted,
            b"quorum" => &mut self.quorum,
            b"wait" => &mut self.wait,
            b"waitIndex" => &mut self.wait_index,
            b"stream" => &mut self.stream,
            b"noValueOnSuccess" => &mut self.no_value_on_success,
            _ => return Ok(()),
        };
        field.get_or_insert(value);
        Ok(())
    }
}

/// Undoes `%xx` and `+`.
fn decode(text: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if memchr2(b'%', b'+', text).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = crate::api::path::percent_decode(text)?.into_owned();
    // A plus that came as `%2B` is one of the value's own, so pluses are undone where they stood, not afterwards.
    if text.contains(&b'+') {
        decoded.clear();
        for part in text.split_inclusive(|byte| *byte == b'+') {
            let (part, plus) = match part.split_last() {
                Some((b'+', part)) => (part, true),
                _ => (part, false),
            };
            decoded.extend_from_slice(&crate::api::path::percent_decode(part)?);
            if plus {
                decoded.push(b' ');
            }
        }
    }
    Ok(Cow::Owned(decoded))
}

/// The content type of a form.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// Is a body with this content type a form that is to be read? Without a content type it is not.
///
/// # Errors
/// 210 when the content type is malformed.
pub(super) fn is_form(content_type: Option<&[u8]>) -> Result<bool, Refusal> {
    let Some(content_type) = content_type.filter(|text| !text.is_empty()) else { return Ok(false) };
    // As nearly every client writes it.
    if content_type == FORM.as_bytes() {
        return Ok(true);
    }
    let media_type = crate::api::media_type::parse(content_type)
        .map_err(|error| Refusal::InvalidForm { cause: error.to_string() })?;
    Ok(media_type == FORM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(encoded: &[u8]) -> Vec<u8> {
        let mut form = Form::default();
        form.read(encoded).unwrap();
        form.value.unwrap().into_owned()
    }

    #[test]
    fn the_first_of_several_values_counts() {
        assert_eq!(value(b"value=1&value=2"), b"1");
        assert_eq!(value(b"value=&value=2"), b"");
    }

    #[test]
    fn plus_is_a_space_and_an_escaped_plus_is_a_plus() {
        assert_eq!(value(b"value=a+b%2Bc+%20"), b"a b+c  ");
    }

    #[test]
    fn bytes_that_are_not_utf8_stay_as_they_are() {
        assert_eq!(value(b"value=%ff%00"), b"\xff\x00");
    }

    #[test]
    fn a_semicolon_outweighs_a_broken_escape_before_it() {
        let cause = "invalid semicolon separator in query".to_owned();
        let refused = Form::default().read(b"a=%zz&b;c&d=%1");
        assert_eq!(refused, Err(Refusal::InvalidForm { cause }));
    }

    #[test]
    fn a_broken_escape_anywhere_is_refused_with_its_text() {
        for (encoded, text) in [("a=%zz", "%zz"), ("%", "%"), ("a=b&c=%4", "%4"), ("x=%1gg", "%1g")]
        {
            let cause = format!("invalid URL escape \"{text}\"");
            let refused = Form::default().read(encoded.as_bytes());
            assert_eq!(refused, Err(Refusal::InvalidForm { cause }));
        }
    }
}
