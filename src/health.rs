//! Is a member well? The question that a container's health check asks, with an answer that is an exit code.
//!
//! Owns: whom to ask, and how long. Never knows: what makes a member healthy; it answers `/health` itself.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Address, Outcome, TlsFlags};
use crate::discovery::{HttpClient, Limits};
use crate::program::Program;
use crate::tls::{Tls, Trust};

/// All of it, name look-up included: health checks wait for two seconds or more.
const TIMEOUT: Duration = Duration::from_millis(1900);

/// Where a member listens that was told nothing.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:2379";

const USAGE: &str = "Usage: cairn health [--endpoint http://HOST:PORT or https://HOST:PORT]
Asks a member whether it has a leader and can read. Without --endpoint it is the member that this container runs, or
that the variables of this environment configure, or http://127.0.0.1:2379. Exits with 0 if it is healthy, else with 1.";

/// What the operating system knows of the member that is asked for.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Variables of the environment, which may hold the member's flags.
    pub variables: Vec<(String, String)>,
    /// The command line of the first process, which in a container is the member.
    pub first_process: Vec<String>,
}

/// Asks the member that `arguments` or the surroundings name; `read` fetches its `--config-file`. The text is what it said.
///
/// # Errors
/// What it said if it is not healthy, or why it cannot be asked.
pub async fn ask(
    arguments: Vec<String>,
    surroundings: Surroundings,
    read: impl FnOnce(&str) -> io::Result<String>,
) -> Result<String, String> {
    let named = named(arguments)?;
    let member = configured(surroundings, read);
    let (endpoint, tls) = match (named, member) {
        // Another member, perhaps: its certificate has to be one that this member would take.
        (Some(endpoint), member) => {
            let flags = member.map(|member| member.tls).unwrap_or_default();
            (endpoint, Tls::load(flags, Trust::ConfiguredOrPublic, &[]))
        }
        (None, member) => {
            let member = member.unwrap_or_else(|| Asked {
                endpoint: DEFAULT_ENDPOINT.to_owned(),
                tls: TlsFlags::default(),
            });
            (member.endpoint, Tls::load(member.tls, Trust::Itself, &[]))
        }
    };
    let url = format!("{}/health", endpoint.trim_end_matches('/'));
    let limits = Limits { connect: TIMEOUT, answer: TIMEOUT, ..Limits::default() };
    let mut client = HttpClient::new().with_limits(limits);
    if url.starts_with("https://") {
        client = client.with_tls(Arc::new(tls.map_err(|error| error.to_string())?));
    }
    let answer = tokio::time::timeout(TIMEOUT, client.get(&url)).await;
    let answer = answer.map_err(|_| format!("no answer from {url} within {TIMEOUT:?}"))?;
    let answer = answer.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&answer.body).trim_end().to_owned();
    match answer.status.is_success() && says_healthy(&answer.body) {
        true => Ok(text),
        false => Err(format!("{url} says {}: {text}", answer.status.as_u16())),
    }
}

/// The endpoint of the command line.
fn named(arguments: Vec<String>) -> Result<Option<String>, String> {
    let mut arguments = arguments.into_iter();
    let Some(flag) = arguments.next() else { return Ok(None) };
    let name = flag.strip_prefix("--").or_else(|| flag.strip_prefix('-')).unwrap_or_default();
    let endpoint = match name.split_once('=') {
        Some(("endpoint", endpoint)) => Some(endpoint.to_owned()),
        None if name == "endpoint" => arguments.next(),
        Some(_) | None => None,
    };
    match (endpoint, arguments.next()) {
        (Some(endpoint), None) => Ok(Some(endpoint)),
        (Some(_), Some(_)) | (None, _) => Err(USAGE.to_owned()),
    }
}

/// The member that is asked, as its own flags describe it.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    endpoint: String,
    tls: TlsFlags,
}

/// Where the member listens according to its own flags, wherever those are from: a check that asks at another place would
/// have a healthy member restarted.
fn configured(
    surroundings: Surroundings,
    read: impl FnOnce(&str) -> io::Result<String>,
) -> Option<Asked> {
    let flags = Program::server_flags(surroundings.first_process).unwrap_or_default();
    // Whom the cluster was founded with does not matter here.
    match config::load(flags, surroundings.variables, read, |_| true) {
        Outcome::Run(config, _) => {
            let mut ports =
                config.client_listeners.iter().filter_map(|listener| match listener.address {
                    Address::Tcp(address) => Some((address, listener.tls)),
                    Address::Unix(_) => None,
                });
            let (address, tls) = ports.next()?;
            Some(Asked { endpoint: reachable(address, tls), tls: config.client_tls })
        }
        Outcome::Print(_) | Outcome::Fail(_) => None,
    }
}

