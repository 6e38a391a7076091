//! Flags of the backups that a server makes by itself.

use super::offline::KeyArgs;
use clap::Args;
use std::{ffi::OsString, num::NonZeroUsize, path::PathBuf, str::FromStr};
use types::{ByteSize, DurationMs, limits};

/// A time, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every(pub Option<DurationMs>);

impl FromStr for Every {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            text => {
                text.parse().map(|every| Self(Some(every))).map_err(|error| format!("{error}; or \"off\""))
            }
        }
    }
}

impl std::fmt::Display for Every {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(every) => every.fmt(f),
            None => f.write_str("off"),
        }
    }
}

/// Backups that a server makes by itself. Without a place there are none.
#[derive(Clone, Debug, Args)]
pub struct BackupsArgs {
    /// Back the log up to this directory, or to s3://BUCKET/PREFIX with the usual AWS_… variables
    #[arg(long, env = "HOLDFAST_BACKUP_TO", value_name = "PLACE")]
    pub backup_to: Option<String>,
    /// The file that holds the key of the backups; nobody else may read it
    #[arg(long, env = "HOLDFAST_BACKUP_KEY_FILE", value_name = "FILE", requires = "backup_to")]
    #[arg(conflicts_with = "backup_key_command")]
    pub backup_key_file: Option<PathBuf>,
    /// A command for the shell that prints the key of the backups
    #[arg(long, env = "HOLDFAST_BACKUP_KEY_COMMAND", value_name = "COMMAND", requires = "backup_to")]
    pub backup_key_command: Option<String>,
    /// Between two whole backups
    #[arg(long, value_name = "DURATION", default_value_t = limits::BACKUP_EVERY)]
    pub backup_every: DurationMs,
    /// Backups that are kept
    #[arg(long, value_name = "N", default_value_t = kept())]
    pub backup_keep: NonZeroUsize,
    /// How often the log is archived as it grows, or off
    #[arg(long, value_name = "DURATION", default_value_t = Every(Some(limits::ARCHIVE_EVERY)))]
    pub backup_archive: Every,
    /// How often the last backup is restored aside and folded, or off
    #[arg(long, value_name = "DURATION", default_value_t = Every(Some(limits::DRILL_EVERY)))]
    pub backup_drill: Every,
    /// Where that is done; otherwise drill/ in the data directory
    #[arg(long, value_name = "DIR")]
    pub backup_scratch: Option<PathBuf>,
    /// Bytes in a second to and from the place, at the most
    #[arg(long, value_name = "SIZE")]
    pub backup_rate: Option<ByteSize>,
}

fn kept() -> NonZeroUsize {
    NonZeroUsize::new(limits::BACKUPS_KEPT).expect("some are kept")
}

impl BackupsArgs {
    /// The key, as it is given here.
    pub fn key(&self) -> KeyArgs {
        KeyArgs { key_file: self.backup_key_file.clone(), key_command: self.backup_key_command.clone() }
    }

    /// The same flags for another process.
    pub fn flags(&self) -> Vec<OsString> {
        let Some(place) = &self.backup_to else { return Vec::new() };
        let mut flags: Vec<OsString> = vec!["--backup-to".into(), place.into()];
        let mut add = |flag: &str, value: Option<OsString>| {
            flags.extend(value.into_iter().flat_map(|value| [flag.into(), value]));
        };
        add("--backup-key-file", self.backup_key_file.clone().map(Into::into));
        add("--backup-key-command", self.backup_key_command.clone().map(Into::into));
        add("--backup-every", Some(self.backup_every.to_string().into()));
        add("--backup-keep", Some(self.backup_keep.to_string().into()));
        add("--backup-archive", Some(self.backup_archive.to_string().into()));
        add("--backup-drill", Some(self.backup_drill.to_string().into()));
        add("--backup-scratch", self.backup_scratch.clone().map(Into::into));
        add("--backup-rate", self.backup_rate.map(|rate| rate.to_string().into()));
        flags
    }
}

#[cfg(test)]
mod tests {
    use crate::args::{Cli, Command, Role, ServerArgs};
    use clap::Parser as _;
    use std::ffi::OsString;

    fn server(flags: &[OsString]) -> Result<ServerArgs, String> {
        let line = ["holdfast", "server"].into_iter().map(OsString::from).chain(flags.iter().cloned());
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Role(role) => match *role {
                Role::Server(args) => Ok(args),
                other => panic!("{other:?}"),
            },
            Command::Daily(other) => panic!("{other:?}"),
        }
    }

    fn flags(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn another_process_is_told_the_same() {
        let given = flags(
            "--backup-to s3://b/log --backup-key-file key --backup-every 6h --backup-keep 3 --backup-archive off --backup-drill 2d --backup-scratch /x --backup-rate 8Mi",
        );
        let first = server(&given).expect("good").backups;
        assert_eq!(first.flags(), given);
        assert!(first.backup_archive.0.is_none() && first.backup_drill.0.is_some());
        assert!(server(&[]).expect("good").backups.flags().is_empty(), "off unless a place is given");
    }

    #[test]
    fn a_key_without_a_place_and_a_time_that_is_none_are_refused() {
        let error = server(&flags("--backup-key-file key")).expect_err("no place");
        assert!(error.contains("--backup-to"), "{error}");
        let error = server(&flags("--backup-to x --backup-drill never")).expect_err("no time");
        assert!(error.contains("--backup-drill") && error.contains("off"), "{error}");
    }
}
