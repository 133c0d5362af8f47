//! The one table of commands and options; help, man page, completion and the parser all read it.
//!
//! Owns: names, kinds of values, defaults, one sentence each. Never knows: what was typed, servers.
//!
//! Names, defaults and what is a command of what are those of etcd's tool for its version 2 API; scripts depend on them.

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
        let any = self.action == Action::Keys(OnKeys::ExecWatch);
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

use Argument::{File as FileArgument, Key, Other, Shell};
use Kind::{Choice, Duration, File, Number, Switch, Text, Texts};

const fn flag(
    names: &'static [&'static str],
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { names, kind, default, variables: &[], help }
}

const fn global(
    names: &'static [&'static str],
    kind: Kind,
    default: &'static str,
    variables: &'static [&'static str],
    help: &'static str,
) -> Flag {
    Flag { names, kind, default, variables, help }
}

/// Formats of answers.
pub(super) const FORMATS: &[&str] = &["simple", "extended", "json"];

/// Formats of lists.
pub(super) const LIST_FORMATS: &[&str] = &["table", "json"];

/// Who is asked when nobody is named.
pub(super) const DEFAULT_ENDPOINTS: &str = "http://127.0.0.1:2379,http://127.0.0.1:4001";

/// Options of the tool itself; they may stand before and behind the command.
pub(super) const GLOBALS: &[Flag] = &[
    flag(&["debug"], Switch, "", "show each request as a curl command, and who is asked"),
    flag(
        &["no-sync"],
        Switch,
        "",
        "ask the endpoints as given, not those that the members publish",
    ),
    flag(
        &["output", "o"],
        Choice(FORMATS),
        "simple",
        "format of what is printed: simple, extended or json",
    ),
    flag(&["write-out", "w"], Choice(LIST_FORMATS), "", "format of lists: table or json"),
    global(
        &["discovery-srv", "D"],
        Text,
        "",
        &["ETCDCTL_DISCOVERY_SRV"],
        "find the endpoints in the SRV records of this domain",
    ),
    global(
        &["discovery-srv-name"],
        Text,
        "",
        &["ETCDCTL_DISCOVERY_SRV_NAME"],
        "suffix of the service that is looked up with --discovery-srv",
    ),
    global(
        &["discovery-dns"],
        Text,
        "",
        &["ETCDCTL_DISCOVERY_DNS"],
        "ask this name server, IP:PORT, with --discovery-srv; else those of the system",
    ),
    global(
        &["insecure-discovery"],
        Switch,
        "",
        &["ETCDCTL_INSECURE_DISCOVERY"],
        "take SRV records that lead to endpoints without TLS too",
    ),
    global(
        &["endpoints"],
        Text,
        "",
        &["ETCDCTL_ENDPOINTS"],
        "members to ask, separated by commas (default: \"http://127.0.0.1:2379,http://127.0.0.1:4001\")",
    ),
    global(&["endpoint"], Text, "", &["ETCDCTL_ENDPOINT"], "old name of --endpoints"),
    global(&["peers", "C"], Text, "", &["ETCDCTL_PEERS"], "older name of --endpoints"),
    global(
        &["cert-file"],
        File,
        "",
        &["ETCDCTL_CERT_FILE"],
        "certificate that is shown to the members",
    ),
    global(&["key-file"], File, "", &["ETCDCTL_KEY_FILE"], "private key of that certificate"),
    global(
        &["ca-file"],
        File,
        "",
        &["ETCDCTL_CA_FILE"],
        "authorities whose certificates the members may show",
    ),
    global(
        &["username", "u"],
        Text,
        "",
        &["ETCDCTL_USERNAME"],
        "USER[:PASSWORD] to ask as; without a password it is asked for",
    ),
    flag(&["timeout"], Duration, "2s", "how long one member has until it begins to answer"),
    flag(&["total-timeout"], Duration, "5s", "how long a command may take in all, except watches"),
];

/// Options that every command line may end with.
pub(super) const ALWAYS: &[Flag] = &[
    flag(&["help", "h"], Switch, "", "show help"),
    flag(&["version", "v"], Switch, "", "print the version"),
];

