//! How this member finds the other founders: what the flags named `discovery` come to.
//!
//! Never knows: whether a server answers there.

use std::net::{IpAddr, SocketAddr};

use http::Uri;

use crate::config::parse::Raw;
use crate::config::{Failure, Level, Notice};
use crate::model::Discovery;

const DNS_PORT: u16 = 53;

/// Flags that mean something only beside another one.
const DEPENDENT: [(&str, &str); 3] = [
    ("discovery-proxy", "discovery"),
    ("discovery-srv-name", "discovery-srv"),
    ("discovery-dns", "discovery-srv"),
];

/// `None` when the founders are listed. That not both are said has been checked.
pub(super) fn discovery(
    raw: &Raw,
    notices: &mut Vec<Notice>,
) -> Result<Option<Discovery>, Failure> {
    for (flag, other) in DEPENDENT {
        if !raw.get(flag).is_empty() && raw.said(flag).is_some() && raw.get(other).is_empty() {
            let text = format!("--{flag} has no effect without --{other}");
            notices.push(Notice { level: Level::Warning, text });
        }
    }
    let (flag, discovery) = if !raw.get("discovery").is_empty() {
        ("discovery", registry(raw)?)
    } else if !raw.get("discovery-srv").is_empty() {
        ("discovery-srv", srv(raw)?)
    } else {
        return Ok(None);
    };
    if raw.get("initial-cluster-state") == "existing" {
        return Err(Failure::verifying(format!(
            "--{flag} finds the founders of a new cluster, and --initial-cluster-state is existing: to join a running cluster \
             list its members in --initial-cluster instead"
        )));
    }
    if raw.said("initial-advertise-peer-urls").is_none() && raw.get("proxy") == "off" {
        let text = format!(
            "the other founders will look for this member at {}, which is their own machine: set \
             --initial-advertise-peer-urls beside --{flag}",
            raw.get("initial-advertise-peer-urls")
        );
        notices.push(Notice { level: Level::Warning, text });
    }
    Ok(Some(discovery))
}

/// What tells the cluster apart: the directory itself, if there is one.
pub(super) fn token(raw: &Raw, discovery: Option<&Discovery>) -> String {
    match discovery {
        Some(Discovery::Registry { url, .. }) => url.clone(),
        Some(Discovery::Srv { .. }) | None => raw.get("initial-cluster-token").to_owned(),
    }
}

fn registry(raw: &Raw) -> Result<Discovery, Failure> {
    let url = raw.get("discovery");
    let uri = http_url("discovery", url)?;
    if uri.path() == "/" || uri.query().is_some() {
        return Err(Failure::verifying(format!(
            "discovery: invalid URL: --discovery {url:?} names no directory of keys: write \
             http://HOST:PORT/v2/keys/DIRECTORY, or what `curl http://HOST:PORT/new?size=3` prints"
        )));
    }
    let proxy = match raw.get("discovery-proxy") {
        "" => None,
        proxy => Some(proxy_address(proxy)?),
    };
    Ok(Discovery::Registry { url: url.to_owned(), proxy })
}

/// With a scheme or without, as in etcd.
fn proxy_address(proxy: &str) -> Result<String, Failure> {
    let whole = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    let uri = http_url("discovery-proxy", &whole)?;
    if uri.path() != "/" || uri.query().is_some() {
        return Err(invalid("discovery-proxy", proxy, "a proxy has no path"));
    }
    Ok(uri.authority().map(ToString::to_string).unwrap_or_default())
}

fn http_url(flag: &str, text: &str) -> Result<Uri, Failure> {
    let uri: Uri = text
        .parse()
        .map_err(|error: http::uri::InvalidUri| invalid(flag, text, &error.to_string()))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if flag == "discovery" => {}
        Some(_) | None => {
            return Err(invalid(flag, text, "its scheme is none that is spoken here"));
        }
    }
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    if authority.contains('@') {
        return Err(invalid(flag, text, "user names in URLs are not supported yet"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(invalid(flag, text, "it has no host"));
    }
    if Some(authority) != uri.host() && uri.port_u16().is_none() {
        return Err(invalid(flag, text, "its port is no number up to 65535"));
    }
    Ok(uri)
}

fn invalid(flag: &str, text: &str, why: &str) -> Failure {
    Failure::verifying(format!(
        "discovery: invalid URL: --{flag} {text:?}: {why}: write http://HOST:PORT{}",
        if flag == "discovery" { "/v2/keys/DIRECTORY" } else { "" }
    ))
}

fn srv(raw: &Raw) -> Result<Discovery, Failure> {
    let domain = raw.get("discovery-srv").trim_end_matches('.');
    let suffix = raw.get("discovery-srv-name");
    let plain = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !domain.split('.').all(|label| !label.is_empty() && plain(label)) {
        return Err(Failure::verifying(format!(
            "--discovery-srv {domain:?} is no DNS domain: write it like example.com"
        )));
    }
    if !plain(suffix) {
        return Err(Failure::verifying(format!(
            "--discovery-srv-name {suffix:?} cannot be a part of a service's name: use letters, digits and dashes"
        )));
    }
    let name_server = match raw.get("discovery-dns") {
        "" => None,
        text => {
            let alone = || text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT));
            let address = text.parse().or_else(|_| alone()).map_err(|_| {
                Failure::verifying(format!(
                    "--discovery-dns {text:?} is no address of a name server: write IP:PORT, for example 10.0.0.53:53"
                ))
            })?;
            Some(address)
        }
    };
    Ok(Discovery::Srv { domain: domain.to_owned(), suffix: suffix.to_owned(), name_server })
}
