//! The release of etcd that we say we are.
//!
//! Owns: the two versions that clients see. Why it is this release: ADR 28.

/// The etcd release whose behaviour is served, and which `/version`, the call Status, the tools and the log name. Clients decide by it
/// what they may use: Kubernetes asks watches for their progress from 3.4.31 on.
pub const ETCD_VERSION: &str = "3.4.37";

/// The version of a cluster whose members are all of that release: its line, as etcd has it.
pub const CLUSTER_VERSION: &str = "3.4.0";

#[cfg(test)]
mod tests {
    use super::{CLUSTER_VERSION, ETCD_VERSION};

    #[test]
    fn the_cluster_is_of_the_line_of_its_members() {
        let (line, _) = ETCD_VERSION.rsplit_once('.').expect("three numbers");
        assert_eq!(CLUSTER_VERSION, format!("{line}.0"));
    }
}
