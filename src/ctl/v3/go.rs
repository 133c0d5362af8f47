//! How Go writes texts, sizes and times, and reads quoted words.
//!
//! Owns: those forms. Never knows: what is written in them.

use std::time::Duration;

/// Bytes as `%q` writes them.
pub(in crate::ctl) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\u{7}' => text.push_str("\\a"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{b}' => text.push_str("\\v"),
                letter if letter == ' ' || is_printable(letter) => text.push(letter),
                letter => match u32::from(letter) {
                    number @ 0..0x80 => text.push_str(&format!("\\x{number:02x}")),
                    number @ 0x80..0x1_0000 => text.push_str(&format!("\\u{number:04x}")),
                    number => text.push_str(&format!("\\U{number:08x}")),
                },
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text.push('"');
    text
}

/// Accents and the like, which the library escapes and Go does not.
const MARKS: &[std::ops::RangeInclusive<char>] = &[
    '\u{300}'..='\u{36f}',
    '\u{483}'..='\u{489}',
    '\u{591}'..='\u{5bd}',
    '\u{610}'..='\u{61a}',
    '\u{64b}'..='\u{65f}',
    '\u{900}'..='\u{903}',
    '\u{93a}'..='\u{94f}',
    '\u{e31}'..='\u{e3a}',
    '\u{e47}'..='\u{e4e}',
    '\u{1ab0}'..='\u{1ace}',
    '\u{1dc0}'..='\u{1dff}',
    '\u{20d0}'..='\u{20f0}',
    '\u{3099}'..='\u{309a}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{fe20}'..='\u{fe2f}',
];

fn is_printable(letter: char) -> bool {
    let plain = letter.escape_debug().count() == 1 || matches!(letter, '\'');
    !letter.is_control()
        && !letter.is_whitespace()
        && (plain || MARKS.iter().any(|marks| marks.contains(&letter)))
}

/// A list of words as `%q` writes it.
pub(in crate::ctl) fn quoted_list(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| quoted(word.as_bytes())).collect();
    format!("[{}]", words.join(" "))
}

/// Reads what stands between quotes at the front, as `%q` does; returns it and what follows.
pub(in crate::ctl) fn unquoted(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (inside, rest) = raw.split_once('`')?;
        return Some((inside.as_bytes().to_vec(), rest));
    }
    let mut letters = text.strip_prefix('"')?.char_indices();
    let body = &text[1..];
    let mut bytes = Vec::new();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '"' => return Some((bytes, &body[place + 1..])),
            '\n' => return None,
            '\\' => {
                let (_, escape) = letters.next()?;
                let mut digits = |count: usize, first: Option<char>, radix| {
                    let rest = count - usize::from(first.is_some());
                    let mut digits: String = first.into_iter().collect();
                    for _ in 0..rest {
                        digits.push(letters.next()?.1);
                    }
                    u32::from_str_radix(&digits, radix).ok()
                };
                match escape {
                    'a' => bytes.push(7),
                    'b' => bytes.push(8),
                    'f' => bytes.push(12),
                    'n' => bytes.push(b'\n'),
                    'r' => bytes.push(b'\r'),
                    't' => bytes.push(b'\t'),
                    'v' => bytes.push(11),
                    '\\' | '"' => bytes.push(u8::try_from(escape).ok()?),
                    'x' => bytes.push(u8::try_from(digits(2, None, 16)?).ok()?),
                    '0'..='7' => bytes.push(u8::try_from(digits(3, Some(escape), 8)?).ok()?),
                    'u' | 'U' => {
                        let count = if escape == 'u' { 4 } else { 8 };
                        let letter = char::from_u32(digits(count, None, 16)?)?;
                        bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    _ => return None,
                }
            }
            letter => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    None
}

/// Words of a line, as they are read inside of transactions and of `watch -i`: quotes hold words together.
///
/// # Errors
/// When a word in double quotes is none in Go.
pub(in crate::ctl) fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let inside = |quote: char| closing(&rest[1..], quote).map(|end| 1 + end);
        match (first, inside(first)) {
            ('\'', Some(end)) => {
                words.push(rest[1..end].to_owned());
                rest = &rest[end + 1..];
            }
            ('"', Some(end)) => {
                let whole = &rest[..=end];
                let (word, _) = unquoted(whole).ok_or_else(|| format!("cannot read {whole}"))?;
                words.push(String::from_utf8(word).map_err(|_| format!("{whole} is no text"))?);
                rest = &rest[end + 1..];
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(rest[..end].to_owned());
                rest = &rest[end..];
            }
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

/// Where the quote is closed; in double quotes a backslash guards the next letter.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut letters = text.char_indices();
    while let Some((place, letter)) = letters.next() {
        match letter {
            letter if letter == quote => return Some(place),
            '\\' if quote == '"' => {
                letters.next()?;
            }
            _ => {}
        }
    }
    None
}

