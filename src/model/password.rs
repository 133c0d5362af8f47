//! What is kept of a password.

use std::fmt;
use std::sync::Arc;

/// A finished bcrypt hash. It can be tried offline, so it is not shown in any log.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Arc<str>);

impl PasswordHash {
    /// Takes a hash as bcrypt writes it.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// As bcrypt reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}
