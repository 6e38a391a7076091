//! `nodes`: machines.

use super::{delete, follow, write};
use crate::{
    args::NodesVerb,
    context::Context,
    failure::Failure,
    output::{self, Form, ago, or_dash},
};
use api::{JoinTokenRequest, NodeRow};
use tokio::time::Instant;
use types::plan::NodeRole;

/// Lists, drains, activates, or makes a join token.
pub async fn run(context: &Context, verb: Option<NodesVerb>) -> Result<(), Failure> {
    let since = Instant::now();
    let done = match verb.unwrap_or(NodesVerb::List) {
        NodesVerb::List => return list(context).await,
        NodesVerb::Disable(args) => return delete::disable_node(context, args).await,
        NodesVerb::Remove(args) => return delete::remove_node(context, args).await,
        NodesVerb::Drain { node } => {
            write::send(context, async |client, id| client.drain_node(id, &node).await).await?
        }
        NodesVerb::Activate { node } => {
            write::send(context, async |client, id| client.activate_node(id, &node).await).await?
        }
        NodesVerb::JoinToken { expires_in } => {
            let request = JoinTokenRequest { expires_in };
            write::send(context, async |client, id| client.create_join_token(id, &request).await).await?
        }
    };
    follow::finish(context, None, done, since).await
}

async fn list(context: &Context) -> Result<(), Failure> {
    let rows = context.client.nodes().await.map_err(Failure::of_read)?;
    if context.form == Form::Json {
        output::json(&rows);
        return Ok(());
    }
    let apart: Vec<String> = rows
        .iter()
        .filter_map(|row| row.apart.as_ref().map(|why| format!("note: {}: {why}", row.name)))
        .collect();
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let headings =
        ["NODE", "STATE", "ROLES", "MEMORY", "CPU", "SEEN", "PLAN", "HELD", "EDGE HELD", "SHORT OF"];
    output::table(&headings, &rows, "no nodes yet; make a secret for one with: holdfast nodes join-token");
    apart.iter().for_each(|line| output::note(line));
    Ok(())
}

fn cells(row: &NodeRow) -> Vec<String> {
    let role = |role: &NodeRole| match role {
        NodeRole::Agent => "agent",
        NodeRole::Edge => "edge",
    };
    vec![
        row.name.to_string(),
        row.state.clone(),
        row.roles.iter().map(role).collect::<Vec<_>>().join(","),
        format!("{}/{}", row.used.memory, row.capacity.memory),
        format!("{}/{}", row.used.cpu, row.capacity.cpu),
        row.last_seen.map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago(at))),
        row.generation.to_string(),
        or_dash(row.acknowledged),
        or_dash(row.edge_acknowledged),
        or_dash(row.pressure),
    ]
}
