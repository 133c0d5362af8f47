//! Words of the tool for version 3, for those who type them here.
//!
//! Owns: which they are, and what version 2 has in their place. Never knows: how they are parsed.

/// Its commands that version 2 does not have, each with what does the same there, if anything does.
const COMMANDS: &[(&str, Option<&str>)] = &[
    ("alarm", None),
    ("check", None),
    ("compaction", None),
    ("defrag", None),
    ("del", Some("rm")),
    ("elect", None),
    ("endpoint", Some("cluster-health")),
    ("lease", Some("set --ttl")),
    ("lock", None),
    ("make-mirror", None),
    ("migrate", None),
    ("move-leader", None),
    ("put", Some("set")),
    ("snapshot", Some("backup")),
    ("txn", None),
    ("version", Some("--version")),
];

/// The same of its options.
const FLAGS: &[(&str, Option<&str>)] = &[
    ("cacert", Some("--ca-file")),
    ("cert", Some("--cert-file")),
    ("cluster", None),
    ("from-key", None),
    ("key", Some("--key-file")),
    ("keys-only", Some("ls --recursive")),
    ("lease", Some("--ttl")),
    ("prefix", Some("ls --recursive")),
    ("user", Some("--username")),
];

/// What to say about a command that is not known.
pub(super) fn command(word: &str) -> Option<String> {
    said(COMMANDS, word)
}

/// What to say about an option that is not known.
pub(super) fn flag(name: &str) -> Option<String> {
    said(FLAGS, name)
}

/// What to say about a command that only version 2 has.
pub(super) fn of_version_2(word: &str) -> String {
    format!("`{word}` is of the version 2 API: set ETCDCTL_API=2 to use that")
}

fn said(table: &[(&str, Option<&str>)], word: &str) -> Option<String> {
    let (_, instead) = table.iter().find(|(known, _)| *known == word)?;
    let instead = instead.map(|instead| format!("; version 2 has `{instead}`"));
    let instead = instead.unwrap_or_default();
    Some(format!("`{word}` is of the version 3 API: set ETCDCTL_API=3 to use that{instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::table;

    #[test]
    fn each_word_is_missing_here_and_what_stands_in_its_place_is_there() {
        let known = |name: &str| table::COMMANDS.iter().any(|command| command.name == name);
        for (word, instead) in COMMANDS {
            assert!(!known(word), "{word} is a command");
            let said = command(word).expect("it is known");
            assert!(said.starts_with(&format!("`{word}` is of the version 3 API")), "{said}");
            if let Some(first) = instead.and_then(|instead| instead.split(' ').next())
                && !first.starts_with("--")
            {
                assert!(known(first), "{first} is no command");
            }
        }
        assert_eq!(flag("prefix").map(|said| said.contains("`ls --recursive`")), Some(true));
        assert_eq!((command("frob"), flag("foo")), (None, None));
    }
}
