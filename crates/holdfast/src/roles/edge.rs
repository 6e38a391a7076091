//! `holdfast edge`: takes connections, with or without a server.

use super::{
    identity::{self, Newcomer},
    process::{self, whole},
};
use crate::{
    args::{EdgeArgs, Global},
    failure::Failure,
};
use edge::{Config, Edge, StartError};
use std::sync::Arc;
use types::plan::{Capacity, NodeRole};

/// Runs an edge until it is told to stop.
pub async fn run(args: EdgeArgs, global: Global) -> Result<(), Failure> {
    let shutdown = process::until_told()?;
    let data_dir = process::data_dir(&args.node.data_dir)?;
    let newcomer =
        Newcomer { name: args.node.name.clone(), roles: vec![NodeRole::Edge], capacity: Capacity::default() };
    let identity = identity::of(&args.node, &global, &data_dir, newcomer).await?;
    let config = Config {
        listen_tls: Some(args.routing.tls_listen),
        listen_tcp_address: args.routing.tcp_address,
        metrics: Some(args.routing.edge_metrics),
        ..Config::new(data_dir)
    };
    let link = Arc::new(identity.client()?);
    let edge = Edge::start(config, Arc::new(rt::RealDisk), Some(link)).map_err(|error| refused(&error))?;
    tracing::info!(node = %identity.node, tls = %args.routing.tls_listen, "the edge is up");
    edge.run(shutdown).await;
    tracing::info!("the edge has stopped");
    Ok(())
}

fn refused(error: &StartError) -> Failure {
    let next = match error {
        StartError::Listen { source, .. } => match source.kind() {
            std::io::ErrorKind::AddrInUse => Some(
                "another program listens there: name another address with --tls-listen, or find it with: ss -ltnp",
            ),
            std::io::ErrorKind::PermissionDenied => {
                Some("run it as root, or name a port above 1023 with --tls-listen")
            }
            _ => Some("name an address of this machine with --tls-listen"),
        },
        StartError::Plan(_) => None,
    };
    Failure::cannot_start(whole(error), next.map(str::to_owned))
}
