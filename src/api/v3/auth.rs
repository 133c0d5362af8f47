//! `etcdserverpb.Auth`.

use std::sync::Arc;

use crate::api::context::Context;
use crate::api::v3::access::{asker, new_token};
use crate::api::v3::call::Call;
use crate::api::v3::{convert, header_now, refused, write};
use crate::model::PasswordHash;
use crate::mvcc::{Asker, AuthRequest, Permission as Held, PermissionKind, Refusal, Request, User};
use crate::rpc::*;

/// Users may have changed while a password was compared; then it is compared again, so often.
const ATTEMPTS: usize = 8;

/// Changes users, roles or the flag.
async fn change(api: &Arc<Context>, call: Call, change: AuthRequest) -> Result<(), Status> {
    let asker = asker(api, &call).await?;
    write(api, asker, Request::Auth(change), call.held).await?;
    Ok(())
}

/// Only administrators see this.
async fn look(api: &Arc<Context>, call: &Call) -> Result<Asker, Status> {
    let asker = asker(api, call).await?;
    let view = api.replica.view();
    view.store.mvcc().auth().check_admin(&asker).map_err(refused::mvcc)?;
    Ok(asker)
}

/// From now on users and roles count.
pub(super) async fn enable(
    api: Arc<Context>,
    call: Call,
    _: AuthEnableRequest,
) -> Result<AuthEnableResponse, Status> {
    change(&api, call, AuthRequest::Enable).await?;
    Ok(AuthEnableResponse { header: Some(header_now(&api)) })
}

/// They do not count any more.
pub(super) async fn disable(
    api: Arc<Context>,
    call: Call,
    _: AuthDisableRequest,
) -> Result<AuthDisableResponse, Status> {
    change(&api, call, AuthRequest::Disable).await?;
    Ok(AuthDisableResponse { header: Some(header_now(&api)) })
}

/// Do they count?
pub(super) async fn status(
    api: Arc<Context>,
    call: Call,
    _: AuthStatusRequest,
) -> Result<AuthStatusResponse, Status> {
    look(&api, &call).await?;
    let view = api.replica.view();
    let auth = view.store.mvcc().auth();
    let (enabled, auth_revision) = (auth.enabled(), auth.revision().0);
    Ok(AuthStatusResponse { header: Some(header_now(&api)), enabled, auth_revision })
}

/// Gives a token to who knows the password.
pub(super) async fn authenticate(
    api: Arc<Context>,
    call: Call,
    request: AuthenticateRequest,
) -> Result<AuthenticateResponse, Status> {
    for _ in 0..ATTEMPTS {
        let view = api.replica.view();
        let auth = view.store.mvcc().auth();
        if !auth.enabled() {
            return Err(status::AUTH_DISABLED);
        }
        let stored = auth.user(&request.name).map(|user| user.password.clone());
        // A user without a password can only show a certificate.
        let stored = stored.flatten();
        let compared = api.passwords.verify(&request.name, request.password.clone(), stored);
        if !compared.await.map_err(refused::unavailable)? {
            return Err(status::AUTH_FAILED);
        }
        if let Some(jwt) = &api.settings.jwt {
            // Of a member that only checks signatures, etcd says the same.
            let token = jwt.token(&request.name, auth.revision(), api.replica.wall());
            let token = token.ok_or(status::VERIFY_ONLY)?;
            return Ok(AuthenticateResponse { header: Some(header_now(&api)), token });
        }
        let token = new_token(&api);
        let change = AuthRequest::Authenticate {
            name: request.name.clone(),
            token: token.clone(),
            revision: auth.revision(),
            ttl_s: api.settings.token_ttl_s,
        };
        match write(&api, Asker::Internal, Request::Auth(change), call.held.clone()).await {
            Err(refused) if refused == refused::mvcc(Refusal::AuthOldRevision) => {}
            Err(refused) => return Err(refused),
            Ok(_) => return Ok(AuthenticateResponse { header: Some(header_now(&api)), token }),
        }
    }
    Err(status::AUTH_OLD_REVISION)
}

