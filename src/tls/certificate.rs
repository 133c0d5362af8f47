//! What is written in a certificate: names and dates.

use std::path::PathBuf;
use std::time::Duration;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use tracing::{error, warn};
use x509_cert::Version;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::ObjectIdentifier;

use crate::config::TlsFlags;
use crate::model::codes;
use crate::tls::{Chain, TlsError};

/// `id-at-commonName`
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A certificate that ends so soon is warned of.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a member shows, and the key to it.
pub(super) struct Pair {
    pub(super) chain: Chain,
    pub(super) key: PrivateKeyDer<'static>,
}

/// When a certificate ends.
pub(super) struct Ends {
    at: Duration,
    shown: String,
    path: PathBuf,
}

/// How long a certificate still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Long,
    /// Less than a week.
    Short,
    Nothing,
}

impl Ends {
    /// Since 1970.
    pub(super) fn at(&self) -> Duration {
        self.at
    }

    pub(super) fn left(&self, now: UnixTime) -> Left {
        let now = Duration::from_secs(now.as_secs());
        if now > self.at {
            Left::Nothing
        } else if now + SOON > self.at {
            Left::Short
        } else {
            Left::Long
        }
    }

    /// Says so when little or nothing is left.
    pub(super) fn tell(&self, left: Left) {
        let (path, shown) = (self.path.display(), &self.shown);
        match left {
            Left::Long => {}
            Left::Short => {
                warn!(target: "embed", code = codes::CERTIFICATE_ENDS, "the certificate in {path} expires at {shown}: put a new one there");
            }
            Left::Nothing => {
                error!(
                    target: "embed",
                    code = codes::CERTIFICATE_ENDED,
                    "the certificate in {path} has expired at {shown}, and all who check it refuse this member: put a new one there"
                );
            }
        }
    }
}

/// The last common name of a certificate's subject, if it has one.
pub(super) fn common_name(der: &CertificateDer<'_>) -> Option<String> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let names = &certificate.tbs_certificate.subject.0;
    let mut parts = names.iter().flat_map(|part| part.0.iter());
    let common = parts.rfind(|part| part.oid == COMMON_NAME)?;
    Some(String::from_utf8_lossy(common.value.value()).into_owned())
}

/// The library takes no certificates without extensions, which hold all names that count.
pub(super) const VERSION_1: &str = "it is an X.509 certificate of version 1, without extensions and so without names; sign it \
    again with some: openssl x509 -req ... -extfile FILE, where FILE says subjectAltName=IP:10.0.0.1 or subjectAltName=DNS:name";

/// Is this a certificate of version 1? OpenSSL before 3.2 makes these unless it is told of extensions.
pub(super) fn is_version_1(der: &CertificateDer<'_>) -> bool {
    let certificate = x509_cert::Certificate::from_der(der);
    certificate.is_ok_and(|certificate| certificate.tbs_certificate.version == Version::V1)
}

/// Dates must be right; names should be. Returns when it ends.
pub(super) fn check(
    pair: &Pair,
    flags: &TlsFlags,
    hosts: &[String],
    now: UnixTime,
) -> Result<Option<Ends>, TlsError> {
    let path = flags.cert.clone().unwrap_or_default();
    let Some(own) = pair.chain.first() else { return Ok(None) };
    let fail = |why: String| {
        TlsError::content(&path, &flags.side.flag("cert-file"), "a certificate in PEM", why)
    };
    let certificate =
        x509_cert::Certificate::from_der(own).map_err(|error| fail(error.to_string()))?;
    if certificate.tbs_certificate.version == Version::V1 {
        return Err(fail(VERSION_1.to_owned()));
    }
    let validity = &certificate.tbs_certificate.validity;
    let (begins, ends) = (validity.not_before, validity.not_after);
    let now = Duration::from_secs(now.as_secs());
    if now < begins.to_unix_duration() {
        let why = format!("is not valid before {begins}");
        return Err(TlsError::Dates { path, why });
    }
    if now > ends.to_unix_duration() {
        return Err(TlsError::Dates { path, why: format!("has expired at {ends}") });
    }
    warn_of_names(own, &path.display().to_string(), hosts);
    Ok(Some(Ends { at: ends.to_unix_duration(), shown: ends.to_string(), path }))
}

/// A certificate that is for none of a member's names is refused by all who ask it there.
fn warn_of_names(own: &CertificateDer<'_>, path: &str, hosts: &[String]) {
    let Ok(parsed) = ParsedCertificate::try_from(own) else { return };
    let is_for = |host: &&String| {
        ServerName::try_from(host.as_str())
            .is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    for host in hosts.iter().filter(|host| !is_for(host)) {
        warn!(
            target: "embed",
            code = codes::CERTIFICATE_NAMES,
            "the certificate in {path} is not for {host}, which this member is reached under: those who check names refuse it \
             there. Put {host} into its subject alternative names (the common name does not count)"
        );
    }
}
