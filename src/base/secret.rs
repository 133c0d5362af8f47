//! Secrets that a person types: not shown while they are.

use std::io::{self, Read as _};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

/// No password is longer; what goes on without an end is none.
const PASSWORD_BYTES_MAX: usize = 4096;

/// A terminal that shows nothing, until this goes. Nothing where standard input is none.
pub struct Hidden(Option<Termios>);

impl Hidden {
    /// From now on nothing is shown of what is typed.
    pub fn begin() -> Self {
        let stdin = io::stdin();
        let Ok(usual) = termios::tcgetattr(&stdin) else { return Self(None) };
        let mut silent = usual.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        let set = termios::tcsetattr(&stdin, OptionalActions::Drain, &silent);
        Self(set.is_ok().then_some(usual))
    }

    /// A line of standard input, without its end.
    ///
    /// # Errors
    /// When there is none, or it is no text.
    pub fn line(&self) -> io::Result<String> {
        read_line()
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(usual) = &self.0 {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, usual);
        }
    }
}

/// One byte after the other: what follows the line is not ours.
fn read_line() -> io::Result<String> {
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
