//! Keys that sign texts and check signatures, for tokens.
//!
//! Owns: key files, the ways of signing. Never knows: what is signed. The only place that names ring.

use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{hmac, rand};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use x509_cert::der::Decode as _;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::config::{JwtFlags, JwtMethod};
use crate::tls::TlsError;
use crate::tls::files;

const FLAG: &str = "--auth-token";

/// What signs, what checks, or both.
pub struct Signing {
    signs: Option<Signs>,
    checks: Checks,
    random: SystemRandom,
}

enum Signs {
    Secret(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
}

enum Checks {
    Secret(hmac::Key),
    Public(UnparsedPublicKey<Vec<u8>>),
}

/// A way of signing with a pair of keys.
enum Pair {
    Rsa(&'static dyn RsaEncoding),
    Ecdsa(&'static EcdsaSigningAlgorithm),
}

impl Signing {
    /// Reads the keys, and sees that they fit each other.
    ///
    /// # Errors
    /// Which file holds no such key, with the fix.
    pub fn load(flags: &JwtFlags) -> Result<Self, TlsError> {
        let JwtFlags { method, private_key, public_key, .. } = flags;
        let (pair, checks): (_, &'static dyn VerificationAlgorithm) = match method {
            JwtMethod::Hs256 => return Self::secret(private_key.as_deref(), hmac::HMAC_SHA256),
            JwtMethod::Hs384 => return Self::secret(private_key.as_deref(), hmac::HMAC_SHA384),
            JwtMethod::Hs512 => return Self::secret(private_key.as_deref(), hmac::HMAC_SHA512),
            JwtMethod::Rs256 => {
                (Pair::Rsa(&signature::RSA_PKCS1_SHA256), &signature::RSA_PKCS1_2048_8192_SHA256)
            }
            JwtMethod::Rs384 => {
                (Pair::Rsa(&signature::RSA_PKCS1_SHA384), &signature::RSA_PKCS1_2048_8192_SHA384)
            }
            JwtMethod::Rs512 => {
                (Pair::Rsa(&signature::RSA_PKCS1_SHA512), &signature::RSA_PKCS1_2048_8192_SHA512)
            }
            JwtMethod::Ps256 => {
                (Pair::Rsa(&signature::RSA_PSS_SHA256), &signature::RSA_PSS_2048_8192_SHA256)
            }
            JwtMethod::Ps384 => {
                (Pair::Rsa(&signature::RSA_PSS_SHA384), &signature::RSA_PSS_2048_8192_SHA384)
            }
            JwtMethod::Ps512 => {
                (Pair::Rsa(&signature::RSA_PSS_SHA512), &signature::RSA_PSS_2048_8192_SHA512)
            }
            JwtMethod::Es256 => (
                Pair::Ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
                &signature::ECDSA_P256_SHA256_FIXED,
            ),
            JwtMethod::Es384 => (
                Pair::Ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
                &signature::ECDSA_P384_SHA384_FIXED,
            ),
        };
        let signs = private_key.as_deref().map(|path| signs(path, pair)).transpose()?;
        let named = public_key.as_deref().map(public).transpose()?;
        let own = match &signs {
            Some(Signs::Rsa(pair, _)) => Some(pair.public_key().as_ref().to_vec()),
            Some(Signs::Ecdsa(pair)) => Some(pair.public_key().as_ref().to_vec()),
            Some(Signs::Secret(_)) | None => None,
        };
        if let (Some(path), Some(own), Some(named)) = (public_key, &own, &named)
            && own != named
        {
            const WANTED: &str = "the public key that belongs to priv-key";
            return Err(TlsError::content(path, FLAG, WANTED, "it is another one".to_owned()));
        }
        let public = named.or(own).unwrap_or_default();
        let checks = Checks::Public(UnparsedPublicKey::new(checks, public));
        Ok(Self { signs, checks, random: rand::SystemRandom::new() })
    }

    fn secret(path: Option<&Path>, algorithm: hmac::Algorithm) -> Result<Self, TlsError> {
        const WANTED: &str = "a file with a secret as long as the hash of sign-method or longer (openssl rand -out FILE 64)";
        // The flag is refused without a file.
        let path = path.unwrap_or(Path::new(""));
        let bytes = files::secret(path, FLAG)?;
        // RFC 7518, section 3.2. Whoever guesses it is every user.
        let least = algorithm.digest_algorithm().output_len();
        if bytes.len() < least {
            let why = format!("it has {} bytes, not {least}", bytes.len());
            return Err(TlsError::content(path, FLAG, WANTED, why));
        }
        let key = hmac::Key::new(algorithm, &bytes);
        let (signs, checks) = (Some(Signs::Secret(key.clone())), Checks::Secret(key));
        Ok(Self { signs, checks, random: rand::SystemRandom::new() })
    }

    /// Signs; `None` without a key for that.
    pub fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        match self.signs.as_ref()? {
            Signs::Secret(key) => Some(hmac::sign(key, text).as_ref().to_vec()),
            Signs::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &self.random, text, &mut signature).ok()?;
                Some(signature)
            }
            Signs::Ecdsa(pair) => Some(pair.sign(&self.random, text).ok()?.as_ref().to_vec()),
        }
    }

    /// Is this the signature of that text?
    pub fn is_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        match &self.checks {
            Checks::Secret(key) => hmac::verify(key, text, signature).is_ok(),
            Checks::Public(key) => key.verify(text, signature).is_ok(),
        }
    }
}

fn signs(path: &Path, pair: Pair) -> Result<Signs, TlsError> {
    let key = files::private_key(path, FLAG)?;
    let fail = |wanted, why: String| TlsError::content(path, FLAG, wanted, why);
    match pair {
        Pair::Rsa(encoding) => {
            const WANTED: &str = "an RSA key of 2048 bits or more (openssl genrsa -out FILE 2048)";
            let pair = match &key {
                PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
                PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
                PrivateKeyDer::Sec1(_) | _ => {
                    return Err(fail(WANTED, "it is no RSA key".to_owned()));
                }
            };
            let pair = pair.map_err(|error| fail(WANTED, error.to_string()))?;
            Ok(Signs::Rsa(pair, encoding))
        }
        Pair::Ecdsa(algorithm) => {
            const WANTED: &str = "a key on the curve of sign-method in PKCS#8 (openssl pkcs8 -topk8 -nodes -in KEY -out FILE)";
            let PrivateKeyDer::Pkcs8(key) = &key else {
                return Err(fail(WANTED, "it is not in PKCS#8".to_owned()));
            };
            let random = SystemRandom::new();
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.secret_pkcs8_der(), &random);
            Ok(Signs::Ecdsa(pair.map_err(|error| fail(WANTED, error.to_string()))?))
        }
    }
}

/// The key itself, as the verifying algorithms want it.
fn public(path: &Path) -> Result<Vec<u8>, TlsError> {
    const WANTED: &str = "a public key in PEM (openssl pkey -in KEY -pubout -out FILE)";
    let fail = |why: String| TlsError::content(path, FLAG, WANTED, why);
    let bytes = files::bytes(path, FLAG)?;
    let info = SubjectPublicKeyInfoDer::from_pem_slice(&bytes);
    let info = info.map_err(|error| fail(error.to_string()))?;
    let info = SubjectPublicKeyInfoRef::from_der(&info);
    let info = info.map_err(|error| fail(error.to_string()))?;
    let key = info.subject_public_key.as_bytes();
    key.map(<[u8]>::to_vec).ok_or_else(|| fail("its bits are no bytes".to_owned()))
}
