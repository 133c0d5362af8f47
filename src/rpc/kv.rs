//! Keys, and the reads and writes of one key or one range.

messages! {
    /// Stands at the front of nearly every answer.
    ResponseHeader {
        cluster_id: uint64 = 1;
        /// The member that answers.
        member_id: uint64 = 2;
        /// Of the store, when the request was applied; of a read, when it was made.
        revision: int64 = 3;
        raft_term: uint64 = 4;
    }

    /// One key as it is, or was.
    KeyValue {
        key: bytes = 1;
        create_revision: int64 = 2;
        mod_revision: int64 = 3;
        /// Puts since it was created.
        version: int64 = 4;
        value: bytes = 5;
        lease: int64 = 6;
    }

    /// A change of one key.
    Event {
        kind: (enum EventType) = 1 "type";
        /// As it is now; of a deletion, only the key and its revision.
        kv: (message KeyValue) = 2;
        /// As it was.
        prev_kv: (message KeyValue) = 3;
    }

    /// A read of a key or a range.
    RangeRequest {
        key: bytes = 1;
        /// Empty: that key alone. One zero byte: every key from `key` on.
        range_end: bytes = 2;
        limit: int64 = 3;
        /// Read as of then; not above 0: as of now.
        revision: int64 = 4;
        sort_order: (enum SortOrder) = 5;
        sort_target: (enum SortTarget) = 6;
        /// This member alone may answer.
        serializable: bool = 7;
        keys_only: bool = 8;
        count_only: bool = 9;
        min_mod_revision: int64 = 10;
        max_mod_revision: int64 = 11;
        min_create_revision: int64 = 12;
        max_create_revision: int64 = 13;
    }

    /// What a range holds.
    RangeResponse {
        header: (message ResponseHeader) = 1;
        kvs: (repeated message KeyValue) = 2;
        /// `limit` has cut the list.
        more: bool = 3;
        /// Of all keys in the range, whatever was left out.
        count: int64 = 4;
    }

    /// A write of one key.
    PutRequest {
        key: bytes = 1;
        value: bytes = 2;
        lease: int64 = 3;
        prev_kv: bool = 4;
        /// Keep the value that the key has.
        ignore_value: bool = 5;
        /// Keep the lease that the key has.
        ignore_lease: bool = 6;
    }

    /// A key was written.
    PutResponse {
        header: (message ResponseHeader) = 1;
        prev_kv: (message KeyValue) = 2;
    }

    /// A key or a range is to go.
    DeleteRangeRequest {
        key: bytes = 1;
        range_end: bytes = 2;
        prev_kv: bool = 3;
    }

    /// It is gone.
    DeleteRangeResponse {
        header: (message ResponseHeader) = 1;
        deleted: int64 = 2;
        prev_kvs: (repeated message KeyValue) = 3;
    }

    /// What is older than a revision may be forgotten.
    CompactionRequest {
        revision: int64 = 1;
        /// Answer when it is also off the disk.
        physical: bool = 2;
    }

    /// It may be, from now on.
    CompactionResponse {
        header: (message ResponseHeader) = 1;
    }
}

choices! {
    /// What happened to a key.
    EventType "mvccpb.Event_EventType" {
        Put = 0 "PUT";
        Delete = 1 "DELETE";
    }

    /// Which way a list is sorted.
    SortOrder "etcdserverpb.RangeRequest_SortOrder" {
        None = 0 "NONE";
        Ascend = 1 "ASCEND";
        Descend = 2 "DESCEND";
    }

    /// What a list is sorted by.
    SortTarget "etcdserverpb.RangeRequest_SortTarget" {
        Key = 0 "KEY";
        Version = 1 "VERSION";
        Create = 2 "CREATE";
        Mod = 3 "MOD";
        Value = 4 "VALUE";
    }
}
