//! Which member answers: this one, or the one that leads.
//!
//! ```text
//!   write ──► leads here? ─ yes ─► handler              read ─► stale, or fresh enough ─► handler
//!               │ no                                              │ leader, linearizable
//!               ├─ asked for a redirect ─► 307                    ▼
//!               └─► the leader, through the members' own line ◄───┘
//! ```
//!
//! Invariants:
//! - A request is handed on once at most: whoever gets one that was handed on answers it or says that
//!   it cannot.
//! - What was surely not heard is *not executed*; what may have been heard is *unknown*. Nothing is
//!   sent again.

use super::{
    Http,
    answer::{Refused, Result},
    attempts, input, table, write,
};
use crate::cluster::{Cluster, Forwarded, HttpAsk, HttpTold, Leader};
use api::{Code, Outcome, Problem, routes as at};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use log::cluster::TransportError;
use std::time::Duration;
use tokio::time::Instant;
use types::{DurationMs, NodeId, RequestId, limits};

/// Between two looks for a leader while an election is held.
const LOOK: Duration = Duration::from_millis(10);

/// Who has to answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// This very member: it is about what it has in its hands.
    Own,
    /// Any member, as fresh as is asked for.
    Any,
    /// The one that sequences.
    Leader,
}

/// Who has to answer a request to this row.
pub(super) fn place(row: &table::Row) -> Place {
    let is_own = row.method == "GET" && !matches!(row.rule, table::Rule::May(_))
        || [
            at::LOGS,
            at::EVENTS,
            at::AUDIT,
            at::AUDIT_VERIFY,
            at::VIEWS,
            at::VIEW_REBUILD,
            at::ASK,
            at::WHOAMI,
            at::LOGIN,
            at::LOGOUT,
        ]
        .contains(&row.path)
        || (row.path.starts_with(OWN) && ![at::CLUSTER_JOIN_TOKENS, at::CLUSTER_BACKUP].contains(&row.path));
    match row.method {
        _ if is_own => Place::Own,
        "GET" => Place::Any,
        _ => Place::Leader,
    }
}

/// What is below this is about the member that is asked.
const OWN: &str = "/v1/cluster";

/// How fresh a read shall be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Freshness {
    /// Of any member that has heard a leader lately.
    #[default]
    Recent,
    /// Of any member, however old.
    Stale,
    /// Of the leader.
    Leader,
    /// Of the leader, once a majority has said that it still is.
    Linearizable,
}

/// Marks an answer that another member made: nothing of it is changed here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Foreign;

/// What the gate goes on with.
pub(super) enum Way {
    /// The handler answers.
    Here(Box<Request>),
    /// This is the answer.
    Answered(Box<Response>),
}

/// Finds out who answers, and has the leader do it where that is another member.
pub(super) async fn way(http: &Http, row: &'static table::Row, request: Request) -> Result<Way> {
    let Some(cluster) = &http.cluster else { return Ok(Way::Here(Box::new(request))) };
    match place(row) {
        Place::Own => Ok(Way::Here(Box::new(request))),
        Place::Leader => to_leader(http, cluster, row, request).await,
        Place::Any => read(http, cluster, row, request).await,
    }
}

/// How long ago a leader was heard here, as an answer shows it; none on the leader itself.
pub(super) fn age(http: &Http) -> Option<HeaderValue> {
    let cluster = http.cluster.as_ref().filter(|_| !http.core.leads())?;
    let text = cluster.age().map_or("unknown".to_owned(), |age| age.as_millis().to_string());
    HeaderValue::from_str(&text).ok()
}

