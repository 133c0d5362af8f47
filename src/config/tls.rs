//! What the flags say of TLS, for clients and for peers.

use std::path::{Path, PathBuf};

use crate::config::parse::Raw;
use crate::config::{Failure, Level, ListenUrl, Notice};
use crate::model::Url;

/// Whom a member speaks TLS with. Each side has flags of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Clients, and programs that scrape metrics.
    #[default]
    Clients,
    /// The other members.
    Peers,
}

impl Side {
    /// The name of one of its flags. Those of peers are called as those of clients behind `peer-`, but for three.
    fn name(self, name: &str) -> String {
        match (self, name) {
            (Self::Clients, "crl-file" | "cert-allowed-hostname") => format!("client-{name}"),
            (Self::Clients, _) => name.to_owned(),
            (Self::Peers, _) => format!("peer-{name}"),
        }
    }

    /// One of its flags as it is written, for messages.
    pub fn flag(self, name: &str) -> String {
        format!("--{}", self.name(name))
    }

    /// As etcd calls it in messages.
    fn word(self) -> &'static str {
        match self {
            Self::Clients => "client",
            Self::Peers => "peer",
        }
    }
}

/// TLS of one side of a member, as its flags say it. Nothing is read yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFlags {
    /// Whose flags these are.
    pub side: Side,
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
    /// The common name in a client's certificate is the user who asks. Never of peers.
    pub names_users: bool,
    /// Common name that certificates of the other side must have.
    pub allowed_cn: Option<String>,
    /// Host name that certificates of the other side must be for.
    pub allowed_hostname: Option<String>,
    /// Where a certificate is made and kept when no file is named (`--auto-tls`, `--peer-auto-tls`).
    pub auto: Option<PathBuf>,
    /// Cipher suites that may be used; empty for all that are safe.
    pub cipher_suites: Vec<String>,
    /// Oldest version that may be spoken; `None` for all.
    pub oldest: Option<TlsVersion>,
    /// Newest version that may be spoken; `None` for all.
    pub newest: Option<TlsVersion>,
}

/// A version of TLS. Older ones are broken, and no library here speaks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
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

/// Reads the flags of one side. `data_dir` is where a certificate is kept that is made here.
pub(super) fn of_side(raw: &Raw, side: Side, data_dir: &Path) -> Result<TlsFlags, Failure> {
    let said = |name: &str| text(raw, &side.name(name));
    let path = |name: &str| said(name).map(PathBuf::from);
    let trusted_ca = path("trusted-ca-file").or_else(|| path("ca-file"));
    let auth = raw.bool(&side.name("client-cert-auth"));
    let made = raw.bool(&side.name("auto-tls"));
    let suites = raw.get("cipher-suites").split(',').map(str::trim);
    let (oldest, newest) = (raw.get("tls-min-version"), raw.get("tls-max-version"));
    let flags = TlsFlags {
        side,
        cert: path("cert-file"),
        key: path("key-file"),
        crl: path("crl-file"),
        demands_certificate: auth || trusted_ca.is_some(),
        names_users: auth && side == Side::Clients,
        trusted_ca,
        allowed_cn: if side == Side::Peers { said("cert-allowed-cn") } else { None },
        allowed_hostname: said("cert-allowed-hostname"),
        auto: made.then(|| data_dir.join("fixtures").join(side.word())),
        cipher_suites: suites.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        oldest: version("tls-min-version", oldest)?,
        newest: version("tls-max-version", newest)?,
    };
    if flags.oldest.zip(flags.newest).is_some_and(|(oldest, newest)| oldest > newest) {
        return Err(Failure::verifying(format!(
            "--tls-min-version={oldest} is newer than --tls-max-version={newest}: leave one of them out"
        )));
    }
    check(flags)
}

fn version(flag: &str, text: &str) -> Result<Option<TlsVersion>, Failure> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(TlsVersion::Tls12)),
        "TLS1.3" => Ok(Some(TlsVersion::Tls13)),
        old if OLD_VERSIONS.contains(&old) && flag == "tls-min-version" => Ok(None),
        _ => Err(Failure::verifying(format!(
            "unexpected TLS version {text:?}: --{flag} takes TLS1.2 or TLS1.3"
        ))),
    }
}

