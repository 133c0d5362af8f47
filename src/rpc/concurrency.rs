//! Locks and elections that the server holds for clients.

use crate::rpc::{KeyValue, ResponseHeader};

messages! {
    /// A lock is wanted.
    LockRequest {
        name: bytes = 1;
        /// The lock goes with it; 0: one that nobody renews.
        lease: int64 = 2;
    }

    /// It is held.
    LockResponse {
        header: (message ResponseHeader) = 1;
        /// It is held as long as this key is there.
        key: bytes = 2;
    }

    /// A lock is given back.
    UnlockRequest {
        key: bytes = 1;
    }

    /// It is.
    UnlockResponse {
        header: (message ResponseHeader) = 1;
    }

    /// What shows that someone leads.
    LeaderKey {
        name: bytes = 1;
        key: bytes = 2;
        rev: int64 = 3;
        lease: int64 = 4;
    }

    /// Someone wants to lead.
    CampaignRequest {
        name: bytes = 1;
        lease: int64 = 2;
        value: bytes = 3;
    }

    /// They do.
    CampaignResponse {
        header: (message ResponseHeader) = 1;
        leader: (message LeaderKey) = 2;
    }

    /// The leader says something else.
    ProclaimRequest {
        leader: (message LeaderKey) = 1;
        value: bytes = 2;
    }

    /// It is said.
    ProclaimResponse {
        header: (message ResponseHeader) = 1;
    }

    /// Who leads?
    LeaderRequest {
        name: bytes = 1;
    }

    /// What the leader says.
    LeaderResponse {
        header: (message ResponseHeader) = 1;
        kv: (message KeyValue) = 2;
    }

    /// The leader gives up.
    ResignRequest {
        leader: (message LeaderKey) = 1;
    }

    /// It has.
    ResignResponse {
        header: (message ResponseHeader) = 1;
    }
}
