//! What each command does to users and roles.
//!
//! Source of the behaviour, accidents included where they show on the wire: etcd 3.4's `v2auth`, observed on 3.4.23. What counts
//! as "unchanged" there compares lists as they are stored: an absent one differs from an empty one, an unsorted one from a sorted
//! one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::store::auth::{
    Auth, AuthCommand, AuthRefusal, AuthRevision, GUEST, PasswordHash, Permissions, ROOT, User,
    with_root,
};

/// What a command came to, for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChange {
    /// There is nothing to show.
    Done,
    /// A user was made or changed.
    User {
        /// Its roles now; as given when it was made.
        roles: Option<Vec<String>>,
        /// It is new, and was given no roles.
        created: bool,
    },
    /// A role was made or changed; this is what it permits now.
    Role(Permissions),
}

/// In etcd users and roles are hidden keys below three hidden directories, beside a hidden flag.
const PREPARED_INDEXES: u64 = 4;

impl Auth {
    /// Applies one command. Also returns how many indexes it takes of the store: as many as in etcd, where each record is a key.
    pub(in crate::store) fn apply(
        &mut self,
        command: &AuthCommand,
    ) -> (Result<AuthChange, AuthRefusal>, u64) {
        let mut indexes = 0;
        let outcome = self.change(command, &mut indexes);
        (outcome, indexes)
    }

    fn change(
        &mut self,
        command: &AuthCommand,
        indexes: &mut u64,
    ) -> Result<AuthChange, AuthRefusal> {
        match command {
            AuthCommand::Enable => self.enable(indexes),
            AuthCommand::Disable => {
                if !self.enabled {
                    return Err(AuthRefusal::AlreadyDisabled);
                }
                self.write(indexes);
                self.enabled = false;
                Ok(AuthChange::Done)
            }
            AuthCommand::CreateUser { name, password, roles } => {
                self.create_user(name, password.as_ref(), roles.as_ref(), indexes)
            }
            AuthCommand::PutUser { name, password, roles } => {
                if self.users.contains_key(name.as_str()) {
                    return self.update_user(name, password.as_ref(), &[], &[], indexes);
                }
                let made = self.create_user(name, password.as_ref(), roles.as_ref(), indexes)?;
                Ok(match made {
                    AuthChange::User { roles, .. } => AuthChange::User { roles, created: true },
                    AuthChange::Done | AuthChange::Role(_) => made,
                })
            }
            AuthCommand::UpdateUser { name, password, grant, revoke } => {
                self.update_user(name, password.as_ref(), grant, revoke, indexes)
            }
            AuthCommand::DeleteUser { name } => {
                if self.enabled && name == ROOT {
                    return Err(AuthRefusal::RootNeeded);
                }
                self.prepare(indexes);
                if !self.users.contains_key(name.as_str()) {
                    return Err(AuthRefusal::NoUserToDelete(name.clone()));
                }
                self.write(indexes);
                self.users.remove(name.as_str());
                Ok(AuthChange::Done)
            }
            AuthCommand::CreateRole { name, permissions } => {
                refuse_root_role(name)?;
                self.create_role(name, permissions, indexes)?;
                Ok(AuthChange::Role(permissions.clone()))
            }
            AuthCommand::UpdateRole { name, grant, revoke } => {
                self.update_role(name, grant.as_ref(), revoke.as_ref(), indexes)
            }
            AuthCommand::DeleteRole { name } => {
                refuse_root_role(name)?;
                self.prepare(indexes);
                if !self.roles.contains_key(name.as_str()) {
                    return Err(AuthRefusal::NoRoleToDelete(name.clone()));
                }
                self.write(indexes);
                self.roles.remove(name.as_str());
                Ok(AuthChange::Done)
            }
        }
    }

    fn enable(&mut self, indexes: &mut u64) -> Result<AuthChange, AuthRefusal> {
        if self.enabled {
            return Err(AuthRefusal::AlreadyEnabled);
        }
        if !self.users.contains_key(ROOT) {
            return Err(AuthRefusal::NoRootUser);
        }
        if !self.roles.contains_key(GUEST) {
            self.create_role(GUEST, &Permissions::everything(), indexes)?;
        }
        self.write(indexes);
        self.enabled = true;
        Ok(AuthChange::Done)
    }

    fn create_user(
        &mut self,
        name: &str,
        password: Option<&PasswordHash>,
        roles: Option<&Vec<String>>,
        indexes: &mut u64,
    ) -> Result<AuthChange, AuthRefusal> {
        let Some(password) = password else {
            return Err(AuthRefusal::EmptyPassword(name.to_owned()));
        };
        self.prepare(indexes);
        if self.users.contains_key(name) {
            return Err(AuthRefusal::UserExists(name.to_owned()));
        }
        let password_set = self.write(indexes);
        let roles = with_root(name, roles.cloned());
        let user = User { password: password.clone(), password_set, roles: roles.clone() };
        self.users.insert(name.into(), Arc::new(user));
        Ok(AuthChange::User { roles, created: false })
    }

