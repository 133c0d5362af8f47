//! The ways of a request through the server: read in place, as the HTTP library's types, by the library itself. A client cannot tell
//! them apart: status line, headers in their order and body are the same.

use super::support::http::{self, Reply, Request};
use super::{Member, wait_until};

/// What sends a request each way, and changes nothing else.
const WAYS: [Option<(&str, &str)>; 3] =
    [None, Some(("Origin", "http://page.example")), Some(("TE", "trailers"))];

/// All that a client sees, but for the time of day.
fn seen(reply: &Reply) -> (u16, &str, Vec<&(String, String)>, &[u8]) {
    let head = &reply.head;
    let headers = head.headers.iter().filter(|(name, _)| name != "Date").collect();
    (head.status, &head.reason, headers, &reply.body)
}

#[test]
fn an_answer_is_the_same_in_every_way() {
    let member = Member::start(&[]);
    // Then it writes nothing of its own any more.
    let tells = |path: &str, what: &str| {
        let page = http::ask(member.addr(), &Request::get(path)).expect("an answer");
        page.text().contains(what)
    };
    wait_until("the member has said where it is", || {
        tells("/version", "\"etcdcluster\":\"3.4.0\"") && tells("/v2/members", "\"clientURLs\":[\"")
    });
    assert_eq!(member.put("/dir/a", "1").status(), 201);
    assert_eq!(member.put("/dir/long", &"x".repeat(3000)).status(), 201);
    let form = |method, target: &str, body: &str| Request::new(method, target).form(body);
    for request in [
        Request::get("/v2/keys/dir/a"),
        Request::get("/v2/keys/dir/a?quorum=true"),
        Request::get("/v2/keys/dir/long"),
        Request::get("/v2/keys/?recursive=true&sorted=true"),
        Request::get("/v2/keys/none"),
        Request::get("/v2/keys/dir/a?recursive=x"),
        Request::get("/v2/keys//dir/a"),
        Request::get("/v2/keys/dir/%61"),
        Request::get("/v2/keys/dir/a?wait=true&waitIndex=1"),
        form("PUT", "/v2/keys/dir/a", "value=2&prevValue=9"),
        form("PUT", "/v2/keys/dir/a", "value=2&prevExist=false"),
        form("PUT", "/v2/keys/dir", "value=2"),
        form("POST", "/v2/keys/dir/a", "value=2"),
        form("DELETE", "/v2/keys/dir", ""),
    ] {
        let [in_place, types, library] = WAYS.map(|way| {
            let request = request.clone();
            let request = match way {
                Some((name, value)) => request.header(name, value),
                None => request,
            };
            http::ask(member.addr(), &request).expect("an answer")
        });
        assert_eq!(seen(&in_place), seen(&types), "{request:?}");
        assert_eq!(seen(&in_place), seen(&library), "{request:?}");
    }
}
