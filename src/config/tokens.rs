//! `--auth-token`: what the tokens of version 3 are.
//!
//! Owns: the kinds of tokens and how the flag is read. Never knows: keys, only where they are.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::parse::Raw;
use crate::config::{Failure, duration};

const FLAG: &str = "auth-token";
/// How long a signed token is good where nothing is said.
const TTL: Duration = Duration::from_secs(300);
/// A hundred years.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFlags {
    /// Random letters that all members know.
    Simple,
    /// JSON Web Tokens (RFC 7519): each member believes what is signed.
    Jwt(JwtFlags),
}

/// How JSON Web Tokens are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtFlags {
    /// The one way of signing that is used and believed.
    pub method: JwtMethod,
    /// With what tokens are signed; a member without it gives none. With HS the secret itself.
    pub private_key: Option<PathBuf>,
    /// With what they are checked; not needed beside a private key.
    pub public_key: Option<PathBuf>,
    /// How long one is good.
    pub ttl: Duration,
}

/// A way of signing, by its name in RFC 7518.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtMethod {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

impl JwtMethod {
    const ALL: &[(Self, &str)] = &[
        (Self::Hs256, "HS256"),
        (Self::Hs384, "HS384"),
        (Self::Hs512, "HS512"),
        (Self::Rs256, "RS256"),
        (Self::Rs384, "RS384"),
        (Self::Rs512, "RS512"),
        (Self::Ps256, "PS256"),
        (Self::Ps384, "PS384"),
        (Self::Ps512, "PS512"),
        (Self::Es256, "ES256"),
        (Self::Es384, "ES384"),
    ];

    /// As the head of a token has it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(method, _)| *method == self).map_or("", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(method, _)| *method)
    }
}

/// Reads `simple` or `jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=10m`.
pub(super) fn of(raw: &Raw) -> Result<TokenFlags, Failure> {
    let fail = |why: String| {
        Failure::verifying(format!(
            "--{FLAG}: {why}; write simple, or jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=5m"
        ))
    };
    let said = raw.get(FLAG);
    let (kind, options) = said.split_once(',').unwrap_or((said, ""));
    match kind {
        // Options of simple tokens mean nothing to etcd either.
        "simple" | "" => return Ok(TokenFlags::Simple),
        "jwt" => {}
        other => return Err(fail(format!("there are no tokens {other:?}"))),
    }
    let mut method = None;
    let mut flags =
        JwtFlags { method: JwtMethod::Rs256, private_key: None, public_key: None, ttl: TTL };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| fail(format!("{option:?} has no value")))?;
        match name {
            "sign-method" => {
                let known = JwtMethod::named(value);
                method = Some(known.ok_or_else(|| {
                    let all: Vec<_> = JwtMethod::ALL.iter().map(|(_, name)| *name).collect();
                    fail(format!("sign-method {value:?} is none of {}", all.join(", ")))
                })?);
            }
            "priv-key" => flags.private_key = Some(value.into()),
            "pub-key" => flags.public_key = Some(value.into()),
            "ttl" => {
                let ttl = duration::parse(value);
                let ttl = ttl.filter(|ttl| (Duration::from_secs(1)..=TTL_MAX).contains(ttl));
                flags.ttl = ttl.ok_or_else(|| fail(format!("ttl {value:?} is no such time")))?;
            }
            other => return Err(fail(format!("there is no option {other:?}"))),
        }
    }
    flags.method = method.ok_or_else(|| fail("sign-method is missing".to_owned()))?;
    let secret = matches!(flags.method, JwtMethod::Hs256 | JwtMethod::Hs384 | JwtMethod::Hs512);
    if flags.private_key.is_none() && (secret || flags.public_key.is_none()) {
        let missing = if secret { "priv-key is missing" } else { "priv-key or pub-key is missing" };
        return Err(fail(missing.to_owned()));
    }
    Ok(TokenFlags::Jwt(flags))
}
