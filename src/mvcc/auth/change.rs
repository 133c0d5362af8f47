//! What each request does to users, roles and tokens.
//!
//! Source of the behaviour: etcd 3.4's v3 API, observed on 3.4.23.

use std::sync::Arc;

use crate::model::LogTime;
use crate::mvcc::auth::{
    Asker, Auth, AuthReply, AuthRequest, Permission, ROOT, TOKENS_MAX, Token, User,
};
use crate::mvcc::request::Refusal;

const NANOS_OF_A_SECOND: u64 = 1_000_000_000;

impl Auth {
    /// Applies one request. One that is refused changes nothing.
    pub(in crate::mvcc) fn apply(
        &mut self,
        now: LogTime,
        asker: &Asker,
        request: &AuthRequest,
    ) -> Result<AuthReply, Refusal> {
        let for_all =
            matches!(request, AuthRequest::Authenticate { .. } | AuthRequest::KeepTokens { .. });
        if !for_all {
            self.check_admin(asker)?;
        }
        match request {
            AuthRequest::Enable => self.enable()?,
            AuthRequest::Disable => {
                if self.enabled {
                    self.enabled = false;
                    self.tokens.clear();
                    self.expiring.clear();
                    self.changed();
                }
            }
            AuthRequest::UserAdd { name, password } => {
                if name.is_empty() {
                    return Err(Refusal::UserEmpty);
                }
                if self.users.contains_key(name.as_str()) {
                    return Err(Refusal::UserExists);
                }
                self.put_user(name, User { password: password.clone(), roles: Vec::new() });
            }
            AuthRequest::UserDelete { name } => {
                if self.enabled && name == ROOT {
                    return Err(Refusal::InvalidAuthManagement);
                }
                self.users.remove(name.as_str()).ok_or(Refusal::UserNotFound)?;
                self.drop_tokens_of(name);
                self.changed();
            }
            AuthRequest::UserChangePassword { name, password } => {
                let user = self.existing_user(name)?;
                self.put_user(name, User { password: password.clone(), roles: user.roles });
                self.drop_tokens_of(name);
            }
            AuthRequest::UserGrantRole { user: name, role } => {
                let mut user = self.existing_user(name)?;
                if role != ROOT && !self.roles.contains_key(role.as_str()) {
                    return Err(Refusal::RoleNotFound);
                }
                if let Err(place) = user.roles.binary_search(role) {
                    user.roles.insert(place, role.clone());
                    self.put_user(name, user);
                }
            }
            AuthRequest::UserRevokeRole { user: name, role } => {
                if self.enabled && name == ROOT && role == ROOT {
                    return Err(Refusal::InvalidAuthManagement);
                }
                let mut user = self.existing_user(name)?;
                let place = user.roles.binary_search(role).map_err(|_| Refusal::RoleNotGranted)?;
                user.roles.remove(place);
                self.put_user(name, user);
            }
            AuthRequest::RoleAdd { name } => {
                if name.is_empty() {
                    return Err(Refusal::RoleEmpty);
                }
                if self.roles.contains_key(name.as_str()) {
                    return Err(Refusal::RoleExists);
                }
                self.put_role(name, Vec::new());
            }
            AuthRequest::RoleDelete { name } => self.delete_role(name)?,
            AuthRequest::RoleGrantPermission { role, permission } => {
                let mut permissions = self.existing_role(role)?;
                permissions.retain(|held| held.range != permission.range);
                let behind = permissions.partition_point(|held| order(held) <= order(permission));
                permissions.insert(behind, permission.clone());
                self.put_role(role, permissions);
            }
            AuthRequest::RoleRevokePermission { role, range } => {
                let mut permissions = self.existing_role(role)?;
                let before = permissions.len();
                permissions.retain(|held| held.range != *range);
                if permissions.len() == before {
                    return Err(Refusal::PermissionNotGranted);
                }
                self.put_role(role, permissions);
            }
            AuthRequest::Authenticate { name, token, revision, ttl_s } => {
                if !self.enabled {
                    return Err(Refusal::AuthDisabled);
                }
                if *revision < self.revision {
                    return Err(Refusal::AuthOldRevision);
                }
                let (user, _) =
                    self.users.get_key_value(name.as_str()).ok_or(Refusal::AuthFailed)?;
                let user = Arc::clone(user);
                self.drop_expired(now);
                let expires = after(now, *ttl_s);
                let known = Token { user, ttl_s: *ttl_s, expires };
                self.put_token(token.as_str().into(), known);
                return Ok(AuthReply::Token(token.clone()));
            }
            AuthRequest::KeepTokens { tokens } => {
                for token in tokens {
                    let Some((key, known)) = self.tokens.get_key_value(token.as_str()) else {
                        continue;
                    };
                    let expires = after(now, known.ttl_s);
                    // The time in the log never runs backwards, but its user may have asked for less.
                    if known.expires > now && expires > known.expires {
                        let (key, known) = (Arc::clone(key), Token { expires, ..known.clone() });
                        self.put_token(key, known);
                    }
                }
                self.drop_expired(now);
            }
        }
        Ok(AuthReply::Done)
    }

