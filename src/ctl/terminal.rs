//! Secrets from a person, or from a program in a person's place.
//!
//! Owns: what is shown while a password is typed. Never knows: whose it is.

use std::io::{self, Read as _};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use crate::ctl::failure::Failure;
use crate::ctl::print;

/// No password is longer; what goes on without an end is none.
const PASSWORD_BYTES_MAX: usize = 4096;

/// Asks for a line on standard input, which is not shown while it is typed.
///
/// # Errors
/// When there is none, or it is no text.
pub(super) fn password(prompt: &str) -> Result<String, Failure> {
    let read = {
        // Before it asks: a program that answers at once is not shown either.
        let _hidden = Hidden::begin();
        print::out(prompt)?;
        line()
    };
    // The end of the line was not shown either.
    print::out("\n")?;
    read.map_err(|error| Failure::line(format!("Error reading password: {error}")))
}

/// One byte after the other: what follows the line is not ours.
fn line() -> io::Result<String> {
    let (mut bytes, mut stdin) = (Vec::new(), io::stdin().lock());
    let mut byte = [0];
    loop {
        if stdin.read(&mut byte)? == 0 {
            if bytes.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF"));
            }
            break;
        }
        if byte[0] == b'\n' {
            break;
        }
        bytes.push(byte[0]);
        if bytes.len() > PASSWORD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
        }
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8"))
}

/// A terminal that shows nothing, until this goes. Nothing where standard input is none.
struct Hidden(Option<Termios>);

impl Hidden {
    fn begin() -> Self {
        let stdin = io::stdin();
        let Ok(usual) = termios::tcgetattr(&stdin) else { return Self(None) };
        let mut silent = usual.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        let set = termios::tcsetattr(&stdin, OptionalActions::Drain, &silent);
        Self(set.is_ok().then_some(usual))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(usual) = &self.0 {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, usual);
        }
    }
}
