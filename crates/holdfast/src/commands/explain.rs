//! `explain`: why something is as it is.

use crate::{
    context::Context,
    failure::Failure,
    output::{self, Form},
};
use api::{Code, Problem};

/// Explains the environment, or the parts of it whose subject has `what` in it.
pub async fn run(context: &Context, what: Option<&str>) -> Result<(), Failure> {
    let place = context.place()?;
    let mut told = context.client.explain(place.names()).await.map_err(Failure::of_read)?;
    if let Some(what) = what {
        let known: Vec<String> = told.lines.iter().map(|line| line.subject.clone()).collect();
        told.lines.retain(|line| line.subject.contains(what));
        if told.lines.is_empty() {
            let problem = Problem::new(
                Code::NotFound,
                format!("nothing in {place} is called {what:?}; there is {}", known.join(", ")),
            );
            return Err(problem.with_hint("holdfast explain").into());
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
