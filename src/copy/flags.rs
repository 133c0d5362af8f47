//! Flags of `cairn copy`.

use crate::backup::flags::{Table, row};
use crate::mirror::flags::{
    FROM, FROM_CA, FROM_CERT, FROM_KEY, JSON, TO_CA, TO_CERT, TO_KEY, VERIFY,
};

/// The one way that there is.
pub(super) const WAY: &str = "v2-to-v3";

pub(super) const COPY: Table = Table {
    usage: "cairn copy v2-to-v3 [flags] --from URL,...",
    about: "Copies keys of the version 2 API of a server that serves, etcd or cairn, into the keys of version 3 of the same or another: \
            all as they are at one index, and with --follow every change after it, until it is told to end (SIGINT or SIGTERM). The \
            value of the key /a/b is that of the key /a/b there. Nothing is written to version 2. A key that a client of version 3 \
            has written is that client's from then on, so clients can be moved one by one.",
    argument: "way: v2-to-v3",
    flags: &[
        FROM,
        row(&["to"], "URL,...", "", "", "members of the target; those of the source if not given"),
        row(&["prefix"], "PATH", "/", "", "the key or directory of version 2 that is copied"),
        row(
            &["to-prefix"],
            "TEXT",
            "",
            "",
            "what keys of version 3 begin with in place of --prefix; the same if not given",
        ),
        row(
            &["ttl"],
            "skip|lease",
            "",
            "",
            "keys with a lifetime: left out, or put on leases with what is left of it, which with --follow are kept as long as the keys \
             live. Without this flag: lease with --follow, so that who holds a lock holds it on both sides; else skip, because a \
             copy that nobody renews would end while its key lives on",
        ),
        row(
            &["differences"],
            "refuse|source|target",
            "refuse",
            "",
            "what becomes of keys that the target has already below --to-prefix, and that the source has otherwise or not at all: nothing \
             is begun; those that differ are overwritten; those that differ are left alone. What only the target has is never \
             removed",
        ),
        row(&["follow"], "", "", "", "go on with every change, until told to end"),
        row(&["dry-run"], "", "", "", "say what would be written, and write nothing"),
        VERIFY,
        JSON,
        row(
            &["from-username"],
            "USER[:PASSWORD]",
            "",
            "CAIRN_COPY_FROM_USERNAME",
            "who reads version 2. Without a password it is asked for",
        ),
        FROM_CERT,
        FROM_KEY,
        FROM_CA,
        row(
            &["to-username"],
            "USER[:PASSWORD]",
            "",
            "CAIRN_COPY_TO_USERNAME",
            "who writes version 3, which has users of its own",
        ),
        TO_CERT,
        TO_KEY,
        TO_CA,
    ],
    more: "Without --to the files of --from-cert-file and so on are those for the target too. Directories have no counterpart, and hidden keys \
           (a part begins with an underscore) are in no listing: neither is copied; to copy what is in a hidden directory, name it \
           with --prefix. Ends with 0; with 1 when it cannot go on, or when --verify has found differences; with 2 for a wrong \
           flag.",
};
