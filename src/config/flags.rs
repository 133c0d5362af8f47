//! The one table of flags: name, default, meaning, and what this version makes of it.
//!
//! A row gives `-name`, `--name`, `--name=`, the variables `ETCD_NAME` and `CAIRN_NAME`, the key in the YAML file and a
//! line of the help. Never knows: what was said on this start.

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// As it would be written.
    pub default: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What this version makes of it.
    pub status: Status,
    /// One or two sentences.
    pub help: &'static str,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Text,
    /// A Go boolean; on the command line only with `=`.
    Bool,
    /// A whole number as Go writes it: `100`, `0x64`, `1_000`.
    Number,
    /// Comma-separated `scheme://host:port`.
    Urls,
    /// Comma-separated `scheme://host:port`, or `*` for all.
    Origins,
    /// Comma-separated words.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// What this version makes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Works,
    /// It is accepted, has no effect, and a line in the log says why.
    Ignored(&'static str),
}

const fn row(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    status: Status,
    help: &'static str,
) -> Flag {
    Flag { name, default, kind, status, help }
}

use Kind::{Bool, Choice, List, Number, Origins, Text, Urls};
use Status::{Ignored, Works};

const V3: Status = Ignored("version 3 data is stored in another way here");
const LEASES: Status = Ignored("ends of leases that nobody keeps alive are always recorded here");
const NO_DOWNGRADE: Status = Ignored("there is no downgrade between members here");

/// A part of the help.
#[derive(Debug)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// Its flags, in the order of the help.
    pub flags: &'static [Flag],
}

