//! The help, from the table.
//!
//! Owns: its layout. Never knows: what any option means beyond its row.

use std::fmt::Write as _;

use crate::ctl::parse::Topic;
use crate::ctl::table::{Api, Command, Flag, Group, Kind, WHICH_API};

/// What `help` prints; `program` is the name the tool was called under.
pub(super) fn text(program: &str, api: &Api, topic: Topic) -> String {
    match topic {
        Topic::Tool => tool(program, api),
        Topic::Group(group) => of_group(program, api, group),
        Topic::Command(command) => of_command(program, api, command),
    }
}

fn tool(program: &str, api: &Api) -> String {
    let mut text = format!(
        "NAME:\n   {program} - {}\n\n   {WHICH_API}\n\nUSAGE:\n   {program} [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n",
        api.about,
        env!("CARGO_PKG_VERSION")
    );
    let single = api.commands_of("").map(|(name, command)| (name.to_owned(), command.about));
    let groups = api.groups.iter().map(|group| (group.name.to_owned(), group.about));
    let help = ("help, h".to_owned(), "show the commands, or the help of one");
    columns(&mut text, single.chain(groups).chain([help]).collect());
    text.push_str("\nGLOBAL OPTIONS:\n");
    columns(&mut text, api.globals.iter().chain(api.always).map(row).collect());
    text
}

fn of_group(program: &str, api: &Api, group: &Group) -> String {
    let mut text = format!(
        "NAME:\n   {program} {0} - {1}\n\nUSAGE:\n   {program} {0} command [command options] [arguments...]\n\nCOMMANDS:\n",
        group.name, group.about
    );
    columns(
        &mut text,
        api.commands_of(group.name)
            .map(|(name, command)| (name.to_owned(), command.about))
            .collect(),
    );
    text.push_str("\nOPTIONS:\n");
    columns(&mut text, api.help.iter().map(row).collect());
    text
}

fn of_command(program: &str, api: &Api, command: &Command) -> String {
    let mut text =
        format!("NAME:\n   {program} {} - {}\n\nUSAGE:\n   ", command.name, command.about);
    text.push_str(usage(program, command).trim_end());
    text.push('\n');
    if !command.description.is_empty() {
        text.push_str("\nDESCRIPTION:\n");
        for line in command.description.lines() {
            let _ = writeln!(text, "{}", format!("   {line}").trim_end());
        }
    }
    if !command.flags.is_empty() {
        text.push_str("\nOPTIONS:\n");
        columns(&mut text, command.flags.iter().map(row).collect());
    }
    if api.version == 3 {
        // As etcd's tool for this version does.
        text.push_str("\nGLOBAL OPTIONS:\n");
        columns(&mut text, api.globals.iter().map(row).collect());
    }
    text
}

/// How a command is written.
pub(super) fn usage(program: &str, command: &Command) -> String {
    let options = if command.flags.is_empty() { "" } else { "[command options] " };
    format!("{program} {} {options}{}", command.name, command.usage)
}

/// `--recursive, -r`, with the value that it takes.
pub(super) fn spelled(flag: &Flag) -> String {
    let value = match flag.kind {
        Kind::Switch => "",
        Kind::File => " file",
        Kind::Number | Kind::Duration | Kind::Text | Kind::Texts | Kind::Choice(_) => " value",
    };
    let name = |name: &&str| format!("{}{name}{value}", if name.len() == 1 { "-" } else { "--" });
    flag.names.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// What is said of an option, with its default and its variables.
pub(super) fn explained(flag: &Flag) -> String {
    let mut text = flag.help.to_owned();
    if !flag.default.is_empty() {
        let _ = write!(text, " (default: {})", flag.default);
    }
    if !flag.variables.is_empty() {
        let _ = write!(text, " [${}]", flag.variables.join(", $"));
    }
    text
}

fn row(flag: &Flag) -> (String, String) {
    (spelled(flag), explained(flag))
}

fn columns<T: AsRef<str>>(text: &mut String, rows: Vec<(String, T)>) {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    for (left, right) in rows {
        let _ = writeln!(text, "   {left:width$}  {}", right.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::table::{V2, V3};

    #[test]
    fn everything_in_the_table_is_in_the_help() {
        for api in [&V2, &V3] {
            let all = text("etcdctl", api, Topic::Tool);
            for command in api.commands {
                let own = text("etcdctl", api, Topic::Command(command));
                assert!(own.contains(&format!("etcdctl {} - {}", command.name, command.about)));
                for flag in command.flags {
                    assert!(own.contains(&spelled(flag)) && own.contains(flag.help), "{own}");
                }
                match command.name.split_once(' ') {
                    None => assert!(all.contains(&format!("\n   {} ", command.name)), "{all}"),
                    Some((group, word)) => {
                        let group = api.groups.iter().find(|known| known.name == group).unwrap();
                        let of_group = text("etcdctl", api, Topic::Group(group));
                        assert!(of_group.contains(&format!("\n   {word} ")));
                    }
                }
            }
            for flag in api.globals {
                assert!(all.contains(&spelled(flag)) && all.contains(flag.help), "{all}");
            }
            assert!(all.contains("ETCDCTL_API=3"), "{all}");
        }
    }
}
