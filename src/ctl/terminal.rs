//! Secrets from a person, or from a program in a person's place.
//!
//! Owns: what is shown while a password is typed. Never knows: whose it is.

use crate::base::Hidden;
use crate::ctl::failure::Failure;
use crate::ctl::print;

/// Asks for a line on standard input, which is not shown while it is typed.
///
/// # Errors
/// When there is none, or it is no text.
pub(super) fn password(prompt: &str) -> Result<String, Failure> {
    let read = {
        // Before it asks: a program that answers at once is not shown either.
        let hidden = Hidden::begin();
        print::out(prompt)?;
        hidden.line()
    };
    // The end of the line was not shown either.
    print::out("\n")?;
    read.map_err(|error| Failure::line(format!("Error reading password: {error}")))
}
