//! The manual page, from the table.
//!
//! Owns: its layout and what is said beside commands and options. Never knows: the help, though both say the same.

use std::fmt::Write as _;

use crate::ctl::failure::code;
use crate::ctl::help;
use crate::ctl::table::{ALWAYS, COMMANDS, Flag, GLOBALS};

const DESCRIPTION: &str = "It reads and writes keys of a cluster that speaks the version 2 API, watches them, and administers members, \
users and roles. Before a command it asks the members of the endpoints where clients reach all of them, and then one after the \
other until one answers. Options may stand before and behind arguments; -- ends them.";

/// The page, for `man -l -`; `program` is the name the tool was called under.
pub(super) fn page(program: &str) -> String {
    let mut page = format!(
        ".TH {} 1 \"\" \"cairn {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\n[global options] command [command options] [arguments...]\n.SH DESCRIPTION\n{}\n",
        escaped(&program.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
        escaped(program),
        escaped(help::ABOUT),
        escaped(program),
        escaped(DESCRIPTION)
    );
    page.push_str(".SH GLOBAL OPTIONS\n");
    GLOBALS.iter().chain(ALWAYS).for_each(|flag| option(&mut page, flag));
    page.push_str(".SH COMMANDS\n");
    for command in COMMANDS {
        let usage = help::usage(program, command);
        let usage = usage.strip_prefix(program).unwrap_or(&usage).trim();
        let _ = writeln!(page, ".SS {}\n{}.", escaped(usage), escaped(&capitalized(command.about)));
        for part in command.description.split("\n\n").filter(|part| !part.is_empty()) {
            let _ = match part.contains('\n') || part.starts_with('$') {
                true => writeln!(page, ".PP\n.nf\n{}\n.fi", escaped(part)),
                false => writeln!(page, ".PP\n{}", escaped(part)),
            };
        }
        command.flags.iter().for_each(|flag| option(&mut page, flag));
    }
    page.push_str(".SH EXIT STATUS\n");
    for (code, meaning) in [
        (0, "It is done."),
        (
            code::BAD_ARGUMENTS,
            "Wrong arguments; get of a directory; every error of member, user, role and auth.",
        ),
        (code::NO_CONNECTION, "No member could be reached."),
        (code::NO_COMMAND, "There is no such command."),
        (code::SERVER, "The members refused a command on keys, or did not answer it."),
        (code::NOT_HEALTHY, "cluster-health: not all members are healthy."),
    ] {
        let _ = writeln!(page, ".TP\n.B {code}\n{}", escaped(meaning));
    }
    page
}

fn option(page: &mut String, flag: &Flag) {
    let _ = writeln!(
        page,
        ".TP\n.B {}\n{}.",
        escaped(&help::spelled(flag)),
        escaped(&capitalized(&help::explained(flag)))
    );
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Backslashes and dashes mean something, and so do dots and quotes at the beginning of a line.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let guarded = |line: &str| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    };
    text.lines().map(guarded).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_the_table_is_in_the_page() {
        let page = page("etcdctl");
        for command in COMMANDS {
            assert!(page.contains(&format!(".SS {}", escaped(command.name))), "{}", command.name);
            for flag in command.flags {
                assert!(page.contains(&format!(".B {}\n", escaped(&help::spelled(flag)))));
            }
        }
        assert!(page.lines().all(|line| !line.starts_with('.') || line.len() >= 3), "{page}");
    }
}
