//! What a log entry may ask of users and roles, and its stored form.

use crate::model::{DecodeError, Reader, Writer};
use crate::store::auth::{PasswordHash, Permissions};
use crate::store::command::{decode_texts, encode_texts};

/// A change of users, roles or the flag. It is checked where it is applied, so two at the same time are two one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthCommand {
    /// From here on users and roles count.
    Enable,
    /// They count no more, and stay.
    Disable,
    /// Make a user that must not be there yet.
    CreateUser {
        /// Its name.
        name: String,
        /// Of its password; without one it is refused.
        password: Option<PasswordHash>,
        /// Its roles, as given.
        roles: Option<Vec<String>>,
    },
    /// Make a user, or give one that is there another password.
    PutUser {
        /// Its name.
        name: String,
        /// Of its password; without one it is refused.
        password: Option<PasswordHash>,
        /// What a new user has for roles: none, or a list without any.
        roles: Option<Vec<String>>,
    },
    /// Grant roles, then revoke roles, and change the password.
    UpdateUser {
        /// Its name.
        name: String,
        /// The new one, if it changes.
        password: Option<PasswordHash>,
        /// Roles that it must not have.
        grant: Vec<String>,
        /// Roles that it must have afterwards.
        revoke: Vec<String>,
    },
    /// Remove a user.
    DeleteUser {
        /// Its name.
        name: String,
    },
    /// Make a role that must not be there yet.
    CreateRole {
        /// Its name.
        name: String,
        /// What it permits, as given.
        permissions: Permissions,
    },
    /// Grant patterns, then revoke patterns.
    UpdateRole {
        /// Its name.
        name: String,
        /// Patterns that it must not have.
        grant: Option<Permissions>,
        /// Patterns to take away; those that it does not have are passed over.
        revoke: Option<Permissions>,
    },
    /// Remove a role. Users keep its name.
    DeleteRole {
        /// Its name.
        name: String,
    },
}

/// The first of the tags in the table of [`Command`](crate::store::Command); they go up to [`TAG_LAST`].
pub(in crate::store) const TAG_FIRST: u8 = 17;
/// The last of them.
pub(in crate::store) const TAG_LAST: u8 = 25;

impl AuthCommand {
    pub(in crate::store) fn encode(&self, out: &mut Writer) {
        match self {
            Self::Enable => {
                out.u8(17);
            }
            Self::Disable => {
                out.u8(18);
            }
            Self::CreateUser { name, password, roles } => {
                encode_password(out.u8(19).bytes(name.as_bytes()), password.as_ref());
                encode_list(out, roles.as_ref());
            }
            Self::PutUser { name, password, roles } => {
                encode_password(out.u8(20).bytes(name.as_bytes()), password.as_ref());
                encode_list(out, roles.as_ref());
            }
            Self::UpdateUser { name, password, grant, revoke } => {
                encode_password(out.u8(21).bytes(name.as_bytes()), password.as_ref());
                encode_texts(out, grant);
                encode_texts(out, revoke);
            }
            Self::DeleteUser { name } => {
                out.u8(22).bytes(name.as_bytes());
            }
            Self::CreateRole { name, permissions } => {
                encode_permissions(out.u8(23).bytes(name.as_bytes()), permissions);
            }
            Self::UpdateRole { name, grant, revoke } => {
                out.u8(24).bytes(name.as_bytes());
                for change in [grant, revoke] {
                    out.u8(u8::from(change.is_some()));
                    if let Some(permissions) = change {
                        encode_permissions(out, permissions);
                    }
                }
            }
            Self::DeleteRole { name } => {
                out.u8(25).bytes(name.as_bytes());
            }
        }
    }

    /// Reads what follows `tag`, which is one of this room's.
    pub(in crate::store) fn decode(tag: u8, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            17 => Self::Enable,
            18 => Self::Disable,
            19 => Self::CreateUser {
                name: input.text("user name")?,
                password: decode_password(input)?,
                roles: decode_list(input)?,
            },
            20 => Self::PutUser {
                name: input.text("user name")?,
                password: decode_password(input)?,
                roles: decode_list(input)?,
            },
            21 => Self::UpdateUser {
                name: input.text("user name")?,
                password: decode_password(input)?,
                grant: decode_texts(input)?,
                revoke: decode_texts(input)?,
            },
            22 => Self::DeleteUser { name: input.text("user name")? },
            23 => Self::CreateRole {
                name: input.text("role name")?,
                permissions: decode_permissions(input)?,
            },
            24 => {
                let name = input.text("role name")?;
                let mut change = || match input.u8("change of a role")? {
                    0 => Ok(None),
                    _ => decode_permissions(input).map(Some),
                };
                Self::UpdateRole { name, grant: change()?, revoke: change()? }
            }
            25 => Self::DeleteRole { name: input.text("role name")? },
            _ => return Err(DecodeError::Unknown { what: "command", found: tag.into() }),
        })
    }
}

fn encode_password(out: &mut Writer, password: Option<&PasswordHash>) {
    // An empty text is no hash.
    out.bytes(password.map(PasswordHash::as_str).unwrap_or_default().as_bytes());
}

