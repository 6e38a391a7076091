//! `audit`: what anybody attempted, and whether the journals are as they were written.

use crate::{
    args::audit::{AuditArgs, AuditVerb},
    context::Context,
    failure::Failure,
    output::{self, Form},
};
use api::{
    AuditJournal, AuditNews, AuditQuery, AuditRow, AuditVerified, ClientError, Code, Outcome, Problem,
};
use control::{Journal, JournalError};
use futures_util::StreamExt as _;
use rt::RealDisk;
use std::path::Path;
use types::limits;

/// Prints rows and, if wished, those that follow; or verifies.
pub async fn run(context: &Context, args: AuditArgs) -> Result<(), Failure> {
    if let Some(AuditVerb::Verify { .. }) = args.verb {
        return verify(context).await;
    }
    let query = AuditQuery {
        actor: args.actor,
        kind: args.r#type,
        outcome: args.outcome,
        since: args.since,
        last: (!args.all).then_some(args.limit),
        ..AuditQuery::default()
    };
    let mut printer = Printer { form: context.form, journals: Vec::new(), headed: false };
    match args.follow {
        true => follow(context, query, &mut printer).await,
        false => pages(context, query, args.limit, &mut printer).await,
    }
}

/// All pages of what there is. With a number of rows it is the last ones, which are one page.
async fn pages(
    context: &Context,
    mut query: AuditQuery,
    limit: usize,
    printer: &mut Printer,
) -> Result<(), Failure> {
    if limit > limits::PAGE_ROWS && query.last.is_some() {
        let what = format!("at most {} rows are shown at once", limits::PAGE_ROWS);
        return Err(Failure::usage(what, "holdfast audit --all"));
    }
    let mut earlier = false;
    loop {
        let page = context.client.audit(&query).await.map_err(Failure::of_read)?;
        page.rows.iter().for_each(|row| printer.row(row));
        printer.journals(&page.journals);
        earlier |= page.earlier;
        let moved = query.cursor.as_ref() != Some(&page.cursor);
        if !page.more || !moved {
            break;
        }
        query = AuditQuery { cursor: Some(page.cursor), last: None, ..query };
    }
    if earlier {
        let lines = limits::AUDIT_SCAN;
        output::note(&format!(
            "note: only the last {lines} lines of each journal and events of the log were looked at; --all looks at all"
        ));
    } else if !printer.headed && context.form == Form::Text {
        output::note("nothing was attempted that fits");
    }
    Ok(())
}

