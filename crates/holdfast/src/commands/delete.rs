//! Guarded acts on apps, environments and nodes: deleting, disabling, removing.

use super::confirm::{self, Act, Resolve, quoted};
use crate::{
    args::delete::{AppArgs, EnvArgs, NodeArgs, WhyArgs},
    context::Context,
    failure::Failure,
};
use api::{ClusterActRequest, routes};

/// `apps delete NAME`
pub async fn app(context: &Context, args: AppArgs) -> Result<(), Failure> {
    let AppArgs { name, why } = args;
    let path = routes::fill(routes::APP_DELETE, &[context.org.as_str(), name.as_str()]);
    run(context, format!("apps delete {name} --org {}", context.org), path, why).await
}

/// `envs delete NAME`
pub async fn environment(context: &Context, args: EnvArgs) -> Result<(), Failure> {
    let EnvArgs { name, why } = args;
    let (org, app) = (&context.org, context.app()?);
    let path = routes::fill(routes::ENV_DELETE, &[org.as_str(), app.as_str(), name.as_str()]);
    run(context, format!("envs delete {name} --app {app} --org {org}"), path, why).await
}

/// `nodes disable NODE`
pub async fn disable_node(context: &Context, args: NodeArgs) -> Result<(), Failure> {
    let NodeArgs { node, why } = args;
    let path = routes::fill(routes::NODE_DISABLE, &[&node]);
    run(context, format!("nodes disable {}", quoted(&node)), path, why).await
}

/// `nodes remove NODE`
pub async fn remove_node(context: &Context, args: NodeArgs) -> Result<(), Failure> {
    let NodeArgs { node, why } = args;
    let path = routes::fill(routes::NODE_REMOVE, &[&node]);
    run(context, format!("nodes remove {}", quoted(&node)), path, why).await
}

async fn run(context: &Context, words: String, path: String, why: WhyArgs) -> Result<(), Failure> {
    let WhyArgs { reason, confirm } = why;
    let request = ClusterActRequest { node: None, reason, acknowledge: Vec::new() };
    confirm::run(context, Act { words, path, resolve: Resolve::Request, request }, confirm).await
}
