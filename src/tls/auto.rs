//! Certificates that a member makes for itself (`--auto-tls`, `--peer-auto-tls`), kept beside its data.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::UnixTime;
use tracing::info;

use crate::config::TlsFlags;
use crate::tls::TlsError;

/// As etcd's.
const VALID_FOR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A clock that is a little behind must not find it invalid.
const VALID_BEFORE: Duration = Duration::from_secs(3600);

/// `flags` with the files in the directory of a certificate of one's own, be they there or not.
pub(super) fn with_files(mut flags: TlsFlags) -> TlsFlags {
    if let Some(dir) = &flags.auto {
        (flags.cert, flags.key) = (Some(dir.join("cert.pem")), Some(dir.join("key.pem")));
    }
    flags
}

/// Makes these files anew: they are not there yet, or cannot be used any more.
pub(super) fn make(flags: &TlsFlags, hosts: &[String]) -> Result<(), TlsError> {
    let (Some(dir), Some(cert), Some(key)) = (&flags.auto, &flags.cert, &flags.key) else {
        return Ok(());
    };
    let fail = |why: String| TlsError::Auto { dir: dir.clone(), why };
    let (certificate, secret) = sign(hosts).map_err(|error| fail(error.to_string()))?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| put(key, 0o600, &secret))
        .and_then(|()| put(cert, 0o644, &certificate))
        .map_err(|error| fail(error.to_string()))?;
    info!(target: "embed", "made a certificate for {} in {}", hosts.join(", "), cert.display());
    Ok(())
}

/// In one step: a member that is killed meanwhile finds a file that is whole, or none.
fn put(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let next = path.with_extension("next");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(next, path)
}

fn sign(hosts: &[String]) -> Result<(String, String), rcgen::Error> {
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