const TTL: Flag = flag(&["ttl"], Number, "0", "seconds until the key goes by itself; 0 for never");
const SORT: Flag = flag(&["sort"], Switch, "", "in the order of the alphabet");
const QUORUM: Flag =
    flag(&["quorum", "q"], Switch, "", "read what a majority agrees on, not what one member knows");
const AFTER_INDEX: Flag = flag(&["after-index"], Number, "0", "begin behind this index; 0 for now");
const WATCH_RECURSIVE: Flag = flag(&["recursive", "r"], Switch, "", "everything below the key too");
const ROLES: Flag = flag(&["roles"], Texts, "", "the role; may be given several times");
const PATH: Flag = flag(&["path"], Text, "", "keys that this is about; /x/* for all below /x");
const READ: Flag = flag(&["read"], Switch, "", "the right to read");
const WRITE: Flag = flag(&["write"], Switch, "", "the right to write");
const READ_WRITE: Flag = flag(&["readwrite", "rw"], Switch, "", "both rights");
const HIDDEN: Flag = flag(
    &["hidden"],
    Texts,
    "",
    "a hidden key to take along, for no listing has it; may be given several times",
);

const DASHES: &str = "A value that begins with a dash may be taken for an option. Behind -- nothing is:\n\n\
                      $ set -- <key> <value>\n\nWithout a value it is read from standard input, to its end.";

/// Groups, in the order of the help.
pub(super) const GROUPS: &[Group] = &[
    Group { name: "member", about: "list, add, update and remove members" },
    Group { name: "user", about: "who may connect, and with which roles" },
    Group { name: "role", about: "what roles may do" },
    Group { name: "auth", about: "turn the check of rights on and off" },
];

const fn command(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    arguments: &'static [Argument],
    action: Action,
) -> Command {
    Command { name, about, usage, description: "", flags, arguments, action }
}

const fn described(description: &'static str, command: Command) -> Command {
    Command { description, ..command }
}

