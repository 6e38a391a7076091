//! `requests`: what became of a request, and the word that it may never run.

use crate::{
    args::RequestsVerb,
    context::Context,
    failure::Failure,
    output::{self, Form},
};
use api::{ClientError, Code, Outcome, Problem, RequestState, RequestVerdict};
use types::RequestId;

/// Shows or voids.
pub async fn run(context: &Context, verb: RequestsVerb) -> Result<(), Failure> {
    match verb {
        RequestsVerb::Show { id } => {
            let state = context.client.request(id).await.map_err(Failure::of_read)?;
            print(context.form, &state);
            if state.is_final {
                return Ok(());
            }
            let what = format!("request {id} was not seen so far; it may still arrive");
            Err(Problem::new(Code::UnknownOutcome, what)
                .with_request(id)
                .with_hint(format!("holdfast requests void {id} (then it can never run)"))
                .into())
        }
        RequestsVerb::Void { id } => {
            let state = match context.client.void(id).await {
                Ok(state) => state,
                // Voiding names its request itself, so saying it twice is saying it once.
                Err(error @ (ClientError::Unknown { .. } | ClientError::BadAnswer { .. })) => {
                    let what = format!("{error}; whether it was voided is not known");
                    return Err(Problem::new(Code::UnknownOutcome, what)
                        .with_request(id)
                        .with_hint(format!("holdfast requests void {id}"))
                        .into());
                }
                Err(error) => return Err(not_voided(&error, id)),
            };
            print(context.form, &state);
            if matches!(state.state, RequestVerdict::Voided | RequestVerdict::Expired) {
                return Ok(());
            }
            let outcome = match state.state {
                RequestVerdict::Executed => Outcome::Executed,
                _ => Outcome::NotExecuted,
            };
            let what = format!("request {id} has its outcome already and cannot be voided");
            Err(Problem::new(Code::Conflict, what)
                .with_request(id)
                .with_outcome(outcome)
                .with_hint(format!("holdfast requests show {id}"))
                .into())
        }
    }
}

/// Nothing was voided. That says nothing of the request, so unless the server tells of it, neither does this.
fn not_voided(error: &ClientError, id: RequestId) -> Failure {
    let mut failure = Failure::not_executed(error, id);
    if !matches!(error, ClientError::Problem(problem) if problem.request_id == Some(id)) {
        failure.problem.request_id = None;
        failure.problem.detail =
            format!("request {id} is not voided and may still run: {}", failure.problem.detail);
    }
    failure
}

fn print(form: Form, state: &RequestState) {
    if form == Form::Json {
        output::outcome_json(state);
        return;
    }
    let id = state.request_id;
    let at = state.at.map_or(String::new(), |at| format!(", {}", output::time(at)));
    let event = state.event.map_or(String::new(), |event| format!(" at event {event}"));
    let reason = state.reason.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
    let verdict = match state.state {
        RequestVerdict::Executed => "executed",
        RequestVerdict::Refused => "refused",
        RequestVerdict::Voided => "voided",
        RequestVerdict::Expired => "expired: it can never run any more, and whether it did is no longer kept",
        RequestVerdict::NotSeen => "not seen so far",
    };
    let first = format!("{id}  {verdict}{event}{at}{reason}");
    let mut lines = vec![output::plain(&first).into_owned()];
    if !state.attempts.is_empty() {
        let word = if state.is_final { "that is final" } else { "none of that is final" };
        lines.push(format!("attempts that the journals know of ({word}):"));
        lines.extend(state.attempts.iter().map(|row| format!("  {}", super::audit::line(row))));
    }
    output::outcome(&(lines.join("\n") + "\n"));
    if !state.unread.is_empty() {
        let names = state.unread.join(", ");
        output::note(&format!("note: the journals of these members could not be read: {names}"));
    }
}
