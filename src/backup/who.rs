//! Whom programs ask over client ports, and as whom.
//!
//! Owns: lists of endpoints, certificates and passwords as flags name them. Never knows: what is asked.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::base::Hidden;
use crate::config::TlsFlags;
use crate::discovery::{HttpClient, Limits};
use crate::tls::{Tls, Trust};

/// The endpoints of a list, each with its scheme and without a slash at its end.
pub(crate) fn endpoints(list: &str) -> Vec<String> {
    list.split(',')
        .map(|url| url.trim().trim_end_matches('/'))
        .map(|url| if url.contains("://") { url.to_owned() } else { format!("http://{url}") })
        .collect()
}

/// What is shown and demanded where an endpoint speaks TLS.
pub(crate) struct TlsFiles {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    trusted_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// The values of the three flags, which may be empty.
    pub(crate) fn of<'a>(text: impl Fn(&'static str) -> &'a str) -> Self {
        let file = |name| Some(text(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self { cert: file("cert-file"), key: file("key-file"), trusted_ca: file("ca-file") }
    }
}

/// One that asks these endpoints.
///
/// # Errors
/// When the certificates cannot be used.
pub(crate) fn client(
    limits: Limits,
    files: TlsFiles,
    endpoints: &[String],
) -> Result<HttpClient, String> {
    let client = HttpClient::new().with_limits(limits);
    Ok(match tls(files, endpoints)? {
        Some(tls) => client.with_tls(tls),
        None => client,
    })
}

/// What these endpoints are spoken to with, if anything is named or one of them speaks TLS.
///
/// # Errors
/// When the certificates cannot be used.
pub(crate) fn tls(files: TlsFiles, endpoints: &[String]) -> Result<Option<Arc<Tls>>, String> {
    let TlsFiles { cert, key, trusted_ca } = files;
    let named = cert.is_some() || key.is_some() || trusted_ca.is_some();
    // Without TLS there is no need for the system's authorities either.
    if !named && !endpoints.iter().any(|url| url.starts_with("https://")) {
        return Ok(None);
    }
    let flags = TlsFlags { cert, key, trusted_ca, ..TlsFlags::default() };
    let tls = Tls::load(flags, Trust::Configured, &[]).map_err(|error| error.to_string())?;
    Ok(Some(Arc::new(tls)))
}

/// The header for `USER[:PASSWORD]`; without a password it is asked for, with this prompt. `None` for nobody.
///
/// # Errors
/// When no password can be read.
pub(crate) fn authorization(user: &str, prompt: &str) -> Result<Option<HeaderValue>, String> {
    let Some((name, password)) = name_and_password(user, prompt)? else { return Ok(None) };
    let both = STANDARD.encode(format!("{name}:{password}"));
    let header = HeaderValue::try_from(format!("Basic {both}"));
    let mut header = header.expect("base64 is ASCII");
    header.set_sensitive(true);
    Ok(Some(header))
}

/// Name and password of `USER[:PASSWORD]`; without a password it is asked for, with this prompt. `None` for nobody.
///
/// # Errors
/// When no password can be read.
pub(crate) fn name_and_password(
    user: &str,
    prompt: &str,
) -> Result<Option<(String, String)>, String> {
    Ok(match user.split_once(':') {
        _ if user.is_empty() => None,
        Some((name, password)) => Some((name.to_owned(), password.to_owned())),
        None => Some((user.to_owned(), password(prompt)?)),
    })
}

/// Asked for on standard error: standard output may be what a program makes.
fn password(prompt: &str) -> Result<String, String> {
    let hidden = Hidden::begin();
    let _ = write!(io::stderr(), "{prompt}");
    let line = hidden.line();
    let _ = writeln!(io::stderr());
    line.map_err(|error| format!("cannot read the password: {error}"))
}
