//! The one table of commands and options; help, man page, completion and the parser all read it.
//!
//! Owns: names, kinds of values, defaults, one sentence each. Never knows: what was typed, servers.
//!
//! Names, defaults and what is a command of what are those of etcd's tool, for its version 2 API (`rows`) and for version 3
//! (`v3`); scripts depend on them.

mod rows;
mod v3;

/// An option.
#[derive(Debug)]
pub(super) struct Flag {
    /// All its names without dashes; the first is the one it is found under.
    pub(super) names: &'static [&'static str],
    /// What its value looks like.
    pub(super) kind: Kind,
    /// As it would be typed; empty when there is none.
    pub(super) default: &'static str,
    /// Variables of the environment that say it too, the first that is set counts.
    pub(super) variables: &'static [&'static str],
    /// One sentence.
    pub(super) help: &'static str,
}

/// What the value of an option looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// There or not there; `=false` takes it back.
    Switch,
    /// Any text.
    Text,
    /// Any text, several times.
    Texts,
    /// The name of a file.
    File,
    /// A whole number with 64 bits, perhaps with a sign.
    Number,
    /// As Go writes it: `2s`, `1m30s`, `500ms`.
    Duration,
    /// One of these words is meant; others are taken and refused later, as in etcd's tool.
    Choice(&'static [&'static str]),
}

/// What an argument is, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// A key or a directory of the key space.
    Key,
    /// A file on this machine.
    File,
    /// A shell that completion is for.
    Shell,
    /// Nothing that could be guessed.
    Other,
}

/// What a command does; `commands` knows how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Keys(OnKeys),
    Backup,
    ClusterHealth,
    MemberList,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    UserAdd,
    UserGet,
    UserList,
    UserRemove,
    UserGrant,
    UserRevoke,
    UserPassword,
    RoleAdd,
    RoleGet,
    RoleList,
    RoleRemove,
    RoleGrant,
    RoleRevoke,
    AuthEnable,
    AuthDisable,
    Export,
    Import,
    Completion,
    Man,
    /// A command of the version 3 API.
    V3(OfV3),
}

/// What a command of the version 3 API does; `ctl/v3` knows how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfV3 {
    Put,
    Get,
    Del,
    Txn,
    Compaction,
    Watch,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseList,
    LeaseKeepAlive,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberList,
    MemberPromote,
    EndpointHealth,
    EndpointStatus,
    EndpointHashKv,
    MoveLeader,
    AlarmList,
    AlarmDisarm,
    Defrag,
    SnapshotSave,
    SnapshotStatus,
    SnapshotRestore,
    MakeMirror,
    Migrate,
    Lock,
    Elect,
    CheckPerf,
    CheckDatascale,
    AuthEnable,
    AuthDisable,
    UserAdd,
    UserDelete,
    UserGet,
    UserList,
    UserPasswd,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleDelete,
    RoleGet,
    RoleList,
    RoleGrantPermission,
    RoleRevokePermission,
    Version,
    Completion,
    Man,
}

/// What a command on keys does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnKeys {
    Make,
    MakeDir,
    Remove,
    RemoveDir,
    Get,
    List,
    Set,
    SetDir,
    Update,
    UpdateDir,
    Watch,
    ExecWatch,
    Wipe,
}

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    /// One word, or two: `member list` is a command of the group `member`.
    pub(super) name: &'static str,
    /// What it does, in a phrase.
    pub(super) about: &'static str,
    /// What stands behind its options.
    pub(super) usage: &'static str,
    /// More about it; may be empty.
    pub(super) description: &'static str,
    /// Its own options.
    pub(super) flags: &'static [Flag],
    /// What its arguments are; further ones are like the last.
    pub(super) arguments: &'static [Argument],
    /// What it does.
    pub(super) action: Action,
}

