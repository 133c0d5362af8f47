//! `backup`: a copy of a member's directory.

use std::path::{Path, PathBuf};

use crate::backup::{self, DirectoryBackup};
use crate::ctl::commands::Job;
use crate::ctl::failure::Failure;
use crate::ctl::print::note;

pub(super) async fn run(job: &Job<'_>) -> Result<(), Failure> {
    job.no_arguments()?;
    let path = |name| job.said.text(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let needed = |name| {
        let missing = || Failure::line(format!("--{name} is missing: name the directory"));
        path(name).ok_or_else(missing)
    };
    let backup = DirectoryBackup {
        data_dir: needed("data-dir")?,
        wal_dir: path("wal-dir"),
        backup_dir: needed("backup-dir")?,
    };
    if let Some(dir) = path("backup-wal-dir")
        && dir != Path::new(&backup.backup_dir).join("wal")
    {
        return Err(Failure::line(
            "--backup-wal-dir: a member has its log in its data directory, so that of a backup is there too; leave the option out",
        ));
    }
    let copied = tokio::task::spawn_blocking(move || backup::copy(&backup)).await;
    let line = copied.map_err(|error| Failure::line(error.to_string()))?.map_err(Failure::line)?;
    note(&line);
    Ok(())
}
