//! The files behind the flags: what is in them, and whether they have changed.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tracing::warn;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;

use crate::config::TlsFlags;
use crate::model::codes;
use crate::tls::TlsError;
use crate::tls::certificate::Pair;

/// Everything that the flags name, read and taken apart.
pub(super) struct Files {
    pub(super) pair: Option<Pair>,
    pub(super) roots: Option<Arc<RootCertStore>>,
    pub(super) revoked: Vec<CertificateRevocationListDer<'static>>,
}

/// What changes when a file is replaced or written: its place on the disk, its size, its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64, u64, i64, i64);

impl Files {
    pub(super) fn read(flags: &TlsFlags) -> Result<Self, TlsError> {
        let flag = |name| flags.side.flag(name);
        let pair = match (&flags.cert, &flags.key) {
            (Some(cert), Some(key)) => {
                let chain = chain(cert, &flag("cert-file"))?;
                Some(Pair { chain, key: private_key(key, &flag("key-file"))? })
            }
            _ => None,
        };
        let roots = match &flags.trusted_ca {
            Some(path) => Some(authorities(path, &flag("trusted-ca-file"))?),
            None => None,
        };
        let revoked = match &flags.crl {
            Some(path) => lists(path, &flag("crl-file"))?,
            None => Vec::new(),
        };
        Ok(Self { pair, roots, revoked })
    }
}

/// The files that `flags` name.
pub(super) fn named(flags: &TlsFlags) -> impl Iterator<Item = &Path> {
    let files = [&flags.cert, &flags.key, &flags.trusted_ca, &flags.crl];
    files.into_iter().flatten().map(PathBuf::as_path)
}

/// What the files look like from outside. One that is missing has no stamp.
pub(super) fn stamps(flags: &TlsFlags) -> Vec<(PathBuf, Option<Stamp>)> {
    let stamp = |path: &Path| {
        let seen = std::fs::metadata(path).ok()?;
        Some(Stamp(seen.ino(), seen.size(), seen.mtime(), seen.mtime_nsec()))
    };
    named(flags).map(|path| (path.to_owned(), stamp(path))).collect()
}

pub(super) fn bytes(path: &Path, flag: &str) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        flag: flag.to_owned(),
        source,
    })
}

fn chain(path: &Path, flag: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const WANTED: &str = "a file with a certificate and those that signed it, in PEM";
    let bytes = bytes(path, flag)?;
    let fail = |why: String| TlsError::content(path, flag, WANTED, why);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| fail(error.to_string()))?;
    if chain.is_empty() { Err(fail("there is no certificate in it".to_owned())) } else { Ok(chain) }
}

/// The bytes of a file that nobody else should read.
pub(super) fn secret(path: &Path, flag: &str) -> Result<Vec<u8>, TlsError> {
    let bytes = bytes(path, flag)?;
    let mode = std::fs::metadata(path).map_or(0, |seen| seen.permissions().mode());
    if mode & 0o007 != 0 {
        warn!(
            target: "embed",
            code = codes::SECRET_READABLE,
            "{} can be read or written by every user of this machine (mode {:o}): {flag} holds a secret; `chmod 600` it",
            path.display(),
            mode & 0o777,
        );
    }
    Ok(bytes)
}

pub(super) fn private_key(path: &Path, flag: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    const WANTED: &str = "a file with a private key in PEM, without a password";
    let bytes = secret(path, flag)?;
    let encrypted = bytes.windows(9).any(|part| part == b"ENCRYPTED");
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let why = match encrypted {
            true => "the key is encrypted".to_owned(),
            false => error.to_string(),
        };
        TlsError::content(path, flag, WANTED, why)
    })
}

fn authorities(path: &Path, flag: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path, flag)? {
        roots.add(certificate).map_err(|error| {
            const WANTED: &str = "a file with the certificates of authorities, in PEM";
            TlsError::content(path, flag, WANTED, error.to_string())
        })?;
    }
    Ok(Arc::new(roots))
}

/// PEM, or one list in DER as etcd wants it.
fn lists(path: &Path, flag: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    const WANTED: &str = "a file with revocation lists, in PEM or DER";
    let bytes = bytes(path, flag)?;
    let fail = |why: String| TlsError::content(path, flag, WANTED, why);
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let mut lists = lists.map_err(|error| fail(error.to_string()))?;
    if lists.is_empty() {
        lists.push(CertificateRevocationListDer::from(bytes));
    }
    for list in &lists {
        let parsed = CertificateList::from_der(list.as_ref());
        // The library says only "invalid" when a verifier is built; here the file can still be named.
        parsed.map_err(|_| fail("there is no revocation list in it".to_owned()))?;
    }
    Ok(lists)
}
