//! Strings of JSON as Go writes them: HTML-safe escapes, and `\ufffd` for each byte that is not UTF-8.
//!
//! Clients compare bodies byte by byte, so this is part of the contract.

/// What [`number`] takes: whole numbers of any size.
pub use itoa::Integer;

/// Appends `"text"` to `out`, escaped.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let (plain, rest) = text.split_at(plain_length(text));
    out.extend_from_slice(plain);
    for chunk in rest.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

/// How far `text` is ASCII that stands in a string as it is, in whole blocks: the compiler looks at a block's bytes side by side.
fn plain_length(text: &[u8]) -> usize {
    const BLOCK_BYTES: usize = 32;
    let is_plain = |block: &&[u8; BLOCK_BYTES]| {
        let odd = |odd, byte: &u8| odd | u8::from(is_special(*byte) | (*byte >= 0x80));
        block.iter().fold(0, odd) == 0
    };
    text.as_chunks().0.iter().take_while(is_plain).count() * BLOCK_BYTES
}

/// What must not stand in a string as it is. `0xe2` opens U+2028 and U+2029, and much else. All comparisons are made, whatever the
/// first ones say: only then are bytes looked at side by side.
const fn is_special(byte: u8) -> bool {
    (byte < 0x20)
        | (byte == b'"')
        | (byte == b'\\')
        | (byte == b'<')
        | (byte == b'>')
        | (byte == b'&')
        | (byte == 0xe2)
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| is_special(*byte)) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let mut taken = 1;
        match tail[0] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0xe2 => match tail {
                [_, 0x80, 0xa8, ..] => {
                    out.extend_from_slice(b"\\u2028");
                    taken = 3;
                }
                [_, 0x80, 0xa9, ..] => {
                    out.extend_from_slice(b"\\u2029");
                    taken = 3;
                }
                _ => out.push(0xe2),
            },
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(other >> 4)]);
                out.push(HEX[usize::from(other & 15)]);
            }
        }
        rest = &tail[taken..];
    }
    out.extend_from_slice(rest);
}

/// Appends a number.
pub fn number(out: &mut Vec<u8>, number: impl Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &[u8]) -> String {
        let mut out = Vec::new();
        string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_html_gives_a_meaning_is_escaped() {
        assert_eq!(written(b"<a href=\"x\">&"), r#""\u003ca href=\"x\"\u003e\u0026""#);
    }

    #[test]
    fn a_special_byte_is_found_at_every_place_of_a_long_text() {
        for special in (0..=u8::MAX).filter(|byte| is_special(*byte) || *byte >= 0x80) {
            for at in 0..100 {
                let mut text = [b'x'; 100];
                text[at] = special;
                let alone = written(&[special]);
                let (before, behind) = ("x".repeat(at), "x".repeat(99 - at));
                let wanted = format!("\"{before}{}{behind}\"", &alone[1..alone.len() - 1]);
                assert_eq!(written(&text), wanted, "{special:#x} at {at}");
            }
        }
    }

    #[test]
    fn control_characters_have_short_forms_only_where_go_has_them() {
        assert_eq!(
            written(b"\n\r\t\x08\x0c\x00\x1f\x7f"),
            "\"\\n\\r\\t\\u0008\\u000c\\u0000\\u001f\x7f\""
        );
    }

    #[test]
    fn line_separators_are_escaped_and_their_neighbours_are_not() {
        assert_eq!(written("\u{2028}\u{2029}\u{202a}€".as_bytes()), "\"\\u2028\\u2029\u{202a}€\"");
    }

    #[test]
    fn each_byte_that_is_not_utf8_is_replaced() {
        assert_eq!(written(b"a\xff\xfeb\xe2\x80"), r#""a\ufffd\ufffdb\ufffd\ufffd""#);
    }
}
