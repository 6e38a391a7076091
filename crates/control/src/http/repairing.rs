//! What a server answers while its damaged log is repaired: that it lives, and why it does no more.

use super::{operate, rim, serve_with};
use crate::peer::Shown;
use api::{Code, Problem, routes as at};
use axum::{Router, extract::State, response::Response, routing::get};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

type Told = watch::Receiver<Option<String>>;

/// Serves from when something is told until it is stopped; without, never.
pub(crate) async fn serve_meanwhile(
    listener: TcpListener,
    tls: Option<Shown>,
    mut told: Told,
    stop: CancellationToken,
) {
    let begun = stop.run_until_cancelled(async { told.wait_for(Option::is_some).await.is_ok() }).await;
    if begun == Some(true) {
        let router =
            Router::new().route(at::HEALTH_LIVE, get(operate::live)).fallback(not_now).with_state(told);
        serve_with(listener, tls, router, stop).await;
    }
}

async fn not_now(State(told): State<Told>) -> Response {
    let how = told.borrow().clone().unwrap_or_default();
    let problem = Problem::new(Code::Unavailable, format!("this server repairs its log: {how}"));
    rim::written(problem.with_hint("ask another member; holdfast cluster status there says how this one is"))
}
