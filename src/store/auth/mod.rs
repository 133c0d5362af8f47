//! Users, roles, and whether they count: a part of the replicated state.
//!
//! Owns: who exists, what a role permits, and the one decision whether a client may do something
//! ([`Store::allows`](crate::store::Store::allows)). Never knows: passwords, headers, certificates; of a password it holds the
//! finished hash.
//! Holds: each change has a revision of its own, so whatever was concluded from a user can be bound to it.
//!
//! | file | what is in it |
//! |---|---|
//! | `command.rs` | what a log entry may ask, and its stored form |
//! | `change.rs` | what each command does, and what it takes of the store's indexes |
//! | `decision.rs` | patterns, and who may do what |
//! | `refusal.rs` | every "no", in etcd's words |
//! | `stored.rs` | the state as bytes |

mod change;
mod command;
mod decision;
mod refusal;
mod stored;

use std::sync::Arc;

use imbl::OrdMap;

pub use crate::model::PasswordHash;

pub use change::AuthChange;
pub use command::AuthCommand;
pub(in crate::store) use command::{TAG_FIRST, TAG_LAST};
pub use decision::{Access, Asker, Identity, Intent};
pub use refusal::AuthRefusal;

/// The user who can always do everything while the feature is on, and the role that makes it so.
pub const ROOT: &str = "root";

/// The role of those who do not say who they are.
pub const GUEST: &str = "guest";

/// Which change of users, roles or the flag came last, as a number that only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuthRevision(pub u64);

/// A user as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Of its password.
    pub password: PasswordHash,
    /// The change that gave it this password: no two passwords of any user have the same.
    pub password_set: AuthRevision,
    /// The names of its roles; they need not exist. `None` until a list is given, which is seen on the wire.
    roles: Option<Vec<String>>,
}

/// What a role permits: two lists of patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Keys that may be read. `None` until a list is given, which is seen on the wire.
    pub read: Option<Vec<String>>,
    /// Keys that may be written.
    pub write: Option<Vec<String>>,
}

impl Permissions {
    /// Read and write below the root: what the role root shows, and what guests may do at first.
    pub fn everything() -> Self {
        let all = || Some(vec!["/*".to_owned()]);
        Self { read: all(), write: all() }
    }

    /// Does it name no pattern at all?
    pub fn is_empty(&self) -> bool {
        let none = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        none(&self.read) && none(&self.write)
    }
}

/// Users, roles and the flag. Cloning it costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    enabled: bool,
    /// etcd keeps all this in hidden keys; their directories and the flag are made with the first change, and take indexes then.
    prepared: bool,
    revision: AuthRevision,
    users: OrdMap<Arc<str>, Arc<User>>,
    roles: OrdMap<Arc<str>, Arc<Permissions>>,
}

impl Auth {
    /// Users with their hashes and roles, roles with what they permit, and the flag: what another server kept. `None` when the
    /// flag is on without a user root, which no server allows.
    pub fn of(
        enabled: bool,
        users: impl IntoIterator<Item = (String, PasswordHash, Option<Vec<String>>)>,
        roles: impl IntoIterator<Item = (String, Permissions)>,
    ) -> Option<Self> {
        let mut auth = Self { enabled, prepared: true, ..Self::default() };
        for (name, password, roles) in users {
            auth.revision = AuthRevision(auth.revision.0 + 1);
            let user = User { password, password_set: auth.revision, roles };
            auth.users.insert(name.into(), Arc::new(user));
        }
        for (name, permissions) in roles {
            // It is always there, and is not kept.
            if name != ROOT {
                auth.roles.insert(name.into(), Arc::new(permissions));
            }
        }
        (!enabled || auth.users.contains_key(ROOT)).then_some(auth)
    }

    /// Do users and roles count?
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Was anything ever changed here, or tried to be?
    pub fn prepared(&self) -> bool {
        self.prepared
    }

    /// The last change.
    pub fn revision(&self) -> AuthRevision {
        self.revision
    }

    /// One user.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(Arc::as_ref)
    }

    /// The names of all users, sorted.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(Arc::as_ref)
    }

    /// What a role permits; `root` is always there.
    pub fn role(&self, name: &str) -> Option<Permissions> {
        if name == ROOT {
            return Some(Permissions::everything());
        }
        self.roles.get(name).map(|permissions| Permissions::clone(permissions))
    }

    /// The names of all roles, sorted; `root` is one of them.
    pub fn roles(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.roles.keys().map(Arc::as_ref).collect();
        let place = names.partition_point(|name| *name < ROOT);
        names.insert(place, ROOT);
        names
    }

    /// The roles of a user, as its answers list them: `root` has the role root whatever was taken away from it.
    pub fn roles_of(&self, name: &str) -> Option<Vec<String>> {
        let user = self.users.get(name)?;
        Some(with_root(name, user.roles.clone()).unwrap_or_default())
    }
}

/// The role root is added to the user root behind all others.
fn with_root(name: &str, mut roles: Option<Vec<String>>) -> Option<Vec<String>> {
    let has_it = || roles.iter().flatten().any(|role| role == ROOT);
    if name == ROOT && !has_it() {
        roles.get_or_insert_default().push(ROOT.to_owned());
    }
    roles
}
