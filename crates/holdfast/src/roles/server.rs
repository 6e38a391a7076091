//! `holdfast server`: the control plane.

use super::{
    owner,
    process::{self, whole},
};
use crate::{args::ServerArgs, context::DEFAULT_ORG, failure::Failure};
use control::{Config, Server, ServerError};

/// Runs a server until it is told to stop.
pub async fn run(args: ServerArgs) -> Result<(), Failure> {
    let shutdown = process::until_told()?;
    let data_dir = process::data_dir(&args.data_dir)?;
    let org = DEFAULT_ORG.parse().expect("a valid name");
    let config = Config { data_dir: data_dir.clone(), listen: args.listen, org };
    let server = Server::start(config).await.map_err(|error| refused(&error))?;
    let url = format!("http://{}", server.address());
    if !args.leave_owner_token
        && let Some(secret) = server.first_owner()
    {
        owner::hand_over(&url, secret.reveal(), &data_dir);
    }
    tracing::info!(%url, data_dir = %data_dir.display(), "the server is up");
    server.run(shutdown).await;
    tracing::info!("the server has stopped");
    Ok(())
}

fn refused(error: &ServerError) -> Failure {
    let next = match error {
        ServerError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => Some(
            "another program listens there: name another address with --listen, or find it with: ss -ltnp",
        ),
        ServerError::Listen { .. } => Some("name an address of this machine with --listen"),
        ServerError::NotLoopback(_) => {
            Some("--listen 127.0.0.1:7070, and a tunnel or proxy with TLS before it")
        }
        ServerError::Log { .. } | ServerError::Fold { .. } => Some("holdfast log verify --data-dir DIR"),
        ServerError::Begin(_) => None,
    };
    Failure::cannot_start(whole(error), next.map(str::to_owned))
}
