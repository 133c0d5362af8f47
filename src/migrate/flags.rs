//! Flags of `cairn migrate`.

use crate::backup::flags::{Table, row};

pub(super) const MIGRATE: Table = Table {
    usage: "cairn migrate [flags] --from ETCD_DATA_DIR --data-dir DIR",
    about: "Makes a data directory of cairn from one of etcd (2.0 to 3.6): your keys of both versions, your users, your indexes and \
            revisions, the same API. Reads snapshot, log and version 3 store of a stopped member, or a directory of `etcdctl backup`; \
            nothing of it is changed, so it stays the way back. It becomes a cluster of one, which the others join with empty directories; of a cluster, stop all members, \
            and take the directory in which --dry-run finds the highest raft term, then the highest raft index.",
    argument: "",
    flags: &[
        row(&["from"], "DIR", "", "", "etcd's data directory"),
        row(
            &["from-wal-dir"],
            "DIR",
            "",
            "",
            "etcd's log, if that is elsewhere (--wal-dir of etcd)",
        ),
        row(&["data-dir"], "DIR", "", "", "where to; must be missing or empty"),
        row(&["wal-dir"], "DIR", "", "", "where to put the log, if not into --data-dir"),
        row(
            &["name"],
            "NAME",
            "",
            "",
            "the member's name; that of the member of etcd if not given",
        ),
        row(
            &["initial-cluster"],
            "NAME=URL,...",
            "",
            "",
            "several new members and their peer URLs, one of which this is: run it once for each, with the same --from and flags \
             but for --name, --initial-advertise-peer-urls and --data-dir",
        ),
        row(
            &["initial-advertise-peer-urls"],
            "URL,...",
            "",
            "",
            "the member's own peer URLs; those of the member of etcd if not given",
        ),
        row(
            &["initial-cluster-token"],
            "TEXT",
            "etcd-cluster",
            "",
            "another text makes other members with --initial-cluster",
        ),
        row(&["dry-run"], "", "", "", "read everything, say what is in it, write nothing"),
        row(&["json"], "", "", "", "say it as JSON"),
        row(
            &["committed-only"],
            "",
            "",
            "",
            "stop at the last entry that the member knew to be committed, as etcd --force-new-cluster does; later ones may have been \
             acknowledged",
        ),
        row(
            &["salvage"],
            "",
            "",
            "",
            "of a damaged directory, take what comes before the damage; what is behind it is lost",
        ),
        row(
            &["without-v3"],
            "",
            "",
            "",
            "leave keys, leases and users of version 3 where they are: also where they cannot be read",
        ),
    ],
    more: "Ends with 0 when all is done (or, with --dry-run, could be), with 1 when not, with the reason and the fix, with 2 for a \
           wrong flag.",
};