/// All commands, in the order of the help.
pub(super) const COMMANDS: &[Command] = &[
    described(
        "It is not done by this version. Stop the member and copy its data directory while it is stopped; or take what the \
         keys hold with export.",
        command(
            "backup",
            "",
            "copy the data of a member that is stopped (not yet)",
            BACKUP,
            &[],
            Action::Backup,
        ),
    ),
    command(
        "cluster-health",
        "",
        "ask each member whether it is well",
        &[flag(&["forever", "f"], Switch, "", "again every 10 seconds, until it is interrupted")],
        &[],
        Action::ClusterHealth,
    ),
    described(
        DASHES,
        command(
            "mk",
            "<key> <value>",
            "make a key that is not there yet",
            &[
                flag(
                    &["in-order"],
                    Switch,
                    "",
                    "under a name in the order of creation, in the directory <key>",
                ),
                TTL,
            ],
            &[Key, Other],
            Action::Keys(OnKeys::Make),
        ),
    ),
    command(
        "mkdir",
        "<key>",
        "make a directory that is not there yet",
        &[TTL],
        &[Key],
        Action::Keys(OnKeys::MakeDir),
    ),
    command(
        "rm",
        "<key>",
        "remove a key, or a directory with --recursive",
        &[
            flag(&["dir"], Switch, "", "also if it is an empty directory"),
            flag(
                &["recursive", "r"],
                Switch,
                "",
                "also if it is a directory, with everything below",
            ),
            flag(&["with-value"], Text, "", "only if it has this value"),
            flag(&["with-index"], Number, "0", "only if it was last changed at this index"),
        ],
        &[Key],
        Action::Keys(OnKeys::Remove),
    ),
    command(
        "rmdir",
        "<key>",
        "remove an empty directory, or a key",
        &[],
        &[Key],
        Action::Keys(OnKeys::RemoveDir),
    ),
    command(
        "get",
        "<key>",
        "print the value of a key",
        &[SORT, QUORUM],
        &[Key],
        Action::Keys(OnKeys::Get),
    ),
    command(
        "ls",
        "[key]",
        "list a directory",
        &[
            SORT,
            flag(&["recursive", "r"], Switch, "", "what is below its directories too"),
            flag(&["p"], Switch, "", "a slash behind directories"),
            QUORUM,
        ],
        &[Key],
        Action::Keys(OnKeys::List),
    ),
    described(
        DASHES,
        command(
            "set",
            "<key> <value>",
            "set the value of a key",
            &[
                TTL,
                flag(&["swap-with-value"], Text, "", "only if it has this value"),
                flag(
                    &["swap-with-index"],
                    Number,
                    "0",
                    "only if it was last changed at this index",
                ),
            ],
            &[Key, Other],
            Action::Keys(OnKeys::Set),
        ),
    ),
    command(
        "setdir",
        "<key>",
        "make a directory, also in the place of a key",
        &[TTL],
        &[Key],
        Action::Keys(OnKeys::SetDir),
    ),
    described(
        DASHES,
        command(
            "update",
            "<key> <value>",
            "set the value of a key that is there",
            &[TTL],
            &[Key, Other],
            Action::Keys(OnKeys::Update),
        ),
    ),
    command(
        "updatedir",
        "<key>",
        "give a directory that is there another TTL",
        &[TTL],
        &[Key],
        Action::Keys(OnKeys::UpdateDir),
    ),
    described(
        "With --forever no event is lost: when the connection breaks it is made anew, and what happened meanwhile is asked for. \
         When the members no longer know that, the key is read again, and standard error says so.",
        command(
            "watch",
            "<key>",
            "wait for the next change of a key",
            &[
                flag(&["forever", "f"], Switch, "", "all changes, until it is interrupted"),
                AFTER_INDEX,
                WATCH_RECURSIVE,
            ],
            &[Key],
            Action::Keys(OnKeys::Watch),
        ),
    ),
    described(
        "The program learns of the change by ETCD_WATCH_ACTION, ETCD_WATCH_KEY, ETCD_WATCH_VALUE and \
         ETCD_WATCH_MODIFIED_INDEX in its environment. Without -- the last word is the key. No event is lost, as with watch \
         --forever.",
        command(
            "exec-watch",
            "<key> -- <program> [arguments...]",
            "run a program at each change of a key",
            &[AFTER_INDEX, WATCH_RECURSIVE],
            &[Key, Other],
            Action::Keys(OnKeys::ExecWatch),
        ),
    ),
    command("member list", "", "list the members", &[], &[], Action::MemberList),
    command(
        "member add",
        "<name> <peerURL>",
        "add a member",
        &[],
        &[Other, Other],
        Action::MemberAdd,
    ),
    command("member remove", "<memberID>", "remove a member", &[], &[Other], Action::MemberRemove),
    command(
        "member update",
        "<memberID> <peerURLs>",
        "say where the peers reach a member now",
        &[],
        &[Other, Other],
        Action::MemberUpdate,
    ),
    command("user add", "<user>[:<password>]", "add a user", &[], &[Other], Action::UserAdd),
    command("user get", "<user>", "show the roles of a user", &[], &[Other], Action::UserGet),
    command("user list", "", "list the users", &[], &[], Action::UserList),
    command("user remove", "<user>", "remove a user", &[], &[Other], Action::UserRemove),
    command("user grant", "<user>", "give roles to a user", &[ROLES], &[Other], Action::UserGrant),
    command(
        "user revoke",
        "<user>",
        "take roles from a user",
        &[ROLES],
        &[Other],
        Action::UserRevoke,
    ),
    command(
        "user passwd",
        "<user>",
        "change the password of a user",
        &[],
        &[Other],
        Action::UserPassword,
    ),
    command("role add", "<role>", "add a role", &[], &[Other], Action::RoleAdd),
    command("role get", "<role>", "show what a role may do", &[], &[Other], Action::RoleGet),
    command("role list", "", "list the roles", &[], &[], Action::RoleList),
    command("role remove", "<role>", "remove a role", &[], &[Other], Action::RoleRemove),
    command(
        "role grant",
        "<role>",
        "let a role do something",
        &[PATH, READ, WRITE, READ_WRITE],
        &[Other],
        Action::RoleGrant,
    ),
    command(
        "role revoke",
        "<role>",
        "no longer let a role do something",
        &[PATH, READ, WRITE, READ_WRITE],
        &[Other],
        Action::RoleRevoke,
    ),
    command("auth enable", "", "check rights from now on", &[], &[], Action::AuthEnable),
    command("auth disable", "", "let everyone do everything", &[], &[], Action::AuthDisable),
    described(
        "The directory itself stays. Hidden keys, whose names begin with _, stand in no listing: those directly in the \
         directory stay, those further down go with the directories that hold them.",
        command(
            "wipe",
            "--yes <key>",
            "remove everything below a directory, also below /",
            &[flag(&["yes"], Switch, "", "do it; without it only what would be removed is said")],
            &[Key],
            Action::Keys(OnKeys::Wipe),
        ),
    ),
    described(
        "Values, TTLs and the order of creation are in the document. Hidden keys, whose names begin with _, stand in no \
         listing; name those that matter with --hidden.",
        command(
            "export",
            "[key]",
            "print everything below a directory as one JSON document",
            &[HIDDEN],
            &[Key],
            Action::Export,
        ),
    ),
    described(
        "It takes what export printed, from standard input if no file is named, or with --snap a snapshot of etcd 0.4. Keys \
         that are there get the values of the document. TTLs of a snapshot below 300 seconds become 300.",
        command(
            "import",
            "[file]",
            "set all keys of an exported document",
            &[
                flag(&["snap"], File, "", "a snapshot of etcd 0.4 in place of a document"),
                flag(
                    &["hidden"],
                    Texts,
                    "",
                    "a hidden key of the snapshot to take along; may be given several times",
                ),
                flag(&["c"], Number, "10", "how many keys of a snapshot are written at once"),
            ],
            &[FileArgument],
            Action::Import,
        ),
    ),
    described(
        "Keys are completed too, by asking the members.\n\nbash:  source <(etcdctl completion bash)\nzsh:   source \
         <(etcdctl completion zsh)\nfish:  etcdctl completion fish | source",
        command(
            "completion",
            "bash|zsh|fish",
            "print what makes a shell complete commands, options and keys",
            &[],
            &[Shell],
            Action::Completion,
        ),
    ),
    command("man", "", "print the manual page: etcdctl man | man -l -", &[], &[], Action::Man),
];

