//! What a plain request and its answer take beside the key space, for the test that counts it.

use std::hint::black_box;

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::api::{Body, Success};
use crate::costs::Work;
use crate::model::{LogIndex, LogPosition, StoreIndex, Term};
use crate::server::fast_path::answer::{self, Length};
use crate::server::fast_path::head::Head;
use crate::server::fast_path::rendered;

const PUT: &[u8] = b"PUT /v2/keys/service/1/node-1 HTTP/1.1\r\nHost: 127.0.0.1:2379\r\n\
    User-Agent: curl/8\r\nAccept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\n\
    Content-Length: 7\r\n\r\nvalue=1";

pub(crate) const WORK: &[Work] = &[
    Work {
        name: "take a plain PUT apart",
        work: || {
            let head = Head::read(black_box(PUT), usize::MAX).expect("it is plain");
            assert!(head.plain(PUT).is_some_and(|plain| plain.body == b"value=1"));
        },
    },
    Work { name: "write the head of a success", work: write_head },
];

fn write_head() {
    let mut common = HeaderMap::new();
    common.insert("x-etcd-cluster-id", HeaderValue::from_static("cdf818194e3a8c32"));
    let common = rendered(&common);
    let position = LogPosition { term: Term(2), index: LogIndex(80_001) };
    let body = Body::whole("{}");
    let success = Success { status: StatusCode::OK, body, index: StoreIndex(70_001), position };
    let mut out = Vec::with_capacity(answer::HEAD_BYTES);
    answer::success_head(&mut out, black_box(&success), &common, Length::Exact(2), false);
    assert!(out.ends_with(b"\r\n\r\n"));
}
