//! Several comparisons, reads and writes as one.

use crate::rpc::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader,
};

messages! {
    /// One part of a transaction.
    RequestOp {
        request: (oneof Request) = "1, 2, 3, 4";
    }

    /// What came of one part.
    ResponseOp {
        response: (oneof Response) = "1, 2, 3, 4";
    }

    /// What must hold of a key, or of every key of a range.
    Compare {
        result: (enum CompareResult) = 1;
        target: (enum CompareTarget) = 2;
        key: bytes = 3;
        target_union: (oneof TargetUnion) = "4, 5, 6, 7, 8";
        range_end: bytes = 64;
    }

    /// If all comparisons hold, `success`, else `failure`.
    TxnRequest {
        compare: (repeated message Compare) = 1;
        success: (repeated message RequestOp) = 2;
        failure: (repeated message RequestOp) = 3;
    }

    /// Which of the two was done, and what came of it.
    TxnResponse {
        header: (message ResponseHeader) = 1;
        succeeded: bool = 2;
        responses: (repeated message ResponseOp) = 3;
    }
}

oneofs! {
    /// What a part of a transaction asks for.
    Request {
        Range: (message RangeRequest) = 1 "request_range";
        Put: (message PutRequest) = 2 "request_put";
        DeleteRange: (message DeleteRangeRequest) = 3 "request_delete_range";
        Txn: (message TxnRequest) = 4 "request_txn";
    }

    /// The answer to a part of a transaction.
    Response {
        Range: (message RangeResponse) = 1 "response_range";
        Put: (message PutResponse) = 2 "response_put";
        DeleteRange: (message DeleteRangeResponse) = 3 "response_delete_range";
        Txn: (message TxnResponse) = 4 "response_txn";
    }

    /// What a key is compared with.
    TargetUnion {
        Version: int64 = 4 "version";
        CreateRevision: int64 = 5 "create_revision";
        ModRevision: int64 = 6 "mod_revision";
        Value: bytes = 7 "value";
        Lease: int64 = 8 "lease";
    }
}

choices! {
    /// How what a key has must stand to what is given.
    CompareResult "etcdserverpb.Compare_CompareResult" {
        Equal = 0 "EQUAL";
        Greater = 1 "GREATER";
        Less = 2 "LESS";
        NotEqual = 3 "NOT_EQUAL";
    }

    /// What of a key is compared.
    CompareTarget "etcdserverpb.Compare_CompareTarget" {
        Version = 0 "VERSION";
        Create = 1 "CREATE";
        Mod = 2 "MOD";
        Value = 3 "VALUE";
        Lease = 4 "LEASE";
    }
}
