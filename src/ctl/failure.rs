//! Why a command did not do what it was told, and with which code the tool ends.
//!
//! Owns: the words of errors and their codes, which scripts depend on. Never knows: commands, how servers are asked.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Codes that the tool ends with.
pub(super) mod code {
    /// Wrong arguments, and every error of commands that administer.
    pub(in crate::ctl) const BAD_ARGUMENTS: u8 = 1;
    /// No member could be reached for their list.
    pub(in crate::ctl) const NO_CONNECTION: u8 = 2;
    /// There is no such command.
    pub(in crate::ctl) const NO_COMMAND: u8 = 3;
    /// The server refused, or none could be reached, with a command on keys.
    pub(in crate::ctl) const SERVER: u8 = 4;
    /// Not all members are well.
    pub(in crate::ctl) const NOT_HEALTHY: u8 = 5;
    /// As a shell counts a program that has ended because the pipe it writes to is closed.
    pub(in crate::ctl) const NOBODY_READS: u8 = 141;
}

/// A refusal of a server about keys, as it says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("{code}: {message} ({cause}) [{index}]")]
pub(super) struct KeyRefusal {
    /// 100 for a key that is not there, and so on.
    #[serde(rename = "errorCode")]
    pub(super) code: u32,
    /// What the number means.
    #[serde(default)]
    pub(super) message: String,
    /// What it is about.
    #[serde(default)]
    pub(super) cause: String,
    /// Where the store was.
    #[serde(default)]
    pub(super) index: u64,
}

/// Why one endpoint gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub(super) struct Attempt {
    /// In words.
    pub(super) text: String,
    /// There was no connection, or it said nothing in time; the server has not answered.
    pub(super) no_connection: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, Error)]
pub(super) enum CtlError {
    /// A server refused a command on keys.
    #[error("{0}")]
    Key(KeyRefusal),
    /// No endpoint gave an answer.
    #[error("client: etcd cluster is unavailable or misconfigured; {}", numbered(.0, "; "))]
    Cluster(Vec<Attempt>),
    /// The one endpoint that was asked gave none, and a second try could do something twice.
    #[error("{0}")]
    One(Attempt),
    /// `--total-timeout` has passed.
    #[error("context deadline exceeded")]
    Deadline,
    /// Anything else.
    #[error("{0}")]
    Plain(String),
}

impl CtlError {
    /// Has no server been reached?
    pub(super) fn is_no_connection(&self) -> bool {
        match self {
            Self::Cluster(attempts) => attempts.iter().all(|attempt| attempt.no_connection),
            Self::One(attempt) => attempt.no_connection,
            Self::Deadline => true,
            Self::Key(_) | Self::Plain(_) => false,
        }
    }
}

/// One line for each, the first behind what comes before it.
fn numbered(attempts: &[Attempt], between: &str) -> String {
    let line = |(number, attempt)| format!("error #{number}: {attempt}\n");
    attempts.iter().enumerate().map(line).collect::<Vec<_>>().join(between)
}

/// How a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the tool ends with.
    pub(super) code: u8,
    /// What standard error says; nothing when that has been said.
    pub(super) said: Option<Said>,
}

/// What is said of a failure.
#[derive(Debug)]
pub(super) enum Said {
    /// As commands on keys say it.
    Keys(CtlError),
    /// As commands that administer say it: without a word before.
    Bare(CtlError),
    /// A line as it is.
    Line(String),
}

impl Failure {
    /// Of a command on keys.
    pub(super) fn keys(code: u8, error: CtlError) -> Self {
        Self { code, said: Some(Said::Keys(error)) }
    }

    /// What a command on keys lacks.
    pub(super) fn missing(what: &str) -> Self {
        Self::keys(code::BAD_ARGUMENTS, CtlError::Plain(what.to_owned()))
    }

    /// Of a command that administers.
    pub(super) fn bare(error: CtlError) -> Self {
        Self { code: code::BAD_ARGUMENTS, said: Some(Said::Bare(error)) }
    }

    /// With a line that says it all, and the code of wrong arguments.
    pub(super) fn line(text: impl Into<String>) -> Self {
        Self { code: code::BAD_ARGUMENTS, said: Some(Said::Line(text.into())) }
    }

    /// With this code alone; what there is to say has been said.
    pub(super) fn code(code: u8) -> Self {
        Self { code, said: None }
    }

    /// What asking came to, if that was it.
    pub(super) fn error(&self) -> Option<&CtlError> {
        match self.said.as_ref()? {
            Said::Keys(error) | Said::Bare(error) => Some(error),
            Said::Line(_) => None,
        }
    }

    /// The text for standard error, with the end of its last line; as JSON if `json`.
    pub(super) fn text(&self, json: bool) -> Option<String> {
        let said = self.said.as_ref()?;
        Some(match (said, json) {
            (Said::Keys(error), false) => {
                let details = match error {
                    CtlError::Cluster(attempts) => format!("{}\n", numbered(attempts, "")),
                    CtlError::Key(_)
                    | CtlError::One(_)
                    | CtlError::Deadline
                    | CtlError::Plain(_) => String::new(),
                };
                format!("Error:  {error}\n{details}")
            }
            (Said::Bare(error), false) => format!("{error}\n"),
            (Said::Line(line), false) => format!("{line}\n"),
            (Said::Keys(error) | Said::Bare(error), true) => format!("{}\n", as_json(error)),
            (Said::Line(line), true) => format!("{}\n", serde_json::json!({ "message": line })),
        })
    }
}

/// A refusal as the server said it; other errors with their text in the same place.
fn as_json(error: &CtlError) -> String {
    match error {
        CtlError::Key(refusal) => crate::ctl::print::go_json(refusal),
        CtlError::Cluster(attempts) => {
            let errors: Vec<_> = attempts.iter().map(ToString::to_string).collect();
            let message = "client: etcd cluster is unavailable or misconfigured";
            crate::ctl::print::go_json(&serde_json::json!({ "message": message, "errors": errors }))
        }
        CtlError::One(_) | CtlError::Deadline | CtlError::Plain(_) => {
            crate::ctl::print::go_json(&serde_json::json!({ "message": error.to_string() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Attempt {
        let text = "dial tcp 127.0.0.1:1: connect: connection refused".to_owned();
        Attempt { text, no_connection: true }
    }

    #[test]
    fn every_endpoint_has_a_line_of_its_own() {
        let failure = Failure::keys(code::SERVER, CtlError::Cluster(vec![refused(), refused()]));
        let line = "dial tcp 127.0.0.1:1: connect: connection refused\n";
        let first = "Error:  client: etcd cluster is unavailable or misconfigured; error #0: ";
        let expected =
            format!("{first}{line}; error #1: {line}\nerror #0: {line}error #1: {line}\n");
        assert_eq!(failure.text(false).unwrap(), expected);
        let json: serde_json::Value = serde_json::from_str(&failure.text(true).unwrap()).unwrap();
        assert_eq!(json["errors"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_refusal_is_the_servers_own_in_json() {
        let refusal = KeyRefusal {
            code: 100,
            message: "Key not found".to_owned(),
            cause: "/<a>".to_owned(),
            index: 4,
        };
        let failure = Failure::keys(code::SERVER, CtlError::Key(refusal));
        assert_eq!(failure.text(false).unwrap(), "Error:  100: Key not found (/<a>) [4]\n");
        assert_eq!(
            failure.text(true).unwrap(),
            "{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/\\u003ca\\u003e\",\"index\":4}\n"
        );
    }
}