    fn update_user(
        &mut self,
        name: &str,
        password: Option<&PasswordHash>,
        grant: &[String],
        revoke: &[String],
        indexes: &mut u64,
    ) -> Result<AuthChange, AuthRefusal> {
        let Some(user) = self.users.get(name).map(Arc::clone) else {
            return Err(AuthRefusal::NoUser(name.to_owned()));
        };
        let before = with_root(name, user.roles.clone());
        let mut roles: BTreeSet<String> = before.iter().flatten().cloned().collect();
        for role in grant {
            if !roles.insert(role.clone()) {
                let (role, user) = (role.clone(), name.to_owned());
                return Err(AuthRefusal::RoleHeld { role, user });
            }
        }
        for role in revoke {
            if !roles.remove(role) {
                let (role, user) = (role.clone(), name.to_owned());
                return Err(AuthRefusal::RoleNotHeld { role, user });
            }
        }
        let roles = Some(roles.into_iter().collect());
        if password.is_none() && roles == before {
            return Err(AuthRefusal::UserUnchanged);
        }
        let revision = self.write(indexes);
        let mut changed = User { roles: roles.clone(), ..User::clone(&user) };
        if let Some(password) = password {
            (changed.password, changed.password_set) = (password.clone(), revision);
        }
        self.users.insert(name.into(), Arc::new(changed));
        Ok(AuthChange::User { roles, created: false })
    }

    fn create_role(
        &mut self,
        name: &str,
        permissions: &Permissions,
        indexes: &mut u64,
    ) -> Result<(), AuthRefusal> {
        self.prepare(indexes);
        if self.roles.contains_key(name) {
            return Err(AuthRefusal::RoleExists(name.to_owned()));
        }
        self.write(indexes);
        self.roles.insert(name.into(), Arc::new(permissions.clone()));
        Ok(())
    }

    fn update_role(
        &mut self,
        name: &str,
        grant: Option<&Permissions>,
        revoke: Option<&Permissions>,
        indexes: &mut u64,
    ) -> Result<AuthChange, AuthRefusal> {
        refuse_root_role(name)?;
        let Some(before) = self.roles.get(name) else {
            return Err(AuthRefusal::NoRole(name.to_owned()));
        };
        let mut permissions = Permissions::clone(before);
        if let Some(grant) = grant {
            permissions.read =
                granted(permissions.read, grant.read.as_ref(), AuthRefusal::ReadHeld)?;
            permissions.write =
                granted(permissions.write, grant.write.as_ref(), AuthRefusal::WriteHeld)?;
        }
        if let Some(revoke) = revoke {
            permissions.read = revoked(permissions.read, revoke.read.as_ref());
            permissions.write = revoked(permissions.write, revoke.write.as_ref());
        }
        if permissions == **before {
            return Err(AuthRefusal::RoleUnchanged);
        }
        self.write(indexes);
        self.roles.insert(name.into(), Arc::new(permissions.clone()));
        Ok(AuthChange::Role(permissions))
    }

    /// What etcd makes before its first record.
    fn prepare(&mut self, indexes: &mut u64) {
        if !self.prepared {
            self.prepared = true;
            *indexes += PREPARED_INDEXES;
        }
    }

    /// One record changes: it takes an index, and a revision.
    fn write(&mut self, indexes: &mut u64) -> AuthRevision {
        self.prepare(indexes);
        *indexes += 1;
        self.revision.0 += 1;
        self.revision
    }
}

fn refuse_root_role(name: &str) -> Result<(), AuthRefusal> {
    if name == ROOT { Err(AuthRefusal::RootRole) } else { Ok(()) }
}

fn granted(
    list: Option<Vec<String>>,
    more: Option<&Vec<String>>,
    held: fn(String) -> AuthRefusal,
) -> Result<Option<Vec<String>>, AuthRefusal> {
    let mut patterns: BTreeSet<String> = list.into_iter().flatten().collect();
    for pattern in more.into_iter().flatten() {
        if !patterns.insert(pattern.clone()) {
            return Err(held(pattern.clone()));
        }
    }
    Ok(Some(patterns.into_iter().collect()))
}

