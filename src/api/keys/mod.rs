//! `/v2/keys`: parse, do, render.

mod answer;
#[cfg(test)]
pub(in crate::api) mod costs;
mod form;
#[cfg(any(test, fuzzing))]
pub(in crate::api) mod fuzz;
mod listing;
mod parse;
mod plain;
pub(super) mod render;
#[cfg(test)]
mod secrecy;
mod serve;
mod shown;

pub use answer::{Answer, Success};
pub use form::FORM;
pub use plain::{Asked, Plain};
pub(super) use serve::serve;

/// What stands behind `/v2/keys` in a decoded path; `None` of a path elsewhere.
pub(super) fn below(path: &[u8]) -> Option<&[u8]> {
    let key = path.strip_prefix(b"/v2/keys")?;
    matches!(key.first(), None | Some(b'/')).then_some(key)
}