/// Says what a lower end means that is lower than what is spoken.
pub(super) fn note_old_versions(raw: &Raw, notices: &mut Vec<Notice>) {
    let oldest = raw.get("tls-min-version");
    if OLD_VERSIONS.contains(&oldest) {
        let text = format!(
            "--tls-min-version={oldest}: TLS before 1.2 is broken and not spoken here; clients that know nothing newer are refused"
        );
        notices.push(Notice { level: Level::Warning, text });
    }
}

/// What cannot work is refused, and so is what would look safe and is not.
fn check(mut flags: TlsFlags) -> Result<TlsFlags, Failure> {
    let flag = |name| flags.side.flag(name);
    let fail = |text: String| Err(Failure::verifying(text));
    let (cert, key) = (flag("cert-file"), flag("key-file"));
    match (&flags.cert, &flags.key) {
        (Some(_), None) => {
            return fail(format!(
                "{cert} needs {key}: name the file with the certificate's private key"
            ));
        }
        (None, Some(_)) => {
            return fail(format!("{key} needs {cert}: name the file with the key's certificate"));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    let (auth, ca) = (flag("client-cert-auth"), flag("trusted-ca-file"));
    if flags.demands_certificate && flags.trusted_ca.is_none() {
        return fail(format!(
            "{auth} needs {ca}: name the file with the certificate that signs theirs; otherwise every certificate that any \
             public authority ever signed would do"
        ));
    }
    let said = [
        (flags.crl.is_some(), "crl-file"),
        (flags.allowed_cn.is_some(), "cert-allowed-cn"),
        (flags.allowed_hostname.is_some(), "cert-allowed-hostname"),
    ];
    let unchecked = said.iter().find(|(said, _)| *said && !flags.demands_certificate);
    if let Some((_, name)) = unchecked {
        return fail(format!(
            "{} has no effect without {auth} and {ca}, as no certificate is demanded: add them",
            flag(name)
        ));
    }
    if flags.allowed_cn.is_some() && flags.allowed_hostname.is_some() {
        return fail(format!(
            "{} and {} exclude each other: leave one of them out",
            flag("cert-allowed-cn"),
            flag("cert-allowed-hostname")
        ));
    }
    if flags.cert.is_some() {
        flags.auto = None;
    }
    Ok(flags)
}

/// A URL with `https` needs a certificate; a certificate without such a URL is most likely a mistake.
pub(super) fn fits(
    tls: &TlsFlags,
    listeners: &[ListenUrl],
    advertised: &[Url],
    notices: &mut Vec<Notice>,
) -> Result<(), Failure> {
    let (side, word) = (tls.side, tls.side.word());
    let secure = listeners.iter().find(|listener| listener.tls);
    if let Some(listener) = secure
        && !tls.is_on()
    {
        return Err(Failure::new(
            1,
            format!(
                "TLS key/cert ({}, {}) must be provided for {word} url {} with HTTPS scheme, or {}",
                side.flag("cert-file"),
                side.flag("key-file"),
                listener.url(),
                side.flag("auto-tls"),
            ),
        ));
    }
    let mut warn = |text| notices.push(Notice { level: Level::Warning, text });
    for listener in listeners.iter().filter(|listener| !listener.tls && tls.is_on()) {
        let url = listener.url();
        warn(format!(
            "The scheme of {word} url {url} is HTTP while {word} key/cert files are presented. Ignored key/cert files for it: \
             write https:// to use them"
        ));
    }
    // Not refused: a proxy in front of this member may speak TLS.
    for url in advertised.iter().filter(|url| url.scheme() == "https" && secure.is_none()) {
        warn(format!(
            "{url} is advertised, but this member listens without TLS: it is reached only through something that speaks TLS for it"
        ));
    }
    Ok(())
}

fn text(raw: &Raw, flag: &str) -> Option<String> {
    Some(raw.get(flag)).filter(|text| !text.is_empty()).map(str::to_owned)
}
