//! What a run is to do, after its flags are read: nothing in here can be malformed.
//!
//! Owns: the names of the loads, and every choice of a run. Never knows: sockets, the texts of flags.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::config::TlsFlags;
use crate::model::Url;

/// What is asked of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Put,
    Get,
    QuorumGet,
    Mixed,
    CreateInOrder,
    CompareAndSwap,
    Ttl,
    Listing,
    WatchOne,
    WatchAlong,
    WatchMany,
    WatchRecursive,
    IdleWatchers,
    PutV3,
    RangeV3,
    SerializableV3,
    TxnV3,
    KeepAliveV3,
    WatchOneV3,
    WatchManyV3,
}

impl Load {
    /// Every load with its name and what it is, in the order of the help.
    pub(super) const ALL: &[(Self, &str, &str)] = &[
        (Self::Put, "put", "PUT a value under one of --keys keys"),
        (Self::Get, "get", "GET one of --keys keys"),
        (Self::QuorumGet, "qget", "the same with quorum=true"),
        (Self::Mixed, "mixed", "GET and PUT, in the ratio of --reads"),
        (Self::CreateInOrder, "create-in-order", "POST to --keys directories (1)"),
        (
            Self::CompareAndSwap,
            "cas",
            "PUT with prevIndex; all connections contend for --keys keys (1)",
        ),
        (Self::Ttl, "ttl", "PUT with ttl and prevValue: each connection keeps its own keys alive"),
        (Self::Listing, "listing", "GET a directory with --keys children"),
        (
            Self::WatchOne,
            "watch-one",
            "one PUT at a time wakes --connections long polls of one key",
        ),
        (
            Self::WatchAlong,
            "watch-along",
            "the long polls of watch-one alone: another program makes the PUTs, until --requests",
        ),
        (
            Self::WatchMany,
            "watch-many",
            "each connection waits for a key of its own; PUTs wake one after the other",
        ),
        (Self::WatchRecursive, "watch-recursive", "as watch-one, of a directory with --keys keys"),
        (
            Self::IdleWatchers,
            "idle-watchers",
            "each connection waits for a key of its own; nothing happens",
        ),
        (Self::PutV3, "v3-put", "over gRPC: put a value under one of --keys keys"),
        (Self::RangeV3, "v3-range", "over gRPC: read one of --keys keys, linearizable"),
        (Self::SerializableV3, "v3-range-serializable", "the same of the server alone"),
        (
            Self::TxnV3,
            "v3-txn",
            "over gRPC: if one of --keys keys is there, put a value there and read it",
        ),
        (Self::KeepAliveV3, "v3-keepalive", "over gRPC: each connection renews a lease of --ttl"),
        (
            Self::WatchOneV3,
            "v3-watch-one",
            "one put at a time tells --connections watchers of one key, a hundred on a stream",
        ),
        (Self::WatchManyV3, "v3-watch-many", "each watcher has a key of its own"),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(load, ..)| *load)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(load, ..)| *load == self).map_or("", |(_, name, _)| name)
    }

    /// Do its connections wait for events?
    pub(super) fn watches(self) -> bool {
        match self {
            Self::WatchOne
            | Self::WatchAlong
            | Self::WatchMany
            | Self::WatchRecursive
            | Self::IdleWatchers
            | Self::WatchOneV3
            | Self::WatchManyV3 => true,
            Self::Put
            | Self::Get
            | Self::QuorumGet
            | Self::Mixed
            | Self::CreateInOrder
            | Self::CompareAndSwap
            | Self::Ttl
            | Self::Listing
            | Self::PutV3
            | Self::RangeV3
            | Self::SerializableV3
            | Self::TxnV3
            | Self::KeepAliveV3 => false,
        }
    }

    /// Do its connections wait for what others do, if anything happens?
    pub(super) fn only_watches(self) -> bool {
        matches!(self, Self::WatchAlong | Self::IdleWatchers)
    }

    /// Does it need its keys to be there before it begins?
    pub(super) fn needs_keys(self) -> bool {
        matches!(
            self,
            Self::Get
                | Self::QuorumGet
                | Self::Mixed
                | Self::CompareAndSwap
                | Self::Listing
                | Self::RangeV3
                | Self::SerializableV3
                | Self::TxnV3
        )
    }

    /// Does it go over gRPC?
    pub(super) fn speaks_v3(self) -> bool {
        self.name().starts_with("v3-")
    }

    /// How many keys it uses without `--keys`.
    pub(super) fn usual_keys(self) -> u64 {
        match self {
            Self::CreateInOrder
            | Self::CompareAndSwap
            | Self::WatchOne
            | Self::WatchAlong
            | Self::WatchOneV3
            | Self::KeepAliveV3 => 1,
            Self::Put
            | Self::Get
            | Self::QuorumGet
            | Self::Mixed
            | Self::Ttl
            | Self::Listing
            | Self::WatchMany
            | Self::WatchRecursive
            | Self::IdleWatchers
            | Self::PutV3
            | Self::RangeV3
            | Self::SerializableV3
            | Self::TxnV3
            | Self::WatchManyV3 => 1000,
        }
    }

    /// Is an answer with this status what the load asks for? Over gRPC it is the one that the gateway gives for the same answer.
    ///
    /// A compare-and-swap that another connection has won against is: the contention is the load.
    pub(super) fn expects(self, status: u16) -> bool {
        (200..300).contains(&status) || (self == Self::CompareAndSwap && status == 412)
    }
}

/// How the results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Text,
    Json,
}

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) load: Load,
    pub(super) endpoints: Vec<Url>,
    pub(super) connections: usize,
    pub(super) threads: usize,
    /// No request is begun later than this after the start.
    pub(super) duration: Option<Duration>,
    /// Nor after so many.
    pub(super) requests: Option<u64>,
    /// Requests that are begun before this time is over are not counted.
    pub(super) warmup: Duration,
    /// Requests a second, whether or not the earlier ones are answered; without it each connection asks as soon as it has its
    /// answer.
    pub(super) rate: Option<NonZeroU64>,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    pub(super) value_bytes: usize,
    pub(super) keys: u64,
    /// Keys in their order instead of random ones.
    pub(super) sequential: bool,
    pub(super) reads_percent: u64,
    pub(super) ttl_s: u64,
    /// The directory of all keys; begins with a slash and has no escapes.
    pub(super) prefix: String,
    /// Write the keys that the load needs first.
    pub(super) fill: bool,
    /// Remove `prefix` afterwards.
    pub(super) clean: bool,
    pub(super) seed: u64,
    /// `name:password` of every request.
    pub(super) user: Option<String>,
    pub(super) tls: TlsFlags,
    /// The servers' processes on this machine.
    pub(super) pids: Vec<u32>,
    pub(super) output: Output,
}
