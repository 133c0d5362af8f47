//! `/v2/keys`: parse, do, render.

mod form;
mod listing;
mod parse;
pub(super) mod render;
mod serve;

pub(super) use serve::serve;
