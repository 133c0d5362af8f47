//! `/v2/members` and `/v2/machines`.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Response, StatusCode};

use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::error::{self, X_ETCD_CLUSTER_ID};
use crate::api::{access, intake, json};
use crate::model::{MemberId, Url, UrlError, codes};
use crate::replica::MemberRefusal;
use crate::store::{MemberRecord, Members};

const ALLOWED: &str = "GET,POST,DELETE,PUT";

pub(super) async fn serve(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    let rest = request.uri().path().strip_prefix("/v2/members").unwrap_or_default().to_owned();
    let id = rest.strip_prefix('/').unwrap_or(&rest).to_owned();
    let writes = matches!(*request.method(), Method::POST | Method::PUT | Method::DELETE);
    let (head, body) = request.into_parts();
    if writes && let Err(denied) = access::manages(&api, &head).await {
        return error::denied_management(denied);
    }
    let request = Request::from_parts(head, body);
    let mut response = match *request.method() {
        Method::GET => return with_cluster(&api, list(&api, &rest)),
        Method::POST => add(&api, request).await,
        Method::PUT | Method::DELETE if id.is_empty() => error::method_not_allowed(""),
        Method::PUT => update(&api, &id, request).await,
        Method::DELETE => remove(&api, &id).await,
        _ => return error::method_not_allowed(ALLOWED),
    };
    response.headers_mut().insert(X_ETCD_CLUSTER_ID, api.cluster_header.clone());
    response
}

fn with_cluster(api: &Context, mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(X_ETCD_CLUSTER_ID, api.cluster_header.clone());
    response
}

fn list(api: &Context, rest: &str) -> Response<Body> {
    let view = api.replica.view();
    let members = view.store.members();
    match rest {
        "" | "/" => json_answer(StatusCode::OK, list_body(members)),
        "/leader" => {
            let leader = api.replica.status().leadership.leader;
            let found = leader.and_then(|id| Some((id, members.get(id)?)));
            let Some((id, record)) = found else {
                return error::message(StatusCode::SERVICE_UNAVAILABLE, "During election");
            };
            json_answer(StatusCode::OK, one_body(id, record))
        }
        _ => error::message(StatusCode::NOT_FOUND, "Not found"),
    }
}

async fn add(api: &Context, request: Request) -> Response<Body> {
    let urls = match peer_urls(api, request).await {
        Ok(urls) => urls,
        Err(response) => return *response,
    };
    match api.replica.add_member(urls, api.settings.strict_reconfig).await {
        Ok((id, record)) => json_answer(StatusCode::CREATED, one_body(id, &record)),
        Err(refusal) => refused(&refusal),
    }
}

async fn update(api: &Context, id: &str, request: Request) -> Response<Body> {
    let Some(id) = MemberId::parse(id) else { return no_such(id) };
    let urls = match peer_urls(api, request).await {
        Ok(urls) => urls,
        Err(response) => return *response,
    };
    match api.replica.update_member(id, urls).await {
        Ok(()) => no_content(),
        Err(refusal) => refused(&refusal),
    }
}

async fn remove(api: &Context, id: &str) -> Response<Body> {
    let Some(id) = MemberId::parse(id) else { return no_such(id) };
    // etcd looks for the member among those present and those removed, in the store whose reads are counted.
    api.replica.reads().count(false, true);
    api.replica.reads().count(false, false);
    match api.replica.remove_member(id, api.settings.strict_reconfig).await {
        Ok(()) => no_content(),
        Err(refusal) => refused(&refusal),
    }
}

fn no_such(id: impl std::fmt::Display) -> Response<Body> {
    error::message(StatusCode::NOT_FOUND, &format!("No such member: {id}"))
}

