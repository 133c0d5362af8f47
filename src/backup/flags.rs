//! Flags and arguments of programs that make data directories and backups, in tables; their help comes from these.
//!
//! Owns: names, defaults, variables, one sentence each; how a command line is read. Never knows: what is done.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::backup::Task;

pub(crate) struct Flag {
    /// The first is the one it is found under.
    names: &'static [&'static str],
    /// What its value looks like; empty for a switch, which has none.
    value: &'static str,
    default: &'static str,
    /// Of the environment, as for `etcdctl`.
    variable: &'static str,
    help: &'static str,
}

/// A row of a table.
pub(crate) const fn row(
    names: &'static [&'static str],
    value: &'static str,
    default: &'static str,
    variable: &'static str,
    help: &'static str,
) -> Flag {
    Flag { names, value, default, variable, help }
}

/// A program.
pub(crate) struct Table {
    /// Its command line.
    pub(crate) usage: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    /// What stands behind the flags; empty when nothing does.
    pub(crate) argument: &'static str,
    /// Its flags.
    pub(crate) flags: &'static [Flag],
    /// What else there is to know.
    pub(crate) more: &'static str,
}

const BACKUP: Table = Table {
    usage: "cairn backup [flags] FILE",
    about: "Asks a running cluster for all that it holds, at one index, and writes it to FILE (- for standard output).",
    argument: "FILE",
    flags: &[
        row(
            &["endpoints", "endpoint"],
            "URL,...",
            "http://127.0.0.1:2379",
            "ETCDCTL_ENDPOINTS",
            "members to ask, one after the other until one answers",
        ),
        row(
            &["local"],
            "",
            "",
            "",
            "take what that member has itself, also when it has no leader; it may lack the last writes",
        ),
        row(&["force"], "", "", "", "replace FILE if it is there"),
        row(&["cert-file"], "FILE", "", "ETCDCTL_CERT_FILE", "certificate to show"),
        row(&["key-file"], "FILE", "", "ETCDCTL_KEY_FILE", "its private key"),
        row(
            &["ca-file"],
            "FILE",
            "",
            "ETCDCTL_CA_FILE",
            "who signs the members' certificates; the system's list if not given",
        ),
        row(
            &["username", "u"],
            "USER[:PASSWORD]",
            "",
            "ETCDCTL_USERNAME",
            "who asks; root's role is needed when authentication is on. Without a password it is asked for",
        ),
    ],
    more: "The file holds values and hashed passwords; it is made for you alone (mode 0600). It takes its name only when it is \
           whole, checked and on the disk. Ends with 0; with 1 when there is no backup, and then FILE is as it was.",
};

const RESTORE: Table = Table {
    usage: "cairn restore [flags] FILE --data-dir DIR",
    about: "Makes a data directory for a member of a new cluster that goes on from a backup. FILE is a file of `cairn backup`, or a \
            directory of `etcdctl backup` or of a stopped member. For a cluster of several, run it once for each member, with the \
            same FILE and flags but for --name, --initial-advertise-peer-urls and --data-dir.",
    argument: "FILE",
    flags: &[
        row(&["data-dir"], "DIR", "", "", "where to; must be missing or empty"),
        row(&["name"], "NAME", "default", "", "the member's name"),
        row(
            &["initial-cluster"],
            "NAME=URL,...",
            "",
            "",
            "all members of the new cluster and their peer URLs; this one alone if not given",
        ),
        row(
            &["initial-advertise-peer-urls"],
            "URL,...",
            "http://localhost:2380",
            "",
            "the member's own peer URLs, as in the list",
        ),
        row(
            &["initial-cluster-token"],
            "TEXT",
            "etcd-cluster",
            "",
            "another text makes another cluster of the same file",
        ),
        row(
            &["bump-index"],
            "N",
            "0",
            "",
            "go on with an index that is N higher, so that no watcher sees an index a second time",
        ),
    ],
    more: "Members of the old cluster never take part in the new one: its ids are new. A DIR that holds anything is refused.",
};

const VERIFY: Table = Table {
    usage: "cairn verify [flags] FILE or DIR",
    about: "Reads all of a backup file, or of a stopped member's data directory, and says what is in it and what is wrong with it. \
            Changes nothing.",
    argument: "FILE or DIR",
    flags: &[row(&["json"], "", "", "", "write the findings as JSON")],
    more: "Ends with 0 if nothing is wrong, else with 1.",
};

pub(super) fn table(task: Task) -> &'static Table {
    match task {
        Task::Backup => &BACKUP,
        Task::Restore => &RESTORE,
        Task::Verify => &VERIFY,
    }
}

/// What a command line says.
pub(crate) struct Said {
    table: &'static Table,
    values: BTreeMap<&'static str, String>,
    variables: Vec<(String, String)>,
    /// What stands behind the flags.
    pub(crate) argument: String,
}

/// What a command line asks for.
pub(crate) enum Asked {
    /// To do what is said.
    Do(Said),
    /// Help, which is here.
    Help(String),
}

