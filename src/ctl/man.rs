//! The manual page, from the table.
//!
//! Owns: its layout and what is said beside commands and options. Never knows: the help, though both say the same.

use std::fmt::Write as _;

use crate::ctl::failure::code;
use crate::ctl::help;
use crate::ctl::table::{self, Api, Flag};

const DESCRIPTION: &str = "It reads and writes keys of a cluster that speaks the version 2 API, watches them, and administers members, \
users and roles. Before a command it asks the members of the endpoints where clients reach all of them, and then one after the \
other until one answers. Options may stand before and behind arguments; -- ends them.";

const DESCRIPTION_3: &str = "It reads and writes keys of a cluster that speaks the version 3 API over gRPC, watches them, holds leases, locks and \
elections, and administers members, users and roles. It asks the endpoints one after the other until one takes a connection.";

/// The page, for `man -l -`; `program` is the name the tool was called under.
pub(super) fn page(program: &str, api: &Api) -> String {
    let description = if api.version == 3 { DESCRIPTION_3 } else { DESCRIPTION };
    let mut page = format!(
        ".TH {} 1 \"\" \"cairn {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\n[global options] command [command options] [arguments...]\n.SH DESCRIPTION\n{}\n",
        escaped(&program.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
        escaped(program),
        escaped(api.about),
        escaped(program),
        escaped(&format!("{description} {}", table::WHICH_API))
    );
    page.push_str(".SH GLOBAL OPTIONS\n");
    api.globals.iter().chain(api.always).for_each(|flag| option(&mut page, flag));
    page.push_str(".SH COMMANDS\n");
    for command in api.commands {
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
    for (code, meaning) in if api.version == 3 { CODES_3 } else { CODES_2 } {
        let _ = writeln!(page, ".TP\n.B {code}\n{}", escaped(meaning));
    }
    page
}

const CODES_2: &[(u8, &str)] = &[
    (0, "It is done."),
    (
        code::BAD_ARGUMENTS,
        "Wrong arguments; get of a directory; every error of member, user, role and auth.",
    ),
    (code::NO_CONNECTION, "No member could be reached."),
    (code::NO_COMMAND, "There is no such command."),
    (code::SERVER, "The members refused a command on keys, or did not answer it."),
    (code::NOT_HEALTHY, "cluster-health: not all members are healthy."),
];

const CODES_3: &[(u8, &str)] = &[
    (0, "It is done."),
    (1, "The members refused it or did not answer in time; an unknown command or option."),
    (2, "No connection; a lease that is not there."),
    (3, "Input that cannot be read, as of txn and watch -i."),
    (4, "A format, an order or a size that there is not."),
    (5, "A watch that the server has ended."),
    (128, "Wrong arguments."),
];

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
        for api in [&table::V2, &table::V3] {
            let page = page("etcdctl", api);
            for command in api.commands {
                assert!(page.contains(&format!(".SS {}", escaped(command.name))), "{page}");
                for flag in command.flags {
                    assert!(page.contains(&format!(".B {}\n", escaped(&help::spelled(flag)))));
                }
            }
            assert!(page.lines().all(|line| !line.starts_with('.') || line.len() >= 3), "{page}");
        }
    }
}
