//! `/v2/keys`: parse, do, render.

#[cfg(test)]
pub(in crate::api) mod costs;
mod form;
#[cfg(any(test, fuzzing))]
pub(in crate::api) mod fuzz;
mod listing;
mod parse;
pub(super) mod render;
#[cfg(test)]
mod secrecy;
mod serve;
mod shown;

pub use form::FORM;
pub(super) use serve::serve;
