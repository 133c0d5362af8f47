//! Numbers of the process and its files, which no floor below knows.

use crate::api::metrics::families::Families;

/// Reads numbers that only the server knows, each time the page is asked for.
pub struct Surroundings {
    /// For each side (`client`, `peer`) when its certificate ends, in seconds since 1970.
    pub certificates: Box<dyn Fn() -> Vec<(&'static str, f64)> + Send + Sync>,
    /// Size of the checkpoint's file.
    pub checkpoint_bytes: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    /// What became of the log's lines.
    pub log_lines: Box<dyn Fn() -> LogLines + Send + Sync>,
}

/// Lines of the log that are not in it as they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogLines {
    /// Merged with others like them.
    pub merged: u64,
    /// Lost because what takes them stood still.
    pub dropped: u64,
}

impl Surroundings {
    pub(super) fn collect(&self, families: &mut Families) {
        let ends: Vec<_> =
            (self.certificates)().into_iter().map(|(side, at)| (side.to_owned(), at)).collect();
        families.seconds_by(
            "cairn_tls_certificate_expiry_timestamp_seconds",
            "When the certificate that this member shows ends.",
            "side",
            &ends,
        );
        if let Some(bytes) = (self.checkpoint_bytes)() {
            for name in
                ["etcd_mvcc_db_total_size_in_bytes", "etcd_debugging_mvcc_db_total_size_in_bytes"]
            {
                families.gauge(name, "Size of the checkpoint's file.", bytes);
            }
        }
        let LogLines { merged, dropped } = (self.log_lines)();
        families.counter(
            "cairn_log_lines_merged_total",
            "Lines of the log that were counted in another line like them.",
            merged,
        );
        families.counter(
            "cairn_log_lines_dropped_total",
            "Lines of the log that are lost because the journal stood still.",
            dropped,
        );
        let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        families.gauge(
            "os_fd_limit",
            "process_max_fds under another name.",
            limits.current.unwrap_or(u64::MAX),
        );
        if let Some(used) = super::open_descriptors() {
            families.gauge("os_fd_used", "process_open_fds under another name.", used);
        }
        let space = rustix::process::getrlimit(rustix::process::Resource::As);
        families.real(
            "process_virtual_memory_max_bytes",
            "Most virtual memory that this process may have.",
            space.current.map_or(f64::INFINITY, |bytes| bytes as f64),
        );
    }
}