/// All flags.
pub const SECTIONS: &[Section] = &[
    Section {
        title: "Member",
        flags: &[
            row(
                "name",
                "default",
                Text,
                Works,
                "What this member is called; must stand in --initial-cluster.",
            ),
            row("data-dir", "", Text, Works, "Where its data is; ${name}.cairn when not given."),
            row(
                "wal-dir",
                "",
                Text,
                Works,
                "Where the log is, apart from the data: a directory of its own, on a disk that syncs fast.",
            ),
            row(
                "snapshot-count",
                "100000",
                Number,
                Ignored("checkpoints are written by bytes: --checkpoint-wal-bytes"),
                "Entries between two snapshots.",
            ),
            row(
                "heartbeat-interval",
                "100",
                Number,
                Works,
                "Milliseconds between two heartbeats of the leader.",
            ),
            row(
                "election-timeout",
                "1000",
                Number,
                Works,
                "Milliseconds without a heartbeat before an election; at least five heartbeats.",
            ),
            row(
                "initial-election-tick-advance",
                "true",
                Bool,
                Ignored("a member alone leads at once, and others wait as long as is safe"),
                "Shorten the first election.",
            ),
            row("listen-peer-urls", "http://localhost:2380", Urls, Works, "Where peers connect."),
            row(
                "listen-client-urls",
                "http://localhost:2379",
                Urls,
                Works,
                "Where clients connect.",
            ),
            row("listen-client-http-urls", "", Urls, Works, "Where HTTP clients connect besides."),
            row(
                "max-snapshots",
                "5",
                Number,
                Ignored("there is one checkpoint, always the newest"),
                "Snapshot files kept.",
            ),
            row(
                "max-wals",
                "5",
                Number,
                Ignored("segments of the log are recycled as soon as a checkpoint allows"),
                "Log files kept.",
            ),
            row(
                "quota-backend-bytes",
                "0",
                Number,
                Works,
                "etcd's name of --quota-bytes, which counts where both are given. 0 for its default.",
            ),
            row("backend-bbolt-freelist-type", "array", Text, V3, "Layout of version 3 data."),
            row(
                "backend-batch-interval",
                "0",
                Text,
                V3,
                "Pause between commits of version 3 data.",
            ),
            row(
                "backend-batch-limit",
                "0",
                Number,
                V3,
                "Operations in a commit of version 3 data.",
            ),
            row("max-txn-ops", "128", Number, Works, "Operations in a version 3 transaction."),
            row(
                "max-request-bytes",
                "1572864",
                Number,
                Works,
                "Bytes of a version 3 request. For version 2 there is --max-body-bytes.",
            ),
            row(
                "max-concurrent-streams",
                "4294967295",
                Number,
                Works,
                "Requests beside each other on a connection that speaks HTTP/2, calls of version 3 most of all. More than 65536 count as so many.",
            ),
            row(
                "grpc-keepalive-min-time",
                "5s",
                Text,
                Ignored("a client may ask as often as it wants whether this member is there"),
                "Least time between two such questions.",
            ),
            row(
                "grpc-keepalive-interval",
                "2h",
                Text,
                Works,
                "A connection that speaks HTTP/2 and on which nothing comes for so long is asked whether it is still there; 0s for never.",
            ),
            row(
                "grpc-keepalive-timeout",
                "20s",
                Text,
                Works,
                "And has so long to say so before it is closed.",
            ),
        ],
    },
    Section {
        title: "Clustering",
        flags: &[
            row(
                "initial-advertise-peer-urls",
                "http://localhost:2380",
                Urls,
                Works,
                "Where the other members reach this one; part of its id. No address is guessed: give it when listening on 0.0.0.0.",
            ),
            row(
                "initial-cluster",
                "default=http://localhost:2380",
                List,
                Works,
                "The founding members: name=peer-url,name=peer-url. Follows --name and --initial-advertise-peer-urls when not given.",
            ),
            row(
                "initial-cluster-state",
                "new",
                Choice(&["new", "existing"]),
                Works,
                "`new`, or `existing` to join a running cluster.",
            ),
            row(
                "initial-cluster-token",
                "etcd-cluster",
                Text,
                Works,
                "Tells clusters with equal members apart; part of the ids.",
            ),
            row(
                "advertise-client-urls",
                "http://localhost:2379",
                Urls,
                Works,
                "Where clients are told to connect. Required with --listen-client-urls.",
            ),
            row(
                "discovery",
                "",
                Text,
                Works,
                "Directory of another etcd or cairn in which the founders register, as `curl http://HOST:PORT/new?size=3` prints it. Its URL is the token of the cluster.",
            ),
            row(
                "discovery-fallback",
                "exit",
                Choice(&["exit", "proxy"]),
                Works,
                "What to do when the discovered cluster is full: exit, or be a proxy for it.",
            ),
            row(
                "discovery-proxy",
                "",
                Text,
                Works,
                "HTTP proxy on the way to the discovery directory: http://HOST:PORT.",
            ),
            row(
                "discovery-srv",
                "",
                Text,
                Works,
                "DNS domain whose SRV records _etcd-server-ssl._tcp and _etcd-server._tcp name the founders.",
            ),
            row(
                "discovery-srv-name",
                "",
                Text,
                Works,
                "Suffix of the service in these records: _etcd-server-NAME._tcp.",
            ),
            row(
                "discovery-dns",
                "",
                Text,
                Works,
                "Name server to ask for these records, IP:PORT; those of the system when not given.",
            ),
            row(
                "strict-reconfig-check",
                "true",
                Bool,
                Works,
                "Refuse membership changes that would endanger the majority.",
            ),
            row(
                "pre-vote",
                "true",
                Bool,
                Ignored("pre-vote is always on"),
                "Ask before standing for election.",
            ),
            row(
                "enable-v2",
                "true",
                Bool,
                Ignored("version 2 is what this program serves"),
                "Serve the version 2 API.",
            ),
            row(
                "auto-compaction-retention",
                "0",
                Text,
                Works,
                "How much of the past of version 3 keys is kept: hours or a time such as 30m, or a number of revisions; 0 for all.",
            ),
            row(
                "auto-compaction-mode",
                "periodic",
                Choice(&["periodic", "revision"]),
                Works,
                "What --auto-compaction-retention counts: periodic for time, revision for revisions.",
            ),
            row(
                "force-new-cluster",
                "false",
                Bool,
                Works,
                "Go on alone with the data of a member that lost its majority.",
            ),
        ],
    },
    Section {
        title: "Proxy",
        flags: &[
            row(
                "proxy",
                "off",
                Choice(&["off", "readonly", "on"]),
                Works,
                "Be no member, but pass requests on to the members that --initial-cluster, --discovery or --discovery-srv name: all of them (on), or only reads (readonly).",
            ),
            row(
                "proxy-failure-wait",
                "5000",
                Number,
                Works,
                "Milliseconds for which a member that failed is left alone.",
            ),
            row(
                "proxy-refresh-interval",
                "30000",
                Number,
                Works,
                "Milliseconds between two readings of the list of members.",
            ),
            row(
                "proxy-dial-timeout",
                "1000",
                Number,
                Works,
                "Milliseconds for a connection to a member.",
            ),
            row(
                "proxy-write-timeout",
                "5000",
                Number,
                Works,
                "Milliseconds in which a member must take what it is sent.",
            ),
            row(
                "proxy-read-timeout",
                "0",
                Number,
                Works,
                "Milliseconds for an answer, and between two pieces of it; 0 for no limit, which watches need.",
            ),
        ],
    },
    Section {
        title: "Security",
        flags: &[
            row(
                "cert-file",
                "",
                Text,
                Works,
                "File with the certificate chain (PEM) that clients are shown. For client URLs with https://.",
            ),
            row(
                "key-file",
                "",
                Text,
                Works,
                "File with its private key (PEM: PKCS#8, PKCS#1 or SEC1). Read again, as all these files, when it changes.",
            ),
            row(
                "client-cert-auth",
                "false",
                Bool,
                Works,
                "Demand a certificate from clients that --trusted-ca-file signed; its common name is the user, unless another one is given.",
            ),
            row(
                "trusted-ca-file",
                "",
                Text,
                Works,
                "File with the certificates (PEM) of those who sign client certificates. Given alone, it demands certificates too.",
            ),
            row("ca-file", "", Text, Works, "The same, under its old name."),
            row(
                "client-crl-file",
                "",
                Text,
                Works,
                "File with revocation lists (PEM or DER) for client certificates.",
            ),
            row(
                "client-cert-allowed-hostname",
                "",
                Text,
                Works,
                "Host name that client certificates must be for.",
            ),
            row(
                "auto-tls",
                "false",
                Bool,
                Works,
                "Make a certificate for clients, in DATA-DIR/fixtures/client, when --cert-file names none.",
            ),
            row(
                "peer-cert-file",
                "",
                Text,
                Works,
                "File with the certificate chain (PEM) that peers are shown, here and where this member connects.",
            ),
            row("peer-key-file", "", Text, Works, "File with its private key."),
            row(
                "peer-client-cert-auth",
                "false",
                Bool,
                Works,
                "Demand a certificate from peers that --peer-trusted-ca-file signed.",
            ),
            row(
                "peer-trusted-ca-file",
                "",
                Text,
                Works,
                "File with the certificates of those who sign peer certificates.",
            ),
            row("peer-ca-file", "", Text, Works, "The same, under its old name."),
            row(
                "peer-crl-file",
                "",
                Text,
                Works,
                "File with revocation lists for peer certificates.",
            ),
            row(
                "peer-cert-allowed-cn",
                "",
                Text,
                Works,
                "Common name that peer certificates must have.",
            ),
            row(
                "peer-cert-allowed-hostname",
                "",
                Text,
                Works,
                "Host name that peer certificates must be for.",
            ),
            row(
                "peer-auto-tls",
                "false",
                Bool,
                Works,
                "Make a certificate for peers, in DATA-DIR/fixtures/peer. It hides what is said, and proves nothing about who says it.",
            ),
            row(
                "cipher-suites",
                "",
                List,
                Works,
                "TLS cipher suites to choose from, by their IANA names; all that are safe when not given.",
            ),
            row(
                "tls-min-version",
                "TLS1.2",
                Text,
                Works,
                "Oldest TLS version to speak: TLS1.2 or TLS1.3.",
            ),
            row("tls-max-version", "", Text, Works, "Newest TLS version to speak."),
            row(
                "cors",
                "*",
                Origins,
                Works,
                "Origins that browsers may ask from, comma-separated; * for all.",
            ),
            row(
                "host-whitelist",
                "*",
                List,
                Works,
                "Host names that requests may name, comma-separated; * for all.",
            ),
            row(
                "auth-token",
                "simple",
                Text,
                Works,
                "Tokens of version 3: simple, or jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=5m.",
            ),
            row("bcrypt-cost", "10", Number, Works, "How slow new passwords are to try, 4 to 31."),
            row(
                "auth-token-ttl",
                "300",
                Number,
                Works,
                "Lifetime of simple tokens after their last use, in seconds.",
            ),
        ],
    },
    Section {
        title: "Logging and profiling",
        flags: &[
            row("logger", "capnslog", Text, Works, "capnslog for lines, zap for JSON."),
            row(
                "log-outputs",
                "default",
                List,
                Works,
                "default (the journal under systemd, else stderr), systemd/journal, stderr, stdout, or a file; comma-separated.",
            ),
            row("log-output", "default", List, Works, "The same, under its old name."),
            row(
                "log-level",
                "info",
                Text,
                Works,
                "error, warn, info or debug. Release builds hold no debug lines.",
            ),
            row(
                "log-package-levels",
                "",
                Text,
                Works,
                "Levels of single packages: etcdserver=WARNING,raft=DEBUG; * for all.",
            ),
            row("debug", "false", Bool, Works, "The same as --log-level=debug."),
            row(
                "enable-pprof",
                "false",
                Bool,
                Works,
                "Serve /debug/pprof/: the command line; profiles are Go's own.",
            ),
            row(
                "metrics",
                "basic",
                Choice(&["basic", "extensive"]),
                Works,
                "basic, or extensive for more histograms in /metrics.",
            ),
            row(
                "listen-metrics-urls",
                "",
                Urls,
                Works,
                "Where /metrics, /health, /livez and /readyz are served besides.",
            ),
            row("enable-grpc-gateway", "true", Bool, Works, "Version 3 as JSON."),
            row("next-cluster-version-compatible", "false", Bool, NO_DOWNGRADE, "Downgrades."),
        ],
    },
    Section {
        title: "Experimental flags of etcd",
        flags: &[
            row(
                "experimental-initial-corrupt-check",
                "false",
                Bool,
                V3,
                "Compare version 3 data at the start.",
            ),
            row(
                "experimental-corrupt-check-time",
                "0s",
                Text,
                V3,
                "Compare version 3 data now and then.",
            ),
            row("experimental-enable-v2v3", "", Text, V3, "Serve version 2 from version 3 data."),
            row(
                "experimental-backend-bbolt-freelist-type",
                "array",
                Text,
                V3,
                "Layout of version 3 data.",
            ),
            row("experimental-enable-lease-checkpoint", "false", Bool, LEASES, "Version 3 leases."),
            row(
                "experimental-enable-lease-checkpoint-persist",
                "false",
                Bool,
                LEASES,
                "Version 3 leases.",
            ),
            row(
                "experimental-compaction-batch-limit",
                "1000",
                Number,
                V3,
                "Compaction of version 3 data.",
            ),
            row(
                "experimental-peer-skip-client-san-verification",
                "false",
                Bool,
                Ignored(
                    "where a peer connects from is never compared with the names in its certificate",
                ),
                "Do not check names in peer certificates.",
            ),
            row(
                "experimental-watch-progress-notify-interval",
                "10m",
                Text,
                Works,
                "Version 3 watches that wish so are told after so long that there is nothing to tell.",
            ),
            row("experimental-warning-apply-duration", "100ms", Text, V3, "When applying is slow."),
        ],
    },
    Section {
        title: "Unsafe",
        flags: &[row(
            "unsafe-no-fsync",
            "false",
            Bool,
            Works,
            "Do not sync the log: a crash of the machine loses acknowledged writes.",
        )],
    },
    Section {
        title: "History and limits (cairn's own)",
        flags: &[
            row(
                "history-events",
                "100000",
                Number,
                Works,
                "Events kept for waitIndex; 1000 behaves exactly as etcd.",
            ),
            row("history-bytes", "67108864", Number, Works, "Bytes of them."),
            row(
                "auto-compaction-bytes",
                "268435456",
                Number,
                Works,
                "Bytes of superseded version 3 values that are kept, whatever --auto-compaction-retention says; 0 for all.",
            ),
            row(
                "checkpoint-wal-bytes",
                "33554432",
                Number,
                Works,
                "Bytes written to the log between two checkpoints.",
            ),
            row("checkpoint-cache-bytes", "4194304", Number, Works, "Checkpoint bytes in memory."),
            row(
                "quota-bytes",
                "8589934592",
                Number,
                Works,
                "What the key space may weigh: bytes of names and values, and 128 for each node. At it, writes that need room are refused.",
            ),
            row(
                "reserve-bytes",
                "67108864",
                Number,
                Works,
                "Size of a file that holds space on the disk for the log, and gives way when the disk has less left than this; then writes that need room are refused. 0 for none.",
            ),
            row("max-body-bytes", "10485760", Number, Works, "Bytes of a form, and so of a value."),
            row(
                "max-inflight-bytes",
                "268435456",
                Number,
                Works,
                "Bytes of all requests that are under way at a time; more are refused. At least two forms of the largest size.",
            ),
            row(
                "max-header-bytes",
                "65536",
                Number,
                Works,
                "Bytes of a request's line and headers; at least 8192.",
            ),
            row("max-headers", "100", Number, Works, "Headers of a request."),
            row(
                "header-timeout",
                "10000",
                Number,
                Works,
                "Milliseconds from the first byte of a request to the end of its headers, and between two pieces of its body.",
            ),
            row(
                "idle-timeout",
                "120000",
                Number,
                Works,
                "Milliseconds between two requests on a connection, and in which a client takes nothing of its answer. Watches may wait for ever.",
            ),
            row(
                "max-connections",
                "100000",
                Number,
                Works,
                "Connections at a time; more wait to be accepted.",
            ),
            row(
                "max-connections-per-ip",
                "0",
                Number,
                Works,
                "Connections of clients from one address at a time; more are closed. 0 for no limit.",
            ),
            row(
                "max-watchers",
                "100000",
                Number,
                Works,
                "Waiting watches at a time; more are refused.",
            ),
            row(
                "auth-closed-guest",
                "false",
                Bool,
                Works,
                "When this member enables authentication and there is no role guest yet, make one without rights.",
            ),
            row("max-key-bytes", "16384", Number, Works, "Bytes of a key."),
            row("max-key-depth", "1000", Number, Works, "Components of a key; at most 1000."),
        ],
    },
    Section {
        title: "Other",
        flags: &[
            row(
                "config-file",
                "",
                Text,
                Works,
                "A YAML file with these names as keys; then nothing else counts.",
            ),
            row("version", "false", Bool, Works, "Say the version and exit."),
            row("help", "false", Bool, Works, "Say all this and exit."),
        ],
    },
];

/// Flags that etcd no longer has and passes over with a warning.
pub(super) const FORGOTTEN: &[&str] = &[
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
];

/// All rows.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|section| section.flags)
}

/// The row of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

impl Flag {
    /// Its variable behind the prefix `ETCD_` or `CAIRN_`.
    pub fn variable(&self) -> String {
        self.name.to_ascii_uppercase().replace('-', "_")
    }
}
