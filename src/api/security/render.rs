//! Users and roles → bytes.

use crate::api::json;
use crate::store::{Auth, Permissions};

/// `{"enabled":true}`
pub(super) fn enabled(auth: &Auth) -> Vec<u8> {
    format!("{{\"enabled\":{}}}\n", auth.enabled()).into_bytes()
}

/// All users by name, `null` when there are none.
pub(super) fn users(auth: &Auth) -> Vec<u8> {
    let mut out = b"{\"users\":".to_vec();
    let mut first = true;
    for name in auth.users() {
        out.extend_from_slice(if first { b"[" } else { b"," });
        first = false;
        user_with_roles(&mut out, auth, name);
    }
    out.extend_from_slice(if first { b"null}\n" } else { b"]}\n" });
    out
}

/// One user with its roles as objects.
pub(super) fn user(auth: &Auth, name: &str) -> Option<Vec<u8>> {
    auth.user(name)?;
    let mut out = Vec::new();
    user_with_roles(&mut out, auth, name);
    out.push(b'\n');
    Some(out)
}

/// Roles that do not exist are passed over; without any there is no `roles`.
fn user_with_roles(out: &mut Vec<u8>, auth: &Auth, name: &str) {
    out.extend_from_slice(b"{\"user\":");
    json::string(out, name.as_bytes());
    let roles = auth.roles_of(name).unwrap_or_default();
    let mut first = true;
    for role in roles {
        let Some(permissions) = auth.role(&role) else { continue };
        out.extend_from_slice(if first { b",\"roles\":[" } else { b"," });
        first = false;
        role_object(out, &role, &permissions);
    }
    out.extend_from_slice(if first { b"}" } else { b"]}" });
}

/// All roles by name.
pub(super) fn roles(auth: &Auth) -> Vec<u8> {
    let mut out = b"{\"roles\":[".to_vec();
    let roles = auth.roles();
    let roles = roles.iter().filter_map(|name| Some((name, auth.role(name)?)));
    for (place, (name, permissions)) in roles.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        role_object(&mut out, name, &permissions);
    }
    out.extend_from_slice(b"]}\n");
    out
}

/// One role.
pub(super) fn role(auth: &Auth, name: &str) -> Option<Vec<u8>> {
    Some(changed_role(name, &auth.role(name)?))
}

/// A role as a change answers it.
pub(super) fn changed_role(name: &str, permissions: &Permissions) -> Vec<u8> {
    let mut out = Vec::new();
    role_object(&mut out, name, permissions);
    out.push(b'\n');
    out
}

/// A user as a change answers it: with the names of its roles.
pub(super) fn changed_user(name: &str, roles: Option<&[String]>) -> Vec<u8> {
    let mut out = b"{\"user\":".to_vec();
    json::string(&mut out, name.as_bytes());
    out.extend_from_slice(b",\"roles\":");
    list(&mut out, roles);
    out.extend_from_slice(b"}\n");
    out
}

fn role_object(out: &mut Vec<u8>, name: &str, permissions: &Permissions) {
    out.extend_from_slice(b"{\"role\":");
    json::string(out, name.as_bytes());
    out.extend_from_slice(b",\"permissions\":{\"kv\":{\"read\":");
    list(out, permissions.read.as_deref());
    out.extend_from_slice(b",\"write\":");
    list(out, permissions.write.as_deref());
    out.extend_from_slice(b"}}}");
}

/// A list that was never given is `null`.
fn list(out: &mut Vec<u8>, texts: Option<&[String]>) {
    match texts {
        Some(texts) => json::strings(out, texts),
        None => out.extend_from_slice(b"null"),
    }
}