impl Command {
    /// How many arguments can mean something; `None` when any number can.
    pub(super) fn arguments_max(&self) -> Option<usize> {
        let any =
            [Action::Keys(OnKeys::ExecWatch), Action::V3(OfV3::Watch), Action::V3(OfV3::Lock)]
                .contains(&self.action);
        (!any).then_some(self.arguments.len())
    }
}

/// Commands that stand behind one word.
#[derive(Debug)]
pub(super) struct Group {
    /// The word.
    pub(super) name: &'static str,
    /// What they are about, in a phrase.
    pub(super) about: &'static str,
}

pub(super) use rows::{ALWAYS, COMMANDS, DEFAULT_ENDPOINTS, GLOBALS, GROUPS, HELP};

/// The commands and options for one version of the API.
#[derive(Debug)]
pub(super) struct Api {
    /// 2 or 3.
    pub(super) version: u8,
    /// What the tool is, in a phrase.
    pub(super) about: &'static str,
    /// All commands, in the order of the help.
    pub(super) commands: &'static [Command],
    /// Groups, in the order of the help.
    pub(super) groups: &'static [Group],
    /// Options of the tool itself.
    pub(super) globals: &'static [Flag],
    /// What stands alone, before a command.
    pub(super) always: &'static [Flag],
    /// What every command takes.
    pub(super) help: &'static [Flag],
}

/// The version 2 API.
pub(super) static V2: Api = Api {
    version: 2,
    about: "the command line client for the version 2 API",
    commands: COMMANDS,
    groups: GROUPS,
    globals: GLOBALS,
    always: ALWAYS,
    help: HELP,
};

/// The version 3 API.
pub(super) static V3: Api = Api {
    version: 3,
    about: "the command line client for the version 3 API",
    commands: v3::COMMANDS,
    groups: v3::GROUPS,
    globals: v3::GLOBALS,
    always: HELP,
    help: HELP,
};

/// The variable that says for which version the tool is.
pub(super) const API_VARIABLE: &str = "ETCDCTL_API";

/// How to get at the other version, for the help.
pub(super) const WHICH_API: &str = "ETCDCTL_API=3 makes this the client for the version 3 API; with 2 or unset it is that for version 2, so \
     that scripts for version 2 go on. The two have key spaces of their own.";

impl Api {
    /// The command that these words name.
    pub(super) fn command(&self, name: &str) -> Option<&'static Command> {
        self.commands.iter().find(|command| command.name == name)
    }

    /// The commands of a group; those of none with an empty name.
    pub(super) fn commands_of(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&'static str, &'static Command)> + use<'_> {
        let group = group.to_owned();
        self.commands.iter().filter_map(move |command| match command.name.split_once(' ') {
            Some((of, word)) => (of == group).then_some((word, command)),
            None => group.is_empty().then_some((command.name, command)),
        })
    }
}

/// Shells that completion is for.
pub(super) const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// The command of version 2 that these words name.
pub(super) fn command_of(name: &str) -> Option<&'static Command> {
    V2.command(name)
}

/// The option of these that is called so.
pub(super) fn flag_of(flags: &'static [Flag], name: &str) -> Option<&'static Flag> {
    flags.iter().find(|flag| flag.names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_means_two_things() {
        for api in [&V2, &V3] {
            for command in api.commands {
                let all = [command.flags, api.globals, api.always].into_iter().flatten();
                let mut names: Vec<_> = all.flat_map(|flag| flag.names).collect();
                let count = names.len();
                names.sort();
                names.dedup();
                assert_eq!(names.len(), count, "{}", command.name);
            }
            let mut names: Vec<_> = api.commands.iter().map(|command| command.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), api.commands.len());
        }
    }

    #[test]
    fn every_command_of_two_words_has_its_group() {
        for api in [&V2, &V3] {
            for command in api.commands {
                if let Some((group, _)) = command.name.split_once(' ') {
                    assert!(api.groups.iter().any(|known| known.name == group), "{}", command.name);
                }
            }
            assert!(api.groups.iter().all(|group| api.commands_of(group.name).count() > 1));
        }
    }
}
