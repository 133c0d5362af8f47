//! Questions to the peer URLs of members while this one is not yet in the cluster.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::discovery::{HttpClient, Limits, Response};
use crate::model::{ClusterId, MemberId};
use crate::tls::Tls;

/// A peer that does not say who is in its cluster within this time is taken for down.
const TIMEOUT: Duration = Duration::from_secs(2);

/// To change the cluster takes longer, above all when its leader has just gone.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// A member as its peers list it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: u64,
    #[serde(rename = "peerURLs")]
    pub(super) peer_urls: Vec<String>,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, rename = "clientURLs")]
    pub(super) client_urls: Vec<String>,
}

/// What a peer says of its cluster.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) id: ClusterId,
    pub(super) members: Vec<Listed>,
}

/// Asks a peer for its cluster.
///
/// # Errors
/// What is in the way, for the operator.
pub(super) async fn cluster(peer_url: &str, tls: &Arc<Tls>) -> Result<Cluster, String> {
    let answer = client(TIMEOUT, tls).get(&format!("{peer_url}/members")).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("{} {}", answer.status, message(&answer)));
    }
    let id = answer.headers.get("X-Etcd-Cluster-Id").and_then(|id| id.to_str().ok());
    let id = id.and_then(|id| u64::from_str_radix(id, 16).ok());
    let id = id.ok_or_else(|| "the answer names no cluster".to_owned())?;
    let members = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    Ok(Cluster { id: ClusterId(id), members })
}

/// Asks a peer to let this member take the place of one that has lost its data. The answer is the new id.
///
/// # Errors
/// What is in the way, for the operator.
pub(super) async fn replace(
    peer_url: &str,
    lost: MemberId,
    peer_urls: &[String],
    tls: &Arc<Tls>,
) -> Result<MemberId, String> {
    let url = format!("{peer_url}/members/{lost}/replace");
    let body = serde_json::json!({ "peerURLs": peer_urls }).to_string();
    let answer = client(CHANGE_TIMEOUT, tls).post_json(&url, body).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::CREATED {
        return Err(message(&answer));
    }
    let listed: Listed = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    Ok(MemberId(listed.id))
}

fn client(answer: Duration, tls: &Arc<Tls>) -> HttpClient {
    let limits = Limits { connect: TIMEOUT, answer, ..Limits::default() };
    HttpClient::new().with_limits(limits).with_tls(Arc::clone(tls))
}

fn message(answer: &Response) -> String {
    let message = || {
        let value: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        Some(value.get("message")?.as_str()?.to_owned())
    };
    message().unwrap_or_else(|| String::from_utf8_lossy(&answer.body).trim_end().to_owned())
}
