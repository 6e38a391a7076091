//! One instance and what it prints.

use super::{environment, place};
use crate::web::{
    frame::{Place, Renewed},
    parts,
    visit::{Answer, Call, Visit},
};
use api::{
    Code, InstanceRow, Page, Problem,
    routes::{self, fill},
};
use axum::{extract::Path, http::Method, response::Response};
use maud::{Markup, html};
use types::Timestamp;

/// Lines that are shown first.
const TAIL: u32 = 200;

/// `GET /apps/{app}/{env}/instances/{id}`
pub(in crate::web) async fn show(
    visit: Visit,
    Path((app, env, id)): Path<(String, String, String)>,
) -> Response {
    let content = match find(&visit, &app, &env, &id).await {
        Ok(instance) => {
            let path = fill(routes::LOGS, &[visit.org(), &id]);
            let path = format!("{path}?tail={TAIL}");
            let log =
                visit.call(Call { method: Method::GET, path: &path, headers: &[], body: Vec::new() }).await;
            let log = log.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            Ok(render(&instance, &log, visit.now))
        }
        Err(problem) => Err(problem),
    };
    visit.page(Place::Apps, &format!("Instance {id}"), Renewed::ByEventsAndTime, content)
}

async fn find(visit: &Visit, app: &str, env: &str, id: &str) -> Answer<InstanceRow> {
    let gone =
        || Box::new(Problem::new(Code::NotFound, format!("instance {id} does not exist in {app}/{env}")));
    let wanted: types::InstanceId = id.parse().map_err(|_| gone())?;
    let path = fill(routes::INSTANCES, &[visit.org(), app, env]);
    let mut cursor = String::new();
    // Pages are in the order of ids, so this ends where the id would be.
    loop {
        let page: Page<InstanceRow> = visit.get(&format!("{path}{cursor}")).await?;
        if let Some(row) = page.rows.iter().find(|row| row.id == wanted) {
            return Ok(row.clone());
        }
        let Some(next) = page.next.filter(|next| next.as_str() < id) else { return Err(gone()) };
        cursor = format!("?cursor={}", &fill("/{cursor}", &[&next])[1..]);
    }
}

fn render(instance: &InstanceRow, log: &Answer<String>, now: Timestamp) -> Markup {
    let (app, env) = (instance.app.as_str(), instance.env.as_str());
    let plain = format!("/instances/{}/log", instance.id);
    html! {
        h1 { "Instance of " a href=(place(app, env)) { (app) "/" (env) } }
        section #instance data-renewed aria-label="What it is" {
            dl {
                dt { "Instance" } dd { span .id { (instance.id) } }
                dt { "Process" } dd { (instance.process) ", release " (instance.release) }
                dt { "Node" } dd { (instance.node) }
                dt { "State" } dd { (instance.state) ", since " (parts::time(instance.since, now)) }
                @if !environment::because(instance).is_empty() { dt { "Why" } dd { (environment::because(instance)) } }
                dt { "Restarts" } dd { (instance.restarts) }
                dt { "Address" } dd { span .id { (instance.address) } }
            }
        }
        h2 #log-heading { "What it prints" }
        @match log {
            Ok(text) => {
                p {
                    "The last " (TAIL) " lines, read " (parts::time(now, now)) ". "
                    a href={ (plain) "?tail=10000" } { "More, as text" } " "
                    a href={ (plain) "?tail=20&follow=true" } { "Follow, as text" }
                }
                p #follow {}
                pre #log tabindex="0" role="region" aria-labelledby="log-heading"
                    data-follow={ (plain) "?tail=0&follow=true" } { (text) }
            }
            Err(problem) => (parts::problem(problem)),
        }
        (parts::command(&format!("holdfast logs {} --app {app} --env {env}", instance.id)))
    }
}
