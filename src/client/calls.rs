//! Every question of the v3 API: what it is called on the wire, what answers it, and whether it may be asked twice.

use crate::rpc::*;

/// A question with one answer.
pub trait Call: Message + Clone {
    /// What answers it.
    type Answer: Message;
    /// As it is called on the wire.
    const PATH: &'static str;
    /// It changes nothing, so it may be asked again.
    const READS: bool;
}

/// One of the questions of a stream.
pub trait StreamCall: Message + Clone {
    /// One of its answers.
    type Answer: Message;
    /// As it is called on the wire.
    const PATH: &'static str;
}

macro_rules! calls {
    ($( $request:ident $answer:ident $path:literal $reads:literal; )*) => { $(
        impl Call for $request {
            type Answer = $answer;
            const PATH: &'static str = $path;
            const READS: bool = $reads;
        }
    )* };
}

calls! {
    RangeRequest RangeResponse "/etcdserverpb.KV/Range" true;
    PutRequest PutResponse "/etcdserverpb.KV/Put" false;
    DeleteRangeRequest DeleteRangeResponse "/etcdserverpb.KV/DeleteRange" false;
    TxnRequest TxnResponse "/etcdserverpb.KV/Txn" false;
    CompactionRequest CompactionResponse "/etcdserverpb.KV/Compact" false;
    LeaseGrantRequest LeaseGrantResponse "/etcdserverpb.Lease/LeaseGrant" false;
    LeaseRevokeRequest LeaseRevokeResponse "/etcdserverpb.Lease/LeaseRevoke" false;
    LeaseTimeToLiveRequest LeaseTimeToLiveResponse "/etcdserverpb.Lease/LeaseTimeToLive" true;
    LeaseLeasesRequest LeaseLeasesResponse "/etcdserverpb.Lease/LeaseLeases" true;
    MemberListRequest MemberListResponse "/etcdserverpb.Cluster/MemberList" true;
    MemberAddRequest MemberAddResponse "/etcdserverpb.Cluster/MemberAdd" false;
    MemberRemoveRequest MemberRemoveResponse "/etcdserverpb.Cluster/MemberRemove" false;
    MemberUpdateRequest MemberUpdateResponse "/etcdserverpb.Cluster/MemberUpdate" false;
    MemberPromoteRequest MemberPromoteResponse "/etcdserverpb.Cluster/MemberPromote" false;
    AlarmRequest AlarmResponse "/etcdserverpb.Maintenance/Alarm" true;
    StatusRequest StatusResponse "/etcdserverpb.Maintenance/Status" true;
    DefragmentRequest DefragmentResponse "/etcdserverpb.Maintenance/Defragment" false;
    HashRequest HashResponse "/etcdserverpb.Maintenance/Hash" true;
    HashKvRequest HashKvResponse "/etcdserverpb.Maintenance/HashKV" true;
    MoveLeaderRequest MoveLeaderResponse "/etcdserverpb.Maintenance/MoveLeader" false;
    AuthEnableRequest AuthEnableResponse "/etcdserverpb.Auth/AuthEnable" false;
    AuthDisableRequest AuthDisableResponse "/etcdserverpb.Auth/AuthDisable" false;
    AuthStatusRequest AuthStatusResponse "/etcdserverpb.Auth/AuthStatus" true;
    AuthenticateRequest AuthenticateResponse "/etcdserverpb.Auth/Authenticate" false;
    AuthUserAddRequest AuthUserAddResponse "/etcdserverpb.Auth/UserAdd" false;
    AuthUserGetRequest AuthUserGetResponse "/etcdserverpb.Auth/UserGet" true;
    AuthUserListRequest AuthUserListResponse "/etcdserverpb.Auth/UserList" true;
    AuthUserDeleteRequest AuthUserDeleteResponse "/etcdserverpb.Auth/UserDelete" false;
    AuthUserChangePasswordRequest AuthUserChangePasswordResponse
        "/etcdserverpb.Auth/UserChangePassword" false;
    AuthUserGrantRoleRequest AuthUserGrantRoleResponse "/etcdserverpb.Auth/UserGrantRole" false;
    AuthUserRevokeRoleRequest AuthUserRevokeRoleResponse
        "/etcdserverpb.Auth/UserRevokeRole" false;
    AuthRoleAddRequest AuthRoleAddResponse "/etcdserverpb.Auth/RoleAdd" false;
    AuthRoleGetRequest AuthRoleGetResponse "/etcdserverpb.Auth/RoleGet" true;
    AuthRoleListRequest AuthRoleListResponse "/etcdserverpb.Auth/RoleList" true;
    AuthRoleDeleteRequest AuthRoleDeleteResponse "/etcdserverpb.Auth/RoleDelete" false;
    AuthRoleGrantPermissionRequest AuthRoleGrantPermissionResponse
        "/etcdserverpb.Auth/RoleGrantPermission" false;
    AuthRoleRevokePermissionRequest AuthRoleRevokePermissionResponse
        "/etcdserverpb.Auth/RoleRevokePermission" false;
    LockRequest LockResponse "/v3lockpb.Lock/Lock" false;
    UnlockRequest UnlockResponse "/v3lockpb.Lock/Unlock" false;
    CampaignRequest CampaignResponse "/v3electionpb.Election/Campaign" false;
    ProclaimRequest ProclaimResponse "/v3electionpb.Election/Proclaim" false;
    ResignRequest ResignResponse "/v3electionpb.Election/Resign" false;
    HealthCheckRequest HealthCheckResponse "/grpc.health.v1.Health/Check" true;
}

impl StreamCall for WatchRequest {
    type Answer = WatchResponse;
    const PATH: &'static str = "/etcdserverpb.Watch/Watch";
}

impl StreamCall for LeaseKeepAliveRequest {
    type Answer = LeaseKeepAliveResponse;
    const PATH: &'static str = "/etcdserverpb.Lease/LeaseKeepAlive";
}

impl StreamCall for SnapshotRequest {
    type Answer = SnapshotResponse;
    const PATH: &'static str = "/etcdserverpb.Maintenance/Snapshot";
}

/// `Observe` asks with the message that `Leader` asks with.
impl StreamCall for LeaderRequest {
    type Answer = LeaderResponse;
    const PATH: &'static str = "/v3electionpb.Election/Observe";
}
