//! `holdfast agent`: runs instances, with or without a server.

use super::{
    identity::{self, Newcomer},
    process::{self, whole},
};
use crate::{
    args::{AgentArgs, Global},
    failure::Failure,
};
use agent::{Agent, Config};
use std::sync::Arc;
use types::{
    MilliCpu,
    plan::{Capacity, NodeRole},
};

/// Runs an agent until it is told to stop. Its instances run on.
pub async fn run(args: AgentArgs, global: Global) -> Result<(), Failure> {
    let shutdown = process::until_told()?;
    rootly()?;
    let data_dir = process::data_dir(&args.node.data_dir)?;
    let capacity = capacity(&args)?;
    let newcomer = Newcomer {
        name: args.node.name.clone(),
        roles: vec![NodeRole::Agent],
        capacity: capacity.unwrap_or_else(agent::capacity),
    };
    let identity = identity::of(&args.node, &global, &data_dir, newcomer).await?;
    let config = Config {
        data_dir,
        node: identity.node,
        cluster: identity.cluster.clone(),
        metrics: Some(args.metrics),
        capacity,
    };
    let link = Arc::new(identity.client()?);
    let agent = Agent::start(config, Arc::new(rt::RealDisk), link)
        .await
        .map_err(|error| Failure::cannot_start(whole(&error), None))?;
    tracing::info!(node = %identity.node, "the agent is up");
    agent.run(shutdown).await;
    tracing::info!("the agent has stopped; its instances run on");
    Ok(())
}

/// Said before a join token is spent on a machine that cannot run instances.
pub fn rootly() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let what = "an agent makes namespaces, mounts and control groups and must run as root";
    Err(Failure::cannot_start(what, Some("the same command with sudo".to_owned())))
}

fn capacity(args: &AgentArgs) -> Result<Option<Capacity>, Failure> {
    if args.memory.is_none() && args.cpu.is_none() {
        return Ok(None);
    }
    let found = agent::capacity();
    let cpu = match args.cpu {
        None => found.cpu,
        Some(cores) => MilliCpu::from_cores(cores)
            .ok_or_else(|| Failure::usage(format!("--cpu {cores} is not a number of cores"), "--cpu 2.5"))?,
    };
    Ok(Some(Capacity { memory: args.memory.unwrap_or(found.memory), cpu }))
}