async fn read(http: &Http, cluster: &Cluster, row: &'static table::Row, mut request: Request) -> Result<Way> {
    let freshness = freshness(&mut request)?;
    let handed_on = request.extensions().get::<Forwarded>().is_some();
    match freshness {
        Freshness::Stale => Ok(Way::Here(Box::new(request))),
        Freshness::Recent => match cluster.age() {
            Some(age) if age <= Duration::from(limits::STALE_AFTER) => Ok(Way::Here(Box::new(request))),
            age => Err(no_quorum(age)),
        },
        Freshness::Leader | Freshness::Linearizable if !http.core.leads() && !handed_on => {
            let consistency = match freshness {
                Freshness::Linearizable => "linearizable",
                _ => "leader",
            };
            add_query(&mut request, &format!("consistency={consistency}"));
            to_leader(http, cluster, row, request).await
        }
        Freshness::Leader if http.core.leads() => Ok(Way::Here(Box::new(request))),
        Freshness::Leader => Err(no_leader("this member does not lead")),
        Freshness::Linearizable => {
            let asked = cluster.log().linearizable();
            let confirmed = tokio::time::timeout(limits::LINEARIZABLE_WAIT.into(), asked).await;
            let wait = limits::LINEARIZABLE_WAIT;
            let why = match confirmed {
                Ok(Ok(event)) => match http.core.wait_for(event).await {
                    Ok(()) => return Ok(Way::Here(Box::new(request))),
                    Err(late) => late.to_string(),
                },
                Ok(Err(why)) => why,
                Err(_) => format!("no majority answered within {wait}"),
            };
            let problem =
                Problem::new(Code::NoQuorum, format!("no majority confirms that this is the newest: {why}"));
            Err(problem.with_hint("?consistency=stale reads what is known here, with its age").into())
        }
    }
}

/// Takes `consistency` out of the query: no handler knows it.
fn freshness(request: &mut Request) -> Result<Freshness> {
    let Some(query) = request.uri().query() else { return Ok(Freshness::default()) };
    let (asked, others): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|pair| pair.split('=').next() == Some("consistency"));
    let Some(asked) = asked.last() else { return Ok(Freshness::default()) };
    let found = match asked.split_once('=').map_or("", |(_, value)| value) {
        "stale" => Freshness::Stale,
        "leader" => Freshness::Leader,
        "linearizable" => Freshness::Linearizable,
        other => {
            let detail = format!("consistency={other} is none of stale, leader and linearizable");
            return Err(Problem::new(Code::InvalidRequest, detail).into());
        }
    };
    let others = others.join("&");
    set_query(request, &others);
    Ok(found)
}

fn add_query(request: &mut Request, pair: &str) {
    let query = match request.uri().query() {
        Some(query) => format!("{query}&{pair}"),
        None => pair.to_owned(),
    };
    set_query(request, &query);
}

