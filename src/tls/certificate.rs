//! What is written in a certificate: names and dates.

use std::time::Duration;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use tracing::warn;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::ObjectIdentifier;

use crate::config::TlsFlags;
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

/// The last common name of a certificate's subject, if it has one.
pub(super) fn common_name(der: &CertificateDer<'_>) -> Option<String> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let names = &certificate.tbs_certificate.subject.0;
    let mut parts = names.iter().flat_map(|part| part.0.iter());
    let common = parts.rfind(|part| part.oid == COMMON_NAME)?;
    Some(String::from_utf8_lossy(common.value.value()).into_owned())
}

/// Dates must be right; names should be.
pub(super) fn check(
    pair: &Pair,
    flags: &TlsFlags,
    hosts: &[String],
    now: UnixTime,
) -> Result<(), TlsError> {
    let path = flags.cert.clone().unwrap_or_default();
    let Some(own) = pair.chain.first() else { return Ok(()) };
    let fail = |why: String| {
        TlsError::content(&path, &flags.side.flag("cert-file"), "a certificate in PEM", why)
    };
    let certificate =
        x509_cert::Certificate::from_der(own).map_err(|error| fail(error.to_string()))?;
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
    if now + SOON > ends.to_unix_duration() {
        warn!(target: "embed", "the certificate in {} expires at {ends}: put a new one there", path.display());
    }
    warn_of_names(own, &path.display().to_string(), hosts);
    Ok(())
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
            "the certificate in {path} is not for {host}, which this member is reached under: those who check names refuse it \
             there. Put {host} into its subject alternative names (the common name does not count)"
        );
    }
}
