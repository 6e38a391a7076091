//! What people and scripts do: each noun in a file of its own.
//!
//! Writes go through [`write`](mod@write), which sends once and then tells the truth; what a write
//! begins is waited for in [`follow`].

mod apply;
mod audit;
mod change;
mod cluster;
mod confirm;
mod delete;
mod doctor;
mod events;
mod explain;
mod explanation;
mod follow;
mod log;
mod logs;
mod look;
mod members;
mod nodes;
mod requests;
mod tokens;
mod version;
mod views;
mod wait;
mod write;

pub use cluster::{backup::key as backup_key, recover::finish as finish_recovery};

use crate::{
    args::{
        AppsVerb, Cli, Daily, EnvsVerb, Global,
        audit::{AuditArgs, AuditVerb},
        cluster::ClusterVerb,
    },
    context::Context,
    failure::Failure,
    output::{self, Form},
};
use clap::CommandFactory as _;

/// Runs one command to its end.
pub fn run(command: Daily, global: Global) -> Result<(), Failure> {
    // Reads files of this machine only: it needs no server and no context.
    let command = match command {
        Daily::Log { verb } => return log::run(verb, global.form()),
        Daily::Completion { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "holdfast", &mut text);
            output::raw(&text);
            return Ok(());
        }
        Daily::Audit(AuditArgs { verb: Some(AuditVerb::Verify { data_dir: Some(dir) }), .. }) => {
            return audit::verify_offline(&dir, global.form());
        }
        command => command,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("the system gives no event queue: {error}")))?;
    match command {
        Daily::Cluster { verb } => match without_server(verb, &runtime, global.form()) {
            Ok(done) => done,
            Err(verb) => {
                runtime.block_on(dispatch(Daily::Cluster { verb: *verb }, &Context::new(&global)?, &global))
            }
        },
        command => runtime.block_on(dispatch(command, &Context::new(&global)?, &global)),
    }
}

/// Runs what works on disks, with no server and no context; gives back what does not.
fn without_server(
    verb: ClusterVerb,
    runtime: &tokio::runtime::Runtime,
    form: Form,
) -> Result<Result<(), Failure>, Box<ClusterVerb>> {
    Ok(match verb {
        ClusterVerb::Init(args) => runtime.block_on(cluster::start::init(args, form)),
        ClusterVerb::Join(args) => runtime.block_on(cluster::start::join(args, form)),
        ClusterVerb::Fence(args) if args.data_dir.is_some() => cluster::offline::fence(args, form),
        ClusterVerb::Recover(args) => cluster::recover::run(args, form),
        ClusterVerb::Backup(args) if args.to.is_some() => {
            runtime.block_on(cluster::backup::backup(args, form))
        }
        ClusterVerb::Restore(args) => runtime.block_on(cluster::backup::restore(args, form)),
        ClusterVerb::Drill(args) => runtime.block_on(cluster::backup::drill(args, form)),
        verb => return Err(Box::new(verb)),
    })
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
        Daily::Audit(args) => audit::run(context, args).await,
        Daily::Wait { what } => wait::run(context, &what).await,
        Daily::Apps { verb: Some(AppsVerb::Delete(args)) } => delete::app(context, args).await,
        Daily::Apps { verb } => look::apps(context, verb).await,
        Daily::Envs { verb: Some(EnvsVerb::Delete(args)) } => delete::environment(context, args).await,
        Daily::Envs { verb: None | Some(EnvsVerb::List) } => look::envs(context).await,
        Daily::Routes => look::routes(context).await,
        Daily::Nodes { verb } => nodes::run(context, verb).await,
        Daily::Tokens { verb } => tokens::run(context, global, verb).await,
        Daily::Members { verb } => members::run(context, verb).await,
        Daily::Login(args) => members::login(context, args).await,
        Daily::Logout => members::logout(context).await,
        Daily::Requests { verb } => requests::run(context, verb).await,
        Daily::Cluster { verb } => cluster::run(context, verb).await,
        Daily::Views { verb } => views::run(context, verb).await,
        Daily::Whoami => tokens::whoami(context).await,
        Daily::Version => version::run(context).await,
        Daily::Doctor { data_dir } => {
            doctor::run(context, &data_dir).await;
            Ok(())
        }
        Daily::Log { .. } | Daily::Completion { .. } => {
            unreachable!("they need no server and were run before")
        }
    }
}
