//! TLS: what a member shows and demands on its sockets, made from files that may change while it runs.
//!
//! Owns: certificates, keys, authorities and revocation lists; who may connect as far as certificates say it; the names in a
//! verified certificate; the keys that sign tokens, which are in files of the same kinds. Never knows: sockets, HTTP, who is a user.
//! The only place that names rustls.
//!
//! Connections keep what they began with; new ones use the files as they are by then. A new file that is broken changes
//! nothing: the last good one stays in use, and the log says so.

mod auto;
mod certificate;
mod error;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod signing;
mod stream;
mod verify;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::{TlsFlags, TlsVersion};

pub use error::TlsError;
pub use signing::Signing;
pub use stream::ClientStream;
pub use tokio_rustls::server::TlsStream as ServerStream;

use certificate::Ends;
use files::Files;
use verify::{Allowed, Servers};

/// The ways of one member to speak TLS to one side, clients or peers.
pub struct Tls {
    flags: TlsFlags,
    trust: Trust,
    /// What the files held when they were last read without a fault, and the stamps they had.
    current: ArcSwap<Current>,
}

/// Whose certificates are taken where this side connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that the trusted CA vouches for; without one, those that an authority does which the system trusts.
    Configured,
    /// Those of either kind: a discovery service may be one's own or a public one.
    ConfiguredOrPublic,
    /// The one that this member shows and no other, whatever names and authority that has: it asks itself.
    Itself,
    /// Any: a person has said so, for a test.
    Anybody,
}

struct Current {
    /// `None` when there is no certificate to show.
    server: Option<ServerSides>,
    client: Arc<ClientConfig>,
    /// When the certificate that is shown ends.
    ends: Option<Arc<Ends>>,
    stamps: Vec<(PathBuf, Option<files::Stamp>)>,
}

/// What connections that come in are made with: they differ in what is offered by ALPN alone.
#[derive(Clone)]
struct ServerSides {
    http1: Arc<ServerConfig>,
    /// Clients of gRPC insist on HTTP/2.
    http2: Arc<ServerConfig>,
}

/// The first byte of every TLS connection: a handshake record.
pub const FIRST_BYTE: u8 = 22;

impl Tls {
    /// Reads the files. `hosts` are the names under which this member is reached: a certificate that is made is for them, and one
    /// that is not for any of them is warned of.
    ///
    /// # Errors
    /// See [`TlsError`]; the texts name file and fix.
    pub fn load(flags: TlsFlags, trust: Trust, hosts: &[String]) -> Result<Self, TlsError> {
        let flags = auto::with_files(flags);
        let current = match read(&flags, trust, hosts) {
            // Only a member itself makes files, not one that asks whether it is well.
            Err(why) if trust == Trust::Configured && why.is_about_the_pair(&flags) => {
                auto::make(&flags, hosts)?;
                read(&flags, trust, hosts)?
            }
            read => read?,
        };
        Ok(Self { flags, trust, current: ArcSwap::from_pointee(current) })
    }

    /// Does the common name of a client say who is asking?
    pub fn names_users(&self) -> bool {
        self.flags.names_users
    }

    /// Does the handshake of a connection that was accepted; `http2` offers HTTP/2 beside HTTP/1. There is no time limit in here.
    ///
    /// # Errors
    /// What is wrong, in the words of the library.
    pub async fn accept<S>(&self, stream: S, http2: bool) -> io::Result<ServerStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server = self.current.load().server.clone();
        let server = server.ok_or_else(|| io::Error::other("there is no certificate to show"))?;
        tokio_rustls::TlsAcceptor::from(if http2 { server.http2 } else { server.http1 })
            .accept(stream)
            .await
            .map_err(verify::refused)
    }

    /// Does the handshake of a connection to `host`, a name or an address.
    ///
    /// # Errors
    /// What is wrong, in the words of the library; with a fix where one is known.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<ClientStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let client = Arc::clone(&self.current.load().client);
        connect(client, host, stream).await
    }

    /// As [`Tls::connect`], for HTTP/2 and nothing else.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_http2<S>(&self, host: &str, stream: S) -> io::Result<ClientStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut client = ClientConfig::clone(&self.current.load().client);
        client.alpn_protocols = vec![b"h2".to_vec()];
        connect(Arc::new(client), host, stream).await
    }

    /// Reads the files again if any of them has changed since; `true` if they were.
    ///
    /// # Errors
    /// As [`Tls::load`]; then everything stays as it was, until the files change again.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let stamps = files::stamps(&self.flags);
        let kept = self.current.load_full();
        if stamps == kept.stamps {
            return Ok(false);
        }
        let (next, result) = match read(&self.flags, self.trust, &[]) {
            Ok(current) => (current, Ok(true)),
            Err(error) => {
                // With these stamps the same fault is told of once.
                let (server, client) = (kept.server.clone(), Arc::clone(&kept.client));
                (Current { server, client, ends: kept.ends.clone(), stamps }, Err(error))
            }
        };
        self.current.store(Arc::new(next));
        result
    }

    /// When the certificate that is shown ends, if there is one.
    fn ends(&self) -> Option<Arc<Ends>> {
        self.current.load().ends.clone()
    }

    /// When the certificate that is shown ends, if there is one: since 1970.
    pub fn expires(&self) -> Option<Duration> {
        self.ends().map(|ends| ends.at())
    }

    /// The files that are read, for messages.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        files::named(&self.flags)
    }
}

