//! Names of nodes.

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
    Short(Short),
    Long(ThinArc<(), u8>),
}

/// A short name, zeros up to the last byte, and its length there: of two of them the one that comes first has the smaller bytes.
#[derive(Clone, Copy)]
struct Short([u8; SHORT_BYTES_MAX + 1]);

impl Short {
    fn of(name: &[u8]) -> Option<Self> {
        let length = u8::try_from(name.len()).ok().filter(|_| name.len() <= SHORT_BYTES_MAX)?;
        let mut bytes = [0; SHORT_BYTES_MAX + 1];
        bytes[..name.len()].copy_from_slice(name);
        bytes[SHORT_BYTES_MAX] = length;
        Some(Self(bytes))
    }

    fn bytes(&self) -> &[u8] {
        &self.0[..usize::from(self.0[SHORT_BYTES_MAX])]
    }

    /// In the order of the names. The byte in the middle is in both halves, which changes no order.
    fn number(&self) -> u128 {
        let half =
            |bytes: Option<&[u8; 8]>| u64::from_be_bytes(*bytes.expect("there are fifteen bytes"));
        u128::from(half(self.0.first_chunk())) << 64 | u128::from(half(self.0.last_chunk()))
    }
}

/// What a name is searched by among others: two short ones are compared as numbers, in two instructions, without a loop over bytes.
#[derive(Clone, Copy)]
pub struct Sought<'a> {
    bytes: &'a [u8],
    short: Option<u128>,
}

impl<'a> From<&'a [u8]> for Sought<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes, short: Short::of(bytes).as_ref().map(Short::number) }
    }
}

impl Sought<'_> {
    /// How `name` stands to this one.
    pub fn order_of(&self, name: &Name) -> Ordering {
        match (&name.0, self.short) {
            (Bytes::Short(name), Some(short)) => name.number().cmp(&short),
            (Bytes::Short(_) | Bytes::Long(_), _) => (**name).cmp(self.bytes),
        }
    }
}

impl From<&[u8]> for Name {
    fn from(name: &[u8]) -> Self {
        let long = || Bytes::Long(ThinArc::from_header_and_slice((), name));
        Self(Short::of(name).map_or_else(long, Bytes::Short))
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short(name) => name.bytes(),
            Bytes::Long(bytes) => &bytes.slice,
        }
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
        match (&self.0, &other.0) {
            (Bytes::Short(one), Bytes::Short(other)) => one.number().cmp(&other.number()),
            (Bytes::Short(_) | Bytes::Long(_), _) => (**self).cmp(&**other),
        }
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
            prop_assert_eq!(Sought::from(&other[..]).order_of(&left), one.cmp(&other));
            prop_assert_eq!(left == right, one == other);
            prop_assert_eq!(&left.clone(), &left);
        }
    }

    #[test]
    fn a_name_of_any_length_is_kept() {
        for length in [SHORT_BYTES_MAX - 1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 255, 256, 70_000]
        {
            let bytes = vec![b'n'; length];
            let name = Name::from(&bytes[..]);
            assert_eq!(*name, bytes[..], "{length}");
            // Zeros at the end of a name are a part of it.
            let zeros = [&bytes[..], &[0]].concat();
            assert_eq!(Sought::from(&zeros[..]).order_of(&name), Ordering::Less, "{length}");
            assert_eq!(Sought::from(&bytes[..]).order_of(&name), Ordering::Equal, "{length}");
        }
    }
}
