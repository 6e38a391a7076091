//! Guarded acts: explained, then confirmed by a person here or by a script with the token.
//!
//! Invariants:
//! - nothing but a typed answer, or a token given with `--confirm`, runs an act; `--yes` never does.
//! - what a person confirms is what was shown to them: the token is that of the explanation.
//! - an act is sent once. When its outcome is not known, the command says how to find out.

use super::explanation;
use crate::{
    args::cluster::ConfirmArgs,
    commands::write,
    context::Context,
    failure::Failure,
    interrupt,
    output::{self, Form},
};
pub use api::shell::quoted;
use api::{
    ActDone, Came, Client, ClientError, ClusterActRequest, Code, ConfirmedBy, Explained, Outcome, Problem,
};
use std::io::{BufRead, IsTerminal as _, Write};
use types::RequestId;

/// A guarded act as it was typed.
#[derive(Clone, Debug)]
pub struct Act {
    /// What follows `holdfast`, and after which its member stands if it names one.
    pub words: String,
    /// Where it is sent.
    pub path: String,
    /// What tells its outcome when no answer came.
    pub resolve: Resolve,
    /// What is sent. Acts that are about what their path names take the same without a member.
    pub request: ClusterActRequest,
}

/// What tells the outcome of an act whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// It is a request in the log: the command line asks what became of it.
    Request,
    /// It is none, for it needs no log, and shows in the state of the cluster. It cannot run later: its
    /// confirmation was used or dies.
    Status,
}

/// Explains, asks, and does it.
pub async fn run(context: &Context, mut act: Act, args: ConfirmArgs) -> Result<(), Failure> {
    let id = context.intent();
    if let Some(token) = &args.confirm {
        ignore_yes(&args);
        act.request.acknowledge.clone_from(&args.acknowledge);
        return send(context, &act, id, Some((token, ConfirmedBy::Script))).await;
    }
    let explained = context.client.explain_act(&act.path, id, &act.request).await;
    // An explanation changes nothing, so its outcome is not in doubt.
    let explained = explained.map_err(Failure::of_read)?;
    rt::Boundary::CallExplained.reached();
    if explained.token.is_empty() && !args.explain {
        // Nothing is lost by it, so nobody is asked.
        return send(context, &act, id, None).await;
    }
    match settle(context.form, &explained, &args, || command(context, &act, &explained))? {
        Answer::Explained => Ok(()),
        Answer::Yes(acknowledge) => {
            act.request.acknowledge = acknowledge;
            send(context, &act, id, Some((&explained.token, ConfirmedBy::Person))).await
        }
    }
}

/// What came of an explanation.
#[derive(Debug)]
pub enum Answer {
    /// It was all that was wanted.
    Explained,
    /// A person said yes, with these acknowledgements.
    Yes(Vec<String>),
}

/// Shows an explanation and has it answered by a person, if there is one.
///
/// # Errors
/// Nobody confirmed; `command` is the one with which a script does.
pub fn settle(
    form: Form,
    explained: &Explained,
    args: &ConfirmArgs,
    command: impl FnOnce() -> String,
) -> Result<Answer, Failure> {
    ignore_yes(args);
    let has_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if args.explain || form == Form::Json || !has_terminal {
        match form {
            Form::Json => output::outcome_json(explained),
            Form::Text => output::outcome(&explanation::text(explained)),
        }
        return if args.explain { Ok(Answer::Explained) } else { Err(unanswered(explained, command())) };
    }
    output::note(explanation::text(explained).trim_end());
    let interrupted = format!("{} was not confirmed: interrupted; nothing was done", explained.act);
    interrupt::means(Problem::new(Code::ConfirmationRequired, interrupted).into(), form);
    let answer = ask(explained, &mut std::io::stdin().lock(), &mut std::io::stderr());
    interrupt::means_nothing();
    answer.map(Answer::Yes)
}

fn ignore_yes(args: &ConfirmArgs) {
    if args.yes {
        output::note("note: --yes does not answer a guarded act");
    }
}

