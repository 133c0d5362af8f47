//! The directory in which founders meet, as etcd's keys: what is asked of it, and what the answers mean.
//!
//! Never knows: the order of the steps, and how often they are tried.

use http::StatusCode;
use serde::Deserialize;

use crate::discovery::DiscoveryError;
use crate::discovery::entries::Entry;
use crate::discovery::http_client::{HttpClient, Response};
use crate::discovery::http_error::HttpError;
use crate::model::MemberId;

/// What is below this name is about the directory itself.
const CONFIG: &str = "_config";
/// So much is shown of an answer that cannot be understood.
const EXCERPT_CHARS: usize = 120;

/// Codes of etcd's errors.
const KEY_NOT_FOUND: u16 = 100;
const KEY_EXISTS: u16 = 105;
const INDEX_CLEARED: u16 = 401;

/// What comes in place of an answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may be over soon.
    Passing(String),
    /// It stays.
    Final(DiscoveryError),
}

/// Who has registered.
#[derive(Debug)]
pub(super) struct Listing {
    /// The first founders first.
    pub(super) entries: Vec<Entry>,
    /// Of which moment this is.
    pub(super) index: u64,
}

/// What a registration comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registered {
    /// It is written.
    Now,
    /// The key was there already.
    Before,
}

/// A directory of keys in another cluster.
pub(super) struct Directory {
    /// As the operator wrote it.
    url: String,
    /// What is asked.
    base: String,
    client: HttpClient,
}

#[derive(Deserialize)]
struct Answer {
    node: Node,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    dir: bool,
    #[serde(default)]
    nodes: Vec<Self>,
    #[serde(default)]
    created_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    error_code: u16,
    message: String,
    #[serde(default)]
    cause: String,
}

/// An answer that could be read.
enum KeysAnswer {
    Node(Node),
    Refused(Refused),
}

impl Directory {
    pub(super) fn new(url: &str, client: HttpClient) -> Self {
        Self { url: url.to_owned(), base: cleaned(url), client }
    }

    /// How many members the cluster is to have, as it was written there.
    pub(super) async fn size(&self) -> Result<String, Trouble> {
        let url = format!("{}/{CONFIG}/size?quorum=true", self.base);
        match self.read(&url, self.client.get(&url).await)?.0 {
            KeysAnswer::Node(node) => Ok(node.value),
            KeysAnswer::Refused(refused) if refused.error_code == KEY_NOT_FOUND => {
                Err(Trouble::Final(DiscoveryError::SizeNotFound { url: self.url.clone() }))
            }
            KeysAnswer::Refused(refused) => Err(self.useless(&url, &refused)),
        }
    }

    /// Who has registered so far.
    pub(super) async fn list(&self) -> Result<Listing, Trouble> {
        let url = format!("{}?quorum=true", self.base);
        let (node, index) = match self.read(&url, self.client.get(&url).await)? {
            (KeysAnswer::Node(node), Some(index)) if node.dir => (node, index),
            (KeysAnswer::Node(_), _) => return Err(self.bad(&url, "it is no directory of keys")),
            (KeysAnswer::Refused(refused), _) if refused.error_code == KEY_NOT_FOUND => {
                return Err(Trouble::Final(DiscoveryError::TokenNotFound {
                    url: self.url.clone(),
                }));
            }
            (KeysAnswer::Refused(refused), _) => return Err(self.useless(&url, &refused)),
        };
        let name = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
        let founders = node.nodes.into_iter().filter(|node| !node.dir && name(&node.key) != CONFIG);
        let entry = |node: Node| Entry {
            key: name(&node.key),
            value: node.value,
            created: node.created_index,
        };
        let mut entries: Vec<_> = founders.map(entry).collect();
        entries.sort_by_key(|entry| entry.created);
        Ok(Listing { entries, index })
    }

    /// Registers a founder, unless it is registered.
    pub(super) async fn register(&self, id: MemberId, value: &str) -> Result<Registered, Trouble> {
        let url = format!("{}/{id}?prevExist=false", self.base);
        let answer = self.client.put_form(&url, &[("value", value)]).await;
        match self.read(&url, answer)?.0 {
            KeysAnswer::Node(_) => Ok(Registered::Now),
            KeysAnswer::Refused(refused) if refused.error_code == KEY_EXISTS => {
                Ok(Registered::Before)
            }
            KeysAnswer::Refused(refused) => Err(self.useless(&url, &refused)),
        }
    }

    /// Waits until something has changed since that moment; also returns now and then when nothing has.
    pub(super) async fn changed(&self, since: u64) -> Result<(), Trouble> {
        let from = since.saturating_add(1);
        let url = format!("{}?wait=true&recursive=true&waitIndex={from}", self.base);
        let answer = match self.client.long_poll(&url).await {
            // A service may end a long poll whenever it likes.
            Ok(answer) if answer.status == StatusCode::OK => return Ok(()),
            Err(HttpError::TimedOut { .. }) => return Ok(()),
            answer => answer,
        };
        match self.read(&url, answer)?.0 {
            KeysAnswer::Node(_) => Ok(()),
            // So much has changed that it is forgotten.
            KeysAnswer::Refused(refused) if refused.error_code == INDEX_CLEARED => Ok(()),
            KeysAnswer::Refused(refused) => Err(self.useless(&url, &refused)),
        }
    }

    /// What an answer means, and the moment it is of.
    fn read(
        &self,
        url: &str,
        answer: Result<Response, HttpError>,
    ) -> Result<(KeysAnswer, Option<u64>), Trouble> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_passing() => return Err(Trouble::Passing(error.to_string())),
            Err(error) => return Err(self.bad(url, &error.to_string())),
        };
        let status = answer.status;
        let busy = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if status.is_server_error() || busy {
            let excerpt = excerpt(&answer.body);
            return Err(Trouble::Passing(format!("{} answers {status}: {excerpt}", self.base)));
        }
        if status.is_redirection() {
            let location = answer.headers.get(http::header::LOCATION);
            let location = location.and_then(|location| location.to_str().ok()).unwrap_or("?");
            return Err(self.bad(url, &format!("it has moved to {location}; write that")));
        }
        let index = answer.headers.get("x-etcd-index");
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
        let reply = if status.is_success() {
            serde_json::from_slice(&answer.body).map(|answer: Answer| KeysAnswer::Node(answer.node))
        } else {
            serde_json::from_slice(&answer.body).map(KeysAnswer::Refused)
        };
        let reply = reply.map_err(|_| {
            self.bad(url, &format!("it answers {status}: {}", excerpt(&answer.body)))
        })?;
        Ok((reply, index))
    }

    fn bad(&self, url: &str, why: &str) -> Trouble {
        let asked = url.split('?').next().unwrap_or_default();
        Trouble::Final(DiscoveryError::BadEndpoint { url: asked.to_owned(), why: why.to_owned() })
    }

    fn useless(&self, url: &str, refused: &Refused) -> Trouble {
        let Refused { error_code, message, cause } = refused;
        self.bad(url, &format!("it answers {error_code}: {message} ({cause})"))
    }
}

/// Without what is behind the path, and without slashes that lead nowhere.
fn cleaned(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let names: Vec<_> = rest.split('/').filter(|name| !name.is_empty()).collect();
    format!("{scheme}://{}", names.join("/"))
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(EXCERPT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_queries_that_lead_nowhere_are_not_asked_for() {
        for url in ["http://a:1/v2/keys/d", "http://a:1/v2/keys//d/", "http://a:1/v2/keys/d?x=y#z"]
        {
            assert_eq!(cleaned(url), "http://a:1/v2/keys/d");
        }
    }
}
