//! What the flags say of TLS, for clients and for peers.

use std::path::{Path, PathBuf};

use crate::config::parse::Raw;
use crate::config::{Failure, Level, Listener, Notice};
use crate::model::Url;

/// TLS of one side of a member, as its flags say it. Nothing is read yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFlags {
    /// `--cert-file` or `--peer-cert-file`: the chain that this member shows.
    pub cert: Option<PathBuf>,
    /// `--key-file` or `--peer-key-file`.
    pub key: Option<PathBuf>,
    /// `--trusted-ca-file` or `--peer-trusted-ca-file`: who signs the certificates of the other side.
    pub trusted_ca: Option<PathBuf>,
    /// `--client-crl-file` or `--peer-crl-file`: certificates that are revoked.
    pub crl: Option<PathBuf>,
    /// The other side must show a certificate that `trusted_ca` signed.
    pub demands_certificate: bool,
    /// The common name in a client's certificate is the user who asks. Never with `--peer-...`.
    pub names_users: bool,
    /// Common name that certificates of the other side must have.
    pub allowed_cn: Option<String>,
    /// Host name that certificates of the other side must be for.
    pub allowed_hostname: Option<String>,
    /// Where a certificate is made and kept when no file is named (`--auto-tls`, `--peer-auto-tls`).
    pub auto: Option<PathBuf>,
    /// Cipher suites that may be used; empty for all that are safe.
    pub cipher_suites: Vec<String>,
    /// Oldest version that may be spoken.
    pub oldest: TlsVersion,
    /// Newest version that may be spoken.
    pub newest: TlsVersion,
    /// What its flags begin with, `--` or `--peer-`; for messages.
    pub prefix: &'static str,
}

/// A version of TLS. Older ones are broken, and no library here speaks them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Versions that etcd takes for `--tls-min-version` as well.
const OLD_VERSIONS: [&str; 2] = ["TLS1.0", "TLS1.1"];

impl TlsFlags {
    /// Is there a certificate to show, or will there be one?
    pub fn is_on(&self) -> bool {
        self.cert.is_some() || self.auto.is_some()
    }
}

/// Reads the flags for clients. `data_dir` is where a certificate is kept that is made here.
pub(super) fn for_clients(
    raw: &Raw,
    data_dir: &Path,
    notices: &mut Vec<Notice>,
) -> Result<TlsFlags, Failure> {
    let oldest = raw.get("tls-min-version");
    if OLD_VERSIONS.contains(&oldest) {
        let text = format!(
            "--tls-min-version={oldest}: TLS before 1.2 is broken and not spoken here; clients that know nothing newer are refused"
        );
        notices.push(Notice { level: Level::Warning, text });
    }
    let ca = path(raw, "trusted-ca-file").or_else(|| path(raw, "ca-file"));
    let flags = TlsFlags {
        cert: path(raw, "cert-file"),
        key: path(raw, "key-file"),
        crl: path(raw, "client-crl-file"),
        demands_certificate: raw.bool("client-cert-auth") || ca.is_some(),
        names_users: raw.bool("client-cert-auth"),
        trusted_ca: ca,
        allowed_cn: None,
        allowed_hostname: text(raw, "client-cert-allowed-hostname"),
        auto: raw.bool("auto-tls").then(|| data_dir.join("fixtures/client")),
        prefix: "--",
        ..common(raw)?
    };
    check(flags, "client-cert-auth", "client-crl-file")
}

/// Reads the flags for peers.
pub(super) fn for_peers(raw: &Raw, data_dir: &Path) -> Result<TlsFlags, Failure> {
    let ca = path(raw, "peer-trusted-ca-file").or_else(|| path(raw, "peer-ca-file"));
    let flags = TlsFlags {
        cert: path(raw, "peer-cert-file"),
        key: path(raw, "peer-key-file"),
        crl: path(raw, "peer-crl-file"),
        demands_certificate: raw.bool("peer-client-cert-auth") || ca.is_some(),
        names_users: false,
        trusted_ca: ca,
        allowed_cn: text(raw, "peer-cert-allowed-cn"),
        allowed_hostname: text(raw, "peer-cert-allowed-hostname"),
        auto: raw.bool("peer-auto-tls").then(|| data_dir.join("fixtures/peer")),
        prefix: "--peer-",
        ..common(raw)?
    };
    check(flags, "peer-client-cert-auth", "peer-crl-file")
}

