//! JSON of the v2 API: numbers and lists, beside the strings that all JSON here has.

use std::io::Write;

pub(super) use crate::model::json::{number, string};

/// Appends a number with a fraction; very small and very large ones with an exponent.
pub(super) fn float(out: &mut Vec<u8>, number: f64) {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        write!(out, "{number:e}").expect("a Vec takes whatever is written to it");
    } else {
        write!(out, "{number}").expect("a Vec takes whatever is written to it");
    }
}

/// Appends `["a","b"]`.
pub(super) fn strings<'a>(out: &mut Vec<u8>, texts: impl IntoIterator<Item = &'a String>) {
    out.push(b'[');
    for (place, text) in texts.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        string(out, text.as_bytes());
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_have_an_exponent_only_when_they_need_one() {
        for (number, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-7"),
            (9_223_372_036_854_775_808.0, "9223372036854776000"),
            (1e21, "1e21"),
        ] {
            let mut out = Vec::new();
            float(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
