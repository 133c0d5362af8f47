//! The rows of the table: each command, each option.
//!
//! Owns: their texts. Never knows: how a table is read.

use crate::ctl::table::Argument::{File as FileArgument, Key, Other, Shell};
use crate::ctl::table::Kind::{Choice, Duration, File, Number, Switch, Text, Texts};
use crate::ctl::table::{Action, Argument, Command, Flag, Group, Kind, OnKeys};

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
pub(in crate::ctl) const FORMATS: &[&str] = &["simple", "extended", "json"];

/// Formats of lists.
pub(in crate::ctl) const LIST_FORMATS: &[&str] = &["table", "json"];

/// The endpoints when none is named.
pub(in crate::ctl) const DEFAULT_ENDPOINTS: &str = "http://127.0.0.1:2379,http://127.0.0.1:4001";

/// Options of the tool itself; they may stand before and behind the command.
pub(in crate::ctl) const GLOBALS: &[Flag] = &[
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

/// What every command takes.
pub(in crate::ctl) const HELP: &[Flag] = &[SHOW_HELP];

/// What stands alone, before a command.
pub(in crate::ctl) const ALWAYS: &[Flag] =
    &[SHOW_HELP, flag(&["version", "v"], Switch, "", "print the version")];

const SHOW_HELP: Flag = flag(&["help", "h"], Switch, "", "show help");

const TTL: Flag = flag(&["ttl"], Number, "0", "seconds until the key goes by itself; 0 for never");
const SORT: Flag = flag(&["sort"], Switch, "", "in the order of the alphabet");
const QUORUM: Flag =
    flag(&["quorum", "q"], Switch, "", "read what a majority agrees on, not what one member knows");
const AFTER_INDEX: Flag = flag(&["after-index"], Number, "0", "begin behind this index; 0 for now");
const WATCH_RECURSIVE: Flag = flag(&["recursive", "r"], Switch, "", "everything below the key too");
const ROLES: Flag =
    flag(&["roles"], Texts, "", "roles, separated by commas; may be given several times");
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
pub(in crate::ctl) const GROUPS: &[Group] = &[
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
pub(in crate::ctl) const COMMANDS: &[Command] = &[
    described(
        "The member may be running, and nothing of it is changed. The backup is the data directory of a cluster of one with new ids: \
         start a member with it and --force-new-cluster, then add others. `cairn backup` asks a running cluster over the network \
         instead, and writes one file.",
        command("backup", "", "copy the data directory of a member", BACKUP, &[], Action::Backup),
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
    flag(&["backup-dir"], File, "", "where the copy goes; must be missing or empty"),
    flag(
        &["backup-wal-dir"],
        File,
        "",
        "where the copy of the log goes; that is in the backup-dir",
    ),
    flag(&["with-v3"], Switch, "", "the keys of the version 3 API too; there are none"),
];
