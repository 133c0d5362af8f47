//! The rows of the table for the version 3 API.
//!
//! Owns: their texts. Never knows: how a table is read.

use crate::ctl::table::Argument::{File as FileArgument, Key, Other, Shell};
use crate::ctl::table::Kind::{Choice, Duration, File, Number, Switch, Text};
use crate::ctl::table::{Action, Argument, Command, Flag, Group, Kind, OfV3};

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

const fn switch(names: &'static [&'static str], help: &'static str) -> Flag {
    flag(names, Switch, "", help)
}

const fn command(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    arguments: &'static [Argument],
    action: OfV3,
) -> Command {
    let action = Action::V3(action);
    Command { name, about, usage, description: "", flags, arguments, action }
}

const fn described(description: &'static str, command: Command) -> Command {
    Command { description, ..command }
}

/// Formats of answers.
const FORMATS: &[&str] = &["simple", "json", "fields", "table", "protobuf"];
/// Sizes of checks.
const LOADS: &[&str] = &["s", "m", "l", "xl"];

/// Options of the tool itself; they may stand before and behind the command.
pub(in crate::ctl) const GLOBALS: &[Flag] = &[
    global(
        &["cacert"],
        File,
        "",
        &["ETCDCTL_CACERT"],
        "authorities whose certificates the members may show; with it endpoints without a scheme speak TLS",
    ),
    global(&["cert"], File, "", &["ETCDCTL_CERT"], "certificate that is shown to the members"),
    global(
        &["command-timeout"],
        Duration,
        "5s",
        &["ETCDCTL_COMMAND_TIMEOUT"],
        "how long a command may take, except those that go on",
    ),
    global(
        &["debug"],
        Switch,
        "",
        &["ETCDCTL_DEBUG"],
        "show what holds: every option with its value",
    ),
    global(
        &["dial-timeout"],
        Duration,
        "2s",
        &["ETCDCTL_DIAL_TIMEOUT"],
        "how long a connection may take",
    ),
    global(
        &["discovery-srv", "d"],
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
        &["endpoints"],
        Text,
        "127.0.0.1:2379",
        &["ETCDCTL_ENDPOINTS"],
        "members to ask, separated by commas",
    ),
    global(
        &["hex"],
        Switch,
        "",
        &["ETCDCTL_HEX"],
        "print keys and values as \\x and two digits for each byte",
    ),
    global(
        &["insecure-discovery"],
        Switch,
        "true",
        &["ETCDCTL_INSECURE_DISCOVERY"],
        "take SRV records that lead to endpoints without TLS too",
    ),
    global(
        &["insecure-skip-tls-verify"],
        Switch,
        "",
        &["ETCDCTL_INSECURE_SKIP_TLS_VERIFY"],
        "take any certificate of the members: for tests, for anybody can be in between",
    ),
    global(
        &["insecure-transport"],
        Switch,
        "true",
        &["ETCDCTL_INSECURE_TRANSPORT"],
        "endpoints without a scheme do not speak TLS",
    ),
    global(
        &["keepalive-time"],
        Duration,
        "2s",
        &["ETCDCTL_KEEPALIVE_TIME"],
        "after how much silence a member is asked whether it is there; 10s at least",
    ),
    global(
        &["keepalive-timeout"],
        Duration,
        "6s",
        &["ETCDCTL_KEEPALIVE_TIMEOUT"],
        "how long it may take to answer that",
    ),
    global(&["key"], File, "", &["ETCDCTL_KEY"], "private key of that certificate"),
    global(
        &["password"],
        Text,
        "",
        &["ETCDCTL_PASSWORD"],
        "password of --user, which then stands there without one",
    ),
    global(
        &["user"],
        Text,
        "",
        &["ETCDCTL_USER"],
        "USER[:PASSWORD] to ask as; without a password it is asked for",
    ),
    global(
        &["write-out", "w"],
        Choice(FORMATS),
        "simple",
        &["ETCDCTL_WRITE_OUT"],
        "format of what is printed: simple, json, fields, table or protobuf",
    ),
];

