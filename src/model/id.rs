//! Identities that print as etcd prints them: lower-case hex without leading zeros.

use std::fmt;

/// A member's identity; fixed for its life, never used again after its removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// A cluster's identity; fixed when the cluster is made. Wire: `X-Etcd-Cluster-Id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl MemberId {
    /// Reads the hex form: digits in either case that fit 64 bits, leading zeros allowed, nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !plain {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_printed_and_nothing_else_is() {
        for id in [0, 1, 0xabc, u64::MAX] {
            assert_eq!(MemberId::parse(&MemberId(id).to_string()), Some(MemberId(id)));
        }
        assert_eq!(MemberId::parse("00000000000000000ABC"), Some(MemberId(0xabc)));
        for text in ["", "+1", "-1", "0x1", " 1", "g", "10000000000000000"] {
            assert_eq!(MemberId::parse(text), None, "{text:?}");
        }
    }
}