/// The hash that is kept: made here, or by the client.
async fn hashed(
    api: &Context,
    password: String,
    by_client: &str,
    no_password: bool,
) -> Result<Option<PasswordHash>, Status> {
    if no_password {
        return Ok(None);
    }
    if !by_client.is_empty() {
        let hash = json::base64_text(by_client).map_err(|_| status::AUTH_FAILED)?;
        return Ok(Some(PasswordHash::new(&hash)));
    }
    api.passwords
        .hash_at(api.settings.bcrypt_cost, password)
        .await
        .map(Some)
        .map_err(refused::unavailable)
}

/// Makes a user.
pub(super) async fn user_add(
    api: Arc<Context>,
    call: Call,
    request: AuthUserAddRequest,
) -> Result<AuthUserAddResponse, Status> {
    if request.name.is_empty() {
        return Err(status::USER_EMPTY);
    }
    look(&api, &call).await?;
    let no_password = request.options.is_some_and(|options| options.no_password);
    let password = hashed(&api, request.password, &request.hashed_password, no_password).await?;
    change(&api, call, AuthRequest::UserAdd { name: request.name, password }).await?;
    Ok(AuthUserAddResponse { header: Some(header_now(&api)) })
}

/// Says which roles a user has; every user sees its own.
pub(super) async fn user_get(
    api: Arc<Context>,
    call: Call,
    request: AuthUserGetRequest,
) -> Result<AuthUserGetResponse, Status> {
    let asker = asker(&api, &call).await?;
    let view = api.replica.view();
    let auth = view.store.mvcc().auth();
    if !matches!(&asker, Asker::User { name, .. } if *name == request.name) {
        auth.check_admin(&asker).map_err(refused::mvcc)?;
    }
    let user = auth.user(&request.name).ok_or(status::USER_NOT_FOUND)?;
    Ok(AuthUserGetResponse { header: Some(header_now(&api)), roles: user.roles.clone() })
}

/// Names all users.
pub(super) async fn user_list(
    api: Arc<Context>,
    call: Call,
    _: AuthUserListRequest,
) -> Result<AuthUserListResponse, Status> {
    look(&api, &call).await?;
    let view = api.replica.view();
    let users = view.store.mvcc().auth().users().map(|(name, _)| name.to_owned()).collect();
    Ok(AuthUserListResponse { header: Some(header_now(&api)), users })
}

/// Deletes a user.
pub(super) async fn user_delete(
    api: Arc<Context>,
    call: Call,
    request: AuthUserDeleteRequest,
) -> Result<AuthUserDeleteResponse, Status> {
    change(&api, call, AuthRequest::UserDelete { name: request.name }).await?;
    Ok(AuthUserDeleteResponse { header: Some(header_now(&api)) })
}

/// Gives a user another password.
pub(super) async fn user_change_password(
    api: Arc<Context>,
    call: Call,
    request: AuthUserChangePasswordRequest,
) -> Result<AuthUserChangePasswordResponse, Status> {
    look(&api, &call).await?;
    let password = hashed(&api, request.password, &request.hashed_password, false).await?;
    change(&api, call, AuthRequest::UserChangePassword { name: request.name, password }).await?;
    Ok(AuthUserChangePasswordResponse { header: Some(header_now(&api)) })
}

/// Gives a user a role.
pub(super) async fn user_grant_role(
    api: Arc<Context>,
    call: Call,
    request: AuthUserGrantRoleRequest,
) -> Result<AuthUserGrantRoleResponse, Status> {
    let AuthUserGrantRoleRequest { user, role } = request;
    change(&api, call, AuthRequest::UserGrantRole { user, role }).await?;
    Ok(AuthUserGrantRoleResponse { header: Some(header_now(&api)) })
}

/// Takes a role from a user.
pub(super) async fn user_revoke_role(
    api: Arc<Context>,
    call: Call,
    request: AuthUserRevokeRoleRequest,
) -> Result<AuthUserRevokeRoleResponse, Status> {
    let AuthUserRevokeRoleRequest { name: user, role } = request;
    change(&api, call, AuthRequest::UserRevokeRole { user, role }).await?;
    Ok(AuthUserRevokeRoleResponse { header: Some(header_now(&api)) })
}