/// A lost stream is opened again behind the last row that was printed: none is missed, none is
/// printed twice. Only the first opening may fail for good.
async fn follow(context: &Context, mut query: AuditQuery, printer: &mut Printer) -> Result<(), Failure> {
    let mut stream = Box::pin(context.client.audit_stream(&query).await.map_err(Failure::of_read)?);
    loop {
        let error = match stream.next().await {
            Some(Ok((cursor, news))) => {
                match news {
                    AuditNews::Row(row) => printer.row(&row),
                    AuditNews::Journals(journals) => printer.journals(&journals),
                }
                // Rows that were asked for from the end on may still be under way.
                query = AuditQuery { cursor: Some(cursor), last: None, ..query };
                continue;
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        if let Some(ClientError::Problem(problem)) = error {
            return Err(Failure::of_read(ClientError::Problem(problem)));
        }
        output::note("the stream was lost; opening it again");
        stream = loop {
            tokio::time::sleep(limits::STREAM_REOPEN.into()).await;
            match context.client.audit_stream(&query).await {
                Ok(stream) => break Box::pin(stream),
                Err(ClientError::Problem(problem)) if problem.code.exit_code() != 6 => {
                    return Err(Failure::of_read(ClientError::Problem(problem)));
                }
                Err(_) => {}
            }
        };
    }
}

/// Prints rows under one heading, and says which journals they lack.
struct Printer {
    form: Form,
    journals: Vec<AuditJournal>,
    headed: bool,
}

impl Printer {
    fn row(&mut self, row: &AuditRow) {
        if self.form == Form::Json {
            return output::json(row);
        }
        if !std::mem::replace(&mut self.headed, true) {
            output::line(&format!(
                "{:<20}  {:<9}  {:<12}  {:<30}  {:<44}  WHY",
                "TIME", "TYPE", "OUTCOME", "ACTOR", "WHAT"
            ));
        }
        output::line(&line(row));
    }

    /// Says what is missing, once for each change.
    fn journals(&mut self, journals: &[AuditJournal]) {
        for journal in journals {
            let before = self.journals.iter().find(|before| before.name == journal.name);
            let was_unread = before.is_some_and(|before| before.unread.is_some());
            match &journal.unread {
                Some(why) if !was_unread => output::note(&output::plain(&unread(journal, why))),
                None if was_unread => {
                    output::note(&format!("note: the journal of {} is read again", journal.name));
                }
                _ => {}
            }
        }
        self.journals = journals.to_vec();
    }
}

fn unread(journal: &AuditJournal, why: &str) -> String {
    let shown = match (journal.as_of, journal.last_line) {
        (Some(at), Some(line)) => {
            format!("what is shown of it was read {} ago and ends at line {line}", output::ago(at))
        }
        _ => "nothing of it is shown".to_owned(),
    };
    format!("note: the journal of {} could not be read: {why}; {shown}", journal.name)
}

/// One row in one line.
pub fn line(row: &AuditRow) -> String {
    let request = &row.request;
    let call = format!("{} {}", request.method, request.path);
    let what = row.act.clone().unwrap_or_else(|| call.trim().to_owned());
    let id = request.id.map_or(String::new(), |id| format!(" ({id})"));
    let confirmed = row.confirmation.as_ref().map_or(String::new(), |given| {
        let risks = given.acknowledged.join(", ");
        let risks = if risks.is_empty() { String::new() } else { format!(", acknowledging {risks}") };
        format!(" [confirmed by {}{risks}]", given.kind)
    });
    let code = row.code.as_ref().map_or(String::new(), |code| format!("{code}: "));
    let place = match row.node {
        Some(node) => format!("{node} line {}", row.seq),
        None => format!("event {}", row.seq),
    };
    let (actor, kind) = (&row.actor, row.kind.as_str());
    let line = format!(
        "{:<20}  {kind:<9}  {:<12}  {actor:<30}  {:<44}  {code}{}{confirmed}  [{place}]",
        output::time(row.at),
        row.outcome.to_string(),
        format!("{what}{id}"),
        row.reason,
    );
    output::plain(&line).into_owned()
}

/// Has every member verify its own journal.
async fn verify(context: &Context) -> Result<(), Failure> {
    let all = context.client.verify_audit().await.map_err(Failure::of_read)?;
    match context.form {
        Form::Json => all.iter().for_each(output::json),
        Form::Text => {
            let rows: Vec<Vec<String>> = all.iter().map(cells).collect();
            output::table(&["MEMBER", "LINES", "HEAD", "VERDICT"], &rows, "there is no journal");
        }
    }
    let named = |fits: fn(&AuditVerified) -> bool| -> Vec<&str> {
        all.iter().filter(|one| fits(one)).map(|one| one.name.as_str()).collect()
    };
    // A removed member's journal is told of, and no failure: nobody can read it here ever again.
    let unread = named(|one| one.unread.is_some() && one.removed.is_none());
    let differ = named(|one| one.differs.is_some());
    if !differ.is_empty() {
        return Err(damaged(format!("the journal is not as it was written: {}", differ.join(", "))));
    }
    if !unread.is_empty() {
        let what = format!("the journal could not be verified: {}", unread.join(", "));
        let hint = "holdfast audit verify --data-dir DIR (on that machine)";
        return Err(Problem::new(Code::Unavailable, what).with_hint(hint).into());
    }
    Ok(())
}

fn cells(one: &AuditVerified) -> Vec<String> {
    let verdict = match (&one.differs, &one.unread) {
        (Some(why), _) => format!("DIFFERS  {why}"),
        (None, Some(why)) => format!("not verified: {why}"),
        (None, None) => "as it was written".to_owned(),
    };
    let lines = match (one.first, one.last) {
        (Some(0), _) | (_, Some(0)) => "none".to_owned(),
        (Some(first), Some(last)) => format!("{first}-{last}"),
        _ => "-".to_owned(),
    };
    vec![one.name.clone(), lines, output::or_dash(one.head.clone()), verdict]
}

/// Verifies the journal in a data directory without a server.
pub fn verify_offline(data_dir: &Path, form: Form) -> Result<(), Failure> {
    if !data_dir.join("audit").is_dir() {
        let what = format!("{} has no audit/: nothing was written down there", data_dir.display());
        return Err(Problem::new(Code::NotFound, what).with_hint("name it with --data-dir DIR").into());
    }
    let mut verified = AuditVerified {
        node: None,
        name: data_dir.display().to_string(),
        first: None,
        last: None,
        head: None,
        differs: None,
        unread: None,
        removed: None,
    };
    match Journal::verify(&RealDisk, data_dir) {
        Ok(found) => {
            (verified.first, verified.last) = (Some(found.first), Some(found.entries));
            verified.head = Some(found.head());
            if found.torn > 0 {
                output::note(&format!(
                    "note: {} bytes at its end are torn, or are being written",
                    found.torn
                ));
            }
        }
        Err(error @ JournalError::Damaged { .. }) => verified.differs = Some(error.to_string()),
        Err(error) => return Err(Failure::local(error.to_string())),
    }
    match form {
        Form::Json => output::outcome_json(&verified),
        Form::Text => {
            let head = ["DIRECTORY", "LINES", "HEAD", "VERDICT"];
            output::outcome(&output::columns(&head, &[cells(&verified)]));
        }
    }
    verified.differs.map_or(Ok(()), |why| Err(damaged(why)))
}

fn damaged(what: String) -> Failure {
    let hint = "keep the files as they are, and compare them with copies";
    Problem::new(Code::Internal, what).with_outcome(Outcome::NotExecuted).with_hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{AuditRequest, AuditType};

    #[test]
    fn a_row_is_one_line_whatever_was_asked_for() {
        let forged = "org x\n2026-11-22T10:00:00Z  executed   executed      tok_1  apply";
        let row = AuditRow {
            at: types::Timestamp::from_ms(1_763_673_600_000),
            kind: AuditType::Refused,
            actor: "tok_2".into(),
            source: None,
            node: None,
            seq: 7,
            epoch: types::Epoch::new(1),
            last_event: types::EventId::new(9),
            act: Some("test \u{1b}[1A".into()),
            request: AuditRequest { method: "POST".into(), ..AuditRequest::default() },
            confirmation: None,
            code: Some("not_found".into()),
            outcome: Outcome::NotExecuted,
            reason: format!("{forged} is missing\u{1b}[2K"),
            more: None,
        };
        let line = line(&row);
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(
            line.contains(r"org x\n2026") && line.contains(r"test \u{1b}[1A") && line.contains(r"\u{1b}[2K"),
            "{line}"
        );
    }
}
