//! Users and roles as bytes: a part of the store's header, which is written whole with each checkpoint.

use std::sync::Arc;

use crate::model::{DecodeError, Reader, Writer};
use crate::store::auth::command::{
    decode_list, decode_permissions, encode_list, encode_permissions,
};
use crate::store::auth::{Auth, AuthRevision, PasswordHash, ROOT, User};

const ENABLED: u8 = 1;
const PREPARED: u8 = 2;

impl Auth {
    /// Is there nothing to write down?
    pub(in crate::store) fn is_untouched(&self) -> bool {
        !self.prepared
    }

    pub(in crate::store) fn encode(&self, out: &mut Writer) {
        let flags =
            if self.enabled { ENABLED } else { 0 } | if self.prepared { PREPARED } else { 0 };
        out.u8(flags).varint(self.revision.0);
        out.varint(self.users.len() as u64);
        for (name, user) in &self.users {
            out.bytes(name.as_bytes()).bytes(user.password.as_str().as_bytes());
            encode_list(out.varint(user.password_set.0), user.roles.as_ref());
        }
        out.varint(self.roles.len() as u64);
        for (name, permissions) in &self.roles {
            encode_permissions(out.bytes(name.as_bytes()), permissions);
        }
    }

    pub(in crate::store) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = input.u8("auth flags")?;
        let (enabled, prepared) = (flags & ENABLED != 0, flags & PREPARED != 0);
        let revision = AuthRevision(input.varint("auth revision")?);
        let mut auth = Self { enabled, prepared, revision, ..Self::default() };
        for _ in 0..input.varint("user count")? {
            let name: Arc<str> = input.text("user name")?.into();
            let password = PasswordHash::new(&input.text("password hash")?);
            let password_set = AuthRevision(input.varint("password revision")?);
            let roles = decode_list(input)?;
            auth.users.insert(name, Arc::new(User { password, password_set, roles }));
        }
        for _ in 0..input.varint("role count")? {
            let name: Arc<str> = input.text("role name")?.into();
            auth.roles.insert(name, Arc::new(decode_permissions(input)?));
        }
        if auth.enabled && !auth.users.contains_key(ROOT) {
            return Err(DecodeError::Malformed("auth without a root user"));
        }
        Ok(auth)
    }
}
