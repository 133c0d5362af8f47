//! TLS: what a member shows and demands on its sockets, made from files that may change while it runs.
//!
//! Owns: certificates, keys, authorities and revocation lists; who may connect as far as certificates say it; the names in a
//! verified certificate. Never knows: sockets, HTTP, who is a user. The only place that names rustls.
//!
//! Connections keep what they began with; new ones use the files as they are by then. A new file that is broken changes
//! nothing: the last good one stays in use, and the log says so.

mod auto;
mod certificate;
mod error;
mod files;
mod verify;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, version,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::{TlsFlags, TlsVersion};

pub use error::TlsError;
pub use tokio_rustls::{client::TlsStream as ClientStream, server::TlsStream as ServerStream};

use certificate::Pair;
use files::Files;
use verify::{Allowed, OnlyServer};

/// The ways of one member to speak TLS to one side, clients or peers.
pub struct Tls {
    flags: TlsFlags,
    /// What the files held when they were last read without a fault, and the stamps they had.
    current: ArcSwap<Current>,
}

struct Current {
    /// `None` when there is no certificate to show.
    server: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
    stamps: Vec<(PathBuf, Option<files::Stamp>)>,
}

/// The first byte of every TLS connection: a handshake record.
pub const FIRST_BYTE: u8 = 22;

impl Tls {
    /// Reads the files. `hosts` are the names under which this member is reached: a certificate that is made is for them, and one
    /// that is not for any of them is warned of.
    ///
    /// # Errors
    /// See [`TlsError`]; the texts name file and fix.
    pub fn load(flags: TlsFlags, hosts: &[String]) -> Result<Self, TlsError> {
        let flags = auto::with_certificate(flags, hosts)?;
        let current = ArcSwap::from_pointee(read(&flags, hosts)?);
        Ok(Self { flags, current })
    }

    /// One for a member's connections to itself: it takes the certificate that it shows and no other, whatever names and
    /// authority that has.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn to_itself(flags: TlsFlags) -> Result<Self, TlsError> {
        let tls = Self::load(flags, &[])?;
        let files = Files::read(&tls.flags)?;
        let own = files.pair.as_ref().and_then(|pair| pair.chain.first().cloned());
        let provider = Arc::new(provider(&tls.flags)?);
        let verifier = Arc::new(OnlyServer::new(own, Arc::clone(&provider)));
        let builder = ClientConfig::builder_with_provider(provider);
        let builder =
            builder.with_protocol_versions(&versions(&tls.flags)).map_err(TlsError::Suites)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let client = shown(&tls.flags, &files, builder)?;
        let kept = tls.current.load_full();
        let (server, stamps) = (kept.server.clone(), kept.stamps.clone());
        tls.current.store(Arc::new(Current { server, stamps, client: Arc::new(client) }));
        Ok(tls)
    }

    /// Is there a certificate to show?
    pub fn can_serve(&self) -> bool {
        self.current.load().server.is_some()
    }

    /// Does the common name of a client say who is asking?
    pub fn names_users(&self) -> bool {
        self.flags.names_users
    }

    /// Does the handshake of a connection that was accepted. There is no time limit in here.
    ///
    /// # Errors
    /// What is wrong, in the words of the library.
    pub async fn accept<S>(&self, stream: S) -> io::Result<ServerStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server = self.current.load().server.clone();
        let server = server.ok_or_else(|| io::Error::other("there is no certificate to show"))?;
        tokio_rustls::TlsAcceptor::from(server).accept(stream).await.map_err(verify::refused)
    }

    /// Does the handshake of a connection to `host`, a name or an address.
    ///
    /// # Errors
    /// What is wrong, in the words of the library; with a fix where one is known.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<ClientStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let client = Arc::clone(&self.current.load().client);
        let connected = tokio_rustls::TlsConnector::from(client).connect(name, stream).await;
        connected.map_err(|error| verify::explained(error, host))
    }

    /// Reads the files again if any of them has changed since; `true` if they were.
    ///
    /// # Errors
    /// As [`Tls::load`]; then everything stays as it was, until the files change again.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let stamps = files::stamps(&self.flags);
        if stamps == self.current.load().stamps {
            return Ok(false);
        }
        let read = read(&self.flags, &[]);
        // A broken file is told of once.
        let kept = self.current.load();
        let next = match &read {
            Ok(_) => None,
            Err(_) => Some(Current {
                server: kept.server.clone(),
                client: Arc::clone(&kept.client),
                stamps,
            }),
        };
        let (current, result) = match (read, next) {
            (Ok(current), _) => (current, Ok(true)),
            (Err(error), Some(next)) => (next, Err(error)),
            (Err(error), None) => return Err(error),
        };
        self.current.store(Arc::new(current));
        result
    }

    /// The files that are read, for messages.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        files::named(&self.flags)
    }
}

