//! `apply` and `deploy`: show what would change, ask, send, wait, print a receipt.

use super::{follow, write};
use crate::{
    args::{ApplyArgs, DeployArgs, Global, YesArgs},
    context::{Context, Patience, Place},
    failure::Failure,
    interrupt, manifest,
    output::{self, Form},
};
use api::{ApplyRequest, ClientError, Code, DeployRequest, DeployRow, Difference, PlanAnswer, Problem};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    path::Path,
};
use tokio::time::Instant;
use types::manifest::{DeployPolicy, Image, Manifest, Process, SCHEMA};
use types::{ByteSize, EventId, MilliCpu, Name, limits};

/// Brings an environment to the manifest.
pub async fn apply(context: &Context, global: &Global, args: ApplyArgs) -> Result<(), Failure> {
    let manifest = manifest::read(&args.file)?;
    if let Some(app) = global.app.as_ref().filter(|app| **app != manifest.app) {
        return Err(Failure::usage(
            format!("--app is {app}, and {} is the manifest of {}", args.file.display(), manifest.app),
            "leave --app out, or name the other manifest with -f",
        ));
    }
    let shows = if args.plan { Shows::OnlyPlan } else { Shows::PlanAndActs(args.yes) };
    bring(context, manifest, shows).await
}

/// Whether anything is written after the difference was shown.
#[derive(Clone, Copy, Debug)]
enum Shows {
    OnlyPlan,
    PlanAndActs(YesArgs),
}

async fn bring(context: &Context, manifest: Manifest, shows: Shows) -> Result<(), Failure> {
    let place = Place { org: context.org.clone(), app: manifest.app.clone(), env: context.env.clone() };
    let request = ApplyRequest { env: place.env.clone(), manifest };
    let plan = context.client.plan(&place.org, &request).await.map_err(Failure::of_read)?;
    // In JSON what goes to standard error is a problem and nothing else; `--plan` has the warnings.
    for warning in plan.warnings.iter().filter(|_| context.form == Form::Text) {
        output::note(&format!("warning: {warning}"));
    }
    if let Shows::OnlyPlan = shows {
        match context.form {
            Form::Json => output::json(&plan),
            Form::Text => difference(&place, &plan.changes, output::line),
        }
        return Ok(());
    }
    // A request that was named is sent even then: the log has, or is to have, a verdict on it.
    if plan.changes.is_empty() && !context.names_request() {
        return nothing_to_do(context, &place, &plan).await;
    }
    if context.form == Form::Text {
        difference(&place, &plan.changes, output::note);
    }
    if let Shows::PlanAndActs(yes) = shows
        && !plan.changes.is_empty()
    {
        confirm(yes, &format!("apply to {place}?"))?;
    }
    let since = Instant::now();
    let done = write::send(context, async |client, id| client.apply(&place.org, id, &request).await).await?;
    follow::finish(context, Some(&place), done, since).await
}

/// What is declared already is not sent. Where it is still rolling out, the command ends as that does.
async fn nothing_to_do(context: &Context, place: &Place, plan: &PlanAnswer) -> Result<(), Failure> {
    let followed = plan.rolling.filter(|_| context.patience == Patience::Wait);
    let Some(deploy) = followed else {
        let under_way = plan.rolling.map(|deploy| format!("; it rolls out: {}", place.wait_deploy(deploy)));
        match context.form {
            Form::Json => output::outcome_json(plan),
            Form::Text => output::outcome(&format!(
                "{place} is declared so already; nothing to change{}\n",
                under_way.unwrap_or_default()
            )),
        }
        return Ok(());
    };
    if context.form == Form::Text {
        output::note(&format!(
            "{place} is declared so already; following deploy {deploy}, which is under way"
        ));
    }
    let row = follow::deploy_to_end(context, place, deploy, EventId::ZERO).await;
    let row = row.map_err(|ended| ended.of_read(&place.wait_deploy(deploy)))?;
    match context.form {
        Form::Json => output::outcome_json(&Followed { plan, deploy: &row }),
        Form::Text => output::outcome(&format!("deploy {}  {}\n", row.id, row.state)),
    }
    follow::deploy_failure(&row).map_or(Ok(()), Err)
}

