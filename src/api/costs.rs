//! Requests that are hard to read, for the test that counts what reading costs.

use std::hint::black_box;

use http::Method;

use crate::api::keys::costs::{FORM, form};
use crate::api::keys::render::event as event_bytes;
use crate::api::{access, discovery, json, media_type, members, path, security};
use crate::costs::{Case, Work};
use crate::model::{KeyPath, LogTime, StoreIndex, WallOffset};
use crate::store::{Action, Event, Removed, Shown};

pub(crate) const WORK: &[Work] = &[
    Work {
        name: "read a PUT",
        work: || {
            const BODY: &[u8] = b"value=a+value%20of+some+words%21&ttl=30&prevExist=true";
            assert!(form(&Method::PUT, FORM, b"recursive=false", black_box(BODY)));
        },
    },
    Work {
        name: "read a long poll",
        work: || assert!(form(&Method::GET, FORM, black_box(b"wait=true&waitIndex=7001"), b"")),
    },
    Work { name: "render the event of a set", work: render_event },
];

fn render_event() {
    let index = StoreIndex(7001);
    let value = Some((&[b'x'; 256][..]).into());
    let node = Shown { value, dir: false, modified: index, created: index, expires: None };
    let event = Event {
        action: Action::Set,
        index,
        at: LogTime(1),
        offset: WallOffset(0),
        path: KeyPath::from("/service/1/node-1"),
        prev: Some(node.clone()),
        node,
        refresh: false,
        removed: Removed::Nothing,
    };
    assert!(event_bytes(black_box(&event)).len() > 512);
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "a path of dots",
        input: |bytes| b"/.a".repeat(bytes / 3),
        read: |input| assert_eq!(path::redirect(input), None),
    },
    Case {
        name: "a path that ends in a dot",
        input: |bytes| [&b"/.a".repeat(bytes / 3)[..], b"/."].concat(),
        read: |input| assert!(path::redirect(input).is_some()),
    },
    Case {
        name: "a path of slashes",
        input: |bytes| b"/".repeat(bytes),
        read: |input| assert!(path::redirect(input).is_some()),
    },
    Case {
        name: "a path that goes up and down",
        input: |bytes| b"/a/b/..".repeat(bytes / 7),
        read: |input| assert!(path::redirect(input).is_some()),
    },
    Case {
        name: "an escaped path",
        input: |bytes| b"/%2e%ff".repeat(bytes / 7),
        read: |input| assert!(path::percent_decode(input).is_ok()),
    },
    Case {
        name: "a signed request with a long password",
        input: |bytes| [&b"Basic dTpw"[..], &b"AAAA".repeat(bytes / 4)].concat(),
        read: |input| assert!(access::is_signed(input)),
    },
    Case {
        name: "a user of many fields",
        input: |bytes| {
            let fields = b",\"user\":\"a\"".repeat(bytes / 11);
            [&b"{\"x\":[[]]"[..], &fields, b"}"].concat()
        },
        read: |input| assert!(security::is_user(input)),
    },
    Case {
        name: "a user of many roles",
        input: |bytes| {
            [&b"{\"roles\":[\"r\""[..], &b",\"\\u00e9\"".repeat(bytes / 9), b"]}"].concat()
        },
        read: |input| assert!(security::is_user(input)),
    },
    Case {
        name: "a form of many fields",
        input: |bytes| b"a=b&value=c&".repeat(bytes / 12),
        read: |input| assert!(form(&Method::PUT, FORM, b"", input)),
    },
    Case {
        name: "a form of one value, escaped in every way",
        input: |bytes| [&b"value="[..], &b"a+%2B+%ff".repeat(bytes / 9)].concat(),
        read: |input| assert!(form(&Method::PUT, FORM, b"", input)),
    },
    Case {
        name: "a form in which everything is wrong",
        input: |bytes| b"a;=%z&%&".repeat(bytes / 8),
        read: |input| assert!(!form(&Method::PUT, FORM, b"", input)),
    },
    Case {
        name: "a query",
        input: |bytes| b"wait=true&recursive=%74rue&".repeat(bytes / 27),
        read: |input| assert!(form(&Method::GET, FORM, input, b"")),
    },
    Case {
        name: "a query of digits",
        input: |bytes| [&b"waitIndex="[..], &b"0".repeat(bytes)].concat(),
        read: |input| assert!(form(&Method::GET, FORM, input, b"")),
    },
    Case {
        name: "a media type with many parameters",
        input: |bytes| {
            let parameter = |n| format!("; p{n}=\"\\a\"");
            let parameters: String = (0..bytes / 12).map(parameter).collect();
            format!("text/plain{parameters}").into_bytes()
        },
        read: |input| assert!(media_type::parse(input).is_ok()),
    },
    Case {
        name: "a media type of blanks and quotes",
        input: |bytes| [&b"text/plain; a=\""[..], &b" \\\"; ".repeat(bytes / 5)].concat(),
        read: |input| assert!(media_type::parse(input).is_err()),
    },
    Case {
        name: "the URLs of a new member",
        input: |bytes| {
            let urls = crate::costs::list(bytes, |n| format!("\"http://a{n}:1\""));
            [b"{\"peerURLs\":[", &urls[..], b"]}"].concat()
        },
        read: |input| {
            let urls = members::urls_of(input).expect("a list of URLs");
            assert!(urls.iter().all(|url| members::peer_url(url).is_ok()));
        },
    },
    Case {
        name: "a JSON object with many names",
        input: |bytes| {
            let fields = crate::costs::list(bytes, |n| format!("\"{n}\":[[]]"));
            [b"{", &fields[..], b"}"].concat()
        },
        read: |input| assert!(members::urls_of(input).is_ok_and(|urls| urls.is_empty())),
    },
    Case {
        name: "the size of a cluster to be",
        input: |bytes| b"a=b&".repeat(bytes / 4),
        read: |input| {
            assert_eq!(discovery::size(std::str::from_utf8(input).expect("ASCII")), Some(3));
        },
    },
    Case {
        name: "a text for an answer",
        input: |bytes| b"<\"\xe2\x80\xa8\xff\n".repeat(bytes / 7),
        read: |input| json::string(&mut Vec::new(), input),
    },
];
