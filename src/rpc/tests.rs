//! Messages in both forms.

use bytes::Bytes;
use prost::Message as _;

use crate::rpc::json::{self, JsonError};
use crate::rpc::*;

fn read<M: Json>(text: &str) -> Result<M, JsonError> {
    let (value, _) = json::parse(text.as_bytes()).map_err(json::Unparsed::at_the_end)?;
    json::read(&value)
}

fn refused<M: Json>(text: &str) -> String {
    read::<M>(text).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn what_etcd_sends_in_protobuf_is_read_and_written_alike() {
    // Header {1, 2, 3, 4}; one key "/a" at 6, 6, 1 with "1" on lease -1; count 1.
    let bytes = b"\x0a\x08\x08\x01\x10\x02\x18\x03\x20\x04\x12\x18\x0a\x02/a\x10\x06\x18\x06\x20\x01\x2a\x011\x30\
                  \xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x20\x01";
    let answer = RangeResponse::decode(&bytes[..]).unwrap();
    assert_eq!(answer.header.as_ref().unwrap().raft_term, 4);
    assert_eq!((answer.kvs[0].lease, answer.kvs[0].mod_revision), (-1, 6));
    assert_eq!((&*answer.kvs[0].key, answer.count, answer.more), (&b"/a"[..], 1, false));
    assert_eq!(answer.encode_to_vec(), bytes);
}

#[test]
fn an_answer_reads_as_etcds() {
    let header = ResponseHeader {
        cluster_id: 3_527_653_877_163_630_183,
        member_id: 9,
        revision: 6,
        raft_term: 2,
    };
    let kv = KeyValue {
        key: Bytes::from_static(b"/a"),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        value: Bytes::from_static(b"1"),
        lease: 0,
    };
    let answer = RangeResponse { header: Some(header), kvs: vec![kv], more: false, count: 1 };
    assert_eq!(
        String::from_utf8(json::write(&answer)).unwrap(),
        r#"{"header":{"cluster_id":"3527653877163630183","member_id":"9","revision":"6","raft_term":"2"},"kvs":[{"key":"L2E=","create_revision":"2","mod_revision":"2","version":"1","value":"MQ=="}],"count":"1"}"#
    );
    let event = Event { kind: 1, kv: Some(KeyValue::default()), prev_kv: None };
    assert_eq!(json::write(&event), br#"{"type":"DELETE","kv":{}}"#);
    let hash = HashResponse { header: None, hash: 7 };
    assert_eq!(json::write(&hash), br#"{"hash":7}"#);
    let filters = WatchCreateRequest { filters: vec![0, 1, 9], ..Default::default() };
    assert_eq!(json::write(&filters), br#"{"filters":["NOPUT","NODELETE",9]}"#);
}

#[test]
fn fields_have_two_names_and_numbers_two_forms() {
    let wanted = RangeRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"b"),
        limit: 5,
        sort_order: 2,
        keys_only: true,
        ..Default::default()
    };
    for text in [
        r#"{"key":"YQ==","range_end":"Yg==","limit":5,"sort_order":"DESCEND","keys_only":true}"#,
        r#"{"rangeEnd":"Yg==\n","key":[97],"limit":"5","sortOrder":2,"keysOnly":true,"linearizable":false,"revision":null}"#,
        r#"{"limit":1,"key":"eA==", "limit":5,"key":"YQ==","range_end":"Y\u0067==","sort_order":2,"keys_only":true} rest"#,
    ] {
        assert_eq!(read::<RangeRequest>(text).unwrap(), wanted, "{text}");
    }
    let lease: LeaseGrantRequest = read(r#"{"TTL":"5","ttl":7,"ID":"-5"}"#).unwrap();
    assert_eq!((lease.ttl, lease.id), (5, -5));
    let txn: TxnRequest = read(
        r#"{"compare":[{"key":"YQ==","target":"CREATE","createRevision":"0","result":"GREATER"}],
            "success":[{"requestRange":{"key":"YQ=="}},{"request_txn":{"success":null}},{}]}"#,
    )
    .unwrap();
    assert_eq!(txn.compare[0].target_union, Some(TargetUnion::CreateRevision(0)));
    assert!(matches!(txn.success[0].request, Some(Request::Range(_))));
    assert_eq!(txn.success[1].request, Some(Request::Txn(TxnRequest::default())));
    assert_eq!(txn.success[2].request, None);
}

/// All of them as etcd 3.4.23 says them.
#[test]
fn what_is_wrong_is_said_as_go_says_it() {
    let eof = "unexpected EOF";
    for (text, wanted) in [
        (r#"{"key":"#, eof),
        (r#"{"key":"YQ==""#, eof),
        (r#"{"key":x}"#, "invalid character 'x' looking for beginning of value"),
        (r#"{"key" "YQ=="}"#, "invalid character '\"' after object key"),
        (r#"{key:"YQ=="}"#, "invalid character 'k' looking for beginning of object key string"),
        (r#"{"key":"YQ==",}"#, "invalid character '}' looking for beginning of object key string"),
        ("[]", "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"),
        ("5", "json: cannot unmarshal number into Go value of type map[string]json.RawMessage"),
        (r#"{"key":5}"#, "json: cannot unmarshal number into Go value of type []uint8"),
        (r#"{"key":[300]}"#, "json: cannot unmarshal number 300 into Go value of type uint8"),
        (r#"{"key":"a"}"#, "illegal base64 data at input byte 0"),
        (r#"{"key":"YWJjYQ"}"#, "illegal base64 data at input byte 4"),
        (r#"{"key":"Y!=="}"#, "illegal base64 data at input byte 1"),
        (r#"{"limit":"x"}"#, "invalid character 'x' looking for beginning of value"),
        (r#"{"limit":""}"#, "unexpected end of JSON input"),
        (r#"{"limit":"1e3"}"#, "json: cannot unmarshal number 1e3 into Go value of type int64"),
        (r#"{"limit":true}"#, "json: cannot unmarshal bool into Go value of type int64"),
        (
            r#"{"limit":99999999999999999999}"#,
            "json: cannot unmarshal number 99999999999999999999 into Go value of type int64",
        ),
        (
            r#"{"sort_order":"X"}"#,
            "unknown value \"X\" for enum etcdserverpb.RangeRequest_SortOrder",
        ),
        (
            r#"{"sort_order":1.5}"#,
            "json: cannot unmarshal number 1.5 into Go value of type etcdserverpb.RangeRequest_SortOrder",
        ),
        (r#"{"serializable":1}"#, "json: cannot unmarshal number into Go value of type bool"),
    ] {
        assert_eq!(refused::<RangeRequest>(text), wanted, "{text}");
    }
    assert_eq!(
        refused::<TxnRequest>(r#"{"compare":{}}"#),
        "json: cannot unmarshal object into Go value of type []json.RawMessage"
    );
    assert_eq!(
        refused::<MemberAddRequest>(r#"{"peerURLs":[5]}"#),
        "json: cannot unmarshal number into Go value of type string"
    );
}

#[test]
fn no_depth_and_no_cut_is_too_much() {
    let deep = "[".repeat(1_000_000);
    assert_eq!(refused::<RangeRequest>(&deep), "exceeded max depth");
    let whole = r#"{"key":"YQ==","limit":"\ud83d\ude00\u12","x":[-1.5e+3,true,null,{"a":[]}]}"#;
    for length in 0..whole.len() {
        assert!(json::parse(&whole.as_bytes()[..length]).is_err(), "{length}");
    }
}

#[test]
fn codes_and_their_numbers_are_those_of_grpc() {
    for (number, code) in (0..).zip(Code::ALL) {
        assert_eq!((code.number(), Code::of_number(number)), (number, code));
    }
    assert_eq!(Code::of_number(17), Code::Unknown);
    assert_eq!(
        status::PERMISSION_DENIED.nested(),
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    );
}
