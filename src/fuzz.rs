//! What strangers can send, read the way a fuzzer makes it up: no input may end the program, and what is said of each reading must
//! hold for all of them.
//!
//! `fuzz/` makes inputs for each [`Target`] by which branches they reach (`scripts/fuzz.sh`). The tests of this module read the
//! seeds in `fuzz/seeds` with the stable compiler; an input that once failed is kept there.
//!
//! Never knows: what is read. Each floor lists its own targets.

mod member;

use crate::{api, archive, disk, etcd, raft, server, store, tls, transport};

/// One way to read, and what must hold whatever is read.
pub(crate) struct Target {
    /// Its name in `fuzz/`.
    pub(crate) name: &'static str,
    /// Reads an input.
    ///
    /// # Panics
    /// When a reading breaks what must hold.
    pub(crate) read: fn(&[u8]),
}

fn targets() -> impl Iterator<Item = &'static Target> {
    let floors = [
        api::fuzz::TARGETS,
        server::fuzz::TARGETS,
        transport::fuzz::TARGETS,
        raft::fuzz::TARGETS,
        store::fuzz::TARGETS,
        disk::fuzz::TARGETS,
        tls::fuzz::TARGETS,
        archive::fuzz::TARGETS,
        etcd::fuzz::TARGETS,
        member::TARGETS,
    ];
    floors.into_iter().flatten()
}

/// Reads `input` as the target of this name does.
///
/// # Panics
/// When there is no such target, or the reading breaks what must hold.
pub fn read(name: &str, input: &[u8]) {
    let target = targets().find(|target| target.name == name).expect("a target of this name");
    (target.read)(input);
}

/// Cuts `input` into pieces of one to 16 bytes, by the numbers in `sizes`.
pub(crate) fn pieces<'a>(input: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (input, Vec::new());
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = 1 + usize::from(sizes.next().copied().unwrap_or(15) % 16);
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let stem = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
        let entries = std::fs::read_dir(folder).expect("the folder is there").flatten();
        entries.filter_map(|entry| stem(entry.path())).collect()
    }

    /// Programs and seeds for all targets, and for no others.
    #[test]
    fn each_target_has_a_program_and_seeds() {
        let known: BTreeSet<_> = targets().map(|target| target.name.to_owned()).collect();
        assert_eq!(known.len(), targets().count(), "names of their own");
        assert_eq!(names(&folder("fuzz_targets")), known);
        assert_eq!(names(&folder("seeds")), known);
        let manifest = std::fs::read_to_string(folder("Cargo.toml")).expect("its manifest");
        for name in known {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} in fuzz/Cargo.toml");
            let program = folder("fuzz_targets").join(&name).with_extension("rs");
            let program = std::fs::read_to_string(program).expect("its program");
            assert!(program.contains(&format!("cairn::fuzz::read(\"{name}\", input)")), "{name}");
        }
    }

    #[test]
    fn seeds_are_read() {
        for target in targets() {
            let seeds = std::fs::read_dir(folder("seeds").join(target.name)).expect("its seeds");
            let mut count = 0;
            for seed in seeds.flatten() {
                eprintln!("{}: {}", target.name, seed.path().display());
                (target.read)(&std::fs::read(seed.path()).expect("a seed"));
                count += 1;
            }
            assert!(count > 0, "{} has no seeds", target.name);
        }
        member::remove_data_dir();
    }

    #[test]
    fn pieces_are_all_of_it() {
        let input: Vec<_> = (0..100).collect();
        for sizes in [&[][..], &[0], &[3, 255, 16]] {
            assert_eq!(pieces(&input, sizes).concat(), input);
        }
        assert_eq!(pieces(&input, &[0]).len(), 100);
    }
}