/// The common name in the certificate that a client has shown and that was verified.
///
/// Its own only: what a client sends along, to help to find the way to an authority, may be anything.
pub fn common_name<S>(stream: &ServerStream<S>) -> Option<String> {
    let own = stream.get_ref().1.peer_certificates()?.first()?;
    certificate::common_name(own)
}

async fn connect<S>(client: Arc<ClientConfig>, host: &str, stream: S) -> io::Result<ClientStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connected = tokio_rustls::TlsConnector::from(client).connect(name, stream).await;
    match connected {
        Ok(stream) => Ok(ClientStream::new(stream, host)),
        Err(error) => Err(verify::explained(error, host)),
    }
}

fn read(flags: &TlsFlags, trust: Trust, hosts: &[String]) -> Result<Current, TlsError> {
    // Before the files: a change in between is seen by the next look.
    let stamps = files::stamps(flags);
    let files = Files::read(flags)?;
    let ends = match &files.pair {
        Some(pair) => certificate::check(pair, flags, hosts, UnixTime::now())?.map(Arc::new),
        None => None,
    };
    let terms = Terms {
        flags,
        files: &files,
        provider: Arc::new(provider(flags)?),
        versions: versions(flags),
    };
    let (server, client) = (terms.server()?, Arc::new(terms.client(trust)?));
    Ok(Current { server, client, ends, stamps })
}

/// What connections are made with.
struct Terms<'a> {
    flags: &'a TlsFlags,
    files: &'a Files,
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl Terms<'_> {
    fn server(&self) -> Result<Option<ServerSides>, TlsError> {
        let Some(pair) = &self.files.pair else { return Ok(None) };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(&self.versions).map_err(TlsError::Suites)?;
        let builder = match &self.files.roots {
            Some(roots) if self.flags.demands_certificate => {
                let (roots, provider) = (Arc::clone(roots), Arc::clone(&self.provider));
                // A list says nothing of the authorities above; those without a list have revoked nothing that is known of.
                let inner = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .with_crls(self.files.revoked.clone())
                    .allow_unknown_revocation_status()
                    .build()
                    .map_err(|error| TlsError::authorities(self.flags, &error))?;
                builder.with_client_cert_verifier(Arc::new(Allowed::new(inner, self.flags)))
            }
            Some(_) | None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(pair.chain.clone(), pair.key.clone_key())
            .map_err(|error| TlsError::pair(self.flags, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if self.flags.demands_certificate {
            // A session that goes on brings its certificate along unchecked: it may have expired meanwhile.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let mut http2 = config.clone();
        http2.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Some(ServerSides { http1: Arc::new(config), http2: Arc::new(http2) }))
    }

    fn client(&self, trust: Trust) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(&self.versions).map_err(TlsError::Suites)?;
        let servers = Servers::new(self.flags, self.files, trust, &self.provider)?;
        // The crate calls every verifier of one's own dangerous; this one chooses between those of the crate, and knows the
        // certificate of this very member, or of `--peer-auto-tls`.
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(servers));
        // What it shows to servers that demand a certificate is the same as to clients.
        match &self.files.pair {
            Some(pair) => builder
                .with_client_auth_cert(pair.chain.clone(), pair.key.clone_key())
                .map_err(|error| TlsError::pair(self.flags, &error)),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

fn versions(flags: &TlsFlags) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::Tls13, &version::TLS13), (TlsVersion::Tls12, &version::TLS12)];
    let spoken = |version: &TlsVersion| {
        flags.oldest.is_none_or(|oldest| oldest <= *version)
            && flags.newest.is_none_or(|newest| *version <= newest)
    };
    all.into_iter().filter(|(version, _)| spoken(version)).map(|(_, known)| known).collect()
}

/// What there is to compute with, cut down to `--cipher-suites`. As in Go, the list only concerns TLS 1.2: 1.3 has no weak ones.
fn provider(flags: &TlsFlags) -> Result<CryptoProvider, TlsError> {
    let mut provider = ring::default_provider();
    if flags.cipher_suites.is_empty() {
        return Ok(provider);
    }
    let name = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite());
    let known: Vec<_> = provider.cipher_suites.iter().map(name).collect();
    let asked: Vec<_> = flags.cipher_suites.iter().map(|asked| iana(asked)).collect();
    if let Some(unknown) = asked.iter().find(|asked| !known.contains(asked)) {
        let known = known.iter().map(|name| name.replacen("TLS13_", "TLS_", 1)).collect();
        return Err(TlsError::UnknownSuite { name: unknown.clone(), known });
    }
    provider.cipher_suites.retain(|suite| suite.tls13().is_some() || asked.contains(&name(suite)));
    Ok(provider)
}

/// The library names the suites of TLS 1.3 in its own way, and Go leaves `_SHA256` out where there is nothing to choose.
fn iana(name: &str) -> String {
    match name {
        "TLS_AES_128_GCM_SHA256" | "TLS_AES_256_GCM_SHA384" | "TLS_CHACHA20_POLY1305_SHA256" => {
            name.replacen("TLS_", "TLS13_", 1)
        }
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => {
            format!("{name}_SHA256")
        }
        _ => name.to_owned(),
    }
}

/// A chain of certificates, as it is shown.
type Chain = Vec<CertificateDer<'static>>;

pub use watch::watch;
