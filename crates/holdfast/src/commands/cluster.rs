//! `cluster`: who is a member, who has authority, and the guarded acts on both.

pub mod backup;
pub mod backups;
pub mod offline;
pub mod recover;
pub mod start;
mod status;

use super::{
    confirm::{self, Act, Resolve, failed},
    write,
};
use crate::{
    args::cluster::ClusterVerb,
    context::Context,
    failure::Failure,
    output::{self, Form},
};
use api::{Came, Client, ClusterActRequest, MemberJoinRequest, Outcome, Receipt, ResultBody, routes};
use types::{DurationMs, EventId};

/// Shows, makes a join token or a snapshot, or does a guarded act.
pub async fn run(context: &Context, verb: ClusterVerb) -> Result<(), Failure> {
    let act = |verb: &str, path: &str, resolve, node: Option<String>, reason: String| Act {
        words: format!("cluster {verb}"),
        path: String::from(path),
        resolve,
        request: ClusterActRequest { node, reason, acknowledge: Vec::new() },
    };
    let (act, answer) = match verb {
        ClusterVerb::Init(_)
        | ClusterVerb::Join(_)
        | ClusterVerb::Recover(_)
        | ClusterVerb::Restore(_)
        | ClusterVerb::Drill(_) => {
            unreachable!("they need no server and were run before")
        }
        ClusterVerb::Backup(args) => return backups::ask(context, &args.key).await,
        ClusterVerb::Status => return status::run(context).await,
        ClusterVerb::JoinToken { expires_in } => return join_token(context, expires_in).await,
        ClusterVerb::Snapshot => return snapshot(context).await,
        ClusterVerb::Promote(args) => {
            let (node, why) = (Some(args.node), args.why);
            (act("promote", routes::CLUSTER_PROMOTE, Resolve::Status, node, why.reason), why.confirm)
        }
        ClusterVerb::Handover(args) => {
            let (node, why) = (Some(args.node), args.why);
            (act("handover", routes::CLUSTER_HANDOVER, Resolve::Status, node, why.reason), why.confirm)
        }
        ClusterVerb::Fence(args) => {
            (act("fence", routes::CLUSTER_FENCE, Resolve::Status, args.node, args.reason), args.confirm)
        }
        ClusterVerb::Remove(args) => {
            let (node, why) = (Some(args.node), args.why);
            (act("remove", routes::CLUSTER_REMOVE, Resolve::Request, node, why.reason), why.confirm)
        }
        ClusterVerb::Adopt(args) => {
            (act("adopt", routes::CLUSTER_ADOPT, Resolve::Request, None, args.reason), args.confirm)
        }
    };
    confirm::run(context, act, answer).await
}

async fn join_token(context: &Context, expires_in: DurationMs) -> Result<(), Failure> {
    let id = context.intent();
    let request = MemberJoinRequest { expires_in };
    let call = async |client: &Client| client.create_member_secret(id, &request).await;
    let made = match write::once(context, id, &context.resolves(id), call).await? {
        Came::Answered(made) => made,
        // A secret that was made and never seen opens a place until it ends: that is worth saying.
        Came::Found { state, .. } => {
            match context.form {
                Form::Text => {
                    output::note(
                        "the secret was in the answer that was lost, and is nowhere else; make another",
                    );
                }
                Form::Json => {
                    let (request_id, event) = (id, state.event.unwrap_or(EventId::ZERO));
                    let (outcome, events, result) = (Outcome::Executed, Vec::new(), ResultBody::default());
                    output::outcome_json(&Receipt { request_id, outcome, event, events, result });
                }
            }
            return Ok(());
        }
    };
    match context.form {
        Form::Json => output::outcome_json(&made),
        Form::Text => {
            output::outcome(&format!("{}\n", made.secret));
            let end = output::time(made.expires);
            output::note(&format!("admits one member, once, until {end}; it is shown this once"));
        }
    }
    Ok(())
}

async fn snapshot(context: &Context) -> Result<(), Failure> {
    let id = context.intent();
    let made = context.client.snapshot(id).await;
    let made = made.map_err(|error| failed(error, id, &context.shows_cluster()))?;
    match context.form {
        Form::Json => output::outcome_json(&made),
        Form::Text => output::outcome(&format!("snapshot of event {}\n", made.event)),
    }
    Ok(())
}
