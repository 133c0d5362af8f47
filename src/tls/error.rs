//! Why TLS cannot be spoken, with the fix.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::TlsFlags;

/// Why TLS cannot be spoken.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}: {flag} must name a file that this member may read", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Who named it.
        flag: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path}: {why}: {flag} must name {wanted}", path = .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Who named it.
        flag: String,
        /// What is wrong.
        why: String,
        /// What should be there.
        wanted: &'static str,
    },
    /// Certificate and key do not go together.
    #[error(
        "the key in {key} does not fit the certificate in {cert} ({why}): name the key that the certificate was made for",
        key = .key.display(), cert = .cert.display()
    )]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the library says.
        why: String,
    },
    /// The certificate is out of date, or not valid yet.
    #[error("the certificate in {path} {why}: put a new one there, or set this machine's clock", path = .path.display())]
    Dates {
        /// The file.
        path: PathBuf,
        /// When it was or will be valid.
        why: String,
    },
    /// The authorities or revocation lists cannot be used.
    #[error("{flag} or the revocation list beside it cannot be used: {why}")]
    Authorities {
        /// Who named them.
        flag: String,
        /// What the library says.
        why: String,
    },
    /// No such cipher suite.
    #[error("unexpected TLS cipher suite {name:?}: --cipher-suites takes {}", .known.join(", "))]
    UnknownSuite {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The suites do not go with the versions.
    #[error("--cipher-suites leaves none for the TLS versions that are to be spoken: {0}")]
    Suites(rustls::Error),
    /// A certificate cannot be made.
    #[error("no certificate can be made in {dir}: {why}", dir = .dir.display())]
    Auto {
        /// Where it would be kept.
        dir: PathBuf,
        /// What is in the way.
        why: String,
    },
}

impl TlsError {
    pub(super) fn pair(flags: &TlsFlags, why: &rustls::Error) -> Self {
        let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
        Self::Pair { cert: path(&flags.cert), key: path(&flags.key), why: why.to_string() }
    }

    pub(super) fn authorities(flags: &TlsFlags, why: &dyn std::fmt::Display) -> Self {
        Self::Authorities { flag: flags.side.flag("trusted-ca-file"), why: why.to_string() }
    }

    /// Is the certificate or the key at fault, and not something beside them?
    pub(super) fn is_about_the_pair(&self, flags: &TlsFlags) -> bool {
        match self {
            Self::Pair { .. } | Self::Dates { .. } => true,
            Self::Read { path, .. } | Self::Content { path, .. } => {
                [&flags.cert, &flags.key].into_iter().flatten().any(|own| own == path)
            }
            Self::Authorities { .. }
            | Self::UnknownSuite { .. }
            | Self::Suites(_)
            | Self::Auto { .. } => false,
        }
    }

    pub(super) fn content(path: &Path, flag: &str, wanted: &'static str, why: String) -> Self {
        Self::Content { path: path.to_owned(), flag: flag.to_owned(), wanted, why }
    }
}
