//! Why a request has no answer.

use std::io;

/// What kind of failure; they are counted by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// No connection.
    Connect,
    /// The server hung up before the answer was whole.
    Closed,
    /// The answer took longer than `--timeout`.
    TimedOut,
    /// What came is no HTTP.
    Broken,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::TimedOut => "timeout",
            Self::Broken => "broken",
        }
    }
}

/// A request without an answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) why: String,
}

impl Failure {
    pub(super) fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }

    pub(super) fn closed() -> Self {
        Self::new(Kind::Closed, "the server hung up")
    }

    /// What reading or writing failed with.
    pub(super) fn io(error: &io::Error) -> Self {
        let hung_up = matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionAborted
        );
        Self::new(if hung_up { Kind::Closed } else { Kind::Broken }, error.to_string())
    }
}
