//! Users, roles and tokens.

use crate::rpc::ResponseHeader;

messages! {
    /// From now on everybody must say who they are.
    AuthEnableRequest {}

    /// They must.
    AuthEnableResponse {
        header: (message ResponseHeader) = 1;
    }

    /// Everybody may do everything.
    AuthDisableRequest {}

    /// They may.
    AuthDisableResponse {
        header: (message ResponseHeader) = 1;
    }

    /// Must everybody say who they are?
    AuthStatusRequest {}

    /// Whether they must, and how often users and roles have changed.
    AuthStatusResponse {
        header: (message ResponseHeader) = 1;
        enabled: bool = 2;
        auth_revision: uint64 = 3 "authRevision";
    }

    /// Someone says who they are.
    AuthenticateRequest {
        name: string = 1;
        password: string = 2;
    }

    /// What to show from now on.
    AuthenticateResponse {
        header: (message ResponseHeader) = 1;
        token: string = 2;
    }

    /// How a user is made.
    UserAddOptions {
        /// It has no password, and is known by its certificate.
        no_password: bool = 1;
    }

    /// A user is wanted.
    AuthUserAddRequest {
        name: string = 1;
        password: string = 2;
        options: (message UserAddOptions) = 3;
        /// Base64 of what the client has made of the password.
        hashed_password: string = 4 "hashedPassword";
    }

    /// It is made.
    AuthUserAddResponse {
        header: (message ResponseHeader) = 1;
    }

    /// What may a user do?
    AuthUserGetRequest {
        name: string = 1;
    }

    /// What its roles may.
    AuthUserGetResponse {
        header: (message ResponseHeader) = 1;
        roles: (repeated string) = 2;
    }

    /// A user is to go.
    AuthUserDeleteRequest {
        name: string = 1;
    }

    /// It is gone.
    AuthUserDeleteResponse {
        header: (message ResponseHeader) = 1;
    }

    /// A user gets another password.
    AuthUserChangePasswordRequest {
        name: string = 1;
        password: string = 2;
        /// Base64 of what the client has made of the password.
        hashed_password: string = 3 "hashedPassword";
    }

    /// It has it.
    AuthUserChangePasswordResponse {
        header: (message ResponseHeader) = 1;
    }

    /// A user gets a role.
    AuthUserGrantRoleRequest {
        user: string = 1;
        role: string = 2;
    }

    /// It has it.
    AuthUserGrantRoleResponse {
        header: (message ResponseHeader) = 1;
    }

    /// A user loses a role.
    AuthUserRevokeRoleRequest {
        name: string = 1;
        role: string = 2;
    }

    /// It is lost.
    AuthUserRevokeRoleResponse {
        header: (message ResponseHeader) = 1;
    }

    /// Which users are there?
    AuthUserListRequest {}

    /// Their names.
    AuthUserListResponse {
        header: (message ResponseHeader) = 1;
        users: (repeated string) = 2;
    }

    /// A role is wanted.
    AuthRoleAddRequest {
        name: string = 1;
    }

    /// It is made.
    AuthRoleAddResponse {
        header: (message ResponseHeader) = 1;
    }

    /// What may a role do?
    AuthRoleGetRequest {
        role: string = 1;
    }

    /// What it may.
    AuthRoleGetResponse {
        header: (message ResponseHeader) = 1;
        perm: (repeated message Permission) = 2;
    }

    /// Which roles are there?
    AuthRoleListRequest {}

    /// Their names.
    AuthRoleListResponse {
        header: (message ResponseHeader) = 1;
        roles: (repeated string) = 2;
    }

    /// A role is to go.
    AuthRoleDeleteRequest {
        role: string = 1;
    }

    /// It is gone.
    AuthRoleDeleteResponse {
        header: (message ResponseHeader) = 1;
    }

    /// What one range is open for.
    Permission {
        perm_type: (enum PermissionType) = 1 "permType";
        key: bytes = 2;
        range_end: bytes = 3;
    }

    /// A role may do more.
    AuthRoleGrantPermissionRequest {
        name: string = 1;
        perm: (message Permission) = 2;
    }

    /// It may.
    AuthRoleGrantPermissionResponse {
        header: (message ResponseHeader) = 1;
    }

    /// A role may do less.
    AuthRoleRevokePermissionRequest {
        role: string = 1;
        key: bytes = 2;
        range_end: bytes = 3;
    }

    /// It may not.
    AuthRoleRevokePermissionResponse {
        header: (message ResponseHeader) = 1;
    }
}

choices! {
    /// What a range is open for.
    PermissionType "authpb.Permission_Type" {
        Read = 0 "READ";
        Write = 1 "WRITE";
        ReadWrite = 2 "READWRITE";
    }
}
