//! One deploy, step by step, while it goes on.

use super::place;
use crate::web::{
    acts, forms,
    frame::{Place, Renewed},
    parts,
    visit::{Answer, Visit},
};
use api::{
    DeployRow,
    routes::{self, fill},
};
use axum::{extract::Path, response::Response};
use maud::{Markup, html};
use types::Timestamp;

/// `GET /apps/{app}/{env}/deploys/{deploy}`
pub(in crate::web) async fn show(
    visit: Visit,
    Path((app, env, deploy)): Path<(String, String, String)>,
) -> Response {
    let path = fill(routes::DEPLOY_ONE, &[visit.org(), &app, &env, &deploy]);
    let found: Answer<DeployRow> = visit.get(&path).await;
    let content = found.map(|found| {
        html! {
            (render(&found, (&app, &env), visit.now))
            @if found.way_back.is_some() {
                (forms::section(&visit, &[(&acts::ROLLBACK, Vec::new())], &[("app", &app), ("env", &env)]))
            }
        }
    });
    visit.page(Place::Apps, &format!("Deploy of {app}/{env}"), Renewed::ByEventsAndTime, content)
}

fn render(deploy: &DeployRow, (app, env): (&str, &str), now: Timestamp) -> Markup {
    html! {
        h1 { "Deploy of " a href=(place(app, env)) { (app) "/" (env) } }
        section #deploy data-renewed data-state=(deploy.state) aria-labelledby="deploy-heading" {
            h2 #deploy-heading { "It " @match deploy.state {
                api::DeployState::Succeeded => "has succeeded",
                api::DeployState::Failed => "has failed",
                other => { "goes on: " (other) }
            } }
            @if let Some(reason) = &deploy.reason { p { (reason) } }
            h3 #steps-heading { "Steps" }
            ol aria-labelledby="steps-heading" { @for step in &deploy.steps { li { (step) } } }
            dl {
                dt { "Deploy" } dd { span .id { (deploy.id) } }
                dt { "Begun by" } dd { (deploy.kind) }
                dt { "Release" } dd { (deploy.release) }
                dt { "Started" } dd { (parts::time(deploy.started, now)) }
                dt { "Ended" } dd { (parts::maybe_time(deploy.ended, now, "not yet")) }
                @if !deploy.state.is_final() {
                    dt { "Fails if not done by" } dd { (parts::time(deploy.deadline, now)) }
                }
                dt { "Failures" } dd { (deploy.failures) ", " (deploy.attempts) " end it" }
            }
            @if let Some(way_back) = &deploy.way_back {
                p { "The way back: " code { (way_back) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deploy_that_failed_says_why_and_how_to_go_back() {
        let deploy: DeployRow = serde_json::from_value(serde_json::json!({
            "id": types::DeployId::from_u128(1), "kind": "deploy", "release": 2, "state": "failed", "started": 1000,
            "deadline": 9000, "ended": 5000, "failures": 3, "attempts": 3, "reason": "<i>its instances</i> failed",
            "way_back": "holdfast rollback 1", "steps": ["decided at", "given up <b>"]
        }))
        .expect("a deploy");
        let text = render(&deploy, ("shop", "prod"), Timestamp::from_ms(6000)).into_string();
        for part in [
            "has failed",
            "&lt;i&gt;its",
            "holdfast rollback 1",
            "given up &lt;b&gt;",
            "href=\"/apps/shop/prod\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("Fails if not done"), "{text}");
    }
}
