//! Which of its programs the binary is asked to be: by the name it is called under, or by the first word.
//!
//! Owns: those names. Never knows: flags, what the programs do.

use std::path::Path;

/// What the words of a command line ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A member, with its flags.
    Server(Vec<String>),
    /// The question whether a member is well, with its flags.
    Health(Vec<String>),
    /// The question whether a configuration is good, with its words.
    Config(Vec<String>),
    /// Load on servers, with its flags.
    Bench(Vec<String>),
    /// A backup of a running cluster, with its flags.
    Backup(Vec<String>),
    /// A new member's directory from a backup, with its flags.
    Restore(Vec<String>),
    /// The question whether a backup or a directory is whole, with its flags.
    Verify(Vec<String>),
    /// A member's directory from one of etcd, with its flags.
    Migrate(Vec<String>),
    /// A directory of etcd from a backup or a member's directory, with its flags.
    Export(Vec<String>),
    /// A copy of a running server in another, with its flags.
    Mirror(Vec<String>),
    /// A copy of keys of one version of the API in another, with its words.
    Copy(Vec<String>),
    /// The tool under this name, with its words.
    Tool(String, Vec<String>),
}

impl Program {
    /// Reads a command line, the program's own name first.
    ///
    /// A container is started as `IMAGE -name x`, as `IMAGE etcd -name x` or as `IMAGE /usr/local/bin/etcd -name x`; to a fixed
    /// entry point these are all words, so a first word that names the server is dropped.
    pub fn of(words: impl IntoIterator<Item = String>) -> Self {
        let mut words = words.into_iter().peekable();
        let called = words.next().unwrap_or_default();
        if is_tool(&called) {
            return Self::Tool(file_name(&called).to_owned(), words.collect());
        }
        if words.peek().is_some_and(|word| is_server(word)) {
            words.next();
        }
        match words.peek() {
            Some(word) if is_tool(word) => {
                let name = file_name(word).to_owned();
                Self::Tool(name, words.skip(1).collect())
            }
            // `cairn ctl` is short for `cairn cairnctl`; no program has the name `ctl` alone.
            Some(word) if word == "ctl" => {
                Self::Tool("cairnctl".to_owned(), words.skip(1).collect())
            }
            Some(word) if word == "health" => Self::Health(words.skip(1).collect()),
            Some(word) if word == "config" => Self::Config(words.skip(1).collect()),
            Some(word) if word == "bench" => Self::Bench(words.skip(1).collect()),
            Some(word) if word == "backup" => Self::Backup(words.skip(1).collect()),
            Some(word) if word == "restore" => Self::Restore(words.skip(1).collect()),
            Some(word) if word == "verify" => Self::Verify(words.skip(1).collect()),
            Some(word) if word == "export" => Self::Export(words.skip(1).collect()),
            Some(word) if word == "migrate" => Self::Migrate(words.skip(1).collect()),
            Some(word) if word == "mirror" => Self::Mirror(words.skip(1).collect()),
            Some(word) if word == "copy" => Self::Copy(words.skip(1).collect()),
            Some(_) | None => Self::Server(words.collect()),
        }
    }

