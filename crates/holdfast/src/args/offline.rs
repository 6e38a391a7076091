//! `holdfast cluster recover`, `backup`, `restore` and `drill`: what works on a disk, without a server.

use super::cluster::ReasonArgs;
use clap::Args;
use std::{num::NonZeroUsize, path::PathBuf};
use types::{EventId, Timestamp};

/// Going on from one member alone.
#[derive(Clone, Debug, Args)]
pub struct RecoverArgs {
    /// The member to go on from, which must not run: the furthest of all that are left
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub why: ReasonArgs,
}

/// What seals a backup: 32 bytes as base64.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub struct KeyArgs {
    /// The file that holds the key; nobody else may read it
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A command for the shell that prints the key
    #[arg(long, value_name = "COMMAND")]
    pub key_command: Option<String>,
}

/// Making a backup, or looking at those that were made.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// A directory, or s3://BUCKET/PREFIX with the usual AWS_… variables. Without it, the server makes
    /// one now, to where it was told
    #[arg(long, value_name = "PLACE")]
    pub to: Option<String>,
    #[command(flatten)]
    pub key: KeyArgs,
    /// The server's data directory; the server may run
    #[arg(long, env = "HOLDFAST_DATA_DIR", default_value = ".holdfast", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Make none: say which there are; needs no key
    #[arg(long, requires = "to", conflicts_with_all = ["verify", "keep", "whole"])]
    pub list: bool,
    /// Make none: read one back, the newest if none is named, and what was archived since
    #[arg(long, value_name = "ID", num_args = 0..=1, requires = "to", conflicts_with_all = ["keep", "whole"])]
    pub verify: Option<Option<backup::Id>>,
    /// Afterwards, take away all but the last N
    #[arg(long, value_name = "N", requires = "to")]
    pub keep: Option<NonZeroUsize>,
    /// Send everything again, also what is there already
    #[arg(long, requires = "to")]
    pub whole: bool,
}

/// Making a log from a backup. It asks for no confirmation: it writes into an empty directory, under a
/// new identity, and so changes nothing that is there.
#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// Where the backups are: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    pub from: String,
    #[command(flatten)]
    pub key: KeyArgs,
    /// The new data directory, empty or not there
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// This backup; otherwise the newest
    #[arg(long, value_name = "ID")]
    pub backup: Option<backup::Id>,
    /// Up to this event; otherwise as far as there is something
    #[arg(long, value_name = "N")]
    pub to_event: Option<EventId>,
    /// Up to this time, as in 2026-11-20T09:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time_of, conflicts_with = "to_event")]
    pub to_time: Option<Timestamp>,
}

/// Proving the newest backup.
#[derive(Clone, Debug, Args)]
pub struct DrillArgs {
    /// Where the backups are: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    pub from: String,
    #[command(flatten)]
    pub key: KeyArgs,
    /// Where there is room for the whole log; otherwise the directory for temporary files
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

pub(super) fn time_of(text: &str) -> Result<Timestamp, String> {
    let wrong = || "wants a time in UTC, as in 2026-11-20T09:00:00Z".to_owned();
    let at = humantime::parse_rfc3339_weak(text).map_err(|_| wrong())?;
    let since = at.duration_since(std::time::UNIX_EPOCH).map_err(|_| wrong())?;
    u64::try_from(since.as_millis()).map(Timestamp::from_ms).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_to_the_millisecond() {
        assert_eq!(time_of("1970-01-01T00:00:01Z"), Ok(Timestamp::from_ms(1000)));
        assert_eq!(time_of("1970-01-01T00:00:01.250Z"), Ok(Timestamp::from_ms(1250)));
        assert_eq!(time_of("1970-01-01 00:00:02"), Ok(Timestamp::from_ms(2000)));
        for bad in ["", "yesterday", "09:00", "1969-12-31T00:00:00Z"] {
            assert!(time_of(bad).is_err(), "{bad}");
        }
    }
}
