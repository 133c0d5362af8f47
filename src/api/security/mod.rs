//! `/v2/auth`: users, roles, and whether they count.
//!
//! Owns: paths, methods and statuses. What a change does is decided where it is applied (`store/auth/change.rs`). A password ends
//! here: it is hashed before anything is proposed, and neither the log nor other members ever see it.
//!
//! Source of the behaviour: etcd 3.4's `v2http`, observed on 3.4.23.

mod body;
mod render;

use std::sync::Arc;

use axum::extract::{Request, State};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use tracing::warn;

use crate::api::access;
use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::error::{self, X_ETCD_CLUSTER_ID};
use crate::api::intake;
use crate::api::path;
use crate::api::security::body::{GivenRole, GivenUser};
use crate::model::{Unavailable, codes};
use crate::store::{
    Applied, AuthChange, AuthCommand, AuthRefusal, GUEST, PasswordHash, Permissions, ROOT,
};

const ALLOW_LIST: &str = "GET";
const ALLOW_ONE: &str = "GET,PUT,DELETE";

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Enable,
    Users,
    User(String),
    Roles,
    Role(String),
    /// Below users or roles, and too deep.
    TooDeep,
    Nothing,
}

/// Status and body of a success.
type Outcome = Result<(StatusCode, Vec<u8>), Refused>;

