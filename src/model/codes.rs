//! Messages that an operator can get in the log at the levels WARNING and ERROR, by code.
//!
//! A line ends with its code (`[C301]`), JSON and the journal have it as a field; `docs/messages.md` has a section for each, and a
//! test compares the two.

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        $($(#[$doc])* pub const $name: &str = $code;)*

        /// All codes, in the order of the documentation.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

messages! {
    /// A setting is passed over or guessed.
    CONFIGURATION = "C101",
    /// The limit of open files is low.
    OPEN_FILES = "C102",
    /// Others can get into the data directory.
    DATA_DIRECTORY_MODE = "C103",
    /// The configuration file is not taken.
    CONFIGURATION_FILE = "C104",
    /// The discovery service does not answer.
    DISCOVERY_RETRY = "C105",
    /// Clients connect without TLS.
    INSECURE_CLIENTS = "C106",
    /// Another cluster answers at a founder's URL.
    CLUSTER_ID = "C107",
    /// A member has lost its data and joins again.
    JOINS_AGAIN = "C108",
    /// The addresses of the other members cannot be kept.
    ADDRESSES_NOT_KEPT = "C109",
    /// The member cannot tell the cluster of itself.
    PUBLISH = "C110",
    /// A member goes on alone.
    ALONE = "C111",
    /// Clients were cut off at a stop.
    CLIENTS_CUT_OFF = "C112",
    /// The service manager does not listen.
    MANAGER_DEAF = "C113",
    /// No leader is found.
    NO_LEADER = "C201",
    /// The leader is lost.
    LEADER_LOST = "C202",
    /// Heartbeats leave too late.
    LATE_HEARTBEAT = "C203",
    /// A peer cannot be reached.
    PEER_UNREACHABLE = "C204",
    /// A peer was not let in.
    PEER_REFUSED = "C205",
    /// A peer cannot be understood.
    PEER_NOT_UNDERSTOOD = "C206",
    /// Leadership was not taken over.
    LEADERSHIP_REFUSED = "C207",
    /// Wall clocks differ.
    CLOCKS_DIFFER = "C208",
    /// A wall clock jumped.
    CLOCK_JUMPED = "C209",
    /// Consensus ended badly.
    CONSENSUS_ENDED = "C210",
    /// The member stops.
    MEMBER_FAILED = "C211",
    /// This member was removed.
    REMOVED = "C221",
    /// A change of members is refused.
    MEMBERSHIP_REFUSED = "C222",
    /// A member that lost its data may not join.
    JOIN_REFUSED = "C223",
    /// A removed member still has a vote.
    VOTE_STAYS = "C224",
    /// A change of voters is tried again.
    CHANGE_RETRIED = "C225",
    /// The disk is slow.
    SLOW_SYNC = "C301",
    /// The log has failed.
    LOG_FAILED = "C302",
    /// A segment of the log cannot be prepared.
    SEGMENT_UNPREPARED = "C303",
    /// A segment of the log cannot be removed.
    SEGMENT_STAYS = "C304",
    /// The log ended badly.
    LOG_ENDED = "C305",
    /// The disk stands still.
    DISK_STILL = "C306",
    /// A part of the member hangs.
    HANGS = "C307",
    /// There is no room.
    NO_ROOM = "C308",
    /// The disk cannot be looked at.
    DISK_UNSEEN = "C309",
    /// The history of version 3 keys is not compacted.
    NOT_COMPACTED = "C310",
    /// A body is not read.
    BODY_NOT_READ = "C401",
    /// A connection cannot be accepted.
    ACCEPT_FAILED = "C402",
    /// An address has too many connections.
    ADDRESS_LIMIT = "C403",
    /// A TLS handshake failed.
    HANDSHAKE_FAILED = "C404",
    /// TLS on a plain listener.
    TLS_TO_PLAIN = "C405",
    /// A wrong password.
    WRONG_PASSWORD = "C411",
    /// Guests may do everything.
    OPEN_GUEST = "C412",
    /// A change of users or roles got no answer.
    AUTH_UNANSWERED = "C413",
    /// A certificate ends soon.
    CERTIFICATE_ENDS = "C501",
    /// A certificate has ended.
    CERTIFICATE_ENDED = "C502",
    /// A certificate is for other names.
    CERTIFICATE_NAMES = "C503",
    /// A key can be read by others.
    SECRET_READABLE = "C504",
    /// Changed TLS files cannot be used.
    TLS_FILES = "C505",
    /// A member has not answered a proxy.
    MEMBER_UNANSWERED = "C601",
    /// A proxy cannot read the list of members.
    LIST_UNREAD = "C602",
    /// A proxy cannot keep the list of members.
    LIST_UNKEPT = "C603",
    /// A file of the log cannot be opened anew.
    LOG_NOT_REOPENED = "C901",
    /// Lines are lost.
    LINES_LOST = "C902",
    /// No package is called so.
    UNKNOWN_PACKAGE = "C903",
}
