//! `events`: what happened, in the one order.

use crate::{
    args::EventsArgs,
    context::Context,
    failure::Failure,
    output::{self, Form},
};
use api::{ClientError, EventRow, EventsQuery};
use futures_util::StreamExt as _;
use types::{EventId, limits};

/// Prints events and, if wished, those that follow.
pub async fn run(context: &Context, args: EventsArgs) -> Result<(), Failure> {
    let mut after = match args.after {
        Some(after) => after,
        None => {
            let query = EventsQuery { limit: Some(1), ..EventsQuery::default() };
            let head = context.client.events(query).await.map_err(Failure::of_read)?.head;
            EventId::new(head.get().saturating_sub(args.limit as u64))
        }
    };
    if args.follow {
        return follow(context, after).await;
    }
    let mut left = args.limit;
    while left > 0 {
        let query = EventsQuery { after, limit: Some(left.min(limits::PAGE_ROWS)), wait: false };
        let page = context.client.events(query).await.map_err(Failure::of_read)?;
        let Some(last) = page.events.last() else { break };
        after = last.id;
        left = left.saturating_sub(page.events.len());
        page.events.iter().for_each(|event| print(context.form, event));
    }
    Ok(())
}

/// A lost stream is opened again after the last event that was printed: none is missed, none is
/// printed twice. Only the first opening may fail for good.
async fn follow(context: &Context, mut after: EventId) -> Result<(), Failure> {
    let mut stream = Box::pin(context.client.event_stream(after).await.map_err(Failure::of_read)?);
    loop {
        let error = match stream.next().await {
            Some(Ok(event)) => {
                after = event.id;
                print(context.form, &event);
                continue;
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        if let Some(ClientError::Problem(problem)) = error {
            return Err(Failure::of_read(ClientError::Problem(problem)));
        }
        output::note(&format!("the stream was lost after event {after}; opening it again"));
        stream = loop {
            tokio::time::sleep(limits::STREAM_REOPEN.into()).await;
            match context.client.event_stream(after).await {
                Ok(stream) => break Box::pin(stream),
                Err(ClientError::Problem(problem)) if problem.code.exit_code() != 6 => {
                    return Err(Failure::of_read(ClientError::Problem(problem)));
                }
                Err(_) => {}
            }
        };
    }
}

/// One event in one line.
pub fn print(form: Form, event: &EventRow) {
    match form {
        Form::Json => output::json(event),
        Form::Text => output::line(&format!(
            "{:>6}  {}  {:<22} {}  {}  {}",
            event.id,
            output::time(event.at),
            event.kind,
            event.subject.id,
            event.actor,
            event.data
        )),
    }
}
