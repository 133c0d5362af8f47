//! JSON Web Tokens (RFC 7519): who a client is, as long as the signature is right and the time is not over.
//!
//! Owns: the form of a token and what it claims, as etcd has it. Never knows: keys. No member keeps such a token, so none can be
//! taken back before its time; one that is older than a change of users or roles is refused where that revision is compared.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::model::WallTime;
use crate::mvcc::AuthRevision;

type Sign = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;
type IsSigned = Box<dyn Fn(&[u8], &[u8]) -> bool + Send + Sync>;

/// How tokens are signed and checked.
pub struct Jwt {
    /// The way of signing, by its name; a token of another one is not believed.
    pub method: &'static str,
    /// How long a token is good.
    pub ttl: Duration,
    /// Signs; `None` on a member that cannot.
    pub sign: Sign,
    /// Is this the signature of that?
    pub is_signed: IsSigned,
}

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    alg: &'a str,
    typ: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: u64,
    /// Seconds since 1970.
    exp: u64,
}

impl Jwt {
    /// A token for a user; `None` on a member that cannot sign.
    pub(super) fn token(
        &self,
        user: &str,
        revision: AuthRevision,
        now: WallTime,
    ) -> Option<String> {
        let head = Head { alg: self.method, typ: Some("JWT") };
        let exp = now.0 / 1_000_000_000 + self.ttl.as_secs();
        let claims = Claims { username: user.to_owned(), revision: revision.0, exp };
        let encode = |json: serde_json::Result<Vec<u8>>| {
            URL_SAFE_NO_PAD.encode(json.expect("texts and numbers are JSON"))
        };
        let (head, claims) = (serde_json::to_vec(&head), serde_json::to_vec(&claims));
        let text = format!("{}.{}", encode(head), encode(claims));
        let signature = (self.sign)(text.as_bytes())?;
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Whose token this is, and as of which revision of users and roles; `None` when it is none, or not any more.
    pub(super) fn bearer(&self, token: &str, now: WallTime) -> Option<(String, AuthRevision)> {
        let (text, signature) = token.rsplit_once('.')?;
        let (head, claims) = text.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let head = decode(head)?;
        let head: Head<'_> = serde_json::from_slice(&head).ok()?;
        if head.alg != self.method || !(self.is_signed)(text.as_bytes(), &decode(signature)?) {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
        (now.0 / 1_000_000_000 < claims.exp)
            .then_some((claims.username, AuthRevision(claims.revision)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signs with the length alone.
    fn jwt(method: &'static str) -> Jwt {
        let signature = |text: &[u8]| text.len().to_be_bytes().to_vec();
        Jwt {
            method,
            ttl: Duration::from_secs(60),
            sign: Box::new(move |text| Some(signature(text))),
            is_signed: Box::new(move |text, shown| signature(text) == shown),
        }
    }

    const NOW: WallTime = WallTime(1_000_000_000_000);

    fn later(seconds: u64) -> WallTime {
        WallTime(NOW.0 + seconds * 1_000_000_000)
    }

    #[test]
    fn a_token_says_who_for_its_time() {
        let jwt = jwt("RS256");
        let token = jwt.token("alice", AuthRevision(7), NOW).unwrap();
        let bearer = Some(("alice".to_owned(), AuthRevision(7)));
        assert_eq!(jwt.bearer(&token, later(59)), bearer);
        assert_eq!(jwt.bearer(&token, later(60)), None);
        let parts: Vec<_> =
            token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        assert_eq!(parts[0], br#"{"alg":"RS256","typ":"JWT"}"#);
        assert_eq!(parts[1], br#"{"username":"alice","revision":7,"exp":1060}"#);
    }

    #[test]
    fn what_is_not_signed_in_the_one_way_is_not_believed() {
        let jwt = jwt("RS256");
        let token = jwt.token("alice", AuthRevision(7), NOW).unwrap();
        let (text, signature) = token.rsplit_once('.').unwrap();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let claims = text.split_once('.').unwrap().1;
        for other in [
            String::new(),
            "..".to_owned(),
            "a.b.c".to_owned(),
            format!("{text}."),
            format!("{text}.{signature}A"),
            format!("{text}x.{signature}"),
            format!("{none}.{claims}."),
            format!("{text}.{signature}."),
            "é.é.é".to_owned(),
        ] {
            assert_eq!(jwt.bearer(&other, NOW), None, "{other}");
        }
        let foreign = self::jwt("HS256").token("alice", AuthRevision(7), NOW).unwrap();
        assert_eq!(jwt.bearer(&foreign, NOW), None);
    }
}
