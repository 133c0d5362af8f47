//! Every "no" that a client of the key space can get.

use std::borrow::Cow;

use crate::model::{KeyPath, StoreIndex, Value};

/// Stands for a value that the client may not read.
const UNSEEN: &[u8] = b"(another value, which you may not read)";

/// A request that is refused. It is part of the replicated result: the same on every member.
///
/// Text is made at the edge, from [`Refusal::row`] and [`Refusal::cause`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A component of the path does not exist; `path` ends with the first missing one.
    KeyNotFound {
        /// Up to the first missing component.
        path: KeyPath,
    },
    /// A condition does not hold.
    CompareFailed {
        /// The value that was given and the one that is there, if they differ.
        values: Option<(Value, Value)>,
        /// The same of the indexes.
        indexes: Option<(StoreIndex, StoreIndex)>,
    },
    /// A directory where a file is needed.
    NotAFile {
        /// The directory; `None` when nothing is said about it.
        path: Option<KeyPath>,
    },
    /// A file where a directory is needed.
    NotADirectory {
        /// The file.
        path: KeyPath,
    },
    /// A create whose key is taken.
    KeyExists {
        /// The key.
        path: KeyPath,
    },
    /// The root can be neither written nor removed.
    RootReadOnly,
    /// A directory with children, hidden ones too, and no `recursive`.
    DirNotEmpty {
        /// The directory.
        path: KeyPath,
    },
    /// The client has no right to do this, or is not who it says it is.
    NotAllowed,
    /// `prevValue` is there and empty.
    PrevValueRequired,
    /// `ttl` is no number, or beyond [`crate::model::TTL_MAX_S`].
    TtlNotANumber,
    /// `prevIndex` or `waitIndex` is no number.
    IndexNotANumber {
        /// The parameter.
        field: &'static str,
    },
    /// A parameter with a value that it cannot have.
    InvalidField {
        /// The whole cause.
        cause: String,
    },
    /// A query or form that cannot be decoded.
    InvalidForm {
        /// What is wrong with it.
        cause: String,
    },
    /// `refresh` together with a value.
    ValueOnRefresh,
    /// `refresh` without a `ttl`.
    TtlRequiredOnRefresh,
    /// `waitIndex` is older than the history.
    HistoryCleared {
        /// The oldest index still kept.
        oldest: StoreIndex,
        /// The index asked for.
        asked: StoreIndex,
    },
    /// The body exceeds the limit.
    BodyTooLarge {
        /// The limit in bytes.
        bytes_max: usize,
    },
}

impl Refusal {
    /// `(errorCode, message, HTTP status)`: the only place where the three meet.
    ///
    /// `tests/api_spec.rs` compares it with `api-spec/errors.csv`.
    pub const fn row(&self) -> (u16, &'static str, u16) {
        match self {
            Self::KeyNotFound { .. } => (100, "Key not found", 404),
            Self::CompareFailed { .. } => (101, "Compare failed", 412),
            Self::NotAFile { .. } => (102, "Not a file", 403),
            Self::NotADirectory { .. } => (104, "Not a directory", 400),
            Self::KeyExists { .. } => (105, "Key already exists", 412),
            Self::RootReadOnly => (107, "Root is read only", 400),
            Self::DirNotEmpty { .. } => (108, "Directory not empty", 403),
            Self::NotAllowed => (110, "The request requires user authentication", 401),
            Self::PrevValueRequired => (201, "PrevValue is Required in POST form", 400),
            Self::TtlNotANumber => (202, "The given TTL in POST form is not a number", 400),
            Self::IndexNotANumber { .. } => {
                (203, "The given index in POST form is not a number", 400)
            }
            Self::InvalidField { .. } => (209, "Invalid field", 400),
            Self::InvalidForm { .. } => (210, "Invalid POST form", 400),
            Self::ValueOnRefresh => (211, "Value provided on refresh", 400),
            Self::TtlRequiredOnRefresh => (212, "A TTL must be provided on refresh", 400),
            Self::HistoryCleared { .. } => {
                (401, "The event in requested index is outdated and cleared", 400)
            }
            Self::BodyTooLarge { .. } => (210, "Invalid POST form", 413),
        }
    }

    /// The same without the value that is there, for those who may not read it.
    #[must_use]
    pub fn unseen(&self) -> Cow<'_, Self> {
        if let Self::CompareFailed { values: Some((given, _)), indexes } = self {
            let values = Some((given.clone(), Value::from(UNSEEN)));
            return Cow::Owned(Self::CompareFailed { values, indexes: *indexes });
        }
        Cow::Borrowed(self)
    }

    /// What exactly is wrong; empty when the message says it all.
    ///
    /// Bytes, because keys and values are; the JSON writer replaces what is not UTF-8.
    pub fn cause(&self) -> Cow<'_, [u8]> {
        match self {
            Self::KeyNotFound { path }
            | Self::NotADirectory { path }
            | Self::KeyExists { path }
            | Self::DirNotEmpty { path } => path.as_bytes().into(),
            Self::NotAFile { path } => {
                path.as_ref().map(KeyPath::as_bytes).unwrap_or_default().into()
            }
            Self::CompareFailed { values, indexes } => unequal(values.as_ref(), *indexes).into(),
            Self::InvalidField { cause } | Self::InvalidForm { cause } => cause.as_bytes().into(),
            Self::RootReadOnly => Cow::Borrowed(b"/"),
            Self::NotAllowed => Cow::Borrowed(b"Insufficient credentials"),
            Self::PrevValueRequired => Cow::Borrowed(b"\"prevValue\" cannot be empty"),
            Self::TtlNotANumber => Cow::Borrowed(b"invalid value for \"ttl\""),
            Self::IndexNotANumber { field } => said(format!("invalid value for \"{field}\"")),
            Self::ValueOnRefresh => Cow::Borrowed(b"A value was provided on a refresh"),
            Self::TtlRequiredOnRefresh => Cow::Borrowed(b"No TTL value set"),
            Self::HistoryCleared { oldest, asked } => {
                said(format!("the requested history has been cleared [{oldest}/{asked}]"))
            }
            Self::BodyTooLarge { bytes_max } => {
                said(format!("the body is larger than {bytes_max} bytes"))
            }
        }
    }
}

/// `[given != actual]` for each condition that failed.
fn unequal(values: Option<&(Value, Value)>, indexes: Option<(StoreIndex, StoreIndex)>) -> Vec<u8> {
    let mut causes = Vec::new();
    if let Some((given, actual)) = values {
        causes.push([b"[", &given[..], b" != ", &actual[..], b"]"].concat());
    }
    if let Some((given, actual)) = indexes {
        causes.push(format!("[{given} != {actual}]").into_bytes());
    }
    causes.join(&b' ')
}

fn said(text: String) -> Cow<'static, [u8]> {
    Cow::Owned(text.into_bytes())
}

/// The store's index when a request was decided, and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<T> {
    /// Wire: `X-Etcd-Index`, and `index` of an error.
    pub index: StoreIndex,
    /// What came of it.
    pub outcome: Result<T, Refusal>,
}
