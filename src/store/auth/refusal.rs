//! Why users and roles stay as they are.

use thiserror::Error;

/// A change of users, roles or the flag that is refused: the same on every member.
///
/// Source of the texts: etcd 3.4; tools compare them. That some end with a full stop and some do not is part of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthRefusal {
    /// Without the user root no client could change users, or switch it off again.
    #[error("auth: No root user available, please create one")]
    NoRootUser,
    /// It is on.
    #[error("auth: already enabled")]
    AlreadyEnabled,
    /// It is off.
    #[error("auth: already disabled")]
    AlreadyDisabled,
    /// A create whose name is taken.
    #[error("auth: User {0} already exists.")]
    UserExists(String),
    /// There is no such user.
    #[error("auth: User {0} does not exist.")]
    NoUser(String),
    /// There is no such user to delete.
    #[error("auth: User {0} does not exist")]
    NoUserToDelete(String),
    /// A create without a password.
    #[error("auth: Cannot create user {0} with an empty password")]
    EmptyPassword(String),
    /// The user would be what it is.
    #[error("auth: User not updated. Use grant/revoke/password to update the user.")]
    UserUnchanged,
    /// The user has the role.
    #[error("auth: Granting duplicate role {role} for user {user}")]
    RoleHeld {
        /// What was to be granted.
        role: String,
        /// Whom.
        user: String,
    },
    /// The user does not have the role.
    #[error("auth: Revoking ungranted role {role} for user {user}")]
    RoleNotHeld {
        /// What was to be revoked.
        role: String,
        /// From whom.
        user: String,
    },
    /// Without the user root no client could switch the feature off again.
    #[error("auth: Cannot delete root user while auth is enabled.")]
    RootNeeded,
    /// The role root is built in.
    #[error("auth: Cannot modify role root: is root role.")]
    RootRole,
    /// A create whose name is taken.
    #[error("auth: Role {0} already exists.")]
    RoleExists(String),
    /// There is no such role.
    #[error("auth: Role {0} does not exist.")]
    NoRole(String),
    /// There is no such role to delete.
    #[error("auth: Role {0} doesn't exist.")]
    NoRoleToDelete(String),
    /// The role would be what it is.
    #[error("auth: Role not updated. Use grant/revoke to update the role.")]
    RoleUnchanged,
    /// The role permits it already.
    #[error("auth: Granting duplicate read permission {0}")]
    ReadHeld(String),
    /// The role permits it already.
    #[error("auth: Granting duplicate write permission {0}")]
    WriteHeld(String),
}

impl AuthRefusal {
    /// HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::EmptyPassword(_) | Self::UserUnchanged | Self::RoleUnchanged => 400,
            Self::RootNeeded | Self::RootRole => 403,
            Self::NoUser(_)
            | Self::NoUserToDelete(_)
            | Self::NoRole(_)
            | Self::NoRoleToDelete(_) => 404,
            Self::NoRootUser
            | Self::AlreadyEnabled
            | Self::AlreadyDisabled
            | Self::UserExists(_)
            | Self::RoleHeld { .. }
            | Self::RoleNotHeld { .. }
            | Self::RoleExists(_)
            | Self::ReadHeld(_)
            | Self::WriteHeld(_) => 409,
        }
    }
}
