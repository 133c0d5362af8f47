//! Which lines are logged: one level for all packages, others for single ones.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use crate::config::LogLevel;
use crate::raft;

/// The packages of lines, as etcd names them. A test compares them with the code.
pub(super) const PACKAGES: &[&str] = &[
    "auth",
    "compactor",
    "discovery",
    "embed",
    "etcdhttp",
    "etcdmain",
    "etcdserver",
    "etcdserver/api",
    "etcdserver/membership",
    "pkg/flags",
    "pkg/osutil",
    "proxy",
    "raft",
    "rafthttp",
    "wal",
];

/// The levels in force.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    default: LevelFilter,
    packages: Vec<(String, LogLevel)>,
}

impl Levels {
    pub(super) fn new(default: LogLevel, packages: &[(String, LogLevel)]) -> Self {
        Self { default: filter_of(default), packages: packages.to_vec() }
    }

    /// Names in `--log-package-levels` that are no packages.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        let names = self.packages.iter().map(|(name, _)| name.as_str());
        names.filter(|name| *name != "*" && !PACKAGES.contains(name))
    }

    fn of(&self, package: &str) -> LevelFilter {
        let said = self.packages.iter().rev().find(|(name, _)| name == package || name == "*");
        said.map_or(self.default, |(_, level)| filter_of(*level))
    }

    /// Ours at their levels; libraries only when something is wrong. At debug level consensus says more.
    pub(super) fn targets(&self) -> Targets {
        let level = self.of("*");
        let consensus = if level >= LevelFilter::DEBUG {
            LevelFilter::INFO
        } else {
            LevelFilter::ERROR.min(level)
        };
        let mut targets =
            Targets::new().with_default(level).with_target("hyper", LevelFilter::WARN.min(level));
        for (target, worthwhile) in raft::LOG_TARGETS {
            let level = if worthwhile { consensus } else { LevelFilter::OFF };
            targets = targets.with_target(target, level);
        }
        // Each by its whole name: a target of the library is also the beginning of others.
        for package in PACKAGES {
            targets = targets.with_target(*package, self.of(package));
        }
        targets
    }
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn levels(packages: &[(&str, LogLevel)]) -> Targets {
        let packages: Vec<_> =
            packages.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect();
        Levels::new(LogLevel::Info, &packages).targets()
    }

    #[test]
    fn a_package_has_its_own_level_and_its_neighbours_do_not() {
        let targets = levels(&[("raft", LogLevel::Error), ("etcdserver", LogLevel::Debug)]);
        assert!(!targets.would_enable("raft", &Level::WARN));
        assert!(targets.would_enable("rafthttp", &Level::INFO), "it only begins like it");
        assert!(targets.would_enable("etcdserver", &Level::DEBUG));
        assert!(!targets.would_enable("etcdserver/membership", &Level::DEBUG));
        assert!(
            targets.would_enable("wal", &Level::INFO)
                && !targets.would_enable("wal", &Level::DEBUG)
        );
    }

    #[test]
    fn the_last_word_on_a_package_counts() {
        let targets =
            levels(&[("wal", LogLevel::Debug), ("*", LogLevel::Warn), ("auth", LogLevel::Info)]);
        assert!(!targets.would_enable("wal", &Level::INFO));
        assert!(targets.would_enable("auth", &Level::INFO));
        let unknown = Levels::new(LogLevel::Info, &[("security".to_owned(), LogLevel::Debug)]);
        assert_eq!(unknown.unknown().collect::<Vec<_>>(), ["security"]);
    }
}
