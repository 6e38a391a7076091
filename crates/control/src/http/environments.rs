//! Writes to an environment: scale, restart, roll back, another image.

use super::{
    Http,
    access::Caller,
    answer::{At, Refused, Result, missing, refused},
    apply, difference, images,
    input::{Places, Said},
    place::{self, Place},
    write::{self, Executed, Write},
};
use api::{ApplyRequest, Code, DeployRequest, Receipt, RestartRequest, RollbackRequest, ScaleRequest};
use axum::extract::State;
use domain::{Command, State as Decided};
use types::{Name, ReleaseId};

/// Org, app and environment, as they stand in the path.
type Names = (String, String, String);

fn find<'a>(state: &'a Decided, caller: &Caller, names: &Names) -> Result<Place<'a>> {
    place::env(state, caller, (&names.0, &names.1, &names.2))
}

/// What every write to an environment begins with: a place that the caller may see, a request, and
/// either the verdict it got before or a condition that holds.
fn open(http: &Http, caller: &Caller, names: &Names, said: &Said) -> Result<(Write, Option<Executed>)> {
    let state = http.core.state();
    let changed = find(&state, caller, names)?.found.changed;
    let (write, before) = write::open(http, caller, said)?;
    if before.is_none() {
        write.check(Some(changed))?;
    }
    Ok((write, before))
}

/// `POST …/scale`
pub(super) async fn scale(
    State(http): State<Http>,
    caller: Caller,
    Places(names): Places<Names>,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before) = open(&http, &caller, &names, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let ScaleRequest { process, replicas } = write::parse(&said)?;
            let env = find(&http.core.state(), &caller, &names)?.env;
            write.submit(&http, Command::Scale { env, process, replicas }).await?
        }
    };
    write.receipt(&http, executed).await
}

/// `POST …/restart`
pub(super) async fn restart(
    State(http): State<Http>,
    caller: Caller,
    Places(names): Places<Names>,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before) = open(&http, &caller, &names, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let RestartRequest { process } = write::parse(&said)?;
            let state = http.core.state();
            let place = find(&state, &caller, &names)?;
            if let Some(process) = process {
                only_process(&state, &place, &process)?;
            }
            write.submit(&http, Command::Restart { env: place.env }).await?
        }
    };
    write.receipt(&http, executed).await
}

/// All processes of an environment restart together; one by itself can be named only if it is all.
fn only_process(state: &Decided, place: &Place<'_>, process: &Name) -> Result<()> {
    let release = difference::target(state, place.found);
    let known: Vec<&Name> = release.iter().flat_map(|release| release.manifest.processes.keys()).collect();
    match known.as_slice() {
        [only] if *only == process => Ok(()),
        known if known.contains(&process) => {
            let detail = format!(
                "{process} cannot be restarted by itself: the processes of an environment restart together"
            );
            Err(api::Problem::new(Code::InvalidRequest, detail)
                .with_path("process")
                .with_hint("leave the process out")
                .into())
        }
        _ => Err(refused(Code::NoSuchProcess, format!("no process {process} in this environment"))),
    }
}

/// `POST …/rollback`
pub(super) async fn rollback(
    State(http): State<Http>,
    caller: Caller,
    Places(names): Places<Names>,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before) = open(&http, &caller, &names, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let RollbackRequest { release } = write::parse(&said)?;
            let state = http.core.state();
            let place = find(&state, &caller, &names)?;
            let release = release.map(|text| named_release(&state, &place, &text)).transpose()?;
            write.submit(&http, Command::Rollback { env: place.env, release }).await?
        }
    };
    write.receipt(&http, executed).await
}

/// A release by its id or its number, among those of the environment.
fn named_release(state: &Decided, place: &Place<'_>, text: &str) -> Result<ReleaseId> {
    let by_id = text.parse::<ReleaseId>().ok();
    let by_number = text.parse::<u32>().ok();
    let fits = |id: &&ReleaseId| {
        Some(**id) == by_id
            || state.releases.get(*id).is_some_and(|release| Some(release.number) == by_number)
    };
    let gone = || -> Refused {
        let problem = missing(format_args!("release {text} of {}/{}", place.app_name, place.found.name));
        problem.problem.with_hint("holdfast releases").into()
    };
    place.found.releases.iter().find(fits).copied().ok_or_else(gone)
}

/// `POST …/deploy`
pub(super) async fn deploy(
    State(http): State<Http>,
    caller: Caller,
    Places(names): Places<Names>,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before) = open(&http, &caller, &names, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let DeployRequest { image } = write::parse(&said)?;
            let pinned = images::resolve(&http.images, &image).await?;
            let state = http.core.state();
            let place = find(&state, &caller, &names)?;
            let request = with_image(&state, &place, image)?;
            apply::deploy(&http, &write, place.org, request, pinned).await?
        }
    };
    write.receipt(&http, executed).await
}

/// The manifest as it is, with another image. What was scaled by hand stays as it was scaled; a
/// manifest cannot say zero, so a process scaled to zero comes back.
fn with_image(state: &Decided, place: &Place<'_>, image: String) -> Result<ApplyRequest> {
    let Some(release) = difference::target(state, place.found) else {
        let detail = format!("{}/{} has no release yet", place.app_name, place.found.name);
        return Err(api::Problem::new(Code::Conflict, detail).with_hint("holdfast apply").into());
    };
    let mut manifest = (*release.manifest).clone();
    manifest.image.reference = image;
    for (name, process) in &mut manifest.processes {
        if let Some(scaled) = place.found.scale.get(name).filter(|scaled| **scaled > 0) {
            process.replicas = *scaled;
        }
    }
    manifest.check().map_err(|unsound| {
        api::Problem::new(Code::InvalidManifest, unsound.to_string()).with_path(unsound.path.clone())
    })?;
    Ok(ApplyRequest { env: place.found.name.clone(), manifest })
}
