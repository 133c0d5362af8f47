//! Leases: keys that go when nobody renews them.

use crate::rpc::ResponseHeader;

messages! {
    /// A lease is wanted.
    LeaseGrantRequest {
        /// In seconds.
        ttl: int64 = 1 "TTL";
        /// The wanted one; 0: the server chooses.
        id: int64 = 2 "ID";
    }

    /// The lease.
    LeaseGrantResponse {
        header: (message ResponseHeader) = 1;
        id: int64 = 2 "ID";
        ttl: int64 = 3 "TTL";
        /// Never used.
        error: string = 4;
    }

    /// A lease is to go, with its keys.
    LeaseRevokeRequest {
        id: int64 = 1 "ID";
    }

    /// It is gone.
    LeaseRevokeResponse {
        header: (message ResponseHeader) = 1;
    }

    /// A lease is renewed.
    LeaseKeepAliveRequest {
        id: int64 = 1 "ID";
    }

    /// It is; 0 seconds: there is none.
    LeaseKeepAliveResponse {
        header: (message ResponseHeader) = 1;
        id: int64 = 2 "ID";
        ttl: int64 = 3 "TTL";
    }

    /// How long does a lease live?
    LeaseTimeToLiveRequest {
        id: int64 = 1 "ID";
        /// And which keys does it hold?
        keys: bool = 2;
    }

    /// So long; -1: there is none.
    LeaseTimeToLiveResponse {
        header: (message ResponseHeader) = 1;
        id: int64 = 2 "ID";
        ttl: int64 = 3 "TTL";
        granted_ttl: int64 = 4 "grantedTTL";
        keys: (repeated bytes) = 5;
    }

    /// Which leases are there?
    LeaseLeasesRequest {}

    /// One of them.
    LeaseStatus {
        id: int64 = 1 "ID";
    }

    /// All leases.
    LeaseLeasesResponse {
        header: (message ResponseHeader) = 1;
        leases: (repeated message LeaseStatus) = 2;
    }
}