/// Why it is answered with something else.
enum Refused {
    /// The body cannot be read; this says why.
    Unread(Box<Response<Body>>),
    /// The request itself makes no sense.
    Request(&'static str),
    Store(AuthRefusal),
    Unavailable(Unavailable),
}

pub(super) async fn serve(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    let decoded = path::percent_decode(request.uri().path().as_bytes());
    let target = decoded.map_or(Target::Nothing, |path| target(&path));
    let method = request.method().clone();
    let (writes, allow) = match &target {
        Target::Nothing => return error::not_found(),
        Target::TooDeep => return error::message(StatusCode::BAD_REQUEST, "Invalid path"),
        Target::Users | Target::Roles => (false, ALLOW_LIST),
        Target::Enable | Target::User(_) | Target::Role(_) => {
            (matches!(method, Method::PUT | Method::DELETE), ALLOW_ONE)
        }
    };
    if method != Method::GET && !writes {
        return error::method_not_allowed(allow);
    }
    let (head, body) = request.into_parts();
    // Whether users count is for everybody to know: without it no client can tell why it is refused.
    let is_open = target == Target::Enable && !writes;
    let admitted = if is_open {
        api.replica.reads().count_auth_lookup(api.replica.view().store.auth().prepared());
        api.replica.until_shown().await.map_err(access::Denied::Unavailable)
    } else {
        access::manages(&api, &head).await
    };
    if let Err(denied) = admitted {
        return error::denied_management(denied);
    }
    let outcome = if writes {
        let deletes = method == Method::DELETE;
        write(&api, target, deletes, Request::from_parts(head, body)).await
    } else {
        read(&api, &target)
    };
    let mut response = answer(outcome);
    response.headers_mut().insert(X_ETCD_CLUSTER_ID, api.cluster_header.clone());
    response
}

async fn write(api: &Context, target: Target, deletes: bool, request: Request) -> Outcome {
    let done = |_| (StatusCode::OK, Vec::new());
    match target {
        Target::Enable if deletes => change(api, AuthCommand::Disable).await.map(done),
        Target::Enable => {
            if api.settings.closed_guest {
                close_guest(api).await?;
            }
            let enabled = change(api, AuthCommand::Enable).await?;
            warn_of_guests(api);
            Ok(done(enabled))
        }
        Target::User(name) if deletes => {
            change(api, AuthCommand::DeleteUser { name }).await.map(done)
        }
        Target::User(name) => put_user(api, name, &read_body(api, request).await?).await,
        Target::Role(name) if deletes => {
            change(api, AuthCommand::DeleteRole { name }).await.map(done)
        }
        Target::Role(name) => put_role(api, name, &read_body(api, request).await?).await,
        Target::Users | Target::Roles | Target::TooDeep | Target::Nothing => {
            unreachable!("their methods have been refused")
        }
    }
}

/// Makes the role of guests without rights, if enabling would make it with all of them.
async fn close_guest(api: &Context) -> Result<(), Refused> {
    // What this member holds may be old: then guests would seem to be shut out, or root not to be there.
    api.replica.read_barrier().await.map_err(Refused::Unavailable)?;
    let view = api.replica.view();
    let auth = view.store.auth();
    // Without the user root enabling fails, as it does a second time; then nothing may have changed.
    if auth.enabled() || auth.role(GUEST).is_some() || auth.user(ROOT).is_none() {
        return Ok(());
    }
    drop(view);
    let (name, permissions) = (GUEST.to_owned(), Permissions::default());
    match change(api, AuthCommand::CreateRole { name, permissions }).await {
        // Somebody else was faster, and meant what they made.
        Ok(_) | Err(Refused::Store(AuthRefusal::RoleExists(_))) => Ok(()),
        Err(refused) => Err(refused),
    }
}

/// As in etcd, enabling authentication alone takes no right away: guests have all of them at first.
fn warn_of_guests(api: &Context) {
    if api.replica.view().store.auth().role(GUEST) == Some(Permissions::everything()) {
        warn!(
            target: "auth",
            code = codes::OPEN_GUEST,
            "authentication is on, and guests may still read and write every key. To end that: \
             etcdctl -u root:PASSWORD role revoke guest --path '/*' --readwrite"
        );
    }
}

async fn read_body(api: &Context, request: Request) -> Result<Bytes, Refused> {
    let (body, _reserved) = intake::small(api, request).await.map_err(Refused::Unread)?;
    Ok(body)
}

/// For the test that counts what reading costs: whether this is a user.
#[cfg(any(test, fuzzing))]
pub(super) fn is_user(body: &[u8]) -> bool {
    GivenUser::read(body).is_some()
}

/// For the fuzzer: whether this is a role.
#[cfg(any(test, fuzzing))]
pub(super) fn is_role(body: &[u8]) -> bool {
    GivenRole::read(body).is_some()
}

/// A slash at the end does not count, except behind `enable`.
fn target(path: &[u8]) -> Target {
    let rest = path.strip_prefix(b"/v2/auth/").unwrap_or_default();
    // A name that is no text is none: names come from JSON.
    let rest = String::from_utf8_lossy(rest);
    if rest == "enable" {
        return Target::Enable;
    }
    let mut names = rest.strip_suffix('/').unwrap_or(&rest).split('/');
    match (names.next(), names.next(), names.next()) {
        (Some("users"), None, _) => Target::Users,
        (Some("users"), Some(name), None) => Target::User(name.to_owned()),
        (Some("roles"), None, _) => Target::Roles,
        (Some("roles"), Some(name), None) => Target::Role(name.to_owned()),
        (Some("users" | "roles"), Some(_), Some(_)) => Target::TooDeep,
        _ => Target::Nothing,
    }
}

fn read(api: &Context, target: &Target) -> Outcome {
    let view = api.replica.view();
    let auth = view.store.auth();
    let body = match target {
        Target::Enable => Some(render::enabled(auth)),
        Target::Users => Some(render::users(auth)),
        Target::User(name) => render::user(auth, name),
        Target::Roles => Some(render::roles(auth)),
        Target::Role(name) => render::role(auth, name),
        Target::TooDeep | Target::Nothing => None,
    };
    let missing = || match target {
        Target::User(name) => AuthRefusal::NoUser(name.clone()),
        Target::Role(name) => AuthRefusal::NoRole(name.clone()),
        Target::Enable | Target::Users | Target::Roles | Target::TooDeep | Target::Nothing => {
            unreachable!("these are always there, or have been answered")
        }
    };
    body.map(|body| (StatusCode::OK, body)).ok_or_else(|| Refused::Store(missing()))
}

async fn put_user(api: &Context, name: String, body: &[u8]) -> Outcome {
    let given = GivenUser::read(body).ok_or(Refused::Request(body::INVALID))?;
    if given.name != name {
        return Err(Refused::Request("User JSON name does not match the name in the URL"));
    }
    let GivenUser { password, roles, grant, revoke, .. } = given;
    let has_roles = roles.as_ref().is_some_and(|roles| !roles.is_empty());
    let updates = !grant.is_empty() || !revoke.is_empty();
    if updates && has_roles {
        return Err(Refused::Request("User JSON contains both roles and grant/revoke"));
    }
    let password = hashed(api, password).await?;
    let user = name.clone();
    let command = if updates {
        AuthCommand::UpdateUser { name, password, grant, revoke }
    } else if has_roles {
        AuthCommand::CreateUser { name, password, roles }
    } else {
        AuthCommand::PutUser { name, password, roles }
    };
    match change(api, command).await? {
        AuthChange::User { roles, created } => {
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, render::changed_user(&user, roles.as_deref())))
        }
        AuthChange::Done | AuthChange::Role(_) => unreachable!("a user was changed"),
    }
}