/// Who listens on every address is asked on loopback.
fn reachable(listener: SocketAddr, tls: bool) -> String {
    let mut address = listener;
    if listener.ip().is_unspecified() {
        let loopback = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        address.set_ip(if listener.is_ipv4() { loopback.0 } else { loopback.1 });
    }
    format!("{}://{address}", if tls { "https" } else { "http" })
}

/// etcd writes the word as text, others as a truth value.
fn says_healthy(body: &[u8]) -> bool {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    value["health"] == "true" || value["health"] == true
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_endpoint_is_named_like_any_flag() {
        let named = |text| named(words(text));
        assert_eq!(named(""), Ok(None));
        for text in ["--endpoint u", "-endpoint u", "--endpoint=u", "-endpoint=u"] {
            assert_eq!(named(text), Ok(Some("u".to_owned())), "{text}");
        }
        for text in ["--endpoint", "endpoint u", "u", "--endpoint u v", "--endpoints u", "--help"] {
            assert_eq!(named(text), Err(USAGE.to_owned()), "{text}");
        }
    }

    /// Where is asked, with the words of the first process and with variables.
    fn asked(first_process: &str, variables: &[(&str, &str)]) -> Option<String> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables = variables.iter().map(pair).collect();
        let surroundings = Surroundings { variables, first_process: words(first_process) };
        configured(surroundings, |_| {
            Ok("listen-client-urls: http://10.0.0.9:9\n\
                                         advertise-client-urls: http://10.0.0.9:9"
                .to_owned())
        })
        .map(|asked| asked.endpoint)
    }

    #[test]
    fn the_member_of_a_container_is_found_by_its_own_flags() {
        let everywhere =
            "-advertise-client-urls http://a:1 -listen-client-urls http://0.0.0.0:4001";
        let at = |text: &str| Some(text.to_owned());
        assert_eq!(asked(&format!("cairn etcd {everywhere}"), &[]), at("http://127.0.0.1:4001"));
        assert_eq!(asked(&format!("init -- etcd {everywhere}"), &[]), at("http://127.0.0.1:4001"));
        let one = "cairn --advertise-client-urls=http://a:1 --listen-client-urls=http://10.0.0.1:2,http://127.0.0.1:3";
        assert_eq!(asked(one, &[]), at("http://10.0.0.1:2"));
        assert_eq!(asked("cairn --config-file c", &[]), at("http://10.0.0.9:9"));
        assert_eq!(asked("/sbin/init", &[]), at(DEFAULT_ENDPOINT));
        assert_eq!(asked("cairn --nonsense", &[]), None);
    }

    #[test]
    fn the_variables_of_a_member_are_its_flags_too() {
        let listen = |prefix: &str, url| {
            let (listen, advertise) =
                (format!("{prefix}_LISTEN_CLIENT_URLS"), format!("{prefix}_ADVERTISE_CLIENT_URLS"));
            asked("cairn -name x", &[(&listen, url), (&advertise, "http://a:1")])
        };
        assert_eq!(listen("ETCD", "http://[::]:7"), Some("http://[::1]:7".to_owned()));
        assert_eq!(listen("CAIRN", "http://10.1.1.1:8"), Some("http://10.1.1.1:8".to_owned()));
    }

    /// A server that reads one request and gives `answer`; it says nothing when that is empty.
    async fn endpoint(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
        });
        url
    }

    async fn ask_there(answer: &'static str) -> Result<String, String> {
        let arguments = vec!["--endpoint".to_owned(), endpoint(answer).await];
        ask(arguments, Surroundings::default(), |_| unreachable!("no file is named")).await
    }

    #[tokio::test]
    async fn only_a_member_that_says_so_is_healthy() {
        for (answer, healthy) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"health\":\"true\"}", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"health\":true}", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"health\":\"false\"}", false),
            ("HTTP/1.1 503 No\r\nContent-Length: 17\r\n\r\n{\"health\":\"true\"}", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", false),
            ("SSH-2.0-x\r\n", false),
        ] {
            let said = ask_there(answer).await;
            assert_eq!(said.is_ok(), healthy, "{answer:?}: {said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_says_nothing_is_not_waited_for() {
        let asked = tokio::time::Instant::now();
        let said = ask_there("").await.unwrap_err();
        assert!(said.contains("no answer from "), "{said}");
        assert!(asked.elapsed() <= Duration::from_secs(2), "{:?}", asked.elapsed());
    }
}
