//! Why a question over HTTP has no answer, with the fix.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The URL is none that can be asked.
    #[error("{url:?} is no URL to ask: {why}; write http://HOST:PORT/PATH")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be spoken with it.
    #[error("no TLS with {address}: {why}")]
    Tls {
        /// Who was asked.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// No server takes the connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing came, or not all of it.
    #[error("no answer from {address} within {} s", .limit.as_secs())]
    TimedOut {
        /// Who was asked.
        address: String,
        /// How long it had.
        limit: Duration,
    },
    /// The answer breaks off or is no HTTP.
    #[error("the answer of {address} is broken: {why}")]
    Broken {
        /// Who was asked.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// The answer is larger than anything that could be meant.
    #[error("the answer of {address} has more than {bytes_max} bytes")]
    TooLarge {
        /// Who was asked.
        address: String,
        /// The limit.
        bytes_max: usize,
    },
}
