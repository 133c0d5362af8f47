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
pub use plain::{KeysCall, Plain};
pub(super) use serve::serve;
