//! The reads that answer with a table: `status`, `ps`, `releases`, `apps`, `envs`, `routes`.

use crate::{
    args::AppsVerb,
    context::Context,
    failure::Failure,
    output::{self, Form, ago, or_dash},
};
use api::{AppRow, EnvStatus, InstanceRow, RouteRow};
use types::manifest::RouteMode;

/// What is declared, what runs, what is routed, and why they differ.
pub async fn status(context: &Context) -> Result<(), Failure> {
    let place = context.place()?;
    let status = context.client.status(place.names()).await.map_err(Failure::of_read)?;
    match context.form {
        Form::Json => output::json(&status),
        Form::Text => print_status(&status),
    }
    Ok(())
}

fn print_status(status: &EnvStatus) {
    output::line(&format!("{}/{} in {}, as of event {}", status.app, status.env, status.org, status.event));
    if let Some(release) = &status.release {
        output::line(&format!(
            "release {}  {}  {}",
            release.number, release.image.reference, release.image.digest
        ));
    }
    if let Some(deploy) = &status.deploy {
        let since = ago(deploy.ended.unwrap_or(deploy.started));
        let reason = deploy.reason.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
        output::line(&format!("deploy {}  {} {since} ago{reason}", deploy.id, deploy.state));
        if let Some(way_back) = &deploy.way_back {
            output::line(&format!("  to go back: {way_back}"));
        }
    }
    output::line("");
    let rows: Vec<Vec<String>> = status
        .processes
        .iter()
        .map(|row| {
            let counts =
                [row.desired, row.ready, row.current, row.starting, row.draining, row.failing, row.routed];
            let mut cells = vec![row.process.to_string()];
            cells.extend(counts.iter().map(u32::to_string));
            cells.push(row.why.clone().unwrap_or_default());
            cells
        })
        .collect();
    let headings =
        ["PROCESS", "DESIRED", "READY", "CURRENT", "STARTING", "DRAINING", "FAILING", "ROUTED", "WHY"];
    output::table(&headings, &rows, "no processes");
    if !status.routes.is_empty() {
        output::line("");
        print_routes(&status.routes);
    }
    output::line("");
    if status.converged {
        output::line("everything is as declared");
    } else {
        output::line("not as declared:");
        status.why.iter().for_each(|why| output::line(&format!("  {why}")));
    }
}

/// Which instances are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that exist.
    Present,
    /// Those that have ended too.
    All,
}

/// Whether an instance is still something: it has not ended, or it has failed and someone should know.
pub fn is_present(row: &InstanceRow) -> bool {
    !matches!(row.state.as_str(), "stopped" | "collected")
}

/// The instances.
pub async fn ps(context: &Context, which: Which) -> Result<(), Failure> {
    let place = context.place()?;
    let mut rows = context.client.instances(place.names()).await.map_err(Failure::of_read)?;
    rows.retain(|row| which == Which::All || is_present(row));
    if context.form == Form::Json {
        output::json(&rows);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let why = match (&row.reason, &row.detail) {
                (Some(reason), Some(detail)) if !detail.is_empty() => format!("{reason}: {detail}"),
                (Some(reason), _) => reason.to_string(),
                (None, detail) => detail.clone().unwrap_or_default(),
            };
            vec![
                row.id.to_string(),
                row.process.to_string(),
                row.release.to_string(),
                row.node.to_string(),
                row.state.clone(),
                row.restarts.to_string(),
                ago(row.since),
                row.address.to_string(),
                why,
            ]
        })
        .collect();
    let headings = ["INSTANCE", "PROCESS", "RELEASE", "NODE", "STATE", "RESTARTS", "SINCE", "ADDRESS", "WHY"];
    output::table(&headings, &rows, &format!("{place} has no instances"));
    Ok(())
}

/// The releases.
pub async fn releases(context: &Context) -> Result<(), Failure> {
    let place = context.place()?;
    let rows = context.client.releases(place.names()).await.map_err(Failure::of_read)?;
    if context.form == Form::Json {
        output::json(&rows);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                format!("{}{}", row.number, if row.current { "*" } else { "" }),
                row.state.clone(),
                output::time(row.created),
                row.image.reference.clone(),
                row.image.digest.to_string(),
                row.id.to_string(),
            ]
        })
        .collect();
    output::table(
        &["RELEASE", "STATE", "CREATED", "IMAGE", "DIGEST", "ID"],
        &rows,
        &format!("{place} has no releases"),
    );
    Ok(())
}

/// The apps of the org, or one.
pub async fn apps(context: &Context, verb: Option<AppsVerb>) -> Result<(), Failure> {
    if let Some(AppsVerb::Show { name }) = verb {
        let row = context.client.app(&context.org, &name).await.map_err(Failure::of_read)?;
        match context.form {
            Form::Json => output::json(&row),
            Form::Text => print_apps(&[row], ""),
        }
        return Ok(());
    }
    let rows = context.client.apps(&context.org).await.map_err(Failure::of_read)?;
    match context.form {
        Form::Json => output::json(&rows),
        Form::Text => print_apps(&rows, "no apps yet; make one with: holdfast apply"),
    }
    Ok(())
}

fn print_apps(rows: &[AppRow], if_empty: &str) {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let envs: Vec<&str> = row.envs.iter().map(types::Name::as_str).collect();
            vec![row.name.to_string(), envs.join(","), output::time(row.created), row.id.to_string()]
        })
        .collect();
    output::table(&["APP", "ENVS", "CREATED", "ID"], &rows, if_empty);
}

/// The environments of the app.
pub async fn envs(context: &Context) -> Result<(), Failure> {
    let app = context.app()?;
    let rows = context.client.envs(&context.org, &app).await.map_err(Failure::of_read)?;
    if context.form == Form::Json {
        output::json(&rows);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.to_string(),
                or_dash(row.release),
                or_dash(row.deploy),
                format!("{}/{}", row.ready, row.desired),
                row.id.to_string(),
            ]
        })
        .collect();
    output::table(&["ENV", "RELEASE", "DEPLOY", "READY", "ID"], &rows, &format!("{app} has no environments"));
    Ok(())
}

/// The routes of the org.
pub async fn routes(context: &Context) -> Result<(), Failure> {
    let rows = context.client.routes(&context.org).await.map_err(Failure::of_read)?;
    match context.form {
        Form::Json => output::json(&rows),
        Form::Text => print_routes(&rows),
    }
    Ok(())
}

fn print_routes(rows: &[RouteRow]) {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let way_in = match row.mode {
                RouteMode::Tls => format!("tls {}", or_dash(row.host.as_ref())),
                RouteMode::Tcp => format!("tcp {}", or_dash(row.listen)),
            };
            vec![
                way_in,
                format!("{}/{}", row.app, row.env),
                format!("{}:{}", row.process, row.port),
                row.state.clone(),
                row.backends.len().to_string(),
            ]
        })
        .collect();
    output::table(&["ROUTE", "TO", "PORT", "STATE", "BACKENDS"], &rows, "no routes");
}
