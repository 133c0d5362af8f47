//! Who may do what with which keys.

use crate::mvcc::auth::{Asker, Auth, PermissionKind, User, is_root};
use crate::mvcc::key::KeyRange;
use crate::mvcc::request::Refusal;

/// What somebody wants to do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Read them.
    Read,
    /// Write or delete them.
    Write,
}

impl Auth {
    /// May the caller do this with every key in the range, whether it is there or not?
    ///
    /// # Errors
    /// [`Refusal::UserEmpty`], [`Refusal::AuthOldRevision`] and [`Refusal::PermissionDenied`].
    pub fn check(&self, asker: &Asker, intent: Intent, range: &KeyRange) -> Result<(), Refusal> {
        match self.identify(asker)? {
            None => Ok(()),
            Some(user) if is_root(user) || self.covers(user, intent, range) => Ok(()),
            Some(_) => Err(Refusal::PermissionDenied),
        }
    }

    /// Do the user's permissions of all its roles together cover the range?
    fn covers(&self, user: &User, intent: Intent, range: &KeyRange) -> bool {
        let roles = user.roles.iter().filter_map(|role| self.role(role));
        let mut held: Vec<_> = roles
            .flatten()
            .filter(|permission| permits(permission.kind, intent) && !permission.range.is_empty())
            .map(|permission| &permission.range)
            .collect();
        held.sort_by(|one, other| one.start().cmp(other.start()));
        // What is covered from the start of the range on, up to here; exclusive.
        let mut covered = range.start().to_vec();
        let mut begun = false;
        for part in held {
            if **part.start() > *covered {
                break;
            }
            match part.end() {
                None => return true,
                Some(end) if *end > *covered => {
                    covered = end.to_vec();
                    begun = true;
                }
                Some(_) => {}
            }
            if begun && range.end().is_some_and(|end| *covered >= *end) {
                return true;
            }
        }
        false
    }
}

fn permits(kind: PermissionKind, intent: Intent) -> bool {
    match kind {
        PermissionKind::ReadWrite => true,
        PermissionKind::Read => intent == Intent::Read,
        PermissionKind::Write => intent == Intent::Write,
    }
}