fn set_query(request: &mut Request, query: &str) {
    let path = request.uri().path();
    let whole = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut parts = request.uri().clone().into_parts();
    // It was part of a URI before.
    parts.path_and_query = whole.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

async fn to_leader(
    http: &Http,
    cluster: &Cluster,
    row: &'static table::Row,
    request: Request,
) -> Result<Way> {
    if http.core.leads() {
        return Ok(Way::Here(Box::new(request)));
    }
    let deadline = Instant::now() + Duration::from(limits::LEADER_WAIT);
    let handed_on = request.extensions().get::<Forwarded>().copied();
    let wants_redirect = request.headers().get(at::HOLDFAST_FORWARD).is_some_and(|wish| wish == "redirect");
    let (parts, body) = request.into_parts();
    let mut whole = Request::new(body);
    whole.headers_mut().clone_from(&parts.headers);
    let body = input::body(whole).await?;
    let ask = HttpAsk {
        method: parts.method.to_string(),
        uri: parts.uri.path_and_query().map_or("/", |whole| whole.as_str()).to_owned(),
        headers: carried(&parts),
        body: body.to_vec(),
        by: cluster.own(),
    };
    // While an election is held nothing is refused that could be taken in a moment.
    loop {
        if http.core.leads() {
            return Ok(Way::Here(Box::new(Request::from_parts(parts, Body::from(body)))));
        }
        let late = Instant::now() > deadline;
        match (cluster.leader(), handed_on) {
            (_, Some(by)) if late => {
                return Err(no_leader(&format!(
                    "member {} took this one for the leader, and it is not",
                    by.by
                )));
            }
            (None, None) if late => return Err(no_leader(&cluster.why_no_leader())),
            (Some(leader), None) if wants_redirect => {
                return redirect(&leader, &parts.uri).map(|response| Way::Answered(Box::new(response)));
            }
            (Some(leader), None) => {
                let wait = limits::FORWARD_WAIT.into();
                match cluster.forward(leader.node, &leader.member, ask.clone(), wait).await {
                    Ok(told) => return Ok(Way::Answered(Box::new(response(told)))),
                    // Certainly not heard: another may lead in a moment.
                    Err(TransportError::Unreachable(_)) if !late => {}
                    Err(error) => {
                        let id = if row.once { write::request_id(&parts.headers) } else { None };
                        return Err(lost(&leader, &error, id));
                    }
                }
            }
            _ => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Has one certain member answer a request about itself, unless it was handed on before. `in_log`: whether the log
/// keeps a verdict under the request's id, by which a lost answer can be asked for.
pub(super) async fn to_member(
    cluster: &Cluster,
    node: NodeId,
    said: &input::Said,
    in_log: bool,
) -> Result<Response> {
    if let Some(by) = said.parts.extensions.get::<Forwarded>() {
        return Err(no_leader(&format!("member {} took this one for another", by.by)));
    }
    let member = cluster.log().status().members.get(&node).cloned().unwrap_or_default();
    let ask = HttpAsk {
        method: said.parts.method.to_string(),
        uri: said.parts.uri.path_and_query().map_or("/", |whole| whole.as_str()).to_owned(),
        headers: carried(&said.parts),
        body: said.body.to_vec(),
        by: cluster.own(),
    };
    let answer = cluster.forward(node, &member, ask, limits::FORWARD_WAIT.into()).await;
    let id = if in_log { write::request_id(&said.parts.headers) } else { None };
    answer.map(response).map_err(|error| lost(&Leader { node, member }, &error, id))
}

/// Headers that say something about the request and not about the connection, and where it came from.
fn carried(parts: &Parts) -> Vec<(String, Vec<u8>)> {
    const OF_THE_CONNECTION: [HeaderName; 8] = [
        HeaderName::from_static(at::HOLDFAST_SOURCE),
        header::CONNECTION,
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::EXPECT,
        header::UPGRADE,
        header::TE,
    ];
    let kept = parts.headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(*name));
    let kept = kept.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let source = attempts::source(parts).map(|source| (at::HOLDFAST_SOURCE.to_owned(), source.into_bytes()));
    kept.chain(source).collect()
}

fn response(told: HttpTold) -> Response {
    let mut response = Response::new(Body::from(told.body));
    *response.status_mut() = StatusCode::from_u16(told.status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in told.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_bytes(&value).ok());
        if let Some((name, value)) = header.filter(|(name, _)| *name != header::CONTENT_LENGTH) {
            response.headers_mut().append(name, value);
        }
    }
    response.extensions_mut().insert(Foreign);
    response
}

fn redirect(leader: &Leader, uri: &Uri) -> Result<Response> {
    let path = uri.path_and_query().map_or("/", |whole| whole.as_str());
    let location = format!("{}{path}", leader.member.api.trim_end_matches('/'));
    if leader.member.api.is_empty() {
        let detail = format!("member {} leads, and it has no address for clients", leader.node);
        return Err(Problem::new(Code::Unavailable, detail)
            .with_hint("without `Holdfast-Forward: redirect` the request is handed on inside the cluster")
            .into());
    }
    let location = HeaderValue::from_str(&location)
        .map_err(|error| Refused::from(Problem::new(Code::Internal, error.to_string())))?;
    let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    response.extensions_mut().insert(Foreign);
    Ok(response)
}

fn lost(leader: &Leader, error: &TransportError, id: Option<RequestId>) -> Refused {
    let detail = format!("member {} {error}", leader.node);
    let problem = match (error, id) {
        (TransportError::Lost(_), Some(id)) => {
            let problem = Problem::new(Code::UnknownOutcome, detail).with_request(id);
            problem.with_hint(format!("holdfast requests show {id}"))
        }
        (TransportError::Lost(_), None) => {
            Problem::new(Code::UnknownOutcome, detail).with_hint("holdfast cluster status")
        }
        _ => {
            Problem::new(Code::Unavailable, detail).with_hint("it was not executed; send it again in a while")
        }
    };
    Refused { problem: Box::new(problem), event: None, settled: true }
}

fn no_leader(why: &str) -> Refused {
    let problem = Problem::new(Code::Unavailable, why).with_outcome(Outcome::NotExecuted);
    let problem = problem.with_hint("holdfast cluster status says who is there and who is missing");
    Refused { problem: Box::new(problem), event: None, settled: true }
}

fn no_quorum(age: Option<Duration>) -> Refused {
    let since = age.map_or("since this member started".to_owned(), |age| {
        format!("for {}", DurationMs::from_ms(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
    });
    let problem = Problem::new(Code::NoQuorum, format!("no leader was heard here {since}"));
    problem
        .with_hint("?consistency=stale (--consistency stale) reads what is known here, with its age")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str) -> Request {
        Request::builder().uri(uri).body(Body::empty()).expect("a request")
    }

    #[test]
    fn consistency_is_taken_out_of_the_query() {
        for (uri, wanted, left) in [
            ("/v1/apps", Freshness::Recent, "/v1/apps"),
            ("/v1/apps?limit=3", Freshness::Recent, "/v1/apps?limit=3"),
            ("/v1/apps?consistency=stale", Freshness::Stale, "/v1/apps"),
            ("/v1/apps?limit=3&consistency=leader&x=1", Freshness::Leader, "/v1/apps?limit=3&x=1"),
            ("/v1/apps?consistency=linearizable", Freshness::Linearizable, "/v1/apps"),
        ] {
            let mut request = request(uri);
            assert_eq!(freshness(&mut request).ok(), Some(wanted), "{uri}");
            assert_eq!(request.uri().to_string(), left);
        }
        assert!(freshness(&mut request("/v1/apps?consistency=eventual")).is_err());
    }

    #[test]
    fn every_write_goes_to_the_leader_but_what_is_about_one_member() {
        for row in table::TABLE.iter().filter(|row| row.method != "GET") {
            let about_members = row.path.starts_with(OWN)
                && ![at::CLUSTER_JOIN_TOKENS, at::CLUSTER_BACKUP].contains(&row.path);
            let own = [at::ASK, at::VIEW_REBUILD, at::LOGIN, at::LOGOUT].contains(&row.path) || about_members;
            let wanted = if own { Place::Own } else { Place::Leader };
            assert_eq!(place(row), wanted, "{} {}", row.method, row.path);
        }
        let of = |path| place(table::row("GET", path).expect("a row"));
        assert_eq!(of(at::HEALTH_READY), Place::Own);
        assert_eq!(of(at::AGENT_STREAM), Place::Own);
        assert_eq!(of(at::APPS), Place::Any);
        assert_eq!(of(at::NODES), Place::Any);
        assert_eq!(of(at::REQUEST), Place::Any);
    }

    #[test]
    fn what_may_have_been_heard_is_unknown_and_what_was_not_is_not_executed() {
        let leader = Leader { node: types::NodeId::from_u128(1), member: log::cluster::Member::default() };
        let id = RequestId::from_parts(types::Timestamp::from_ms(1), 2);
        let outcome = |error, id| lost(&leader, &error, id).problem.outcome;
        assert_eq!(outcome(TransportError::Lost("x".into()), Some(id)), Outcome::Unknown);
        assert_eq!(outcome(TransportError::Lost("x".into()), None), Outcome::Unknown);
        assert_eq!(outcome(TransportError::Unreachable("x".into()), Some(id)), Outcome::NotExecuted);
        assert_eq!(outcome(TransportError::Refused("x".into()), Some(id)), Outcome::NotExecuted);
    }
}