fn common(raw: &Raw) -> Result<TlsFlags, Failure> {
    let suites = raw.get("cipher-suites").split(',').map(str::trim);
    let (oldest, newest) = (raw.get("tls-min-version"), raw.get("tls-max-version"));
    let oldest_read = version("tls-min-version", oldest, TlsVersion::Tls12)?;
    let newest_read = version("tls-max-version", newest, TlsVersion::Tls13)?;
    if oldest_read > newest_read {
        return Err(Failure::verifying(format!(
            "--tls-min-version={oldest} is newer than --tls-max-version={newest}: leave one of them out"
        )));
    }
    Ok(TlsFlags {
        cipher_suites: suites.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        oldest: oldest_read,
        newest: newest_read,
        ..TlsFlags::default()
    })
}

fn version(flag: &str, text: &str, default: TlsVersion) -> Result<TlsVersion, Failure> {
    match text {
        "" => Ok(default),
        "TLS1.2" => Ok(TlsVersion::Tls12),
        "TLS1.3" => Ok(TlsVersion::Tls13),
        old if OLD_VERSIONS.contains(&old) && flag == "tls-min-version" => Ok(TlsVersion::Tls12),
        _ => Err(Failure::verifying(format!(
            "unexpected TLS version {text:?}: --{flag} takes TLS1.2 or TLS1.3"
        ))),
    }
}

/// What cannot work is refused, and so is what would look safe and is not.
fn check(mut flags: TlsFlags, auth_flag: &str, crl_flag: &str) -> Result<TlsFlags, Failure> {
    let prefix = flags.prefix;
    match (&flags.cert, &flags.key) {
        (Some(_), None) => {
            return Err(Failure::verifying(format!(
                "{prefix}cert-file needs {prefix}key-file: name the file with the certificate's private key"
            )));
        }
        (None, Some(_)) => {
            return Err(Failure::verifying(format!(
                "{prefix}key-file needs {prefix}cert-file: name the file with the key's certificate"
            )));
        }
        (Some(_), Some(_)) => flags.auto = None,
        (None, None) => {}
    }
    if flags.demands_certificate && flags.trusted_ca.is_none() {
        return Err(Failure::verifying(format!(
            "--{auth_flag} needs {prefix}trusted-ca-file: name the file with the certificate that signs theirs; otherwise every \
             certificate that any public authority ever signed would do"
        )));
    }
    let unchecked = [
        (flags.crl.is_some(), format!("--{crl_flag}")),
        (flags.allowed_cn.is_some(), format!("{prefix}cert-allowed-cn")),
        (
            flags.allowed_hostname.is_some(),
            match prefix {
                "--peer-" => "--peer-cert-allowed-hostname".to_owned(),
                _ => "--client-cert-allowed-hostname".to_owned(),
            },
        ),
    ];
    if let Some((_, flag)) = unchecked.iter().find(|(said, _)| *said && !flags.demands_certificate)
    {
        return Err(Failure::verifying(format!(
            "{flag} has no effect without --{auth_flag} and {prefix}trusted-ca-file, as no certificate is demanded: add them"
        )));
    }
    if flags.allowed_cn.is_some() && flags.allowed_hostname.is_some() {
        return Err(Failure::verifying(
            "--peer-cert-allowed-cn and --peer-cert-allowed-hostname exclude each other: leave one of them out"
                .to_owned(),
        ));
    }
    Ok(flags)
}

/// A URL with `https` needs a certificate; a certificate without such a URL is most likely a mistake.
pub(super) fn fits(
    tls: &TlsFlags,
    flag: &str,
    listeners: &[Listener],
    urls: &[Url],
    notices: &mut Vec<Notice>,
) -> Result<(), Failure> {
    let prefix = tls.prefix;
    let secure = listeners.iter().find(|listener| listener.tls);
    if let Some(listener) = secure
        && !tls.is_on()
    {
        return Err(Failure::new(
            1,
            format!(
                "TLS key/cert ({prefix}cert-file, {prefix}key-file) must be provided for {flag} url {} with HTTPS scheme, or \
                 {prefix}auto-tls",
                listener.url()
            ),
        ));
    }
    for listener in listeners.iter().filter(|listener| !listener.tls && tls.is_on()) {
        let url = listener.url();
        let text = format!(
            "The scheme of {flag} url {url} is HTTP while {flag} key/cert files are presented. Ignored key/cert files for it: \
             write https:// to use them"
        );
        notices.push(Notice { level: Level::Warning, text });
    }
    // Not refused: a proxy in front of this member may speak TLS.
    for url in urls.iter().filter(|url| url.scheme() == "https" && secure.is_none()) {
        let text = format!(
            "{url} is advertised, but this member listens without TLS: it is reached only through something that speaks TLS for it"
        );
        notices.push(Notice { level: Level::Warning, text });
    }
    Ok(())
}

fn path(raw: &Raw, flag: &str) -> Option<PathBuf> {
    text(raw, flag).map(PathBuf::from)
}

fn text(raw: &Raw, flag: &str) -> Option<String> {
    Some(raw.get(flag)).filter(|text| !text.is_empty()).map(str::to_owned)
}
