//! Who belongs to the cluster.

use crate::rpc::ResponseHeader;

messages! {
    /// One member.
    Member {
        id: uint64 = 1 "ID";
        name: string = 2;
        peer_urls: (repeated string) = 3 "peerURLs";
        client_urls: (repeated string) = 4 "clientURLs";
        is_learner: bool = 5 "isLearner";
    }

    /// A member is to join.
    MemberAddRequest {
        peer_urls: (repeated string) = 1 "peerURLs";
        is_learner: bool = 2 "isLearner";
    }

    /// It may join.
    MemberAddResponse {
        header: (message ResponseHeader) = 1;
        member: (message Member) = 2;
        members: (repeated message Member) = 3;
    }

    /// A member is to leave.
    MemberRemoveRequest {
        id: uint64 = 1 "ID";
    }

    /// It has left.
    MemberRemoveResponse {
        header: (message ResponseHeader) = 1;
        members: (repeated message Member) = 2;
    }

    /// A member has moved.
    MemberUpdateRequest {
        id: uint64 = 1 "ID";
        peer_urls: (repeated string) = 2 "peerURLs";
    }

    /// It is noted.
    MemberUpdateResponse {
        header: (message ResponseHeader) = 1;
        members: (repeated message Member) = 2;
    }

    /// Who are the members?
    MemberListRequest {
        /// As the majority knows them.
        linearizable: bool = 1;
    }

    /// The members.
    MemberListResponse {
        header: (message ResponseHeader) = 1;
        members: (repeated message Member) = 2;
    }

    /// A learner is to vote.
    MemberPromoteRequest {
        id: uint64 = 1 "ID";
    }

    /// It may.
    MemberPromoteResponse {
        header: (message ResponseHeader) = 1;
        members: (repeated message Member) = 2;
    }
}