/// Nobody is there to answer: says how a script does.
fn unanswered(explained: &Explained, command: String) -> Failure {
    let what = match explained.overrides.len() {
        0 => format!("{} was explained and wants a confirmation; nothing was done", explained.act),
        _ => format!(
            "{} was explained and wants a confirmation, and an --acknowledge for each override above; nothing \
             was done",
            explained.act
        ),
    };
    Problem::new(Code::ConfirmationRequired, what).with_hint(command).into()
}

/// The command that confirms, to be run within the life of the token. What has to be acknowledged is
/// left for somebody to type.
fn command(context: &Context, act: &Act, explained: &Explained) -> String {
    let ClusterActRequest { node, reason, .. } = &act.request;
    let mut words = vec![format!("holdfast {}", act.words)];
    words.extend(node.as_deref().map(quoted));
    if !reason.is_empty() {
        words.push(format!("--reason {}", quoted(reason)));
    }
    // The token lives on the server that gave it, whatever the context says by then.
    words.push(format!("--server {}", quoted(&context.client.server())));
    if context.names_request() {
        words.push(format!("--request-id {}", context.intent()));
    }
    words.push(format!("--confirm {}", explained.token));
    words.join(" ")
}

/// Has a person type each acknowledgement or, where nothing is overridden, `yes`.
fn ask(explained: &Explained, from: &mut impl BufRead, to: &mut impl Write) -> Result<Vec<String>, Failure> {
    let not_confirmed = |why: String| -> Failure {
        Problem::new(Code::ConfirmationRequired, format!("{why}; nothing was done"))
            .with_hint("the same command again, and what it asks for")
            .into()
    };
    let mut line = |question: String| -> Result<String, Failure> {
        write!(to, "{question}")
            .and_then(|()| to.flush())
            .map_err(|error| Failure::local(format!("the question cannot be asked: {error}")))?;
        let mut answer = String::new();
        from.read_line(&mut answer)
            .map_err(|error| Failure::local(format!("the answer cannot be read: {error}")))?;
        Ok(answer.trim_end_matches(['\n', '\r']).to_owned())
    };
    if explained.overrides.is_empty() {
        let answer = line(format!("Type yes to {}: ", explained.act))?;
        return match answer.trim() {
            "yes" => Ok(Vec::new()),
            _ => Err(not_confirmed("not confirmed".to_owned())),
        };
    }
    let mut typed = Vec::new();
    for each in &explained.overrides {
        let answer = line(format!("This overrides {}. Type {:?}: ", each.invariant, each.type_this))?;
        if answer != each.type_this {
            return Err(not_confirmed(format!("{} was not acknowledged", each.invariant)));
        }
        typed.push(answer);
    }
    Ok(typed)
}

async fn send(
    context: &Context,
    act: &Act,
    id: RequestId,
    confirmation: Option<(&str, ConfirmedBy)>,
) -> Result<(), Failure> {
    let call = async |client: &Client| match confirmation {
        Some(given) => client.confirm_act::<ActDone>(&act.path, id, given, &act.request).await,
        None => client.act::<ActDone>(&act.path, id, &act.request).await,
    };
    let sent = match act.resolve {
        Resolve::Request => {
            write::once(context, id, &context.resolves(id), call).await.map(|came| match came {
                Came::Answered(done) => done,
                Came::Found { state, .. } => {
                    ActDone { event: state.event, ..ActDone::executed("the log says: executed") }
                }
            })
        }
        Resolve::Status => {
            interrupt::means(unknown(id, "interrupted before an answer came", context), context.form);
            call(&context.client).await.map_err(|error| failed(error, id, &context.shows_cluster()))
        }
    };
    let done = sent.map_err(|failure| with_command(failure, act))?;
    match context.form {
        Form::Json => output::outcome_json(&done),
        Form::Text => output::outcome(&format!("{}\n", line_of(&done))),
    }
    Ok(())
}