fn decode_password(input: &mut Reader<'_>) -> Result<Option<PasswordHash>, DecodeError> {
    let text = input.text("password hash")?;
    Ok((!text.is_empty()).then(|| PasswordHash::new(&text)))
}

pub(super) fn encode_list(out: &mut Writer, list: Option<&Vec<String>>) {
    out.u8(u8::from(list.is_some()));
    if let Some(list) = list {
        encode_texts(out, list);
    }
}

pub(super) fn decode_list(input: &mut Reader<'_>) -> Result<Option<Vec<String>>, DecodeError> {
    match input.u8("list")? {
        0 => Ok(None),
        _ => decode_texts(input).map(Some),
    }
}

pub(super) fn encode_permissions(out: &mut Writer, permissions: &Permissions) {
    encode_list(out, permissions.read.as_ref());
    encode_list(out, permissions.write.as_ref());
}

pub(super) fn decode_permissions(input: &mut Reader<'_>) -> Result<Permissions, DecodeError> {
    Ok(Permissions { read: decode_list(input)?, write: decode_list(input)? })
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use super::*;
    use crate::store::Command;
    use proptest::prelude::*;

    fn list() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[/a-c*_é]{0,4}", 0..4)
    }

    fn permissions() -> impl Strategy<Value = Permissions> {
        let list = || prop::option::of(list());
        (list(), list()).prop_map(|(read, write)| Permissions { read, write })
    }

    /// Any of them, with names that are often those of others.
    pub(in crate::store) fn auth_commands() -> impl Strategy<Value = AuthCommand> {
        let name = "root|guest|_x|[ab]{1,2}";
        let password = prop::option::of("[a-z$./]{1,4}".prop_map(|text| PasswordHash::new(&text)));
        let (roles, change) = (prop::option::of(list()), prop::option::of(permissions()));
        (0..9, name, password, roles, (list(), list()), permissions(), change).prop_map(
            |(which, name, password, roles, (grant, revoke), permissions, change)| match which {
                0 => AuthCommand::Enable,
                1 => AuthCommand::Disable,
                2 => AuthCommand::CreateUser { name, password, roles },
                3 => AuthCommand::PutUser { name, password, roles },
                4 => AuthCommand::UpdateUser { name, password, grant, revoke },
                5 => AuthCommand::DeleteUser { name },
                6 => AuthCommand::CreateRole { name, permissions },
                7 => AuthCommand::UpdateRole { name, grant: change, revoke: Some(permissions) },
                _ => AuthCommand::DeleteRole { name },
            },
        )
    }

    fn stored(command: AuthCommand) -> Vec<u8> {
        let mut out = Writer::default();
        Command::Auth(command).encode(&mut out);
        out.finish()
    }

    proptest! {
        #[test]
        fn commands_survive_their_encoding(command in auth_commands()) {
            let bytes = stored(command.clone());
            let mut input = Reader::new(&bytes);
            prop_assert_eq!(Command::decode(&mut input).unwrap(), Command::Auth(command));
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn the_stored_forms_are_fixed() {
        let name = || "u".to_owned();
        let hash = || Some(PasswordHash::new("$2a"));
        let list = |text: &str| vec![text.to_owned()];
        let some = Permissions { read: Some(list("/")), write: None };
        for (command, bytes) in [
            (AuthCommand::Enable, &[1, 17][..]),
            (AuthCommand::Disable, &[1, 18]),
            (
                AuthCommand::CreateUser { name: name(), password: hash(), roles: None },
                &[1, 19, 1, b'u', 3, b'$', b'2', b'a', 0],
            ),
            (
                AuthCommand::PutUser { name: name(), password: None, roles: Some(vec![]) },
                &[1, 20, 1, b'u', 0, 1, 0],
            ),
            (
                AuthCommand::UpdateUser {
                    name: name(),
                    password: None,
                    grant: list("g"),
                    revoke: vec![],
                },
                &[1, 21, 1, b'u', 0, 1, 1, b'g', 0],
            ),
            (AuthCommand::DeleteUser { name: name() }, &[1, 22, 1, b'u']),
            (
                AuthCommand::CreateRole { name: name(), permissions: some.clone() },
                &[1, 23, 1, b'u', 1, 1, 1, b'/', 0],
            ),
            (
                AuthCommand::UpdateRole { name: name(), grant: None, revoke: Some(some) },
                &[1, 24, 1, b'u', 0, 1, 1, 1, 1, b'/', 0],
            ),
            (AuthCommand::DeleteRole { name: name() }, &[1, 25, 1, b'u']),
        ] {
            assert_eq!(stored(command.clone()), bytes, "{command:?}");
        }
    }

    #[test]
    fn a_command_does_not_show_the_hash_when_it_is_logged() {
        let password = Some(PasswordHash::new("$2a$10$abc"));
        let command = AuthCommand::PutUser { name: "u".into(), password, roles: None };
        assert!(!format!("{:?}", Command::Auth(command)).contains("$2a$"));
    }
}
