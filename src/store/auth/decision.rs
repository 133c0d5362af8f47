//! Who may do what: the one place where that is decided.
//!
//! Source of the rules: etcd 3.4's `v2auth`. Stricter than there: the rule for whole subtrees holds for guests too, and a pattern
//! without any text matches nothing.

use std::sync::Arc;

use crate::model::KeyPath;
use crate::store::Store;
use crate::store::auth::{Auth, AuthRevision, GUEST, Permissions, ROOT};

/// What a request wants of the key space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The key.
    pub path: KeyPath,
    /// It was written with a slash behind it: patterns tell `/a/` from `/a`.
    pub slash: bool,
    /// Everything below it too.
    pub recursive: bool,
    /// To which end.
    pub intent: Intent,
}

/// Reading is no part of writing, nor the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// GET, HEAD, watches.
    Read,
    /// PUT, and DELETE of a file: of the node itself.
    Write,
    /// POST: of a node below.
    WriteBelow,
    /// DELETE of whatever is there.
    RemoveAny,
}

/// The client that wants it, as it was found out when the request came; whether that still holds is decided anew each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client without credentials, or of a time when none were looked at.
    Guest,
    /// A user.
    User(Arc<Identity>),
}

/// A user who has shown who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub name: Box<str>,
    /// Which password it was shown by; `None` when it was a certificate.
    pub password: Option<AuthRevision>,
}

impl Access {
    /// Reading of exactly this key.
    pub fn to_see(path: KeyPath) -> Self {
        Self { path, slash: false, recursive: false, intent: Intent::Read }
    }

    /// The same of a file with this key.
    fn of_a_file(&self) -> Self {
        Self { slash: false, recursive: false, ..self.clone() }
    }
}

impl Store {
    /// May `asker` do this? This is what everything that serves asks.
    ///
    /// Files have no slash behind them. A pattern for what is below `/a` matches `/a/` as well, which is good for the directory;
    /// where a file is or would be, its own key counts too.
    pub fn allows(&self, asker: &Asker, access: &Access) -> bool {
        if !self.auth.enabled {
            return true;
        }
        let allows = |access: &Access| self.auth.allows_as_written(asker, access);
        allows(access) && (!self.is_about_a_file(access) || allows(&access.of_a_file()))
    }

    fn is_about_a_file(&self, access: &Access) -> bool {
        let is_file = || self.get(&access.path).outcome.is_ok_and(|node| !node.is_dir());
        access.slash
            && match access.intent {
                Intent::Read | Intent::RemoveAny => is_file(),
                Intent::Write => true,
                Intent::WriteBelow => false,
            }
    }

    /// May `asker` be shown the value of exactly this key?
    pub fn shows(&self, asker: &Asker, path: &KeyPath) -> bool {
        let access = || Access::to_see(path.clone());
        !self.auth.enabled || self.auth.allows_as_written(asker, &access())
    }
}

impl Auth {
    /// Does one of the asker's roles permit this, by the key as it is written?
    ///
    /// Any of the asker's roles is enough; roles that do not exist permit nothing. A user who is gone or has another password by
    /// now may do nothing, guests what the role guest permits. Users do not inherit from guests.
    pub(crate) fn allows_as_written(&self, asker: &Asker, access: &Access) -> bool {
        self.some_role(asker, |role| {
            role == ROOT
                || self.roles.get(role).is_some_and(|permissions| permits(permissions, access))
        })
    }

    /// May `asker` manage users, roles and members?
    pub fn allows_management(&self, asker: &Asker) -> bool {
        if !self.enabled {
            return true;
        }
        match asker {
            Asker::Guest => false,
            Asker::User(_) => self.some_role(asker, |role| role == ROOT),
        }
    }

    fn some_role(&self, asker: &Asker, holds: impl Fn(&str) -> bool) -> bool {
        let identity = match asker {
            Asker::Guest => return holds(GUEST),
            Asker::User(identity) => identity,
        };
        let Some(user) = self.users.get(&*identity.name) else { return false };
        if identity.password.is_some_and(|shown_by| shown_by != user.password_set) {
            return false;
        }
        let is_root_user = &*identity.name == ROOT;
        (is_root_user && holds(ROOT)) || user.roles.iter().flatten().any(|role| holds(role))
    }
}

