//! The checkers of histories, checked: good histories pass, and each rule catches the history that breaks it.

#[path = "../support/mod.rs"]
mod support;