/// A refused confirmation is told with the command that explains anew, instead of the call behind it.
fn with_command(mut failure: Failure, act: &Act) -> Failure {
    let about_it = [Code::ConfirmationRequired, Code::ConfirmationStale, Code::ConfirmationInvalid];
    if about_it.contains(&failure.problem.code) {
        let node = act.request.node.as_deref().map_or(String::new(), |node| format!(" {}", quoted(node)));
        failure.problem.hint = Some(format!("holdfast {}{node} … (without --confirm)", act.words));
    }
    failure
}

/// A call that changes something has failed: what is known of it, and the command that tells the rest.
pub fn failed(error: ClientError, id: RequestId, resolve: &str) -> Failure {
    match &error {
        ClientError::NotSent { .. } => Failure::not_executed(&error, id),
        ClientError::Problem(problem) if problem.outcome == Outcome::NotExecuted => {
            Failure::not_executed(&error, id)
        }
        ClientError::Problem(problem) => {
            let mut problem = (**problem).clone();
            problem.request_id.get_or_insert(id);
            problem.hint.get_or_insert(resolve.to_owned());
            problem.into()
        }
        ClientError::Unknown { .. } | ClientError::BadAnswer { .. } => {
            let what = format!("{error}; whether it was done is not known, and it was not sent again");
            Problem::new(Code::UnknownOutcome, what).with_request(id).with_hint(resolve).into()
        }
    }
}

fn unknown(id: RequestId, why: &str, context: &Context) -> Failure {
    let what = format!("{why}; whether it was done is not known, and it was not sent again");
    Problem::new(Code::UnknownOutcome, what).with_request(id).with_hint(context.shows_cluster()).into()
}

fn line_of(done: &ActDone) -> String {
    let mut text = done.done.clone();
    let mut more = Vec::new();
    more.extend(done.epoch.map(|epoch| format!("epoch {epoch}")));
    more.extend(done.event.map(|event| format!("event {event}")));
    more.extend(done.gap_ms.map(|gap| format!("no writes for {gap} ms")));
    if !more.is_empty() {
        text.push_str(&format!(" ({})", more.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Override;

    fn explained(overrides: &[(&str, &str)]) -> Explained {
        let each = |(invariant, type_this): &(&str, &str)| Override {
            invariant: (*invariant).to_owned(),
            type_this: (*type_this).to_owned(),
        };
        Explained {
            act: "cluster promote two".into(),
            will: Vec::new(),
            touches: Vec::new(),
            irreversible: Vec::new(),
            invariants: Vec::new(),
            overrides: overrides.iter().map(each).collect(),
            facts: serde_json::Value::Null,
            token: "act_1".into(),
            expires_ms: 120_000,
        }
    }

    fn typed(explained: &Explained, answers: &str) -> Result<Vec<String>, Failure> {
        ask(explained, &mut answers.as_bytes(), &mut Vec::new())
    }

    #[test]
    fn only_yes_is_a_yes() {
        let act = explained(&[]);
        assert_eq!(typed(&act, "yes\n").expect("confirmed"), Vec::<String>::new());
        for answer in ["", "\n", "y\n", "no\n", "YES\n", "yes please\n"] {
            let refused = typed(&act, answer).expect_err("not a yes");
            assert_eq!((refused.exit, refused.problem.code), (5, Code::ConfirmationRequired), "{answer:?}");
        }
    }

    #[test]
    fn every_override_is_typed_as_it_is_asked_for() {
        let act = explained(&[("acked_is_durable", "lose 3 events"), ("one_authority", "old one is off")]);
        let both = typed(&act, "lose 3 events\nold one is off\n").expect("acknowledged");
        assert_eq!(both, ["lose 3 events", "old one is off"]);
        for answers in ["yes\nyes\n", "lose 3 events\n", "lose 3 events\nold one is off \n"] {
            assert_eq!(typed(&act, answers).expect_err("not as asked").exit, 5, "{answers:?}");
        }
    }

    #[test]
    fn what_was_done_is_told_in_one_line() {
        let done = ActDone { gap_ms: Some(40), ..ActDone::executed("two has authority") };
        assert_eq!(line_of(&done), "two has authority (no writes for 40 ms)");
    }
}