    fn enable(&mut self) -> Result<(), Refusal> {
        if self.enabled {
            return Ok(());
        }
        let root = self.user(ROOT).ok_or(Refusal::RootUserMissing)?;
        if !root.roles.iter().any(|role| role == ROOT) {
            return Err(Refusal::RootRoleMissing);
        }
        self.enabled = true;
        Ok(())
    }

    fn delete_role(&mut self, name: &str) -> Result<(), Refusal> {
        if self.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.roles.remove(name).ok_or(Refusal::RoleNotFound)?;
        let holders: Vec<_> = self
            .users
            .iter()
            .filter(|(_, user)| user.roles.iter().any(|role| role == name))
            .map(|(holder, user)| (Arc::clone(holder), User::clone(user)))
            .collect();
        for (holder, mut user) in holders {
            user.roles.retain(|role| role != name);
            self.users.insert(holder, Arc::new(user));
        }
        self.changed();
        Ok(())
    }

    fn existing_user(&self, name: &str) -> Result<User, Refusal> {
        self.user(name).cloned().ok_or(Refusal::UserNotFound)
    }

    fn existing_role(&self, name: &str) -> Result<Vec<Permission>, Refusal> {
        self.role(name).map(<[_]>::to_vec).ok_or(Refusal::RoleNotFound)
    }

    fn put_user(&mut self, name: &str, user: User) {
        self.users.insert(name.into(), Arc::new(user));
        self.changed();
    }

    fn put_role(&mut self, name: &str, permissions: Vec<Permission>) {
        self.roles.insert(name.into(), Arc::new(permissions));
        self.changed();
    }

    fn changed(&mut self) {
        self.revision.0 += 1;
    }

    pub(super) fn put_token(&mut self, token: Arc<str>, known: Token) {
        self.expiring.insert((known.expires, Arc::clone(&token)));
        if let Some(before) = self.tokens.insert(Arc::clone(&token), known.clone())
            && before.expires != known.expires
        {
            self.expiring.remove(&(before.expires, token));
        }
        if self.tokens.len() > TOKENS_MAX
            && let Some((expires, token)) = self.expiring.get_min().cloned()
        {
            self.drop_token(expires, token);
        }
    }

    fn drop_token(&mut self, expires: LogTime, token: Arc<str>) {
        self.tokens.remove(&token);
        self.expiring.remove(&(expires, token));
    }

    fn drop_expired(&mut self, now: LogTime) {
        while let Some((expires, token)) = self.expiring.get_min().cloned()
            && expires <= now
        {
            self.drop_token(expires, token);
        }
    }

    fn drop_tokens_of(&mut self, name: &str) {
        let theirs = self.tokens.iter().filter(|(_, known)| &*known.user == name);
        let theirs: Vec<_> =
            theirs.map(|(token, known)| (known.expires, Arc::clone(token))).collect();
        for (expires, token) in theirs {
            self.drop_token(expires, token);
        }
    }
}

fn after(now: LogTime, ttl_s: u64) -> LogTime {
    LogTime(now.0.saturating_add(ttl_s.saturating_mul(NANOS_OF_A_SECOND)))
}

/// Permissions are kept in the order of their keys.
pub(super) fn order(permission: &Permission) -> (&[u8], &[u8]) {
    (permission.range.start(), permission.range.range_end())
}