const SIZES: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// A number of bytes for people: `20 kB`, `6.2 MB`.
pub(in crate::ctl) fn size(bytes: u64) -> String {
    let (mut unit, mut scale) = (0, 1_u64);
    while unit + 1 < SIZES.len() && bytes / scale >= 1000 {
        scale *= 1000;
        unit += 1;
    }
    // In tenths, rounded to the nearest; what is larger than ten needs none.
    let tenths = (u128::from(bytes) * 10 + u128::from(scale) / 2) / u128::from(scale);
    match unit {
        0 => format!("{bytes} B"),
        _ if tenths < 100 => format!("{}.{} {}", tenths / 10, tenths % 10, SIZES[unit]),
        // `%.0f` rounds halves to the even number.
        _ => {
            let (whole, tenth) = (tenths / 10, tenths % 10);
            let up = tenth > 5 || (tenth == 5 && whole % 2 == 1);
            format!("{} {}", whole + u128::from(up), SIZES[unit])
        }
    }
}

/// A time as Go writes it: `1.5ms`, `1m0.25s`.
pub(in crate::ctl) fn duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    let with = |scale: u128, unit: &str| {
        let fraction = format!("{:0width$}", nanos % scale, width = scale.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{}{point}{fraction}{unit}", nanos / scale)
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => with(1_000, "µs"),
        1_000_000..1_000_000_000 => with(1_000_000, "ms"),
        _ => {
            let seconds = time.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = duration_below_a_minute(time - Duration::from_secs(seconds / 60 * 60));
            match (hours, minutes) {
                (0, 0) => rest,
                (0, _) => format!("{minutes}m{rest}"),
                _ => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

fn duration_below_a_minute(time: Duration) -> String {
    let fraction = format!("{:09}", time.subsec_nanos());
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}s", time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_in_go() {
        for (bytes, expected) in [
            (&b"a\"\\\n\t\x01\x7f\xff"[..], r#""a\"\\\n\t\x01\x7f\xff""#),
            ("é\u{a0}\u{feff}😀e\u{301}".as_bytes(), "\"é\\u00a0\\ufeff😀e\u{301}\""),
        ] {
            assert_eq!(quoted(bytes), expected);
        }
        assert_eq!(quoted_list(&["sh".to_owned(), "-c".to_owned()]), r#"["sh" "-c"]"#);
    }

    #[test]
    fn quotes_are_read_as_in_go() {
        let read = |text| unquoted(text).map(|(bytes, rest)| (bytes, rest.to_owned()));
        assert_eq!(
            read("\"a\\\"b\\x41\\101\\u00e9\") > "),
            Some(("a\"bAAé".into(), ") > ".to_owned()))
        );
        assert_eq!(read("`a\\` x"), Some((b"a\\".to_vec(), " x".to_owned())));
        for text in ["a", "\"a", "\"\\q\"", "\"\\x4\""] {
            assert_eq!(read(text), None, "{text}");
        }
        let split = |line| words(line).unwrap();
        assert_eq!(
            split("put \"x y\" 'a  b' c\"d\t--e=\"f g\""),
            ["put", "x y", "a  b", "c\"d", "--e=\"f", "g\""]
        );
        assert!(words("put \"\\q\"").is_err());
    }

    #[test]
    fn sizes_and_times_are_for_people() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20480, "20 kB"),
            (6_200_000, "6.2 MB"),
            (83_886_080, "84 MB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        for (nanos, expected) in [
            (0, "0s"),
            (999, "999ns"),
            (1_500, "1.5µs"),
            (1_934_871, "1.934871ms"),
            (5_001_113_152, "5.001113152s"),
            (60_000_000_000, "1m0s"),
            (3_661_500_000_000, "1h1m1.5s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), expected);
        }
    }
}
