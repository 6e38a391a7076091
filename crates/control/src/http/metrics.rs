//! Figures in Prometheus' text form. Open to all, so nothing here names an org, an app or a person.

use super::{Http, answer::Refused};
use axum::{
    extract::State,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{BackupStep, view};
use std::{collections::BTreeMap, fmt::Write, sync::Mutex};
use types::{Timestamp, limits};

/// Requests counted by method, mounted path and status: as many lines as the table allows.
#[derive(Default)]
pub(super) struct Figures {
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
}

impl Figures {
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

/// A text under way.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = write!(self.0, "# HELP holdfast_{name} {help}\n# TYPE holdfast_{name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _infallible = writeln!(self.0, "holdfast_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, "gauge", help);
        self.line(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, "counter", help);
        self.line(name, &[], value);
    }
}

/// `GET /metrics`
pub(super) async fn show(State(http): State<Http>) -> Result<Response, Refused> {
    let mut page = Page::default();
    log_figures(&http, &mut page);
    view_figures(&http, &mut page);
    node_figures(&http, &mut page);
    backup_figures(&http, &mut page);
    http_figures(&http, &mut page);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], page.0).into_response())
}

fn log_figures(http: &Http, page: &mut Page) {
    let head = http.core.head();
    let state = http.core.state();
    page.counter("log_head_event", "The last durable event.", head.event);
    page.counter("log_entries_total", "Entries of the log: batches written and epochs opened.", head.index);
    page.gauge("log_epoch", "The authority in force.", head.epoch);
    page.counter("state_applied_event", "The last event that readers see.", state.head);
    page.gauge("command_queue", "Commands that wait to be decided.", http.core.queued());
    page.gauge("command_queue_limit", "Commands that may wait.", limits::COMMAND_QUEUE);
    page.gauge("requests_remembered", "Verdicts within the horizon.", state.requests.len());
    let trouble = u8::from(http.core.snapshot_trouble().is_some());
    page.gauge("snapshot_failed", "1 if the last snapshot could not be made.", trouble);
}

fn view_figures(http: &Http, page: &mut Page) {
    let head = http.core.head().event.get();
    let views: Vec<(&str, u64, bool)> = http.core.with_views(|views| {
        let figures = |name: &&'static str| {
            let checkpoint = views.checkpoint(name).unwrap_or_default().get();
            (*name, checkpoint, views.quarantined(name).is_some())
        };
        view::NAMES.iter().map(figures).collect()
    });
    page.head("view_checkpoint_event", "counter", "The last event in a view.");
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

fn node_figures(http: &Http, page: &mut Page) {
    let (observed, now) = (http.core.observations().snapshot(), http.core.now());
    page.head("lease_age_seconds", "gauge", "Since a role of a node was last heard of.");
    for (id, node) in &observed.nodes {
        let roles = [("agent", &node.agent), ("edge", &node.edge)];
        for (role, seen) in roles.into_iter().filter_map(|(role, seen)| Some((role, seen.as_ref()?))) {
            let age = now.since(seen.last).as_ms() as f64 / 1000.0;
            page.line("lease_age_seconds", &[("node", &id.to_string()), ("role", role)], age);
        }
    }
    let state = http.core.state();
    page.gauge("nodes", "Nodes enrolled.", state.nodes.len());
    let apart = observed.nodes.values().filter(|seen| seen.apart.is_some()).count();
    page.gauge("nodes_apart", "Nodes that hold a plan which this log never made.", apart);
    page.gauge("instances", "Instances that the state holds.", state.instances.len());
    page.gauge("agents_attended", "Agents with an open stream.", http.asks.attended());
}

/// What the log says of backups is the same on every member; the archive and the failures are those of
/// this process, and so of the member that leads.
fn backup_figures(http: &Http, page: &mut Page) {
    let (state, head, now) = (http.core.state(), http.core.head().event, http.core.now());
    let seconds = |at: Timestamp| now.since(at).as_ms() as f64 / 1000.0;
    if let Some(made) = &state.backups.made {
        page.gauge("backup_age_seconds", "Since the last backup that was read back.", seconds(made.at));
        page.counter("backup_event", "The last event in the last backup.", made.event);
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

fn http_figures(http: &Http, page: &mut Page) {
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