/// Groups, in the order of the help.
pub(in crate::ctl) const GROUPS: &[Group] = &[
    Group { name: "alarm", about: "what members complain of" },
    Group { name: "auth", about: "turn the check of rights on and off" },
    Group { name: "check", about: "measure a cluster" },
    Group { name: "endpoint", about: "how members are" },
    Group { name: "lease", about: "keys that go when nobody renews them" },
    Group { name: "member", about: "list, add, update, promote and remove members" },
    Group { name: "role", about: "what roles may do" },
    Group {
        name: "snapshot",
        about: "save a copy of a member's keys, look at one, start from one",
    },
    Group { name: "user", about: "who may connect, and with which roles" },
];

const PREFIX: Flag = switch(&["prefix"], "all keys that begin so");
const FROM_KEY: Flag = switch(&["from-key"], "this key and all behind it");
const PREV_KV: Flag = switch(&["prev-kv"], "the keys as they were before, too");
const CLUSTER: Flag = switch(&["cluster"], "every endpoint that the members publish");
const PEER_URLS: Flag = flag(&["peer-urls"], Text, "", "where peers reach it, separated by commas");
const INTERACTIVE: Flag =
    flag(&["interactive"], Switch, "true", "ask for the password twice; else read it as one line");
const LOAD: Flag = flag(&["load"], Choice(LOADS), "s", "how much: s, m, l or xl");
const AUTO_COMPACT: Flag = switch(&["auto-compact"], "forget old revisions afterwards");
const AUTO_DEFRAG: Flag = switch(&["auto-defrag"], "give free space back afterwards");
const REV: Flag = flag(&["rev"], Number, "0", "as of this revision; 0 for now");

