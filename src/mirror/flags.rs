//! Flags of `cairn mirror`.

use crate::backup::flags::{Flag, Table, row};

/// Whom to show what, and whom to believe, at either side; `cairn copy` has the same.
pub(crate) const FROM_CERT: Flag =
    row(&["from-cert-file"], "FILE", "", "", "certificate to show the source");
pub(crate) const FROM_KEY: Flag = row(&["from-key-file"], "FILE", "", "", "its private key");
pub(crate) const FROM_CA: Flag =
    row(&["from-ca-file"], "FILE", "", "", "who signs the source's certificates");
pub(crate) const TO_CERT: Flag =
    row(&["to-cert-file"], "FILE", "", "", "certificate to show the target");
pub(crate) const TO_KEY: Flag = row(&["to-key-file"], "FILE", "", "", "its private key");
pub(crate) const TO_CA: Flag =
    row(&["to-ca-file"], "FILE", "", "", "who signs the target's certificates");
/// Whom to ask for the keys.
pub(crate) const FROM: Flag = row(
    &["from"],
    "URL,...",
    "",
    "",
    "members of the source, one after the other until one answers",
);
pub(crate) const VERIFY: Flag = row(&["verify"], "", "", "", "compare both sides at the end");
pub(crate) const JSON: Flag = row(&["json"], "", "", "", "say at the end as JSON what was done");

pub(super) const MIRROR: Table = Table {
    usage: "cairn mirror [flags] --from URL,... --to URL,...",
    about: "Copies a running server of the version 2 API into another, etcd or cairn, while both serve: first all keys, then every \
            change in its order, until it is told to end (SIGINT or SIGTERM). A key that a client of the target has written is that \
            client's from then on, so clients can be moved one by one. Nothing is written to the source. Users and roles are not copied.",
    argument: "",
    flags: &[
        FROM,
        row(&["to"], "URL,...", "", "", "members of the target"),
        row(
            &["prefix"],
            "PATH",
            "/",
            "",
            "the key or directory that is copied, under the same path",
        ),
        row(
            &["hidden"],
            "PATH,...",
            "",
            "",
            "hidden keys or directories below --prefix that are copied too: listings do not show them, so they have to be named",
        ),
        row(
            &["differences"],
            "refuse|source|target",
            "refuse",
            "",
            "whose the keys are that the target has already, and other than the source: nothing is begun; the source's, and what only \
             the target has is removed; the target's, and left alone",
        ),
        row(&["once"], "", "", "", "end when everything is copied that is there now"),
        VERIFY,
        JSON,
        row(
            &["metrics-addr"],
            "HOST:PORT",
            "",
            "",
            "where Prometheus can ask for /metrics: how far behind the target is, among others",
        ),
        row(
            &["from-username"],
            "USER[:PASSWORD]",
            "",
            "CAIRN_MIRROR_FROM_USERNAME",
            "who reads the source. Without a password it is asked for",
        ),
        FROM_CERT,
        FROM_KEY,
        FROM_CA,
        row(
            &["to-username"],
            "USER[:PASSWORD]",
            "",
            "CAIRN_MIRROR_TO_USERNAME",
            "who writes the target; needs to read and write /_cairn_mirror/* too",
        ),
        TO_CERT,
        TO_KEY,
        TO_CA,
    ],
    more: "A key with a lifetime gets what is left of it and a second or two more; it goes when it goes in the source. The target says \
           below /_cairn_mirror, which is hidden, what is being copied into it: a mirror back is refused. Ends with 0; with 1 when it \
           cannot go on, or when --verify has found differences; with 2 for a wrong flag.",
};
