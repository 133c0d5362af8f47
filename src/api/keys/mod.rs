//! `/v2/keys`: parse, do, render.

mod form;
mod parse;
pub(super) mod render;
mod serve;

pub(super) use serve::serve;