/// Makes a role.
pub(super) async fn role_add(
    api: Arc<Context>,
    call: Call,
    request: AuthRoleAddRequest,
) -> Result<AuthRoleAddResponse, Status> {
    change(&api, call, AuthRequest::RoleAdd { name: request.name }).await?;
    Ok(AuthRoleAddResponse { header: Some(header_now(&api)) })
}

/// Says what a role may do; every user sees those it has.
pub(super) async fn role_get(
    api: Arc<Context>,
    call: Call,
    request: AuthRoleGetRequest,
) -> Result<AuthRoleGetResponse, Status> {
    let asker = asker(&api, &call).await?;
    let view = api.replica.view();
    let auth = view.store.mvcc().auth();
    let has = |user: &User| user.roles.contains(&request.role);
    let is_own = match &asker {
        Asker::User { name, .. } => auth.user(name).is_some_and(has),
        Asker::Internal | Asker::Nobody => false,
    };
    if !is_own {
        auth.check_admin(&asker).map_err(refused::mvcc)?;
    }
    let role = auth.role(&request.role).ok_or(status::ROLE_NOT_FOUND)?;
    let perm = role.iter().map(permission).collect();
    Ok(AuthRoleGetResponse { header: Some(header_now(&api)), perm })
}

/// Names all roles.
pub(super) async fn role_list(
    api: Arc<Context>,
    call: Call,
    _: AuthRoleListRequest,
) -> Result<AuthRoleListResponse, Status> {
    look(&api, &call).await?;
    let view = api.replica.view();
    let roles = view.store.mvcc().auth().roles().map(|(name, _)| name.to_owned()).collect();
    Ok(AuthRoleListResponse { header: Some(header_now(&api)), roles })
}

/// Deletes a role.
pub(super) async fn role_delete(
    api: Arc<Context>,
    call: Call,
    request: AuthRoleDeleteRequest,
) -> Result<AuthRoleDeleteResponse, Status> {
    change(&api, call, AuthRequest::RoleDelete { name: request.role }).await?;
    Ok(AuthRoleDeleteResponse { header: Some(header_now(&api)) })
}

/// Lets a role do more.
pub(super) async fn role_grant_permission(
    api: Arc<Context>,
    call: Call,
    request: AuthRoleGrantPermissionRequest,
) -> Result<AuthRoleGrantPermissionResponse, Status> {
    let asked = request.perm.ok_or(status::PERMISSION_NOT_GIVEN)?;
    let kind = match PermissionType::try_from(asked.perm_type) {
        Ok(PermissionType::Read) => PermissionKind::Read,
        Ok(PermissionType::Write) => PermissionKind::Write,
        Ok(PermissionType::ReadWrite) => PermissionKind::ReadWrite,
        Err(_) => return Err(status::INVALID_AUTH_MGMT),
    };
    let permission = Held { kind, range: convert::key_range(&asked.key, &asked.range_end) };
    change(&api, call, AuthRequest::RoleGrantPermission { role: request.name, permission }).await?;
    Ok(AuthRoleGrantPermissionResponse { header: Some(header_now(&api)) })
}

/// Lets a role do less.
pub(super) async fn role_revoke_permission(
    api: Arc<Context>,
    call: Call,
    request: AuthRoleRevokePermissionRequest,
) -> Result<AuthRoleRevokePermissionResponse, Status> {
    let range = convert::key_range(&request.key, &request.range_end);
    change(&api, call, AuthRequest::RoleRevokePermission { role: request.role, range }).await?;
    Ok(AuthRoleRevokePermissionResponse { header: Some(header_now(&api)) })
}

fn permission(held: &Held) -> Permission {
    let kind = match held.kind {
        PermissionKind::Read => PermissionType::Read,
        PermissionKind::Write => PermissionType::Write,
        PermissionKind::ReadWrite => PermissionType::ReadWrite,
    };
    Permission {
        perm_type: kind.into(),
        key: held.range.start().to_vec().into(),
        range_end: held.range.range_end().to_vec().into(),
    }
}