    /// The flags of the server that another process is, from that process's command line; `None` when it is none.
    ///
    /// What comes before the server's name are words of the program that started it, such as a container's init.
    pub fn server_flags(words: impl IntoIterator<Item = String>) -> Option<Vec<String>> {
        let mut words = words.into_iter().skip_while(|word| !is_server(word)).peekable();
        words.peek()?;
        match Self::of(words) {
            Self::Server(flags) => Some(flags),
            Self::Health(_)
            | Self::Config(_)
            | Self::Bench(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Verify(_)
            | Self::Migrate(_)
            | Self::Export(_)
            | Self::Mirror(_)
            | Self::Copy(_)
            | Self::Tool(..) => None,
        }
    }
}

fn is_server(word: &str) -> bool {
    matches!(file_name(word), "cairn" | "etcd")
}

fn is_tool(word: &str) -> bool {
    matches!(file_name(word), "cairnctl" | "etcdctl")
}

/// `/usr/local/bin/etcd` is `etcd`; a flag's value such as `--data-dir=/a/etcd` is not.
fn file_name(word: &str) -> &str {
    if word.starts_with('-') {
        return word;
    }
    Path::new(word).file_name().and_then(|name| name.to_str()).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn of(text: &str) -> Program {
        Program::of(words(text))
    }

    #[test]
    fn every_way_to_start_a_server_gives_the_same_flags() {
        for text in [
            "cairn -name x",
            "etcd -name x",
            "/usr/local/bin/etcd -name x",
            "cairn etcd -name x",
            "cairn /usr/local/bin/etcd -name x",
            "target/debug/cairn cairn -name x",
            "/etcd /etcd -name x",
        ] {
            assert_eq!(of(text), Program::Server(words("-name x")), "{text}");
        }
        assert_eq!(of("cairn"), Program::Server(Vec::new()));
        assert_eq!(of(""), Program::Server(Vec::new()));
    }

    #[test]
    fn only_first_words_are_names() {
        for flags in
            ["-name etcd", "--data-dir=/var/lib/etcd", "--name etcdctl", "x etcd", "-- etcd"]
        {
            assert_eq!(of(&format!("cairn {flags}")), Program::Server(words(flags)));
        }
        assert_eq!(of("cairn etcd etcd"), Program::Server(words("etcd")));
    }

    #[test]
    fn the_tool_has_two_names_and_is_called_by_either() {
        for (text, name, rest) in [
            ("etcdctl ls", "etcdctl", "ls"),
            ("/usr/local/bin/cairnctl", "cairnctl", ""),
            ("cairn etcdctl -C http://a:1 member list", "etcdctl", "-C http://a:1 member list"),
            ("cairn /usr/local/bin/etcdctl health", "etcdctl", "health"),
            ("cairn ctl set etcd etcdctl", "cairnctl", "set etcd etcdctl"),
            ("cairn etcd ctl ls", "cairnctl", "ls"),
        ] {
            assert_eq!(of(text), Program::Tool(name.to_owned(), words(rest)), "{text}");
        }
        assert_eq!(of("cairn -name ctl"), Program::Server(words("-name ctl")));
    }

    #[test]
    fn some_programs_are_words_of_the_server_alone() {
        for text in ["cairn health --endpoint u", "etcd health --endpoint u"] {
            assert_eq!(of(text), Program::Health(words("--endpoint u")), "{text}");
        }
        assert_eq!(of("cairn bench put"), Program::Bench(words("put")));
        assert_eq!(of("cairn backup f"), Program::Backup(words("f")));
        assert_eq!(of("cairn restore f --name x"), Program::Restore(words("f --name x")));
        assert_eq!(of("cairn verify f"), Program::Verify(words("f")));
        assert_eq!(of("cairn export f"), Program::Export(words("f")));
        assert_eq!(of("cairn migrate --from d"), Program::Migrate(words("--from d")));
        assert_eq!(of("cairn mirror --once"), Program::Mirror(words("--once")));
        assert_eq!(of("cairn copy v2-to-v3"), Program::Copy(words("v2-to-v3")));
        assert_eq!(of("cairn --name health"), Program::Server(words("--name health")));
    }

    #[test]
    fn a_server_is_recognised_behind_an_init() {
        for text in ["cairn -name x", "/sbin/docker-init -- /usr/local/bin/cairn etcd -name x"] {
            assert_eq!(Program::server_flags(words(text)), Some(words("-name x")), "{text}");
        }
        for text in ["", "/sbin/init splash", "cairn health", "cairn bench put", "cairn verify d"] {
            assert_eq!(Program::server_flags(words(text)), None, "{text}");
        }
    }
}
