//! Users, roles and tokens of the v3 key space, and whether they count. They have nothing to do with those of v2.
//!
//! Owns: who exists, what a role permits, who holds a token. Never knows: passwords, only finished hashes; connections.
//! Holds: each change of users, roles or the flag has a revision of its own, so that whatever was concluded before it is known to be
//! old.

mod change;
mod permission;
mod stored;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::model::{LogTime, PasswordHash};
use crate::mvcc::key::KeyRange;
use crate::mvcc::request::Refusal;

pub use permission::Intent;

/// The user who can always do everything while users count, and the role that makes it so.
pub const ROOT: &str = "root";

/// Tokens that are kept; the one that would expire first goes when there are more.
const TOKENS_MAX: usize = 100_000;

/// Which change of users, roles or the flag came last. Wire: `authRevision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuthRevision(pub u64);

impl Default for AuthRevision {
    /// That of a cluster without users.
    fn default() -> Self {
        Self(1)
    }
}

/// Whose permissions count for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A member, for what it does on its own: nothing is forbidden.
    Internal,
    /// A client that does not say who it is.
    Nobody,
    /// A client that was recognised.
    User {
        /// As whom.
        name: String,
        /// When: the revision of users and roles then.
        revision: AuthRevision,
    },
}

/// What a role may do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionKind {
    /// Read them.
    Read,
    /// Write them.
    Write,
    /// Both.
    ReadWrite,
}

/// What a role may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// What.
    pub kind: PermissionKind,
    /// With which keys.
    pub range: KeyRange,
}

/// A user as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Of its password; a user without one cannot get a token.
    pub password: Option<PasswordHash>,
    /// Names of its roles, in order.
    pub roles: Vec<String>,
}

/// A change of users, roles, tokens or the flag. Variants and fields are only ever appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthRequest {
    /// From now on they count.
    Enable,
    /// They do not count any more.
    Disable,
    /// Makes a user.
    UserAdd {
        /// Who.
        name: String,
        /// Of its password; none if it shall have none.
        password: Option<PasswordHash>,
    },
    /// Deletes a user.
    UserDelete {
        /// Who.
        name: String,
    },
    /// Gives a user another password.
    UserChangePassword {
        /// Who.
        name: String,
        /// Of the new password; none if it shall have none.
        password: Option<PasswordHash>,
    },
    /// Gives a user a role.
    UserGrantRole {
        /// Who.
        user: String,
        /// Which.
        role: String,
    },
    /// Takes a role from a user.
    UserRevokeRole {
        /// Who.
        user: String,
        /// Which.
        role: String,
    },
    /// Makes a role.
    RoleAdd {
        /// Which.
        name: String,
    },
    /// Deletes a role, also from its users.
    RoleDelete {
        /// Which.
        name: String,
    },
    /// Permits a role something; in place of what it was permitted with the same keys.
    RoleGrantPermission {
        /// Which.
        role: String,
        /// What.
        permission: Permission,
    },
    /// Permits a role nothing more with these keys.
    RoleRevokePermission {
        /// Which.
        role: String,
        /// With which keys, exactly as it was permitted.
        range: KeyRange,
    },
    /// Makes a token known, for a user whose password was found to be right.
    Authenticate {
        /// Who.
        name: String,
        /// The token; made at random before the log.
        token: String,
        /// The revision of users and roles when the password was looked at.
        revision: AuthRevision,
        /// How long it lives without being used, in seconds.
        ttl_s: u64,
    },
    /// These tokens are in use: they live on.
    KeepTokens {
        /// Which.
        tokens: Vec<String>,
    },
}

/// The answer to an [`AuthRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthReply {
    /// Done.
    Done,
    /// The token is known from now on.
    Token(String),
}

/// A token that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whose.
    pub user: Arc<str>,
    /// How long it lives without being used, in seconds.
    pub ttl_s: u64,
    /// When it stops being known.
    pub expires: LogTime,
}

/// Users, roles, tokens, and whether they count.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    enabled: bool,
    revision: AuthRevision,
    users: OrdMap<Arc<str>, Arc<User>>,
    roles: OrdMap<Arc<str>, Arc<Vec<Permission>>>,
    tokens: OrdMap<Arc<str>, Token>,
    /// All tokens, the one that expires first before the others.
    expiring: OrdSet<(LogTime, Arc<str>)>,
}

impl Auth {
    /// Users and roles that another program has kept, in any order; nobody holds a token.
    pub fn of(
        enabled: bool,
        revision: AuthRevision,
        users: impl IntoIterator<Item = (String, User)>,
        roles: impl IntoIterator<Item = (String, Vec<Permission>)>,
    ) -> Self {
        let users = users.into_iter().map(|(name, mut user)| {
            user.roles.sort();
            user.roles.dedup();
            (Arc::<str>::from(name), Arc::new(user))
        });
        let roles = roles.into_iter().map(|(name, mut permissions)| {
            permissions.sort_by(|one, other| change::order(one).cmp(&change::order(other)));
            (Arc::<str>::from(name), Arc::new(permissions))
        });
        let (users, roles) = (users.collect(), roles.collect());
        Self { enabled, revision, users, roles, ..Self::default() }
    }

    /// Do users and roles count?
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Of the last change.
    pub fn revision(&self) -> AuthRevision {
        self.revision
    }

    /// Is everything as in a new cluster?
    pub fn is_untouched(&self) -> bool {
        self.revision == AuthRevision::default() && !self.enabled && self.tokens.is_empty()
    }

    /// A user.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|user| &**user)
    }

    /// All users by name.
    pub fn users(&self) -> impl Iterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (&**name, &**user))
    }

    /// What a role is permitted, in the order of the keys.
    pub fn role(&self, name: &str) -> Option<&[Permission]> {
        self.roles.get(name).map(|role| &role[..])
    }

    /// All roles by name.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &[Permission])> {
        self.roles.iter().map(|(name, role)| (&**name, &role[..]))
    }

    /// Whom a token is of, at this time in the log. Its `expires` tells when its use has to be reported with
    /// [`AuthRequest::KeepTokens`].
    pub fn token(&self, token: &str, now: LogTime) -> Option<&Token> {
        self.tokens.get(token).filter(|known| known.expires > now)
    }

    /// May the caller do what only administrators may?
    ///
    /// # Errors
    /// [`Refusal::UserEmpty`], [`Refusal::AuthOldRevision`] and [`Refusal::PermissionDenied`].
    pub fn check_admin(&self, asker: &Asker) -> Result<(), Refusal> {
        match self.identify(asker)? {
            None => Ok(()),
            Some(user) if is_root(user) => Ok(()),
            Some(_) => Err(Refusal::PermissionDenied),
        }
    }

    /// Is the caller somebody?
    ///
    /// # Errors
    /// As [`Auth::check_admin`].
    pub fn check_known(&self, asker: &Asker) -> Result<(), Refusal> {
        self.identify(asker).map(|_| ())
    }

    /// The user whose permissions count; none if everything is allowed.
    fn identify(&self, asker: &Asker) -> Result<Option<&User>, Refusal> {
        if !self.enabled {
            return Ok(None);
        }
        match asker {
            Asker::Internal => Ok(None),
            Asker::Nobody => Err(Refusal::UserEmpty),
            Asker::User { name, revision } => {
                if *revision < self.revision {
                    return Err(Refusal::AuthOldRevision);
                }
                self.user(name).map(Some).ok_or(Refusal::PermissionDenied)
            }
        }
    }
}

fn is_root(user: &User) -> bool {
    user.roles.iter().any(|role| role == ROOT)
}
