//! Sending a write once, and finding out what became of it.
//!
//! ```text
//!   sent once ─▶ answered ─────────────────────────────▶ what it says
//!        │ no connection ──────────────────────────────▶ not executed
//!        └ no whole answer ─▶ every server is asked ─┬─▶ final: what the log says
//!                             for the request, bounded└─▶ unknown, and what resolves it
//! ```
//! Invariants:
//! - a write is sent at most once, to one server. Sending it again, and voiding it, are the operator's
//!   to decide.
//! - only a final answer ends the asking: that a server has not seen a request proves nothing, for it
//!   may still be on its way.

use crate::{Client, ClientError, Code, Outcome, Problem, RequestState, RequestVerdict};
use futures_util::future::select_all;
use std::time::Duration;
use types::{RequestId, limits};

/// A write, and who may know what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// Its request.
    pub id: RequestId,
    /// Where it is sent.
    pub to: &'a Client,
    /// Other servers of the same log. They are asked what became of it, and nothing else.
    pub others: &'a [Client],
    /// How long all of them are asked.
    pub patience: Duration,
    /// What resolves it when nobody could say: the hint of the problem.
    pub next: &'a str,
}

/// A write that was executed.
#[derive(Clone, Debug)]
pub enum Came<T> {
    /// The server answered.
    Answered(T),
    /// Its answer was lost, and the log says so.
    Found {
        /// What the log says.
        state: Box<RequestState>,
        /// Who said it.
        by: Client,
    },
}

impl Sending<'_> {
    /// Sends the write, and finds out what became of it. `doubt` is told when its answer was lost, before
    /// anybody is asked.
    ///
    /// # Errors
    /// It was not executed, or nobody could say: the problem's outcome and exit code tell which.
    pub async fn once<T>(
        &self,
        call: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
        doubt: impl FnOnce(&ClientError),
    ) -> Result<Came<T>, Box<Problem>> {
        let error = match call(self.to).await {
            Ok(answer) => return Ok(Came::Answered(answer)),
            Err(error) => error,
        };
        if let Some(problem) = surely_not(&error) {
            return Err(Box::new(Problem { request_id: problem.request_id.or(Some(self.id)), ..problem }));
        }
        doubt(&error);
        match tokio::time::timeout(self.patience, self.ask()).await {
            Ok((state, by)) => {
                said(state).map(|state| Came::Found { state: Box::new(state), by: by.clone() })
            }
            Err(_) => Err(Box::new(unknown(self.id, &error, self.next))),
        }
    }

    /// Asks every server again and again, until one of them has a final answer.
    async fn ask(&self) -> (RequestState, &Client) {
        let asked = std::iter::once(self.to).chain(self.others);
        let asking = asked.map(|server| {
            Box::pin(async move {
                let client = server.clone().with_timeout(self.patience);
                loop {
                    if let Ok(state) = client.request(self.id).await
                        && state.is_final
                    {
                        return (state, server);
                    }
                    tokio::time::sleep(limits::WAIT_POLL.into()).await;
                }
            })
        });
        select_all(asking).await.0
    }
}

/// The problem of a write that was certainly not executed.
fn surely_not(error: &ClientError) -> Option<Problem> {
    match error {
        ClientError::NotSent { .. } => {
            let problem = Problem::new(Code::Unavailable, format!("{error}; nothing was sent"));
            Some(problem.with_hint("holdfast up, or name a server that runs with --server URL"))
        }
        ClientError::Problem(problem) if problem.outcome == Outcome::NotExecuted => Some((**problem).clone()),
        ClientError::Problem(_) | ClientError::Unknown { .. } | ClientError::BadAnswer { .. } => None,
    }
}

/// The problem of a write of which nobody could say anything.
fn unknown(id: RequestId, error: &ClientError, next: &str) -> Problem {
    let what = format!("{error}; whether request {id} was executed is not known, and it was not sent again");
    Problem::new(Code::UnknownOutcome, what).with_request(id).with_hint(next)
}

/// The log has spoken.
fn said(state: RequestState) -> Result<RequestState, Box<Problem>> {
    let id = state.request_id;
    let reason = state.reason.as_deref().unwrap_or("no reason is recorded");
    let refused = |code: Code, what: String| {
        Err(Box::new(Problem::new(code, what).with_request(id).with_outcome(Outcome::NotExecuted)))
    };
    match state.state {
        RequestVerdict::Executed => Ok(state),
        RequestVerdict::Refused => {
            refused(state.code.unwrap_or(Code::Conflict), format!("the log says: refused: {reason}"))
        }
        RequestVerdict::Voided => refused(Code::RequestVoided, format!("the log says: voided: {reason}")),
        RequestVerdict::Expired | RequestVerdict::NotSeen => {
            let what =
                format!("request {id} is behind the log's horizon, and what became of it is no longer known");
            let problem = Problem::new(Code::UnknownOutcome, what).with_request(id);
            Err(Box::new(problem.with_hint("holdfast status")))
        }
    }
}