fn permits(permissions: &Permissions, access: &Access) -> bool {
    let patterns = match access.intent {
        Intent::Read => &permissions.read,
        Intent::Write | Intent::WriteBelow | Intent::RemoveAny => &permissions.write,
    };
    patterns.iter().flatten().any(|pattern| matches(pattern, access))
}

/// A star at the end stands for anything, in other places for itself. A whole subtree needs such a star: what is below the key
/// then begins as the key does.
fn matches(pattern: &str, access: &Access) -> bool {
    let (path, slash) = (access.path.as_bytes(), access.slash);
    match pattern.strip_suffix('*') {
        Some(start) => begins(path, slash, start.as_bytes()),
        None if access.recursive || pattern.is_empty() => false,
        None => match pattern.as_bytes() {
            [start @ .., b'/'] if slash => start == path,
            pattern => !slash && pattern == path,
        },
    }
}

/// Does the key, with the slash that it was written with, begin with `start`?
fn begins(path: &[u8], slash: bool, start: &[u8]) -> bool {
    path.starts_with(start) || (slash && start.strip_suffix(b"/") == Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn access(key: &str, recursive: bool) -> Access {
        let slash = key.ends_with('/');
        let path = KeyPath::from(key);
        Access { path, slash, recursive, intent: Intent::Read }
    }

    #[test]
    fn a_pattern_is_a_key_or_the_start_of_keys() {
        for (pattern, keys, not) in [
            ("/a*", &["/a", "/ab", "/a/b", "/a/"][..], &["/", "", "/b"][..]),
            ("/a/*", &["/a/", "/a/b"], &["/a", "/ab"]),
            ("/a", &["/a"], &["/a/", "/a/b", "/ab", ""]),
            ("/a/", &["/a/"], &["/a", "/a/b"]),
            ("*", &["", "/", "/a"], &[]),
            ("/*", &["/", "/a"], &[""]),
            ("/", &["/"], &["", "/a"]),
            ("", &[], &["", "/", "/a"]),
            ("/a*b", &["/a*b"], &["/ab", "/aab", "/a"]),
            ("a*", &[], &["/a"]),
        ] {
            for key in keys {
                assert!(matches(pattern, &access(key, false)), "{pattern:?} {key:?}");
            }
            for key in not {
                assert!(!matches(pattern, &access(key, false)), "{pattern:?} {key:?}");
            }
        }
    }

    #[test]
    fn a_whole_subtree_needs_a_star() {
        assert!(!matches("/a", &access("/a", true)));
        assert!(!matches("/a/*", &access("/a", true)));
        assert!(matches("/a/*", &access("/a/", true)));
        assert!(matches("/a*", &access("/a", true)));
    }

    proptest! {
        /// The same in the plainest words: on the text of the key as it was written.
        #[test]
        fn matching_is_by_the_text_of_the_key(
            pattern in "[/a*]{0,4}",
            names in prop::collection::vec("[a*]{1,2}", 0..3),
            slash: bool,
            recursive: bool,
        ) {
            let mut key: String = names.iter().map(|name| format!("/{name}")).collect();
            if slash {
                key.push('/');
            }
            let expected = match pattern.strip_suffix('*') {
                Some(start) => key.starts_with(start),
                None => !recursive && !pattern.is_empty() && pattern == key,
            };
            prop_assert_eq!(matches(&pattern, &access(&key, recursive)), expected);
        }

        /// What a right for a subtree is worth: everything in it may be seen one by one.
        #[test]
        fn whatever_is_below_a_permitted_subtree_may_be_seen(
            length in any::<prop::sample::Index>(),
            key in "(/[ab]{1,2}){0,2}/?",
            below in "(/[ab]{1,2}){1,2}",
        ) {
            let (written, key) = (key.clone(), access(&key, true));
            let inner = KeyPath::clean(&[key.path.as_bytes(), below.as_bytes()].concat());
            let whole = format!("{written}*");
            let pattern = format!("{}*", &whole[..length.index(whole.len())]);
            prop_assert!(matches(&pattern, &key), "{pattern}");
            prop_assert!(matches(&pattern, &Access::to_see(inner)));
        }
    }
}
