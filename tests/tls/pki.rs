//! Certificates for the tests: authorities, and what they sign.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use tempfile::TempDir;

/// A folder with the certificates of one authority, and their keys.
pub(crate) struct Pki {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    serial: u64,
}

/// What a certificate says.
pub(crate) struct Wanted<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) names: &'a [&'a str],
    /// The years from the first to the second of which it is valid.
    pub(crate) years: (i32, i32),
    pub(crate) algorithm: &'static SignatureAlgorithm,
}

impl Wanted<'_> {
    pub(crate) const SERVER: Wanted<'static> = Wanted {
        common_name: "server",
        names: &["127.0.0.1", "localhost"],
        years: (2020, 2120),
        algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
    };

    pub(crate) const ALICE: Wanted<'static> =
        Wanted { common_name: "alice", names: &["alice.example"], ..Self::SERVER };
}

impl Pki {
    /// A new authority; its certificate is in `ca.pem`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        let mut params = CertificateParams::new([]).expect("no names are right names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // A name of its own: others are told apart by it.
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let pki = Self { folder, authority, serial: 0 };
        pki.write("ca.pem", &pki.authority.pem());
        pki
    }

    /// Where a file of this name is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as a word of a command line.
    pub(crate) fn word(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    /// Signs a certificate: `NAME.pem` and `NAME.key`. Returns its number.
    pub(crate) fn sign(&mut self, name: &str, wanted: &Wanted<'_>) -> u64 {
        let end = date_time_ymd(wanted.years.1, 1, 1);
        self.sign_with(name, wanted, |params| params.not_after = end)
    }

    /// The same, from years ago and no longer than `left` from now on.
    pub(crate) fn sign_for(&mut self, name: &str, wanted: &Wanted<'_>, left: Duration) -> u64 {
        let end = UNIX_EPOCH + crate::support::time::since_1970() + left;
        self.sign_with(name, wanted, |params| params.not_after = end.into())
    }

    /// Has openssl sign a certificate of version 1: `NAME.pem` and `NAME.key`.
    pub(crate) fn sign_without_extensions(&self, name: &str) {
        self.write("ca.key", &self.authority.key().serialize_pem());
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        let openssl = |words: &str| {
            let words = words.split_whitespace();
            let run = Command::new("openssl").args(words).current_dir(self.folder.path()).output();
            run.expect("openssl is installed by scripts/test.sh")
        };
        let made = openssl(&format!(
            "req -newkey rsa:2048 -nodes -keyout {key} -out request -subj /CN={name}"
        ));
        assert!(made.status.success(), "{made:?}");
        let sign =
            format!("x509 -req -in request -CA ca.pem -CAkey ca.key -set_serial 1 -out {pem}");
        // Later versions add extensions of their own unless they are told otherwise; earlier ones do not know that word.
        let signed = openssl(&format!("{sign} -x509v1"));
        let signed = if signed.status.success() { signed } else { openssl(&sign) };
        assert!(signed.status.success(), "{signed:?}");
        let shown = openssl(&format!("x509 -in {pem} -noout -text"));
        assert!(String::from_utf8_lossy(&shown.stdout).contains("Version: 1 "), "{shown:?}");
        fs::set_permissions(self.path(&key), fs::Permissions::from_mode(0o600)).expect("a mode");
    }

    fn sign_with(
        &mut self,
        name: &str,
        wanted: &Wanted<'_>,
        set_end: impl FnOnce(&mut CertificateParams),
    ) -> u64 {
        self.serial += 1;
        let names: Vec<_> = wanted.names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("right names");
        params.distinguished_name.push(DnType::CommonName, wanted.common_name);
        params.serial_number = Some(SerialNumber::from(self.serial));
        params.not_before = date_time_ymd(wanted.years.0, 1, 1);
        set_end(&mut params);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(wanted.algorithm).expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
        self.serial
    }

    /// Writes the list of what is revoked to `crl.pem`.
    pub(crate) fn revoke(&self, serials: &[u64]) {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2120, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.authority).expect("a list");
        self.write("crl.pem", &list.pem().expect("PEM"));
    }
}

/// In one step, as careful operators do it: no reader sees a part.
fn write(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).expect("a file");
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).expect("a mode");
    fs::rename(next, path).expect("a file in its place");
}
