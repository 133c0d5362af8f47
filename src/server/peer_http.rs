//! Questions to the peer URLs of members while this one is not yet in the cluster: plain HTTP.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use crate::model::{ClusterId, MemberId};
use crate::server::dial;

/// A peer that does not say who is in its cluster within this time is taken for down.
const TIMEOUT: Duration = Duration::from_secs(2);

/// To change the cluster takes longer, above all when its leader has just gone.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Nobody has so many members.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A member as its peers list it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: u64,
    #[serde(rename = "peerURLs")]
    pub(super) peer_urls: Vec<String>,
    #[serde(default)]
    pub(super) name: String,
}

/// What a peer says of its cluster.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) id: ClusterId,
    pub(super) members: Vec<Listed>,
}

/// Asks a peer for its cluster.
pub(super) async fn cluster(peer_url: &str) -> io::Result<Cluster> {
    let request = Request::get("/members").body(Bytes::new());
    let (head, body) = ask(peer_url, request.map_err(io::Error::other)?, TIMEOUT).await?;
    if head.status != StatusCode::OK {
        return Err(io::Error::other(format!("{} {}", head.status, show(&body))));
    }
    let id = head.headers.get("X-Etcd-Cluster-Id").and_then(|id| id.to_str().ok());
    let id = id.and_then(|id| u64::from_str_radix(id, 16).ok());
    let id = id.ok_or_else(|| io::Error::other("the answer names no cluster"))?;
    let members = serde_json::from_slice(&body).map_err(io::Error::other)?;
    Ok(Cluster { id: ClusterId(id), members })
}

/// Asks a peer to let this member take the place of one that has lost its data. The answer is the new id.
pub(super) async fn replace(
    peer_url: &str,
    lost: MemberId,
    peer_urls: &[String],
) -> io::Result<MemberId> {
    let body = serde_json::json!({ "peerURLs": peer_urls }).to_string();
    let request = Request::post(format!("/members/{lost}/replace"))
        .header("Content-Type", "application/json")
        .body(Bytes::from(body));
    let request = request.map_err(io::Error::other)?;
    let (head, body) = ask(peer_url, request, CHANGE_TIMEOUT).await?;
    if head.status != StatusCode::CREATED {
        return Err(io::Error::other(show(&body)));
    }
    let listed: Listed = serde_json::from_slice(&body).map_err(io::Error::other)?;
    Ok(MemberId(listed.id))
}

fn show(body: &[u8]) -> String {
    let message = |body| {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        Some(value.get("message")?.as_str()?.to_owned())
    };
    message(body).unwrap_or_else(|| String::from_utf8_lossy(body).trim_end().to_owned())
}

async fn ask(
    peer_url: &str,
    request: Request<Bytes>,
    timeout: Duration,
) -> io::Result<(http::response::Parts, Bytes)> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    tokio::time::timeout(timeout, try_ask(peer_url, request)).await.unwrap_or_else(|_| Err(late()))
}

async fn try_ask(
    peer_url: &str,
    request: Request<Bytes>,
) -> io::Result<(http::response::Parts, Bytes)> {
    let authority = dial::authority(peer_url)?;
    let stream = dial::connect(authority).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let mut request = request.map(Full::new);
    let host = http::HeaderValue::try_from(authority).map_err(io::Error::other)?;
    request.headers_mut().insert(http::header::HOST, host);
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(io::Error::other)?;
        Ok((head, body.to_bytes()))
    };
    tokio::select! {
        answer = answer => answer,
        ended = connection => match ended {
            Ok(()) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(io::Error::other(error)),
        },
    }
}
