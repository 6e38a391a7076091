//! What people and scripts do: each noun in a file of its own.
//!
//! Writes go through [`write`](mod@write), which sends once and then tells the truth; what a write
//! begins is waited for in [`follow`].

mod apply;
mod change;
mod cluster;
mod events;
mod explain;
mod follow;
mod log;
mod logs;
mod look;
mod nodes;
mod requests;
mod tokens;
mod version;
mod views;
mod wait;
mod write;

use crate::{
    args::{Daily, Global, cluster::ClusterVerb},
    context::Context,
    failure::Failure,
};

/// Runs one command to its end.
pub fn run(command: Daily, global: Global) -> Result<(), Failure> {
    // Reads files of this machine only: it needs no server and no context.
    if let Daily::Log { verb } = command {
        return log::run(verb, global.form());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("the system gives no event queue: {error}")))?;
    // They work on this machine's disk, with no server and no context.
    match command {
        Daily::Cluster { verb: ClusterVerb::Init(args) } => {
            return runtime.block_on(cluster::start::init(args, global.form()));
        }
        Daily::Cluster { verb: ClusterVerb::Join(args) } => {
            return runtime.block_on(cluster::start::join(args, global.form()));
        }
        Daily::Cluster { verb: ClusterVerb::Fence(args) } if args.data_dir.is_some() => {
            return cluster::offline::fence(args, global.form());
        }
        _ => {}
    }
    runtime.block_on(dispatch(command, &Context::new(&global)?, &global))
}

async fn dispatch(command: Daily, context: &Context, global: &Global) -> Result<(), Failure> {
    match command {
        Daily::Apply(args) => apply::apply(context, global, args).await,
        Daily::Deploy(args) => apply::deploy(context, args).await,
        Daily::Status => look::status(context).await,
        Daily::Explain { what } => explain::run(context, what.as_deref()).await,
        Daily::Ps { all } => {
            look::ps(context, if all { look::Which::All } else { look::Which::Present }).await
        }
        Daily::Logs(args) => logs::run(context, args).await,
        Daily::Scale { to: (process, replicas) } => change::scale(context, process, replicas).await,
        Daily::Restart { process } => change::restart(context, process).await,
        Daily::Rollback { release, yes } => change::rollback(context, release, yes).await,
        Daily::Releases => look::releases(context).await,
        Daily::Events(args) => events::run(context, args).await,
        Daily::Wait { what } => wait::run(context, &what).await,
        Daily::Apps { verb } => look::apps(context, verb).await,
        Daily::Envs => look::envs(context).await,
        Daily::Routes => look::routes(context).await,
        Daily::Nodes { verb } => nodes::run(context, verb).await,
        Daily::Tokens { verb } => tokens::run(context, global, verb).await,
        Daily::Requests { verb } => requests::run(context, verb).await,
        Daily::Cluster { verb } => cluster::run(context, verb).await,
        Daily::Views { verb } => views::run(context, verb).await,
        Daily::Whoami => tokens::whoami(context).await,
        Daily::Version => version::run(context).await,
        Daily::Log { .. } => unreachable!("it needs no server and was run before"),
    }
}
