//! Certificates that a member makes for itself (`--auto-tls`, `--peer-auto-tls`), kept beside its data.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::UnixTime;

use crate::config::TlsFlags;
use crate::tls::TlsError;

/// As etcd's.
const VALID_FOR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A clock that is a little behind must not find it invalid.
const VALID_BEFORE: Duration = Duration::from_secs(3600);

/// `flags` with files: those in the directory of a certificate of one's own, which is made if it is not there.
pub(super) fn with_certificate(
    mut flags: TlsFlags,
    hosts: &[String],
) -> Result<TlsFlags, TlsError> {
    let Some(dir) = flags.auto.clone() else { return Ok(flags) };
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    if !cert.exists() || !key.exists() {
        let fail = |why: String| TlsError::Auto { dir: dir.clone(), why };
        let (certificate, secret) = make(hosts).map_err(|error| fail(error.to_string()))?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .and_then(|()| write(&key, 0o600, &secret))
            .and_then(|()| write(&cert, 0o644, &certificate))
            .map_err(|error| fail(error.to_string()))?;
    }
    (flags.cert, flags.key) = (Some(cert), Some(key));
    Ok(flags)
}

fn write(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn make(hosts: &[String]) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "cairn");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(UnixTime::now().as_secs());
    params.not_before = now - VALID_BEFORE;
    params.not_after = now + VALID_FOR;
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