const BACKUP: &[Flag] = &[
    flag(&["data-dir"], File, "", "data directory of the member"),
    flag(&["wal-dir"], File, "", "its log, if that is elsewhere"),
    flag(&["backup-dir"], File, "", "where the copy goes"),
    flag(&["backup-wal-dir"], File, "", "where the copy of the log goes"),
    flag(&["with-v3"], Switch, "", "the keys of the version 3 API too"),
];

/// Shells that completion is for.
pub(super) const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// The command that these words name.
pub(super) fn command_of(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// The commands of a group; those of none with an empty name.
pub(super) fn commands_of(group: &str) -> impl Iterator<Item = (&'static str, &'static Command)> {
    COMMANDS.iter().filter_map(move |command| match command.name.split_once(' ') {
        Some((of, word)) => (of == group).then_some((word, command)),
        None => group.is_empty().then_some((command.name, command)),
    })
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
        for command in COMMANDS {
            let all = [command.flags, GLOBALS, ALWAYS].into_iter().flatten();
            let mut names: Vec<_> = all.flat_map(|flag| flag.names).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{}", command.name);
        }
        let mut names: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.len());
    }

    #[test]
    fn every_command_of_two_words_has_its_group() {
        for command in COMMANDS {
            if let Some((group, _)) = command.name.split_once(' ') {
                assert!(GROUPS.iter().any(|known| known.name == group), "{}", command.name);
            }
        }
        assert!(GROUPS.iter().all(|group| commands_of(group.name).count() > 1));
    }
}
