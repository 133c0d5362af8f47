//! Watchers, many of which share a stream.

use bytes::{Bytes, BytesMut};

use crate::rpc::{Event, ResponseHeader};

messages! {
    /// What a stream of watchers is asked.
    WatchRequest {
        request_union: (oneof WatchRequestUnion) = "1, 2, 3";
    }

    /// A watcher is wanted.
    WatchCreateRequest {
        /// Empty: from the first key on.
        key: bytes = 1;
        range_end: bytes = 2;
        /// The first revision to be seen; 0: the next one.
        start_revision: int64 = 3;
        /// Now and then say how far it is when there is nothing to tell.
        progress_notify: bool = 4;
        filters: (repeated enum FilterType) = 5;
        prev_kv: bool = 6;
        /// The wanted number; 0: the stream chooses.
        watch_id: int64 = 7;
        /// Large answers may come in pieces.
        fragment: bool = 8;
    }

    /// A watcher is not wanted any more.
    WatchCancelRequest {
        watch_id: int64 = 1;
    }

    /// How far are the watchers of this stream?
    WatchProgressRequest {}

    /// What a watcher saw, or what became of it.
    WatchResponse {
        header: (message ResponseHeader) = 1;
        watch_id: int64 = 2;
        created: bool = 3;
        canceled: bool = 4;
        /// Why it was cancelled: older than this is forgotten.
        compact_revision: int64 = 5;
        cancel_reason: string = 6;
        /// More of the same follows.
        fragment: bool = 7;
        events: (repeated message Event) = 11;
    }
}

oneofs! {
    /// What a stream of watchers can be asked.
    WatchRequestUnion {
        Create: (message WatchCreateRequest) = 1 "create_request";
        Cancel: (message WatchCancelRequest) = 2 "cancel_request";
        Progress: (message WatchProgressRequest) = 3 "progress_request";
    }
}

choices! {
    /// Events that a watcher does not want.
    FilterType "etcdserverpb.WatchCreateRequest_FilterType" {
        NoPut = 0 "NOPUT";
        NoDelete = 1 "NODELETE";
    }
}

/// Events as they stand in a [`WatchResponse`]. There they are the last field, and so can be written behind all others.
pub fn written_events(events: impl Iterator<Item = Event>) -> Bytes {
    let mut out = BytesMut::new();
    for event in events {
        prost::encoding::message::encode(EVENTS, &event, &mut out);
    }
    out.freeze()
}

/// Bytes of an event in a [`WatchResponse`].
pub fn event_bytes(event: &Event) -> usize {
    prost::encoding::message::encoded_len(EVENTS, event)
}

/// The number of the field with events.
const EVENTS: u32 = 11;
