//! Passwords that stand in a log as they were typed: before 3.5 each member of etcd makes a hash of its own when it applies the
//! entry.
//!
//! Holds: the same entry of the same log gives the same hash, however often the directory is read: members that are made of it one by
//! one must agree. So the salt, which need not be secret but has to be another one each time, comes from the entry's place.

use sha2::{Digest as _, Sha256};

use crate::model::PasswordHash;

/// As in etcd, if it is not told otherwise.
const COST: u32 = 10;

const SALT_BYTES: usize = 16;

/// How hashes are made.
#[derive(Clone, Copy, Debug)]
pub struct Hashing {
    /// Whose log it is.
    cluster: u64,
    cost: u32,
}

impl Hashing {
    /// For the log of this cluster.
    pub fn of(cluster: u64) -> Self {
        Self { cluster, cost: COST }
    }

    /// Hashes that are made fast, and found fast.
    #[cfg(any(test, fuzzing))]
    pub(super) fn for_tests() -> Self {
        Self { cluster: 7, cost: 4 }
    }

    /// The hash of a user's password in the entry at `index`.
    pub(super) fn hash(self, index: u64, user: &str, password: &[u8]) -> PasswordHash {
        let sum = Sha256::new()
            .chain_update(self.cluster.to_be_bytes())
            .chain_update(index.to_be_bytes())
            .chain_update(user)
            .finalize();
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&sum[..SALT_BYTES]);
        let hash = bcrypt::hash_with_salt(password, self.cost, salt);
        let hash = hash.expect("the cost is one that bcrypt knows");
        PasswordHash::new(&hash.format_for_version(bcrypt::Version::TwoA))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_gives_one_hash_and_another_one_another() {
        let hashing = Hashing::for_tests();
        let hash = hashing.hash(5, "alice", b"pw");
        assert_eq!(hash, hashing.hash(5, "alice", b"pw"));
        assert!(bcrypt::verify("pw", hash.as_str()).unwrap());
        assert!(!bcrypt::verify("wp", hash.as_str()).unwrap());
        let salt = |hash: &PasswordHash| hash.as_str()[..29].to_owned();
        for other in [
            hashing.hash(6, "alice", b"pw"),
            hashing.hash(5, "bob", b"pw"),
            Hashing { cluster: 8, ..hashing }.hash(5, "alice", b"pw"),
        ] {
            assert_ne!(salt(&other), salt(&hash));
        }
        assert!(hash.as_str().starts_with("$2a$"), "{}", hash.as_str());
        // Passwords may be empty, long, or hold anything.
        for password in [&b""[..], &[0xff, 0], &[b'x'; 100]] {
            hashing.hash(1, "", password);
        }
    }
}