/// All commands, in the order of the help.
pub(in crate::ctl) const COMMANDS: &[Command] = &[
    command("alarm disarm", "", "take back all alarms", &[], &[], OfV3::AlarmDisarm),
    command("alarm list", "", "list all alarms", &[], &[], OfV3::AlarmList),
    command("auth disable", "", "everybody may do everything", &[], &[], OfV3::AuthDisable),
    command("auth enable", "", "everybody must say who they are", &[], &[], OfV3::AuthEnable),
    command(
        "check datascale",
        "",
        "how much memory a number of keys takes",
        &[
            AUTO_COMPACT,
            AUTO_DEFRAG,
            LOAD,
            flag(
                &["prefix"],
                Text,
                "/etcdctl-check-datascale/",
                "where keys are written meanwhile",
            ),
        ],
        &[],
        OfV3::CheckDatascale,
    ),
    command(
        "check perf",
        "",
        "whether a cluster is fast enough, in a minute of writing",
        &[
            AUTO_COMPACT,
            AUTO_DEFRAG,
            LOAD,
            flag(&["prefix"], Text, "/etcdctl-check-perf/", "where keys are written meanwhile"),
        ],
        &[],
        OfV3::CheckPerf,
    ),
    command(
        "compaction",
        "<revision>",
        "forget what is older than a revision",
        &[switch(&["physical"], "return when it is off the disk too")],
        &[Other],
        OfV3::Compaction,
    ),
    described(
        "bash:  source <(etcdctl completion bash)\nzsh:   source <(etcdctl completion zsh)\nfish:  etcdctl completion fish | source",
        command(
            "completion",
            "bash|zsh|fish",
            "print what makes a shell complete commands, options and keys",
            &[],
            &[Shell],
            OfV3::Completion,
        ),
    ),
    command(
        "defrag",
        "",
        "give free space of each endpoint back to the system",
        &[
            CLUSTER,
            flag(&["data-dir"], File, "", "a directory that no member uses, in place of endpoints"),
        ],
        &[],
        OfV3::Defrag,
    ),
    command(
        "del",
        "<key> [range_end]",
        "delete a key, or all from <key> up to [range_end]",
        &[PREFIX, PREV_KV, FROM_KEY],
        &[Key, Key],
        OfV3::Del,
    ),
    command(
        "elect",
        "<election-name> [proposal]",
        "lead, or see who does",
        &[switch(&["listen", "l"], "only see who leads")],
        &[Other, Other],
        OfV3::Elect,
    ),
    command(
        "endpoint hashkv",
        "",
        "a check sum of the keys of each endpoint",
        &[CLUSTER, flag(&["rev"], Number, "0", "up to this revision; 0 for all")],
        &[],
        OfV3::EndpointHashKv,
    ),
    command(
        "endpoint health",
        "",
        "whether each endpoint can read with a majority",
        &[CLUSTER],
        &[],
        OfV3::EndpointHealth,
    ),
    described(
        "Each line has: endpoint, id, version, size on the disk, is it the leader, is it a learner, term, index of the log, index that \
         is applied, errors.",
        command(
            "endpoint status",
            "",
            "how each endpoint is",
            &[CLUSTER],
            &[],
            OfV3::EndpointStatus,
        ),
    ),
    command(
        "get",
        "<key> [range_end]",
        "print a key, or all from <key> up to [range_end]",
        &[
            flag(
                &["consistency"],
                Choice(&["l", "s"]),
                "l",
                "l: what a majority agrees on; s: what one member knows",
            ),
            FROM_KEY,
            switch(&["keys-only"], "without the values"),
            flag(&["limit"], Number, "0", "so many keys at most; 0 for all"),
            flag(&["order"], Choice(&["ASCEND", "DESCEND"]), "", "ASCEND or DESCEND"),
            PREFIX,
            switch(&["print-value-only"], "without the keys, in the format simple"),
            REV,
            flag(
                &["sort-by"],
                Choice(&["CREATE", "KEY", "MODIFY", "VALUE", "VERSION"]),
                "",
                "CREATE, KEY, MODIFY, VALUE or VERSION",
            ),
        ],
        &[Key, Key],
        OfV3::Get,
    ),
    command(
        "lease grant",
        "<ttl>",
        "make a lease of so many seconds",
        &[],
        &[Other],
        OfV3::LeaseGrant,
    ),
    command(
        "lease keep-alive",
        "<leaseID>",
        "renew a lease, until it is interrupted",
        &[switch(&["once"], "one time only")],
        &[Other],
        OfV3::LeaseKeepAlive,
    ),
    command("lease list", "", "list all leases", &[], &[], OfV3::LeaseList),
    command(
        "lease revoke",
        "<leaseID>",
        "end a lease; its keys go with it",
        &[],
        &[Other],
        OfV3::LeaseRevoke,
    ),
    command(
        "lease timetolive",
        "<leaseID>",
        "how long a lease has left",
        &[switch(&["keys"], "and which keys are on it")],
        &[Other],
        OfV3::LeaseTimeToLive,
    ),
    described(
        "Without a program it holds the lock until it is interrupted; with one, while that runs.",
        command(
            "lock",
            "<lockname> [program arg1 arg2 ...]",
            "hold a lock",
            &[flag(&["ttl"], Number, "10", "seconds until it is free when this tool dies")],
            &[Other],
            OfV3::Lock,
        ),
    ),
    described(
        "It goes on until it is interrupted, and prints every 30 seconds how many keys it has written.",
        command(
            "make-mirror",
            "<destination>",
            "keep a copy of the keys in another cluster",
            &[
                flag(&["dest-cacert"], File, "", "--cacert for the destination"),
                flag(&["dest-cert"], File, "", "--cert for the destination"),
                flag(
                    &["dest-insecure-transport"],
                    Switch,
                    "true",
                    "the destination does not speak TLS, unless its scheme says so",
                ),
                flag(&["dest-key"], File, "", "--key for the destination"),
                flag(
                    &["dest-prefix"],
                    Text,
                    "",
                    "what the keys begin with there, in place of --prefix",
                ),
                switch(&["no-dest-prefix"], "without the prefix there"),
                flag(&["prefix"], Text, "", "only keys that begin so"),
            ],
            &[Other],
            OfV3::MakeMirror,
        ),
    ),
    command("man", "", "print the manual page: etcdctl man | man -l -", &[], &[], OfV3::Man),
    command(
        "member add",
        "<memberName>",
        "let a member join",
        &[switch(&["learner"], "it does not vote yet"), PEER_URLS],
        &[Other],
        OfV3::MemberAdd,
    ),
    described(
        "Each line has: id, started or not, name, URLs for peers, URLs for clients, is it a learner.",
        command("member list", "", "list the members", &[], &[], OfV3::MemberList),
    ),
    command(
        "member promote",
        "<memberID>",
        "let a learner vote",
        &[],
        &[Other],
        OfV3::MemberPromote,
    ),
    command(
        "member remove",
        "<memberID>",
        "take a member out of the cluster",
        &[],
        &[Other],
        OfV3::MemberRemove,
    ),
    command(
        "member update",
        "<memberID>",
        "say where peers reach a member",
        &[PEER_URLS],
        &[Other],
        OfV3::MemberUpdate,
    ),
    described(
        "etcd's tool writes the keys of version 2 into the files of version 3. Here both live side by side in one member, and \
         `cairn migrate` takes over a directory of etcd: this command says so and ends with 1.",
        command(
            "migrate",
            "",
            "says what is there in its place",
            &[
                flag(&["data-dir"], File, "", "directory of a member"),
                switch(&["no-ttl"], "leave out keys with a TTL"),
                flag(&["transformer"], File, "", "a program that changes values"),
                flag(&["wal-dir"], File, "", "its log, if that is elsewhere"),
            ],
            &[],
            OfV3::Migrate,
        ),
    ),
    command(
        "move-leader",
        "<transferee-member-id>",
        "let another member lead",
        &[],
        &[Other],
        OfV3::MoveLeader,
    ),
    described(
        "Without a value it is read from standard input, to its end. A value that begins with a dash may be taken for an option; \
         behind -- nothing is:\n\n$ put <key> -- <value>\n$ put -- <key> <value>",
        command(
            "put",
            "<key> [value]",
            "set a key",
            &[
                switch(&["ignore-lease"], "keep the lease that it has"),
                switch(&["ignore-value"], "keep the value that it has"),
                flag(&["lease"], Text, "0", "let it go with this lease"),
                PREV_KV,
            ],
            &[Key, Other],
            OfV3::Put,
        ),
    ),
    command("role add", "<role name>", "make a role", &[], &[Other], OfV3::RoleAdd),
    command("role delete", "<role name>", "delete a role", &[], &[Other], OfV3::RoleDelete),
    command("role get", "<role name>", "what a role may do", &[], &[Other], OfV3::RoleGet),
    command(
        "role grant-permission",
        "<role name> <read|write|readwrite> <key> [endkey]",
        "let a role do more",
        &[FROM_KEY, PREFIX],
        &[Other, Other, Key, Key],
        OfV3::RoleGrantPermission,
    ),
    command("role list", "", "list the roles", &[], &[], OfV3::RoleList),
    command(
        "role revoke-permission",
        "<role name> <key> [endkey]",
        "let a role do less",
        &[FROM_KEY, PREFIX],
        &[Other, Key, Key],
        OfV3::RoleRevokePermission,
    ),
    described(
        "It takes what `snapshot save` got from a member of this kind, and makes the directory of a new cluster of one. A snapshot of \
         etcd has to be restored with etcd's own tool, and the directory then taken over with `cairn migrate`.",
        command(
            "snapshot restore",
            "<filename>",
            "make a data directory from a snapshot",
            &[
                flag(&["data-dir"], File, "", "where it goes; NAME.etcd if it is not given"),
                flag(
                    &["initial-advertise-peer-urls"],
                    Text,
                    "http://localhost:2380",
                    "where peers will reach the member",
                ),
                flag(
                    &["initial-cluster"],
                    Text,
                    "default=http://localhost:2380",
                    "the founders of the new cluster",
                ),
                flag(
                    &["initial-cluster-token"],
                    Text,
                    "etcd-cluster",
                    "what tells the new cluster from others",
                ),
                flag(&["name"], Text, "default", "name of the member"),
                switch(&["skip-hash-check"], "do not look whether the file is whole"),
                flag(&["wal-dir"], File, "", "where the log goes, if not into the directory"),
            ],
            &[FileArgument],
            OfV3::SnapshotRestore,
        ),
    ),
    command(
        "snapshot save",
        "<filename>",
        "save a copy of one member's keys",
        &[],
        &[FileArgument],
        OfV3::SnapshotSave,
    ),
    described(
        "Each line has: check sum, revision, number of keys, size.",
        command(
            "snapshot status",
            "<filename>",
            "what a snapshot holds",
            &[],
            &[FileArgument],
            OfV3::SnapshotStatus,
        ),
    ),
    described(
        "Comparisons, an empty line, what is done if all hold, an empty line, what is done if not, an empty line:\n\n\
         mod(\"key\") > \"0\"\n\nput key2 \"a value\"\n\nget key\ndel key2 --prefix\n\n\
         What is compared: value (val), version (ver), create (c), mod (m), lease; with =, !=, < or >.",
        command(
            "txn",
            "",
            "several reads and writes as one, read from standard input",
            &[switch(&["interactive", "i"], "say what is read")],
            &[],
            OfV3::Txn,
        ),
    ),
    command(
        "user add",
        "<user name or user:password>",
        "make a user",
        &[
            INTERACTIVE,
            flag(&["new-user-password"], Text, "", "its password"),
            switch(&["no-password"], "it has none, and is known by its certificate"),
        ],
        &[Other],
        OfV3::UserAdd,
    ),
    command("user delete", "<user name>", "delete a user", &[], &[Other], OfV3::UserDelete),
    command(
        "user get",
        "<user name>",
        "which roles a user has",
        &[switch(&["detail"], "and what they may do")],
        &[Other],
        OfV3::UserGet,
    ),
    command(
        "user grant-role",
        "<user name> <role name>",
        "give a user a role",
        &[],
        &[Other, Other],
        OfV3::UserGrantRole,
    ),
    command("user list", "", "list the users", &[], &[], OfV3::UserList),
    command(
        "user passwd",
        "<user name>",
        "give a user another password",
        &[INTERACTIVE],
        &[Other],
        OfV3::UserPasswd,
    ),
    command(
        "user revoke-role",
        "<user name> <role name>",
        "take a role from a user",
        &[],
        &[Other, Other],
        OfV3::UserRevokeRole,
    ),
    command("version", "", "print the version", &[], &[], OfV3::Version),
    described(
        "The key may stand in ETCDCTL_WATCH_KEY, the end of the range in ETCDCTL_WATCH_RANGE_END. A program behind -- is run for each \
         event, which it finds in ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY, ETCD_WATCH_VALUE and ETCD_WATCH_REVISION. With -i each line \
         of standard input is `watch` with its options and arguments, or `progress`.",
        command(
            "watch",
            "[key or prefix] [range_end] [--] [program arg1 arg2 ...]",
            "print what happens to keys",
            &[
                switch(&["interactive", "i"], "read what to watch from standard input"),
                PREFIX,
                PREV_KV,
                flag(&["rev"], Number, "0", "begin at this revision; 0 for now"),
            ],
            &[Key, Key],
            OfV3::Watch,
        ),
    ),
];
