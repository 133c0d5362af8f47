//! Whose certificate is taken, beyond what the chain of signatures says.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use thiserror::Error;

use crate::config::TlsFlags;
use crate::tls::files::Files;
use crate::tls::{TlsError, Trust, certificate};

/// Certificates of clients with the right name, of those that `inner` takes.
#[derive(Debug)]
pub(super) struct Allowed {
    inner: Arc<dyn ClientCertVerifier>,
    common_name: Option<String>,
    hostname: Option<String>,
}

#[derive(Debug, Error)]
enum NotAllowed {
    #[error("the certificate's common name is {found:?}, and only {wanted:?} is allowed here")]
    CommonName { found: String, wanted: String },
    #[error("the certificate is not for {wanted:?}, the only host name that is allowed here")]
    Hostname { wanted: String },
    #[error("its certificate cannot be used: {}", certificate::VERSION_1)]
    Version1,
}

impl NotAllowed {
    fn into_error(self) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(self))))
    }

    /// The library has no words for a certificate without extensions.
    fn instead_of(error: Error, certificate: &CertificateDer<'_>) -> Error {
        let unnamed = matches!(error, Error::InvalidCertificate(CertificateError::Other(_)));
        if unnamed && certificate::is_version_1(certificate) {
            return Self::Version1.into_error();
        }
        error
    }
}

impl Allowed {
    pub(super) fn new(inner: Arc<dyn ClientCertVerifier>, flags: &TlsFlags) -> Self {
        let (common_name, hostname) = (flags.allowed_cn.clone(), flags.allowed_hostname.clone());
        Self { inner, common_name, hostname }
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), NotAllowed> {
        if let Some(wanted) = &self.common_name {
            let found = certificate::common_name(certificate).unwrap_or_default();
            if found != *wanted {
                return Err(NotAllowed::CommonName { found, wanted: wanted.clone() });
            }
        }
        if let Some(wanted) = &self.hostname {
            let parsed = ParsedCertificate::try_from(certificate).ok();
            let name = ServerName::try_from(wanted.as_str()).ok();
            let fits = parsed
                .zip(name)
                .is_some_and(|(parsed, name)| verify_server_name(&parsed, &name).is_ok());
            if !fits {
                return Err(NotAllowed::Hostname { wanted: wanted.clone() });
            }
        }
        Ok(())
    }
}

impl ClientCertVerifier for Allowed {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now);
        let verified = verified.map_err(|error| NotAllowed::instead_of(error, end_entity))?;
        self.check(end_entity).map_err(NotAllowed::into_error)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Whose certificates are taken of servers; each must have the key to the one it shows.
#[derive(Debug)]
pub(super) struct Servers {
    whose: Whose,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Whose {
    /// Anybody's: for `--peer-auto-tls`, where each member signs for itself, and where a person does not care.
    Any,
    /// Exactly this one; none if there is none.
    Only(Option<CertificateDer<'static>>),
    /// Those that an authority vouches for: the configured one, or, where that is looked at, one of the system's.
    VouchedFor { configured: Option<Arc<WebPkiServerVerifier>>, public: Option<Public> },
}

/// What the system trusts; `None` inside where that is nobody. It is read when it is needed first: most members never connect to
/// such a server.
type Public = OnceLock<Option<Arc<WebPkiServerVerifier>>>;

impl Servers {
    pub(super) fn new(
        flags: &TlsFlags,
        files: &Files,
        trust: Trust,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::clone(provider);
        let whose = match (trust, &files.roots) {
            (Trust::Itself, _) => {
                let own = files.pair.as_ref().and_then(|pair| pair.chain.first());
                Whose::Only(own.cloned())
            }
            (Trust::Configured, None) if flags.auto.is_some() => Whose::Any,
            (Trust::Anybody, _) => Whose::Any,
            (Trust::Configured | Trust::ConfiguredOrPublic, roots) => {
                let verifier = |roots: &Arc<RootCertStore>| {
                    let (roots, provider) = (Arc::clone(roots), Arc::clone(&provider));
                    WebPkiServerVerifier::builder_with_provider(roots, provider)
                        .with_crls(files.revoked.clone())
                        .allow_unknown_revocation_status()
                        .build()
                        .map_err(|error| TlsError::authorities(flags, &error))
                };
                let configured = roots.as_ref().map(verifier).transpose()?;
                let public = configured.is_none() || trust == Trust::ConfiguredOrPublic;
                Whose::VouchedFor { configured, public: public.then(OnceLock::new) }
            }
        };
        Ok(Self { whose, provider })
    }

    fn read_public(&self) -> Option<Arc<WebPkiServerVerifier>> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::clone(&self.provider);
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refused = |why| Err(Error::InvalidCertificate(why));
        let (configured, public) = match &self.whose {
            Whose::Any => return Ok(ServerCertVerified::assertion()),
            Whose::Only(Some(own)) if own == end_entity => {
                return Ok(ServerCertVerified::assertion());
            }
            Whose::Only(_) => return refused(CertificateError::ApplicationVerificationFailure),
            Whose::VouchedFor { configured, public } => (configured, public),
        };
        let verify = |by: &WebPkiServerVerifier| {
            by.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| NotAllowed::instead_of(error, end_entity))
        };
        let by_configured = configured.as_deref().map(verify);
        match (by_configured, public) {
            (
                Some(Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))) | None,
                Some(public),
            ) => match public.get_or_init(|| self.read_public()) {
                Some(public) => verify(public),
                None => refused(CertificateError::UnknownIssuer),
            },
            (Some(verified), _) => verified,
            (None, None) => refused(CertificateError::UnknownIssuer),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What the library says of a client that it refuses, and what that means where its words do not say it.
pub(super) fn refused(error: io::Error) -> io::Error {
    let kind = error.kind();
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let text = match tls {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => {
            // Those of this file say everything; the library's own have no words, only names.
            match why.downcast_ref::<NotAllowed>() {
                Some(why) => why.to_string(),
                None => format!("its certificate cannot be used: {why:?}"),
            }
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            format!(
                "{error}: its certificate is signed by an authority that is not in the trusted-ca-file here"
            )
        }
        Some(Error::AlertReceived(_)) => {
            format!("{error}: it does not take the certificate that it is shown here")
        }
        Some(_) | None => return error,
    };
    io::Error::new(kind, text)
}

/// What the library says of a connection to `host` that failed, and what to do about it.
pub(super) fn explained(error: io::Error, host: &str) -> io::Error {
    let kind = error.kind();
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let fix = match tls {
        Some(Error::InvalidMessage(_)) => {
            "it does not speak TLS: is its URL http:// instead of https://?".to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is signed by an authority that is not in the trusted-ca-file here"
                .to_owned()
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => format!("put {host} into the subject alternative names of its certificate"),
        Some(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "put a new certificate there".to_owned(),
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => {
            let Some(why) = why.downcast_ref::<NotAllowed>() else { return error };
            return io::Error::new(kind, why.to_string());
        }
        Some(Error::AlertReceived(_)) => {
            "it refuses the certificate that is shown to it, or misses one".to_owned()
        }
        Some(_) | None => return error,
    };
    io::Error::new(kind, format!("{error}: {fix}"))
}
