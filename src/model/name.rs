//! Names of nodes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

use triomphe::ThinArc;

/// One component of a path: any bytes except `/`, never empty. Takes two words; short ones are in them, longer ones are shared.
///
/// A directory of a million files has a million of these, and a write copies those of the tree's nodes on its way: a short name
/// is compared and copied without a look at memory elsewhere.
#[derive(Clone)]
pub struct Name(Bytes);

/// So many bytes fit in beside the tag and the length.
const SHORT_BYTES_MAX: usize = 14;

#[derive(Clone)]
enum Bytes {
    Short { length: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(ThinArc<(), u8>),
}

impl From<&[u8]> for Name {
    fn from(name: &[u8]) -> Self {
        match u8::try_from(name.len()) {
            Ok(length) if name.len() <= SHORT_BYTES_MAX => {
                let mut bytes = [0; SHORT_BYTES_MAX];
                bytes[..name.len()].copy_from_slice(name);
                Self(Bytes::Short { length, bytes })
            }
            Ok(_) | Err(_) => Self(Bytes::Long(ThinArc::from_header_and_slice((), name))),
        }
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short { length, bytes } => &bytes[..usize::from(*length)],
            Bytes::Long(bytes) => &bytes.slice,
        }
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_takes_two_words() {
        assert_eq!(size_of::<Name>(), 16);
    }

    proptest! {
        #[test]
        fn names_are_their_bytes(one in prop::collection::vec(0u8..3, 0..30), other in prop::collection::vec(0u8..3, 0..30)) {
            let (left, right) = (Name::from(&one[..]), Name::from(&other[..]));
            prop_assert_eq!(&*left, &one[..]);
            prop_assert_eq!(left.cmp(&right), one.cmp(&other));
            prop_assert_eq!(left == right, one == other);
            prop_assert_eq!(&left.clone(), &left);
        }
    }

    #[test]
    fn a_name_of_any_length_is_kept() {
        for length in [SHORT_BYTES_MAX - 1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 255, 256, 70_000]
        {
            let bytes = vec![b'n'; length];
            assert_eq!(*Name::from(&bytes[..]), bytes[..], "{length}");
        }
    }
}
