//! `holdfast server`: the control plane.

use super::{
    owner,
    process::{self, whole},
    providers,
};
use crate::{
    args::{ServerArgs, backups::BackupsArgs},
    context::DEFAULT_ORG,
    failure::Failure,
};
use control::{Config, Server, ServerError, backups::Settings, cluster::OpenError as NotOpen};
use log::wal::OpenError;
use std::path::Path;

/// Runs a server until it is told to stop.
pub async fn run(args: ServerArgs) -> Result<(), Failure> {
    let shutdown = process::until_told()?;
    let data_dir = process::data_dir(&args.data_dir)?;
    crate::commands::finish_recovery(&data_dir)?;
    let org = DEFAULT_ORG.parse().expect("a valid name");
    let backups = backups(&args.backups, &data_dir).await?;
    let providers = args.providers.as_deref().map(|file| providers::load(file, args.listen)).transpose()?;
    let config = Config { data_dir: data_dir.clone(), listen: args.listen, org, backups, providers };
    let server = match Server::start_unless(config, shutdown.clone()).await {
        Ok(server) => server,
        Err(ServerError::Log { source: NotOpen::Stopped, .. }) => {
            tracing::info!("the server has stopped; its log is not repaired yet, and the next start goes on");
            return Ok(());
        }
        Err(error) => return Err(refused(&error, &data_dir)),
    };
    let url = server.url();
    if !args.leave_owner_token
        && let Some(secret) = server.first_owner()
    {
        owner::hand_over(&url, secret.reveal(), &data_dir);
    }
    if url.starts_with("https://") {
        owner::follow(&url, |token| server.knows(token));
    }
    tracing::info!(%url, data_dir = %data_dir.display(), "the server is up");
    server.run(shutdown).await.map_err(|error| Failure::local(whole(&error)))?;
    tracing::info!("the server has stopped");
    Ok(())
}

/// What it is told of backups, as far as that can be judged before it runs.
async fn backups(args: &BackupsArgs, data_dir: &Path) -> Result<Option<Settings>, Failure> {
    let Some(place) = &args.backup_to else { return Ok(None) };
    let given = args.key();
    if given.key_file.is_none() && given.key_command.is_none() {
        let what = "backups are sealed, and --backup-to comes without a key";
        let next =
            "openssl rand -base64 32 > backup.key && chmod 600 backup.key; --backup-key-file backup.key";
        return Err(Failure::usage(what, next));
    }
    let settings = Settings {
        place: place.clone(),
        key: crate::commands::backup_key(&given).await?,
        every: args.backup_every,
        keep: args.backup_keep,
        archive: args.backup_archive.0,
        drill: args.backup_drill.0,
        scratch: args.backup_scratch.clone().unwrap_or_else(|| data_dir.join("drill")),
        rate: args.backup_rate,
    };
    settings.check().map_err(|error| {
        let next = "holdfast server --help says what each --backup-… takes";
        Failure::usage(format!("--backup-to {place}: {}", whole(&error)), next)
    })?;
    Ok(Some(settings))
}

/// Why a server, or what it would begin with, does not start, and the way on.
pub fn refused(error: &ServerError, data_dir: &Path) -> Failure {
    let next = match error {
        ServerError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => Some(
            "another program listens there: name another address with --listen, or find it with: ss -ltnp"
                .to_owned(),
        ),
        ServerError::Listen { .. } => Some("name an address of this machine with --listen".to_owned()),
        ServerError::Tls { .. } => Some("--listen 127.0.0.1:7070, until it is mended".to_owned()),
        ServerError::Log { source: NotOpen::Repair(_), .. } => Some(
            "start it again when other members run; docs/runbooks/damaged-record.md says what else there is"
                .to_owned(),
        ),
        // These two are about the whole directory and say themselves what to do.
        ServerError::Log { source, .. }
            if matches!(
                source.open_error(),
                None | Some(OpenError::Locked { .. } | OpenError::NewerFormat { .. })
            ) =>
        {
            None
        }
        ServerError::Log { .. } | ServerError::Fold { .. } => Some(format!(
            "holdfast log verify --data-dir {} (names everything that is wrong)",
            data_dir.display()
        )),
        ServerError::Clock { .. } => Some(
            "set this machine's clock: timedatectl; if it is right, wait until it has caught up".to_owned(),
        ),
        ServerError::Begin(_) | ServerError::Ended { .. } => None,
    };
    Failure::cannot_start(whole(error), next)
}