/// Reads a command line behind the program's name.
///
/// # Errors
/// What is wrong, with the fix.
pub(crate) fn read(
    table: &'static Table,
    words: Vec<String>,
    variables: Vec<(String, String)>,
) -> Result<Asked, String> {
    let mut words = words.into_iter();
    let (mut values, mut argument) = (BTreeMap::new(), None);
    let mut only_arguments = false;
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        let name = name.filter(|name| !only_arguments && !name.is_empty());
        let Some(name) = name else {
            if word == "--" && !only_arguments {
                only_arguments = true;
            } else if table.argument.is_empty() {
                return Err(wrong(table, &format!("{word:?} belongs to no flag")));
            } else if let Some(first) = argument.replace(word) {
                let second = argument.unwrap_or_default();
                return Err(wrong(
                    table,
                    &format!("{first:?} and {second:?}: name one {}", table.argument),
                ));
            }
            continue;
        };
        if matches!(name, "help" | "h") {
            return Ok(Asked::Help(help(table)));
        }
        let (name, given) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let Some(flag) = table.flags.iter().find(|flag| flag.names.contains(&name)) else {
            return Err(wrong(table, &format!("{word:?} is no flag")));
        };
        let value = match (flag.value, given) {
            ("", None) => String::new(),
            ("", Some(_)) => return Err(wrong(table, &format!("--{name} takes no value"))),
            (_, Some(value)) => value,
            (wanted, None) => match words.next() {
                Some(value) => value,
                None => return Err(wrong(table, &format!("--{name} needs a value: {wanted}"))),
            },
        };
        if values.insert(flag.names[0], value).is_some() {
            return Err(wrong(table, &format!("--{name} stands twice")));
        }
    }
    let argument = argument.unwrap_or_default();
    if argument.is_empty() && !table.argument.is_empty() {
        return Err(wrong(table, &format!("name a {}", table.argument)));
    }
    Ok(Asked::Do(Said { table, values, variables, argument }))
}

impl Said {
    /// What was said, by flag or variable, else the default; empty for nothing.
    pub(crate) fn text(&self, name: &str) -> &str {
        let Some(flag) = self.table.flags.iter().find(|flag| flag.names[0] == name) else {
            return "";
        };
        let variable = || {
            let named = |(name, value): &&(String, String)| {
                !flag.variable.is_empty() && name == flag.variable && !value.is_empty()
            };
            self.variables.iter().find(named).map(|(_, value)| value.as_str())
        };
        self.values.get(name).map(String::as_str).or_else(variable).unwrap_or(flag.default)
    }

    /// Is a switch on?
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A number.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn number(&self, name: &str) -> Result<u64, String> {
        let text = self.text(name);
        let wanted = || wrong(self.table, &format!("--{name} {text:?}: write a whole number"));
        text.parse().map_err(|_| wanted())
    }

    /// Something is wrong with what was said.
    pub(crate) fn wrong(&self, what: &str) -> String {
        wrong(self.table, what)
    }
}

fn wrong(table: &Table, what: &str) -> String {
    format!("{what}\nUsage: {}; --help shows all flags", table.usage)
}

fn help(table: &Table) -> String {
    let mut text = format!("Usage: {}\n{}\n\nFlags:\n", table.usage, table.about);
    for Flag { names, value, default, variable, help } in table.flags {
        let flag = format!("--{} {value}", names[0]);
        let default = if default.is_empty() { String::new() } else { format!(" ({default})") };
        let variable = if variable.is_empty() { String::new() } else { format!(" [{variable}]") };
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {flag:<38} {help}{default}{variable}");
    }
    let _ = write!(text, "\n{}\n", table.more);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: [Task; 3] = [Task::Backup, Task::Restore, Task::Verify];

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn said(task: Task, text: &str, variables: &[(&str, &str)]) -> Said {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        match read(table(task), words(text), variables.iter().map(pair).collect()) {
            Ok(Asked::Do(said)) => said,
            Ok(Asked::Help(help)) => panic!("{text}: {help}"),
            Err(error) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn flags_stand_before_and_behind_the_file() {
        for text in
            ["--data-dir d f --name=x", "f -data-dir=d -name x", "--name x --data-dir d -- f"]
        {
            let said = said(Task::Restore, text, &[]);
            assert_eq!((said.text("data-dir"), said.text("name")), ("d", "x"), "{text}");
            assert_eq!(said.argument, "f");
            assert_eq!(said.number("bump-index"), Ok(0));
        }
        assert_eq!(said(Task::Backup, "-", &[]).argument, "-", "standard output is no flag");
        assert!(said(Task::Backup, "--force f", &[]).is_on("force"));
    }

    #[test]
    fn variables_say_what_no_flag_says() {
        let variables = [("ETCDCTL_ENDPOINTS", "http://a:1"), ("ETCDCTL_USERNAME", "")];
        let asked = said(Task::Backup, "f", &variables);
        assert_eq!((asked.text("endpoints"), asked.text("username")), ("http://a:1", ""));
        let asked = said(Task::Backup, "--endpoint http://b:1 f", &variables);
        assert_eq!(asked.text("endpoints"), "http://b:1");
        assert_eq!(said(Task::Backup, "f", &[]).text("endpoints"), "http://127.0.0.1:2379");
    }

    #[test]
    fn what_is_wrong_is_said_with_the_usage() {
        for (task, text, expected) in [
            (Task::Backup, "", "name a FILE"),
            (Task::Backup, "a b", "\"a\" and \"b\""),
            (Task::Backup, "--bump-index 1 f", "is no flag"),
            (Task::Restore, "f --name", "needs a value"),
            (Task::Verify, "--json=yes f", "takes no value"),
            (Task::Restore, "f --name a --name b", "stands twice"),
        ] {
            let Err(error) = read(table(task), words(text), Vec::new()) else { panic!("{text}") };
            assert!(error.contains(expected) && error.contains("Usage: cairn "), "{text}: {error}");
        }
        assert!(said(Task::Restore, "f --bump-index -1", &[]).number("bump-index").is_err());
    }

    #[test]
    fn the_help_has_a_line_for_each_flag() {
        for task in TASKS {
            let Ok(Asked::Help(text)) = read(table(task), words("--help"), Vec::new()) else {
                panic!("no help")
            };
            for flag in table(task).flags {
                assert!(text.contains(&format!("\n  --{} ", flag.names[0])), "{text}");
            }
        }
    }
}
