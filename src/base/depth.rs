//! How deep JSON is nested: what reads it takes of the stack for each level.

/// Braces and brackets that may be open at once. Keys are at most a thousand deep, and each level takes two; JSON that is nested
/// deeper could only be meant to exhaust a stack.
pub const JSON_DEPTH_MAX: usize = 4096;

/// How deep braces and brackets are nested, those in text left out.
pub fn json_depth(json: &[u8]) -> usize {
    let (mut deepest, mut open, mut in_text, mut escaped) = (0usize, 0usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' if !in_text => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_text_do_not_count() {
        assert_eq!(json_depth(br#"["\"[[[",{"a":[]}]"#), 3);
        assert_eq!(json_depth(b"]}]"), 0);
    }
}