async fn hashed(api: &Context, password: String) -> Result<Option<PasswordHash>, Refused> {
    if password.is_empty() {
        return Ok(None);
    }
    api.passwords.hash(password).await.map(Some).map_err(Refused::Unavailable)
}

async fn put_role(api: &Context, name: String, body: &[u8]) -> Outcome {
    let given = GivenRole::read(body).ok_or(Refused::Request(body::INVALID))?;
    if given.name != name {
        return Err(Refused::Request("Role JSON name does not match the name in the URL"));
    }
    let GivenRole { permissions, grant, revoke, .. } = given;
    let changes = [&grant, &revoke];
    let updates = changes.into_iter().flatten().any(|change| !change.is_empty());
    if updates && !permissions.is_empty() {
        return Err(Refused::Request("Role JSON contains both permissions and grant/revoke"));
    }
    let role = name.clone();
    let (status, command) = if updates {
        (StatusCode::OK, AuthCommand::UpdateRole { name, grant, revoke })
    } else {
        (StatusCode::CREATED, AuthCommand::CreateRole { name, permissions })
    };
    match change(api, command).await? {
        AuthChange::Role(permissions) => Ok((status, render::changed_role(&role, &permissions))),
        AuthChange::Done | AuthChange::User { .. } => unreachable!("a role was changed"),
    }
}

async fn change(api: &Context, command: AuthCommand) -> Result<AuthChange, Refused> {
    let answer = api.replica.change_auth(command).await.map_err(Refused::Unavailable)?;
    match answer.applied {
        Applied::AuthChanged(change) => Ok(change),
        Applied::AuthRefused(refusal) => Err(Refused::Store(refusal)),
        Applied::Changed(_)
        | Applied::Refused(_)
        | Applied::Expired(_)
        | Applied::Recorded
        | Applied::Known
        | Applied::Outdated
        | Applied::Mvcc(_) => unreachable!("a change of users has an outcome of its own"),
    }
}

fn answer(outcome: Outcome) -> Response<Body> {
    match outcome {
        Ok((status, body)) => {
            let mut response = Response::new(Body::whole(body));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, error::JSON);
            response
        }
        Err(Refused::Unread(response)) => *response,
        Err(Refused::Request(text)) => error::message(StatusCode::BAD_REQUEST, text),
        Err(Refused::Store(refusal)) => {
            let status = StatusCode::from_u16(refusal.status());
            let status = status.expect("the table of refusals holds statuses");
            error::message(status, &refusal.to_string())
        }
        Err(Refused::Unavailable(why)) => error::unavailable_message(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_list_or_one_of_it() {
        let user = |name: &str| Target::User(name.to_owned());
        for (path, wanted) in [
            ("enable", Target::Enable),
            ("enable/", Target::Nothing),
            ("users", Target::Users),
            ("users/", Target::Users),
            ("users/a", user("a")),
            ("users/a/", user("a")),
            ("users/a/b", Target::TooDeep),
            ("users/a/b/c", Target::TooDeep),
            ("users/a b", user("a b")),
            ("roles/", Target::Roles),
            ("roles/root", Target::Role("root".to_owned())),
            ("roles/a/b/", Target::TooDeep),
            ("", Target::Nothing),
            ("x", Target::Nothing),
            ("usersx/a", Target::Nothing),
        ] {
            assert_eq!(target(format!("/v2/auth/{path}").as_bytes()), wanted, "{path}");
        }
    }
}