/// The common names in the chain that a client has shown and that was verified, its own first.
pub fn common_names<S>(stream: &ServerStream<S>) -> Vec<String> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    chain.iter().filter_map(|der| certificate::common_name(der)).collect()
}

fn read(flags: &TlsFlags, hosts: &[String]) -> Result<Current, TlsError> {
    // Before the files: a change in between is seen by the next look.
    let stamps = files::stamps(flags);
    let files = Files::read(flags)?;
    let provider = Arc::new(provider(flags)?);
    let versions = versions(flags);
    if let Some(pair) = &files.pair {
        certificate::check(pair, flags, hosts, UnixTime::now())?;
    }
    let server = match &files.pair {
        Some(pair) => Some(Arc::new(server(flags, &files, pair, &provider, &versions)?)),
        None => None,
    };
    let client = Arc::new(client(flags, &files, &provider, &versions)?);
    Ok(Current { server, client, stamps })
}

fn server(
    flags: &TlsFlags,
    files: &Files,
    pair: &Pair,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder.with_protocol_versions(versions).map_err(TlsError::Suites)?;
    let builder = match &files.roots {
        Some(roots) if flags.demands_certificate => {
            let verifier = client_verifier(flags, files, roots, provider)?;
            builder.with_client_cert_verifier(verifier)
        }
        Some(_) | None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(pair.chain.clone(), pair.key.clone_key())
        .map_err(|error| TlsError::pair(flags, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn client_verifier(
    flags: &TlsFlags,
    files: &Files,
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    // A list says nothing of the authorities above; those without a list have revoked nothing that is known of.
    let builder = builder.with_crls(files.revoked.clone()).allow_unknown_revocation_status();
    let inner = builder.build().map_err(|error| TlsError::authorities(flags, &error))?;
    Ok(Arc::new(Allowed::new(inner, flags)))
}

fn client(
    flags: &TlsFlags,
    files: &Files,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder.with_protocol_versions(versions).map_err(TlsError::Suites)?;
    let verifier: Arc<dyn ServerCertVerifier> = match (&files.roots, &flags.auto) {
        // Certificates that members made for themselves prove nothing, to whatever side.
        (None, Some(_)) => Arc::new(OnlyServer::any(Arc::clone(provider))),
        (roots, _) => {
            let roots = match roots {
                Some(roots) => Arc::clone(roots),
                None => files::public_roots(),
            };
            let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
                .with_crls(files.revoked.clone())
                .allow_unknown_revocation_status();
            match builder.build() {
                Ok(verifier) => verifier,
                // Without any authority every certificate is refused, and only then it matters.
                Err(rustls::client::VerifierBuilderError::NoRootAnchors) => {
                    Arc::new(verify::NoServer)
                }
                Err(error) => return Err(TlsError::authorities(flags, &error)),
            }
        }
    };
    // The crate calls every verifier of one's own dangerous; these only choose roots and lists, or stand for `--peer-auto-tls`.
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    shown(flags, files, builder)
}

/// What this member shows to servers that demand a certificate: the same as to clients.
fn shown(
    flags: &TlsFlags,
    files: &Files,
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
) -> Result<ClientConfig, TlsError> {
    match &files.pair {
        Some(pair) => builder
            .with_client_auth_cert(pair.chain.clone(), pair.key.clone_key())
            .map_err(|error| TlsError::pair(flags, &error)),
        None => Ok(builder.with_no_client_auth()),
    }
}

fn versions(flags: &TlsFlags) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::Tls13, &version::TLS13), (TlsVersion::Tls12, &version::TLS12)];
    let spoken = |version: &TlsVersion| (flags.oldest..=flags.newest).contains(version);
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
