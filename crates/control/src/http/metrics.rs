//! Figures in Prometheus' text form. Open to all, so nothing here names an org, an app or a person.

mod cluster;
mod nodes;
mod page;

use super::{
    Http, Shared,
    answer::{Refused, refused},
};
use crate::figures::{Ending, Histogram};
use api::Code;
use axum::{
    extract::State,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{BackupStep, view};
use page::Page;
use std::{collections::BTreeMap, sync::Mutex, time::Duration};
use types::{Timestamp, limits};

/// Requests counted by method, mounted path and status: as many lines as the table allows.
#[derive(Default)]
pub(super) struct Figures {
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    took: Histogram,
    sizes: cluster::Sizes,
}

impl Figures {
    /// Counts how long one answer took that was not to be waited for.
    pub(super) fn took(&self, time: Duration) {
        self.took.took(time);
    }

    /// Counts one answer. A path nobody mounted is counted as one, whatever it was.
    pub(super) fn count(&self, method: &Method, path: Option<&str>, status: StatusCode) {
        let method = match *method {
            Method::GET | Method::HEAD => "GET",
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        let key = (method, path.unwrap_or("none").to_owned(), status.as_u16());
        *self.requests.lock().expect("no thread panics while it holds this").entry(key).or_insert(0) += 1;
    }
}

/// `GET /metrics`
pub(super) async fn show(State(http): State<Http>) -> Result<Response, Refused> {
    // It looks at files and counts rows.
    let written = tokio::task::spawn_blocking(move || write(&http)).await;
    let text = written.map_err(|error| refused(Code::Internal, error.to_string()))?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn write(http: &Shared) -> String {
    let mut page = Page::default();
    page.head("build_info", "gauge", "What runs here; always 1.");
    page.line("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    cluster::authority(http, &mut page);
    log_figures(http, &mut page);
    cluster::members(http, &mut page);
    cluster::disk(http, &mut page);
    view_figures(http, &mut page);
    nodes::figures(http, &mut page);
    backup_figures(http, &mut page);
    audit_figures(http, &mut page);
    http_figures(http, &mut page);
    page.into_text()
}

fn log_figures(http: &Shared, page: &mut Page) {
    let (head, state, figures) = (http.core.head(), http.core.state(), http.core.figures());
    page.gauge("log_head_event", "The last durable event.", head.event);
    page.counter("log_entries_total", "Entries of the log: batches written and epochs opened.", head.index);
    page.gauge("state_applied_event", "The last event that readers see.", state.head);
    page.histogram(
        "log_append_seconds",
        "From handing a batch to the log until it was durable.",
        &figures.append,
    );
    page.counter(
        "log_append_failures_total",
        "Batches that the log did not confirm.",
        figures.append_failures(),
    );
    let endings = Ending::ALL.map(|(ending, word)| (word, figures.ended(ending)));
    page.by(("commands_total", "counter", "Commands answered, by how they ended."), "outcome", endings);
    page.head("commands_refused_total", "counter", "Commands that a rule refused, by problem code.");
    for (code, count) in figures.refusals() {
        page.line("commands_refused_total", &[("code", &code)], count);
    }
    page.gauge("command_queue", "Commands that wait to be decided.", http.core.queued());
    page.gauge("command_queue_limit", "Commands that may wait.", limits::COMMAND_QUEUE);
    page.gauge("requests_remembered", "Verdicts within the horizon.", state.requests.len());
    let trouble = u8::from(http.core.snapshot_trouble().is_some());
    page.gauge("snapshot_failed", "1 if the last snapshot could not be made.", trouble);
}

fn view_figures(http: &Shared, page: &mut Page) {
    let head = http.core.head().event.get();
    let views: Vec<(&str, u64, bool)> = http.core.with_views(|views| {
        let figures = |name: &&'static str| {
            let checkpoint = views.checkpoint(name).unwrap_or_default().get();
            (*name, checkpoint, views.quarantined(name).is_some())
        };
        view::NAMES.iter().map(figures).collect()
    });
    page.head("view_checkpoint_event", "gauge", "The last event in a view.");
    views.iter().for_each(|(name, at, _)| page.line("view_checkpoint_event", &[("view", name)], at));
    page.head("view_behind_events", "gauge", "Durable events that a view does not have yet.");
    views.iter().for_each(|(name, at, _)| {
        page.line("view_behind_events", &[("view", name)], head.saturating_sub(*at))
    });
    page.head("view_quarantined", "gauge", "1 if a view was set aside.");
    views
        .iter()
        .for_each(|(name, _, aside)| page.line("view_quarantined", &[("view", name)], u8::from(*aside)));
}

/// What the log says of backups is the same on every member; the archive and the failures are those of
/// this process, and so of the member that leads.
fn backup_figures(http: &Shared, page: &mut Page) {
    let (state, head, now) = (http.core.state(), http.core.head().event, http.core.now());
    let seconds = |at: Timestamp| now.since(at).as_ms() as f64 / 1000.0;
    if let Some(made) = &state.backups.made {
        page.gauge("backup_age_seconds", "Since the last backup that was read back.", seconds(made.at));
        page.gauge("backup_event", "The last event in the last backup.", made.event);
    }
    if let Some(drilled) = &state.backups.drilled {
        page.gauge("backup_drill_age_seconds", "Since a drill last proved a backup.", seconds(drilled.at));
    }
    let Some(backups) = http.cluster.as_ref().and_then(|cluster| cluster.backups()) else { return };
    let (report, failures) = (backups.report(), backups.failures());
    if let Some((event, complete)) = report.archived {
        let behind = head.get().saturating_sub(event.get());
        page.gauge("archive_behind_events", "Durable events that are not archived.", behind);
        page.gauge("archive_age_seconds", "Since nothing was missing in the archive.", seconds(complete));
    }
    page.head("backup_failures_total", "counter", "Failures of a step since this process began.");
    page.head("backup_failing", "gauge", "1 if a step failed when it was tried last.");
    for step in BackupStep::ALL {
        let failing = report.failing.iter().any(|(failing, ..)| *failing == step);
        let labels = [("step", step.as_str())];
        page.line("backup_failures_total", &labels, failures.get(&step).copied().unwrap_or_default());
        page.line("backup_failing", &labels, u8::from(failing));
    }
}

fn audit_figures(http: &Shared, page: &mut Page) {
    let figures = http.audit.figures();
    page.gauge("audit_writable", "1 if attempts can be written down.", u8::from(figures.is_writable));
    page.gauge("audit_queue", "Attempts that wait to be written down.", figures.queued);
    page.gauge("audit_queue_limit", "Attempts that may wait.", limits::AUDIT_QUEUE);
    let count = |kind: &str| figures.written.get(kind).copied().unwrap_or_default();
    let lines = api::AuditType::ALL.map(|kind| (kind.as_str(), count(kind.as_str())));
    page.by(("audit_lines_total", "counter", "Lines written since the start, by type."), "type", lines);
    page.counter("audit_counted_total", "Attempts of floods that were only counted.", figures.counted);
    page.counter("audit_lost_total", "Attempts that could not be written down.", figures.lost);
}

fn http_figures(http: &Shared, page: &mut Page) {
    let (people, nodes) = (&http.streams, &http.node_streams);
    page.gauge("streams", "Streams and long polls of people open.", people.taken());
    page.gauge("streams_limit", "Streams and long polls of people that may be open.", people.most());
    page.gauge("node_streams", "Streams and long polls of nodes open.", nodes.taken());
    page.gauge("node_streams_limit", "Streams and long polls of nodes that may be open.", nodes.most());
    page.gauge("sessions", "Sessions open on this server.", http.sessions.count());
    page.head("logins_total", "counter", "Logins by what came of them.");
    for (outcome, count) in http.logins.counts() {
        page.line("logins_total", &[("outcome", outcome)], count);
    }
    page.counter("requests_too_fast_total", "Requests that came too fast.", http.pace.turned_away());
    page.histogram(
        "http_request_seconds",
        "From a request until its answer, but of streams.",
        &http.figures.took,
    );
    page.head("http_requests_total", "counter", "Answers by method, path and status.");
    let requests = http.figures.requests.lock().expect("no thread panics while it holds this").clone();
    for ((method, path, status), count) in requests {
        page.line(
            "http_requests_total",
            &[("method", method), ("path", &path), ("status", &status.to_string())],
            count,
        );
    }
}