/// An apply that sent nothing and followed what was under way, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Followed<'a> {
    #[serde(flatten)]
    plan: &'a PlanAnswer,
    deploy: &'a DeployRow,
}

fn difference(place: &Place, changes: &[Difference], print: fn(&str)) {
    if changes.is_empty() {
        print(&format!("{place}: nothing to change"));
        return;
    }
    print(&format!("{place}:"));
    for change in changes {
        let path = &change.path;
        print(&match (&change.before, &change.after) {
            (None, Some(after)) => format!("  + {path} = {after}"),
            (Some(before), None) => format!("  - {path} = {before}"),
            (Some(before), Some(after)) => format!("  ~ {path} = {before} → {after}"),
            (None, None) => format!("    {path}"),
        });
    }
}

/// Asks a person; a script has said yes beforehand or gets told to.
pub fn confirm(yes: YesArgs, question: &str) -> Result<(), Failure> {
    if yes.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let what = "this needs a yes, and there is no terminal to ask on; nothing was sent";
        return Err(not_confirmed(what, "the same command with --yes"));
    }
    let interrupted =
        not_confirmed("not confirmed: interrupted; nothing was sent", "the same command, and yes");
    interrupt::means(interrupted, Form::Text);
    let mut err = std::io::stderr();
    write!(err, "{question} [y/N] ")
        .and_then(|()| err.flush())
        .map_err(|error| Failure::local(format!("the question cannot be asked: {error}")))?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::local(format!("the answer cannot be read: {error}")))?;
    interrupt::means_nothing();
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(not_confirmed("not confirmed; nothing was sent", "the same command, and yes")),
    }
}

fn not_confirmed(what: &str, next: &str) -> Failure {
    Problem::new(Code::ConfirmationRequired, what).with_hint(next).into()
}

/// Deploys an image: onto what is declared or, for a new app, with the least manifest there is.
pub async fn deploy(context: &Context, args: DeployArgs) -> Result<(), Failure> {
    let place = context.place()?;
    let image = manifest::absolute_reference(&args.image, Path::new("."));
    let before = match context.client.status(place.names()).await {
        Ok(status) => status.release,
        Err(ClientError::Problem(problem)) if problem.code == Code::NotFound => None,
        Err(error) => return Err(Failure::of_read(error)),
    };
    let Some(before) = before else {
        return bring(context, least_manifest(place.app, image), Shows::PlanAndActs(args.yes)).await;
    };
    if context.form == Form::Text {
        let change = Difference {
            path: "image.ref".to_owned(),
            before: Some(before.image.reference),
            after: Some(image.clone()),
        };
        difference(&place, &[change], output::note);
    }
    confirm(args.yes, &format!("deploy to {place}?"))?;
    let request = DeployRequest { image };
    let since = Instant::now();
    let done =
        write::send(context, async |client, id| client.deploy(place.names(), id, &request).await).await?;
    follow::finish(context, Some(&place), done, since).await
}

/// One process with the image's own command and no way in.
fn least_manifest(app: Name, reference: String) -> Manifest {
    let process = Process {
        command: Vec::new(),
        memory: ByteSize::from_mib(256),
        cpu: MilliCpu::new(100),
        replicas: 1,
        ports: Vec::new(),
        health: None,
        env: BTreeMap::new(),
        stop_grace: limits::STOP_GRACE,
    };
    Manifest {
        schema: SCHEMA,
        app,
        image: Image { reference },
        processes: BTreeMap::from([("web".parse().expect("a valid name"), process)]),
        routes: Vec::new(),
        volumes: Vec::new(),
        secrets: Default::default(),
        config: Default::default(),
        deploy: DeployPolicy::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_manifest_is_sound() {
        let manifest = least_manifest("shop".parse().expect("valid"), "registry.example/shop:1".into());
        assert_eq!(manifest.check(), Ok(()));
    }
}
