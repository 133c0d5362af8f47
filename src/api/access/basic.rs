//! The `Authorization` header.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// As Go decodes: with all padding, and without a look at the bits behind the last byte.
const GO_STANDARD: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

const SCHEME: &[u8] = b"basic ";

/// A name and a password. It has no `Debug`, so that it gets into no log.
pub(super) struct Claim {
    pub(super) user: String,
    pub(super) password: Vec<u8>,
}

/// The first header, as it came; an empty one counts as none.
pub(super) fn header(headers: &HeaderMap) -> Option<&[u8]> {
    let header = headers.get(AUTHORIZATION)?.as_bytes();
    Some(header).filter(|header| !header.is_empty())
}

/// What it says; `None` when that cannot be read or is no name with a password.
pub(super) fn read(header: &[u8]) -> Option<Claim> {
    let (scheme, encoded) = header.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let mut decoded = GO_STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let password = decoded.split_off(colon + 1);
    decoded.pop();
    // Names of users come from JSON and are text.
    Some(Claim { user: String::from_utf8(decoded).ok()?, password })
}

/// As clients write it.
#[cfg(any(test, fuzzing))]
pub(super) fn header_of(claim: &Claim) -> Vec<u8> {
    let both = [claim.user.as_bytes(), b":", &claim.password].concat();
    [SCHEME, GO_STANDARD.encode(both).as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_the_first_colon() {
        for (header, user, password) in [
            ("Basic dTpw", "u", "p"),
            ("bAsIc dTpw", "u", "p"),
            ("Basic dTpwOnE=", "u", "p:q"),
            ("Basic Og==", "", ""),
            ("Basic dTo=", "u", ""),
            ("Basic dTp=", "u", ""),
        ] {
            let claim = read(header.as_bytes()).unwrap_or_else(|| panic!("{header}"));
            assert_eq!((claim.user.as_str(), &*claim.password), (user, password.as_bytes()));
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        for header in [
            "Basic",
            "Basic ",
            "Basic !!!",
            "Bearer x",
            "Basic  dTpw",
            "Basic dTo",
            "Basic dQ==",
            "Basicx dTpw",
            "Basic dTpw ",
            "Basic /zpw",
        ] {
            assert!(read(header.as_bytes()).is_none(), "{header}");
        }
    }
}