fn refused(refusal: &MemberRefusal) -> Response<Body> {
    let status = match refusal {
        MemberRefusal::IdExists | MemberRefusal::UrlExists => StatusCode::CONFLICT,
        MemberRefusal::Unknown(id) => return no_such(id),
        MemberRefusal::Removed(_) => StatusCode::GONE,
        // The reason is in the log: clients know these two words.
        MemberRefusal::NotEnoughStarted
        | MemberRefusal::Unhealthy
        | MemberRefusal::Alive(_)
        | MemberRefusal::Unavailable(_)
        | MemberRefusal::Gone(_) => {
            tracing::warn!(target: "etcdserver", code = codes::MEMBERSHIP_REFUSED, "membership change refused: {refusal}");
            return error::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        }
    };
    error::message(status, &refusal.to_string())
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::whole(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The checked URLs of a request body, or the answer that says what is wrong with it.
async fn peer_urls(api: &Context, request: Request) -> Result<Vec<String>, Box<Response<Body>>> {
    if let Err(found) = check_media_type(request.headers()) {
        let text = format!("Bad Content-Type {found}, accept application/json");
        return Err(Box::new(error::message(StatusCode::UNSUPPORTED_MEDIA_TYPE, &text)));
    }
    let bad = |text: &str| Box::new(error::message(StatusCode::BAD_REQUEST, text));
    let (body, _reserved) = intake::small(api, request).await?;
    let urls = urls_of(&body).map_err(|text| bad(&text))?;
    if urls.is_empty() {
        return Err(bad("no valid URLs given"));
    }
    urls.iter().map(|url| peer_url(url).map_err(|error| bad(&error.to_string()))).collect()
}

/// Exactly `application/json`; only what has a part after a semicolon is trimmed and lower-cased, as in etcd.
fn check_media_type(headers: &HeaderMap) -> Result<(), String> {
    let given = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let given = String::from_utf8_lossy(given);
    let media_type = match given.split_once(';') {
        Some((media_type, _)) => media_type.trim().to_ascii_lowercase(),
        None => given.into_owned(),
    };
    if media_type == "application/json" { Ok(()) } else { Err(media_type) }
}

/// `{"peerURLs":[…]}`; the name in any case, other fields ignored, `null` and nothing alike.
pub(super) fn urls_of(body: &[u8]) -> Result<Vec<String>, String> {
    let value: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not a JSON object with peerURLs: {error}"))?;
    if value.is_null() {
        return Ok(Vec::new());
    }
    let serde_json::Value::Object(fields) = value else {
        return Err("the body is not a JSON object with peerURLs".to_owned());
    };
    let urls = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("peerURLs"));
    match urls.map(|(_, value)| value) {
        None | Some(serde_json::Value::Null) => Ok(Vec::new()),
        Some(value) => serde_json::from_value(value)
            .map_err(|error| format!("peerURLs is not a list of strings: {error}")),
    }
}

/// As it is kept. Of a member that others are to reach the host must be named.
pub(super) fn peer_url(text: &str) -> Result<String, UrlError> {
    let url = Url::parse(text)?;
    if url.host().is_empty() {
        return Err(UrlError::Address(text.to_owned()));
    }
    Ok(url.to_string())
}

fn list_body(members: &Members) -> Vec<u8> {
    let mut out = b"{\"members\":[".to_vec();
    for (place, (id, record)) in members.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        member(&mut out, id, record);
    }
    out.extend_from_slice(b"]}\n");
    out
}

fn one_body(id: MemberId, record: &MemberRecord) -> Vec<u8> {
    let mut out = Vec::new();
    member(&mut out, id, record);
    out.push(b'\n');
    out
}

fn member(out: &mut Vec<u8>, id: MemberId, record: &MemberRecord) {
    out.extend_from_slice(b"{\"id\":");
    json::string(out, id.to_string().as_bytes());
    out.extend_from_slice(b",\"name\":");
    json::string(out, record.name.as_bytes());
    out.extend_from_slice(b",\"peerURLs\":");
    json::strings(out, &record.peer_urls);
    out.extend_from_slice(b",\"clientURLs\":");
    json::strings(out, &record.client_urls);
    out.push(b'}');
}

fn json_answer(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response
}

/// All client URLs in text order, for old clients.
pub(super) async fn machines(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return error::method_not_allowed("GET,HEAD");
    }
    let view = api.replica.view();
    let members = view.store.members();
    let mut urls: Vec<_> = members.iter().flat_map(|(_, record)| &record.client_urls).collect();
    urls.sort();
    let urls: Vec<_> = urls.into_iter().map(String::as_str).collect();
    let mut response = Response::new(Body::whole(urls.join(", ")));
    response.headers_mut().insert(CONTENT_TYPE, error::TEXT);
    response
}

/// A member that has lost its data asks on a peer URL to join again: `POST /members/ID/replace`. Unlike clients it is told
/// what stands in its way.
pub(super) async fn replace(
    State(api): State<Arc<Context>>,
    Path(lost): Path<String>,
    request: Request,
) -> Response<Body> {
    if request.method() != Method::POST {
        return error::method_not_allowed("POST");
    }
    let Some(lost) = MemberId::parse(&lost) else { return no_such(lost) };
    let urls = match peer_urls(&api, request).await {
        Ok(urls) => urls,
        Err(response) => return *response,
    };
    let response = match api.replica.replace_member(lost, urls).await {
        Ok((id, record)) => {
            tracing::info!(target: "etcdserver", "member {lost} has lost its data and joins again as {id}");
            let mut out = Vec::new();
            member_for_peers(&mut out, id, &record);
            out.push(b'\n');
            json_answer(StatusCode::CREATED, out)
        }
        Err(refusal) => {
            tracing::warn!(target: "etcdserver", code = codes::JOIN_REFUSED, "member {lost} wants to join again and may not: {refusal}");
            error::message(StatusCode::CONFLICT, &refusal.to_string())
        }
    };
    with_cluster(&api, response)
}

/// The list that new members and proxies read on a peer URL: ids are numbers there.
pub(super) async fn for_peers(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    if request.method() != Method::GET {
        return error::method_not_allowed("GET");
    }
    let view = api.replica.view();
    let mut out = b"[".to_vec();
    for (place, (id, record)) in view.store.members().iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        member_for_peers(&mut out, id, record);
    }
    out.extend_from_slice(b"]\n");
    with_cluster(&api, json_answer(StatusCode::OK, out))
}

fn member_for_peers(out: &mut Vec<u8>, id: MemberId, record: &MemberRecord) {
    out.extend_from_slice(b"{\"id\":");
    json::number(out, id.0);
    out.extend_from_slice(b",\"peerURLs\":");
    json::strings(out, &record.peer_urls);
    out.extend_from_slice(b",\"name\":");
    json::string(out, record.name.as_bytes());
    out.extend_from_slice(b",\"clientURLs\":");
    json::strings(out, &record.client_urls);
    out.push(b'}');
}
