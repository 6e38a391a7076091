//! `explain`: why something is as it is.

use super::look;
use crate::{
    context::{Context, Place},
    failure::Failure,
    output::{self, Form},
};
use api::{Code, EnvStatus, Explanation, ExplanationLine, InstanceRow, Problem, RouteRow};

/// Explains the environment, or the parts of it whose subject has `what` in it.
pub async fn run(context: &Context, what: Option<&str>) -> Result<(), Failure> {
    let place = context.place()?;
    let mut told = context.client.explain(place.names()).await.map_err(Failure::of_read)?;
    if let Some(what) = what {
        told.lines.retain(|line| line.subject.contains(what));
        if told.lines.is_empty() {
            return as_declared(context, &place, what).await;
        }
    }
    if context.form == Form::Json {
        output::json(&told);
        return Ok(());
    }
    output::line(&told.summary);
    for line in &told.lines {
        output::line("");
        output::line(&line.subject);
        output::line(&format!("  declared  {}", line.desired));
        output::line(&format!("  actual    {}", line.actual));
        if !line.why.is_empty() {
            output::line(&format!("  because   {}", line.why));
        }
        if let Some(event) = line.since_event {
            output::line(&format!("  since     event {event}"));
        }
    }
    Ok(())
}

/// What nothing is to be explained of: it is as declared, or there is no such thing.
async fn as_declared(context: &Context, place: &Place, what: &str) -> Result<(), Failure> {
    let status = context.client.status(place.names()).await.map_err(Failure::of_read)?;
    let instances = context.client.instances(place.names()).await.map_err(Failure::of_read)?;
    let things = things(&status, &instances);
    let mut lines: Vec<ExplanationLine> = things.iter().filter(|it| it.subject == what).cloned().collect();
    if lines.is_empty() {
        lines = things.iter().filter(|it| it.subject.contains(what)).cloned().collect();
    }
    if lines.is_empty() {
        let known: Vec<&str> = things.iter().map(|it| it.subject.as_str()).collect();
        let there = match known.is_empty() {
            true => "it has nothing yet".to_owned(),
            false => format!("it has {}", known.join(", ")),
        };
        let problem = Problem::new(Code::NotFound, format!("nothing in {place} is called {what:?}; {there}"));
        return Err(problem.with_hint("holdfast explain").into());
    }
    let say = |line: &ExplanationLine| format!("{}: as declared, {}", line.subject, line.actual);
    let said: Vec<String> = lines.iter().map(say).collect();
    match context.form {
        Form::Json => output::json(&Explanation { summary: said.join("\n"), lines }),
        Form::Text => said.iter().for_each(|line| output::line(line)),
    }
    Ok(())
}

/// Everything of an environment that has a name, and how it is.
fn things(status: &EnvStatus, instances: &[InstanceRow]) -> Vec<ExplanationLine> {
    let thing = |subject: String, desired: String, actual: String| ExplanationLine {
        subject,
        desired,
        actual,
        why: String::new(),
        since_event: None,
    };
    let processes = status.processes.iter().map(|row| {
        let actual = format!("{} of {} ready", row.ready, row.desired);
        thing(row.process.to_string(), format!("{} wanted", row.desired), actual)
    });
    let routes = status.routes.iter().map(|row| {
        let actual = format!("{} with {} backends", row.state, row.backends.len());
        thing(way_in(row), format!("to {}:{}", row.process, row.port), actual)
    });
    let instances = instances.iter().filter(|row| look::is_present(row)).map(|row| {
        let actual = format!("{} on {}", row.state, row.node);
        thing(row.id.to_string(), format!("one of {}", row.process), actual)
    });
    processes.chain(routes).chain(instances).collect()
}

/// A route by the name that people give it: its host or its port.
fn way_in(row: &RouteRow) -> String {
    match (&row.host, row.listen) {
        (Some(host), _) => host.to_string(),
        (None, Some(listen)) => listen.to_string(),
        (None, None) => row.id.to_string(),
    }
}