fn revoked(list: Option<Vec<String>>, less: Option<&Vec<String>>) -> Option<Vec<String>> {
    let mut patterns: BTreeSet<String> = list.into_iter().flatten().collect();
    for pattern in less.into_iter().flatten() {
        patterns.remove(pattern);
    }
    Some(patterns.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogTime;
    use crate::store::auth::command::tests::auth_commands;
    use crate::store::{Applied, Command, HistoryLimits, Loader, Record, Store, StoreIndex};
    use proptest::prelude::*;
    use std::ops::ControlFlow;

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 1000, bytes_max: 1 << 20 };

    fn apply(auth: &mut Auth, command: AuthCommand) -> (Result<AuthChange, AuthRefusal>, u64) {
        auth.apply(&command)
    }

    fn user(name: &str, password: &str) -> AuthCommand {
        let password = (!password.is_empty()).then(|| PasswordHash::new(password));
        AuthCommand::PutUser { name: name.to_owned(), password, roles: None }
    }

    #[test]
    fn the_first_record_costs_four_indexes_more_and_enabling_costs_one_for_the_guest() {
        let mut auth = Auth::default();
        assert_eq!(apply(&mut auth, AuthCommand::Enable), (Err(AuthRefusal::NoRootUser), 0));
        assert_eq!(apply(&mut auth, user("root", "")).1, 0);
        assert_eq!(apply(&mut auth, user("root", "h")).1, 5);
        assert_eq!(apply(&mut auth, AuthCommand::Enable), (Ok(AuthChange::Done), 2));
        assert_eq!(apply(&mut auth, AuthCommand::Disable), (Ok(AuthChange::Done), 1));
        assert_eq!(apply(&mut auth, AuthCommand::Enable), (Ok(AuthChange::Done), 1));
        let mut other = Auth::default();
        let missing = AuthCommand::DeleteRole { name: "r".into() };
        let refused = Err(AuthRefusal::NoRoleToDelete("r".into()));
        assert_eq!(apply(&mut other, missing), (refused, 4));
    }

    #[test]
    fn a_password_has_a_revision_of_its_own_and_a_grant_does_not_change_it() {
        let mut auth = Auth::default();
        let set = |auth: &Auth| auth.user("u").map(|user| user.password_set);
        apply(&mut auth, user("u", "h")).0.unwrap();
        let first = set(&auth);
        let grant = vec!["r".to_owned()];
        let (name, password) = ("u".to_owned(), None);
        let command = AuthCommand::UpdateUser { name, password, grant, revoke: vec![] };
        apply(&mut auth, command).0.unwrap();
        assert_eq!(set(&auth), first);
        apply(&mut auth, user("u", "h")).0.unwrap();
        assert!(set(&auth) > first, "the same password again is another one");
        let second = set(&auth);
        apply(&mut auth, AuthCommand::DeleteUser { name: "u".into() }).0.unwrap();
        apply(&mut auth, user("u", "h")).0.unwrap();
        assert!(set(&auth) > second, "and so is that of another user of the same name");
    }

    fn reload(store: &Store) -> Store {
        let mut loader = Loader::new(LIMITS, &store.header()).unwrap();
        let _ = store.records_after(None, &mut |record| {
            match record {
                Record::Node(path, record) => loader.node(path.as_bytes(), &record).unwrap(),
                Record::Event(index, record) => loader.event(index, &record).unwrap(),
                Record::Revision(_, record) => loader.revision(&record).unwrap(),
            }
            ControlFlow::Continue(())
        });
        loader.finish().unwrap()
    }

    proptest! {
        /// Whatever is asked: an index for each revision and four once, a slot for each index, nothing for a refusal but those
        /// four, and all of it survives a checkpoint.
        #[test]
        fn each_change_takes_one_index_and_one_revision(
            commands in prop::collection::vec(auth_commands(), 0..30),
        ) {
            let mut store = Store::new(LIMITS);
            for command in commands {
                let (before, revision) = (store.clone(), store.auth().revision().0);
                let applied = store.apply(LogTime(1), &Command::Auth(command));
                let fresh = !before.auth().prepared() && store.auth().prepared();
                let indexes = store.index().0 - before.index().0;
                let revisions = store.auth().revision().0 - revision;
                prop_assert_eq!(indexes, revisions + 4 * u64::from(fresh));
                match &applied {
                    Applied::AuthChanged(_) => prop_assert!(revisions >= 1),
                    Applied::AuthRefused(_) => prop_assert_eq!(revisions, 0),
                    Applied::Changed(_)
                    | Applied::Refused(_)
                    | Applied::Expired(_)
                    | Applied::Recorded
                    | Applied::Known
                    | Applied::Outdated
                    | Applied::Mvcc(_) => prop_assert!(false, "{:?}", applied),
                }
                prop_assert!(!store.auth().enabled() || store.auth().user(ROOT).is_some());
            }
            let loaded = reload(&store);
            prop_assert_eq!(loaded.digest(), store.digest());
            prop_assert_eq!(&loaded.auth().users, &store.auth().users);
            prop_assert_eq!(&loaded.auth().roles, &store.auth().roles);
            prop_assert_eq!(loaded.auth().enabled(), store.auth().enabled());
            prop_assert_eq!(loaded.index(), StoreIndex(store.index().0));
        }
    }
}
