//! Users, roles and tokens as bytes.

use std::sync::Arc;

use crate::model::{DecodeError, LogTime, PasswordHash, Reader, Writer};
use crate::mvcc::auth::{Auth, AuthRequest, AuthRevision, Permission, PermissionKind, Token, User};
use crate::mvcc::encoding::{decode_range, encode_range};

impl Auth {
    /// Appends all of it.
    pub(in crate::mvcc) fn encode(&self, out: &mut Writer) {
        out.u8(u8::from(self.enabled)).varint(self.revision.0);
        out.varint(self.users.len() as u64);
        for (name, user) in &self.users {
            out.bytes(name.as_bytes());
            encode_password(out, user.password.as_ref());
            out.varint(user.roles.len() as u64);
            for role in &user.roles {
                out.bytes(role.as_bytes());
            }
        }
        out.varint(self.roles.len() as u64);
        for (name, permissions) in &self.roles {
            out.bytes(name.as_bytes()).varint(permissions.len() as u64);
            for permission in permissions.iter() {
                encode_permission(out, permission);
            }
        }
        out.varint(self.tokens.len() as u64);
        for (token, Token { user, ttl_s, expires }) in &self.tokens {
            out.bytes(token.as_bytes()).bytes(user.as_bytes()).varint(*ttl_s).varint(expires.0);
        }
    }

    /// The counterpart of [`Auth::encode`].
    pub(in crate::mvcc) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let enabled = input.u8("flag of users")? != 0;
        let revision = AuthRevision(input.varint("revision of users")?);
        let mut auth = Self { enabled, revision, ..Self::default() };
        for _ in 0..input.varint("count of users")? {
            let name: Arc<str> = input.text("user")?.into();
            let password = decode_password(input)?;
            let mut roles = Vec::new();
            for _ in 0..input.varint("count of a user's roles")? {
                roles.push(input.text("role of a user")?);
            }
            if !roles.is_sorted_by(|one, other| one < other) {
                return Err(DecodeError::Malformed("order of a user's roles"));
            }
            auth.users.insert(name, Arc::new(User { password, roles }));
        }
        for _ in 0..input.varint("count of roles")? {
            let name: Arc<str> = input.text("role")?.into();
            let mut permissions = Vec::new();
            for _ in 0..input.varint("count of permissions")? {
                permissions.push(decode_permission(input)?);
            }
            auth.roles.insert(name, Arc::new(permissions));
        }
        for _ in 0..input.varint("count of tokens")? {
            let token: Arc<str> = input.text("token")?.into();
            let user: Arc<str> = input.text("user of a token")?.into();
            let ttl_s = input.varint("life of a token")?;
            let expires = LogTime(input.varint("end of a token")?);
            auth.put_token(token, Token { user, ttl_s, expires });
        }
        Ok(auth)
    }
}

fn encode_password(out: &mut Writer, password: Option<&PasswordHash>) {
    out.u8(u8::from(password.is_some()));
    if let Some(password) = password {
        out.bytes(password.as_str().as_bytes());
    }
}

fn decode_password(input: &mut Reader<'_>) -> Result<Option<PasswordHash>, DecodeError> {
    Ok(match input.u8("flag of a password")? {
        0 => None,
        _ => Some(PasswordHash::new(&input.text("password")?)),
    })
}

fn encode_permission(out: &mut Writer, permission: &Permission) {
    out.u8(match permission.kind {
        PermissionKind::Read => 0,
        PermissionKind::Write => 1,
        PermissionKind::ReadWrite => 2,
    });
    encode_range(out, &permission.range);
}

fn decode_permission(input: &mut Reader<'_>) -> Result<Permission, DecodeError> {
    let kind = match input.u8("kind of a permission")? {
        0 => PermissionKind::Read,
        1 => PermissionKind::Write,
        2 => PermissionKind::ReadWrite,
        found => {
            return Err(DecodeError::Unknown { what: "kind of a permission", found: found.into() });
        }
    };
    Ok(Permission { kind, range: decode_range(input)? })
}

impl AuthRequest {
    /// Appends it.
    pub(in crate::mvcc) fn encode(&self, out: &mut Writer) {
        match self {
            Self::Enable => {
                out.u8(1);
            }
            Self::Disable => {
                out.u8(2);
            }
            Self::UserAdd { name, password } => {
                encode_password(out.u8(3).bytes(name.as_bytes()), password.as_ref());
            }
            Self::UserDelete { name } => {
                out.u8(4).bytes(name.as_bytes());
            }
            Self::UserChangePassword { name, password } => {
                encode_password(out.u8(5).bytes(name.as_bytes()), password.as_ref());
            }
            Self::UserGrantRole { user, role } => {
                out.u8(6).bytes(user.as_bytes()).bytes(role.as_bytes());
            }
            Self::UserRevokeRole { user, role } => {
                out.u8(7).bytes(user.as_bytes()).bytes(role.as_bytes());
            }
            Self::RoleAdd { name } => {
                out.u8(8).bytes(name.as_bytes());
            }
            Self::RoleDelete { name } => {
                out.u8(9).bytes(name.as_bytes());
            }
            Self::RoleGrantPermission { role, permission } => {
                encode_permission(out.u8(10).bytes(role.as_bytes()), permission);
            }
            Self::RoleRevokePermission { role, range } => {
                encode_range(out.u8(11).bytes(role.as_bytes()), range);
            }
            Self::Authenticate { name, token, revision, ttl_s } => {
                out.u8(12).bytes(name.as_bytes()).bytes(token.as_bytes());
                out.varint(revision.0).varint(*ttl_s);
            }
            Self::KeepTokens { tokens } => {
                out.u8(13).varint(tokens.len() as u64);
                for token in tokens {
                    out.bytes(token.as_bytes());
                }
            }
        }
    }

    /// The counterpart of [`AuthRequest::encode`].
    pub(in crate::mvcc) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("kind of a change of users")? {
            1 => Self::Enable,
            2 => Self::Disable,
            3 => Self::UserAdd { name: input.text("user")?, password: decode_password(input)? },
            4 => Self::UserDelete { name: input.text("user")? },
            5 => Self::UserChangePassword {
                name: input.text("user")?,
                password: decode_password(input)?,
            },
            6 => Self::UserGrantRole { user: input.text("user")?, role: input.text("role")? },
            7 => Self::UserRevokeRole { user: input.text("user")?, role: input.text("role")? },
            8 => Self::RoleAdd { name: input.text("role")? },
            9 => Self::RoleDelete { name: input.text("role")? },
            10 => Self::RoleGrantPermission {
                role: input.text("role")?,
                permission: decode_permission(input)?,
            },
            11 => Self::RoleRevokePermission {
                role: input.text("role")?,
                range: decode_range(input)?,
            },
            12 => Self::Authenticate {
                name: input.text("user")?,
                token: input.text("token")?,
                revision: AuthRevision(input.varint("revision of users")?),
                ttl_s: input.varint("life of a token")?,
            },
            13 => {
                let mut tokens = Vec::new();
                for _ in 0..input.varint("count of tokens")? {
                    tokens.push(input.text("token")?);
                }
                Self::KeepTokens { tokens }
            }
            found => {
                return Err(DecodeError::Unknown {
                    what: "kind of a change of users",
                    found: found.into(),
                });
            }
        })
    }
}
