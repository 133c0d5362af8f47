//! Whose certificate is taken, beyond what the chain of signatures says.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use thiserror::Error;

use crate::config::TlsFlags;
use crate::tls::certificate;

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
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        self.check(end_entity).map_err(|why| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
        })?;
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

/// A server that is known by its certificate, or any: in both cases one that has the key to it.
#[derive(Debug)]
pub(super) struct OnlyServer {
    /// `None` for any.
    wanted: Option<Option<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl OnlyServer {
    /// The one with this certificate; none if there is none.
    pub(super) fn new(
        wanted: Option<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { wanted: Some(wanted), provider }
    }

    /// For `--peer-auto-tls`, where each member signs for itself.
    pub(super) fn any(provider: Arc<CryptoProvider>) -> Self {
        Self { wanted: None, provider }
    }
}

impl ServerCertVerifier for OnlyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.wanted {
            Some(wanted) if wanted.as_ref() != Some(end_entity) => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            Some(_) | None => Ok(ServerCertVerified::assertion()),
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

/// No server at all: there is no authority that could vouch for one.
#[derive(Debug)]
pub(super) struct NoServer;

impl ServerCertVerifier for NoServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
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
        Some(Error::AlertReceived(_)) => {
            "it refuses the certificate that this member shows, or misses one".to_owned()
        }
        Some(_) | None => return error,
    };
    io::Error::new(kind, format!("{error}: {fix}"))
}
