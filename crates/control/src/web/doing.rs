//! Doing what a form asks for: one call of the API, sent once, and what came of it.

use super::{
    acts::{self, Act, Guarded, Said},
    forms,
    frame::Renewed,
    outcome::{self, EXPLAINED, Sent, TYPED},
    visit::{Answer, Call, Visit},
};
use crate::http::OnPage;
use api::{Code, ConfirmedBy, Explained, Problem, routes};
use axum::{
    Form,
    extract::Path,
    http::{Extensions, HeaderMap, StatusCode},
    response::Response,
};
use maud::Markup;
use serde_json::Value;

/// The field that carries the token of a guarded act.
pub(super) const CONFIRM: &str = "confirm";

/// `POST /do/{act}`
pub(super) async fn act(
    visit: Visit,
    Path(key): Path<String>,
    headers: HeaderMap,
    extensions: Extensions,
    Form(said): Form<Vec<(String, String)>>,
) -> Response {
    let said = Said(said);
    let Some(act) = acts::find(&key) else {
        let problem = Problem::new(Code::NotFound, format!("no page has a form of the name {key}"));
        return visit.page(
            super::frame::Place::Overview,
            "Nothing was done",
            Renewed::Never,
            Err(problem.into()),
        );
    };
    match visit.web.http.takes_form(&headers, &extensions, said.get("csrf")) {
        Err(problem) => {
            let told = OnPage::refused(&problem, None);
            told.on(visit.page(act.place, act.title, Renewed::Never, Err(problem)))
        }
        Ok(()) => run(&visit, act, &said).await,
    }
}

async fn run(visit: &Visit, act: &Act, said: &Said) -> Response {
    let explains = act.guarded == Guarded::Yes && said.get(EXPLAINED).is_empty();
    if let Err(problem) = confirmed(act, said, explains) {
        let told = OnPage::refused(&problem, visit.visitor());
        let content = outcome::failure(visit, act, said, &problem, Sent::No);
        return told.on(answer(visit, act, content, Some(&problem)));
    }
    let asked = ask(visit, act, said, explains).await;
    let sent = if explains { Sent::No } else { Sent::InVain };
    let shown = match (&asked, explains) {
        (Ok(value), true) => match serde_json::from_value::<Explained>(value.clone()) {
            Ok(explained) => outcome::explanation(visit, act, said, &explained),
            Err(error) => outcome::failure(visit, act, said, &unreadable(&error), sent),
        },
        (Ok(value), false) => outcome::done(act, said, value),
        (Err(problem), _) => outcome::failure(visit, act, said, problem, sent),
    };
    answer(visit, act, shown, asked.as_ref().err().map(AsRef::as_ref))
}

fn answer(visit: &Visit, act: &Act, content: Markup, problem: Option<&Problem>) -> Response {
    let mut response = visit.page(act.place, act.title, Renewed::Never, Ok(content));
    let status = problem.and_then(|problem| StatusCode::from_u16(problem.status).ok());
    *response.status_mut() = status.unwrap_or_default();
    response
}

/// Whether the name was typed that a confirmation asks for. What needs no confirmation asks for none.
fn confirmed(act: &Act, said: &Said, explains: bool) -> Answer<()> {
    let name = (act.typed)(said);
    if explains || said.get(CONFIRM).is_empty() || said.get(TYPED) == name {
        return Ok(());
    }
    let detail =
        format!("this is confirmed by typing {name}, and something else was typed; nothing was sent");
    Err(Problem::new(Code::AcknowledgementRequired, detail)
        .with_hint("have it explained anew, and type it")
        .into())
}

async fn ask(visit: &Visit, act: &Act, said: &Said, explains: bool) -> Answer<Value> {
    let mut path = act.path(said, visit.org());
    let mut headers = vec![(routes::IDEMPOTENCY_KEY, said.get(forms::REQUEST))];
    if explains {
        path = format!("{path}?{}", routes::EXPLAIN_FLAG);
    } else if act.guarded == Guarded::Yes && !said.get(CONFIRM).is_empty() {
        headers.push((routes::CONFIRM, said.get(CONFIRM)));
        headers.push((routes::CONFIRMED_BY, ConfirmedBy::Person.as_str()));
    }
    let body = act.body(said);
    let empty = body.as_object().is_some_and(serde_json::Map::is_empty) && act.body.is_empty();
    let body = if empty { Vec::new() } else { body.to_string().into_bytes() };
    let bytes = visit
        .call(Call {
            method: act.method.parse().expect("a method of HTTP"),
            path: &path,
            headers: &headers,
            body,
        })
        .await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Box<Problem> {
    Box::new(Problem::new(Code::Internal, format!("the API's answer cannot be read: {error}")))
}
