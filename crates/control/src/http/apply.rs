//! Plan and apply: what a manifest would change, and changing it.

use super::{
    Http,
    access::Caller,
    answer::{At, Result, refused},
    difference, images,
    input::{Asked, Places, Said},
    write::{self, Write},
};
use api::{ApplyRequest, Code, PlanAnswer, PlanQuery, Problem};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use domain::{Command, State as Decided, state::Environment};
use std::sync::Arc;
use types::{OrgId, limits, manifest::Manifest, plan::PinnedImage};

/// `POST …/apply`: with `?plan=true` nothing is written and no request id is needed.
pub(super) async fn apply(
    State(http): State<Http>,
    caller: Caller,
    Places(org): Places<String>,
    Asked(query): Asked<PlanQuery>,
    said: Said,
) -> Result<Response> {
    let org = caller.org(&http.core.state(), &org)?;
    if query.plan {
        let request: ApplyRequest = write::parse(&said)?;
        check(&request.manifest)?;
        let image = images::resolve(&http.images, &request.manifest.image.reference).await?;
        let state = http.core.state();
        return Ok(At::new(state.head, plan(&state, org, &request, image)).into_response());
    }
    let (write, before) = write::open(&http, &caller, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let request: ApplyRequest = write::parse(&said)?;
            check(&request.manifest)?;
            write.check(existing(&http.core.state(), org, &request).map(|env| env.changed))?;
            let image = images::resolve(&http.images, &request.manifest.image.reference).await?;
            deploy(&http, &write, org, request, image).await?
        }
    };
    Ok(write.receipt(&http, executed).await?.into_response())
}

/// Has a manifest with its image pinned decided.
pub(super) async fn deploy(
    http: &Http,
    write: &Write,
    org: OrgId,
    request: ApplyRequest,
    image: PinnedImage,
) -> Result<write::Executed> {
    let ApplyRequest { env, manifest } = request;
    write.submit(http, Command::Apply { org, env, manifest: Box::new(manifest), image }).await
}

/// Refuses what the manifest alone makes unsound, before any registry is asked.
fn check(manifest: &Manifest) -> Result<()> {
    manifest.check().map_err(|unsound| {
        Problem::new(Code::InvalidManifest, unsound.to_string()).with_path(unsound.path.clone())
    })?;
    let size = serde_json::to_vec(manifest).map_or(usize::MAX, |bytes| bytes.len());
    // The wire form spells out what a text leaves to defaults, and may be longer for that.
    if size > 2 * limits::MANIFEST_BYTES {
        let detail = format!("the manifest takes {size} bytes; {} is the most", 2 * limits::MANIFEST_BYTES);
        return Err(refused(Code::InvalidManifest, detail));
    }
    Ok(())
}

fn existing<'a>(state: &'a Decided, org: OrgId, request: &ApplyRequest) -> Option<&'a Arc<Environment>> {
    let app = state.app_names.get(&(org, request.manifest.app.clone()))?;
    state.envs.get(state.env_names.get(&(*app, request.env.clone()))?)
}

fn plan(state: &Decided, org: OrgId, request: &ApplyRequest, image: PinnedImage) -> PlanAnswer {
    let env = existing(state, org, request);
    let release_exists = env.is_some_and(|env| {
        env.releases
            .iter()
            .filter_map(|id| state.releases.get(id))
            .any(|known| *known.manifest == request.manifest && known.image.digest == image.digest)
    });
    let changes = difference::changes(state, env.map(Arc::as_ref), &request.manifest, &image);
    let mut warnings = difference::warnings(state, env.map(Arc::as_ref), &request.manifest, &image);
    let rolling = env.and_then(|env| env.rolling);
    // Of what rolls out already, an apply starts no second deploy.
    if rolling.is_some() && !changes.is_empty() {
        warnings.push("a deploy is under way: this one takes its place".to_owned());
    }
    PlanAnswer { changes, image, release_exists, rolling, warnings }
}
