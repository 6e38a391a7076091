//! `scale`, `restart`, `rollback`.

use super::{apply::confirm, follow, write};
use crate::{
    args::YesArgs,
    context::{Context, Patience},
    failure::Failure,
};
use api::{RestartRequest, RollbackRequest, ScaleRequest};
use tokio::time::Instant;
use types::Name;

/// Sets how many instances of a process there are, and waits until there are as many.
pub async fn scale(context: &Context, process: Name, replicas: u32) -> Result<(), Failure> {
    let place = context.place()?;
    let request = ScaleRequest { process, replicas };
    let since = Instant::now();
    let done =
        write::send(context, async |client, id| client.scale(place.names(), id, &request).await).await?;
    let receipt = &done.receipt;
    if context.patience == Patience::NoWait || receipt.result.deploy.is_some() || done.unread.is_some() {
        return follow::finish(context, Some(&place), done, since).await;
    }
    let reached = follow::converged(context, &place, Some(&request.process), receipt.event).await;
    let reached = reached.map(drop).map_err(|ended| ended.of_write(receipt, &place.wait_converged()));
    follow::finish(context, Some(&place), done, since).await?;
    reached
}

/// Replaces instances by fresh ones of the same release.
pub async fn restart(context: &Context, process: Option<Name>) -> Result<(), Failure> {
    let place = context.place()?;
    let request = RestartRequest { process };
    let since = Instant::now();
    let done =
        write::send(context, async |client, id| client.restart(place.names(), id, &request).await).await?;
    follow::finish(context, Some(&place), done, since).await
}

/// Goes back to an earlier release. A release that is named needs no further question.
pub async fn rollback(context: &Context, release: Option<String>, yes: YesArgs) -> Result<(), Failure> {
    let place = context.place()?;
    if release.is_none() {
        // Said by name, the target is clear; left out, somebody must say yes to wherever it goes.
        confirm(yes, &format!("roll {place} back to the last release that worked?"))?;
    }
    let request = RollbackRequest { release };
    let since = Instant::now();
    let done =
        write::send(context, async |client, id| client.rollback(place.names(), id, &request).await).await?;
    follow::finish(context, Some(&place), done, since).await
}
