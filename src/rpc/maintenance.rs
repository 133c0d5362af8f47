//! What operators ask.

use crate::rpc::ResponseHeader;

messages! {
    /// Alarms are listed, raised or taken back.
    AlarmRequest {
        action: (enum AlarmAction) = 1;
        /// 0: of every member.
        member_id: uint64 = 2 "memberID";
        alarm: (enum AlarmType) = 3;
    }

    /// One alarm of one member.
    AlarmMember {
        member_id: uint64 = 1 "memberID";
        alarm: (enum AlarmType) = 2;
    }

    /// The alarms it was about.
    AlarmResponse {
        header: (message ResponseHeader) = 1;
        alarms: (repeated message AlarmMember) = 2;
    }

    /// How is this member?
    StatusRequest {}

    /// So it is.
    StatusResponse {
        header: (message ResponseHeader) = 1;
        version: string = 2;
        db_size: int64 = 3 "dbSize";
        leader: uint64 = 4;
        raft_index: uint64 = 5 "raftIndex";
        raft_term: uint64 = 6 "raftTerm";
        raft_applied_index: uint64 = 7 "raftAppliedIndex";
        errors: (repeated string) = 8;
        db_size_in_use: int64 = 9 "dbSizeInUse";
        is_learner: bool = 10 "isLearner";
    }

    /// Free space is to be given back.
    DefragmentRequest {}

    /// It is.
    DefragmentResponse {
        header: (message ResponseHeader) = 1;
    }

    /// A check sum of the store.
    HashRequest {}

    /// The check sum.
    HashResponse {
        header: (message ResponseHeader) = 1;
        hash: uint32 = 2;
    }

    /// A check sum of the keys up to a revision.
    HashKvRequest {
        /// 0: the present one.
        revision: int64 = 1;
    }

    /// The check sum.
    HashKvResponse {
        header: (message ResponseHeader) = 1;
        hash: uint32 = 2;
        /// -1: nothing was ever compacted.
        compact_revision: int64 = 3;
        /// Up to which revision it goes.
        hash_revision: int64 = 4;
    }

    /// The whole store is wanted.
    SnapshotRequest {}

    /// A piece of it; the last one is the SHA-256 of all others.
    SnapshotResponse {
        header: (message ResponseHeader) = 1;
        remaining_bytes: uint64 = 2;
        blob: bytes = 3;
    }

    /// Another member is to lead.
    MoveLeaderRequest {
        target_id: uint64 = 1 "targetID";
    }

    /// It does.
    MoveLeaderResponse {
        header: (message ResponseHeader) = 1;
    }
}

choices! {
    /// What happens to alarms.
    AlarmAction "etcdserverpb.AlarmRequest_AlarmAction" {
        Get = 0 "GET";
        Activate = 1 "ACTIVATE";
        Deactivate = 2 "DEACTIVATE";
    }

    /// What an alarm is about.
    AlarmType "etcdserverpb.AlarmType" {
        None = 0 "NONE";
        NoSpace = 1 "NOSPACE";
        Corrupt = 2 "CORRUPT";
    }
}
