//! What other members ask of this one.

use super::{
    Cluster,
    ask::{Ask, Forwarded, HttpAsk, HttpTold, Told},
};
use crate::{
    audit::JournalAsk,
    peer::{NotAdmitted, Receive, Standing},
};
use axum::{
    body::{Body, to_bytes},
    http::{HeaderName, HeaderValue, Method, Request},
    response::Response,
};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use log::cluster::TransportError;
use std::time::Duration;
use tower::ServiceExt;
use types::{NodeId, limits};

impl Receive for Cluster {
    fn receive(&self, message: Bytes) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let cluster = self.clone();
        async move {
            if !Ask::is(&message) {
                return cluster.log().receive(message).await;
            }
            let ask = Ask::read(&message).map_err(TransportError::Refused)?;
            cluster.answer(ask).await.map(|told| told.write()).map_err(TransportError::Refused)
        }
        .boxed()
    }

    fn sender(&self, message: &Bytes) -> Option<NodeId> {
        if !Ask::is(message) {
            return Receive::sender(self.log(), message);
        }
        match Ask::read(message) {
            Ok(Ask::Moved { node, .. }) => Some(node),
            _ => None,
        }
    }

    fn standing(&self) -> Standing {
        Receive::standing(self.log())
    }

    fn admit(&self, join: Bytes) -> BoxFuture<'static, Result<Bytes, NotAdmitted>> {
        let cluster = self.clone();
        async move { cluster.admit_here_or_there(join).await }.boxed()
    }
}

impl Cluster {
    async fn answer(&self, ask: Ask) -> Result<Told, String> {
        match ask {
            Ask::Http(ask) => self.answer_http(ask).await,
            Ask::Report => Ok(Told::Report(Box::new(self.report()))),
            Ask::Admit(join) => match self.admit(&join).await {
                Ok(admission) => Ok(Told::Admitted(admission)),
                Err(NotAdmitted::Refused(why)) => Err(why),
                Err(NotAdmitted::Unclear(why)) => Ok(Told::Unclear(why)),
            },
            Ask::Moved { node, member } | Ask::HasMoved { node, member } => {
                self.note_moved(node, member);
                Ok(Told::Noted)
            }
            Ask::Repair(question) => self.help(question).await.map(Told::Repair),
            Ask::Journal(ask) => self.tell_of_journal(ask).await.map(Told::Journal),
        }
    }

    /// Lets one in here if this member leads, and asks the one that does otherwise.
    async fn admit_here_or_there(&self, join: Bytes) -> Result<Bytes, NotAdmitted> {
        if log::Log::authority(self.log()).borrow().is_some() {
            return self.admit(&join).await.map(Bytes::from);
        }
        let Some(leader) = self.leader() else {
            let why = "no member is known to lead: nobody can be let in now; ask again";
            return Err(NotAdmitted::Refused(why.to_owned()));
        };
        let ask = Ask::Admit(join.to_vec());
        match self.ask(leader.node, &leader.member, &ask, limits::PEER_JOIN.into()).await {
            Ok(Told::Admitted(admission)) => Ok(admission.into()),
            Ok(Told::Unclear(why)) => Err(NotAdmitted::Unclear(why)),
            Ok(other) => {
                let why = format!("member {} answered with {}", leader.node, other.kind());
                Err(NotAdmitted::Unclear(why))
            }
            Err(TransportError::Refused(why)) => Err(NotAdmitted::Refused(why)),
            Err(error @ TransportError::Unreachable(_)) => {
                Err(NotAdmitted::Refused(format!("the leader, {}, {error}; ask again", leader.node)))
            }
            Err(error @ TransportError::Lost(_)) => {
                Err(NotAdmitted::Unclear(format!("the leader, {}, {error}", leader.node)))
            }
        }
    }

    async fn tell_of_journal(&self, ask: JournalAsk) -> Result<Vec<u8>, String> {
        let audit = self.0.audit.get().cloned().ok_or("this member has not started to answer")?;
        let told = tokio::task::spawn_blocking(move || audit.answer(ask)).await;
        let told = told.map_err(|error| error.to_string())?;
        serde_json::to_vec(&told).map_err(|error| error.to_string())
    }

    async fn answer_http(&self, ask: HttpAsk) -> Result<Told, String> {
        let _under_way = self.0.answering.token();
        if self.0.answering.is_closed() {
            return Err("this member is being stopped".to_owned());
        }
        let Some((_, router)) = self.0.served.get() else {
            return Err("this member has not started to answer".to_owned());
        };
        let mut request = Request::builder().method(ask.method.as_str()).uri(ask.uri.as_str());
        for (name, value) in &ask.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            request =
                request.header(name, HeaderValue::from_bytes(value).map_err(|error| error.to_string())?);
        }
        let request = request.extension(Forwarded { by: ask.by }).body(Body::from(ask.body));
        let request = request.map_err(|error| error.to_string())?;
        // From here on it has run. A read has done nothing, whatever becomes of its answer.
        let reads = request.method() == Method::GET;
        let response = match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        told(response, reads).await
    }
}

/// What is handed back of an answer. What cannot be handed back was executed all the same.
async fn told(response: Response, reads: bool) -> Result<Told, String> {
    let (parts, body) = response.into_parts();
    // Streams are never forwarded, so a body that has no end is a mistake.
    let body = tokio::time::timeout(BODY_WAIT, to_bytes(body, limits::PEER_MESSAGE / 2)).await;
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if reads => return Err(format!("the answer cannot be handed on: {error}")),
        Ok(Err(error)) => return Ok(Told::Unclear(format!("its answer cannot be handed on: {error}"))),
        Err(_) => return Ok(Told::Unclear("the answer's body did not end".to_owned())),
    };
    let headers = parts.headers.iter();
    Ok(Told::Http(HttpTold {
        status: parts.status.as_u16(),
        headers: headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
        body: body.to_vec(),
    }))
}

/// How long the body of an answer that has begun may take: it is made from memory.
const BODY_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::Core;
    use axum::{Router, routing::get};
    use log::MemoryLog;
    use rt::{OsRandom, SystemClock};
    use std::sync::Arc;
    use tokio::{runtime::Handle, sync::Notify};

    #[tokio::test]
    async fn whoever_is_stopped_answers_what_is_under_way_and_takes_nothing_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, runtime) = (dir.path().to_owned(), Handle::current());
        let opened = tokio::task::spawn_blocking(move || Cluster::open(&path, runtime, None)).await;
        let cluster = opened.expect("no panic").expect("a new cluster");
        let (core, _never_run) =
            Core::open(Arc::new(MemoryLog::new()), Arc::new(SystemClock), Arc::new(OsRandom)).expect("a log");
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, wait) = (begun.clone(), go.clone());
        let slow = move || async move {
            told.notify_one();
            wait.notified().await;
            "done"
        };
        cluster.answer_with(core, Router::new().route("/", get(slow)));
        let ask = || {
            let (cluster, by) = (cluster.clone(), NodeId::from_u128(7));
            let (method, uri) = ("GET".to_owned(), "/".to_owned());
            async move {
                cluster.answer_http(HttpAsk { method, uri, headers: Vec::new(), body: Vec::new(), by }).await
            }
        };
        let under_way = tokio::spawn(ask());
        begun.notified().await;
        let stopping = cluster.clone();
        let stopping = tokio::spawn(async move { stopping.answer_no_more().await });
        while !cluster.0.answering.is_closed() {
            tokio::task::yield_now().await;
        }
        let refused = ask().await;
        assert!(refused.is_err_and(|why| why.contains("stopped")));
        assert!(!stopping.is_finished(), "it waits for what is under way");
        go.notify_one();
        let answered = under_way.await.expect("no panic");
        assert!(matches!(answered, Ok(Told::Http(HttpTold { status: 200, .. }))), "{answered:?}");
        stopping.await.expect("it ends");
        tokio::task::spawn_blocking(move || cluster.log().close()).await.expect("it closes");
    }

    #[tokio::test]
    async fn what_ran_and_cannot_be_told_is_in_doubt_unless_it_only_read() {
        let small = told(Response::new(Body::from("done")), false).await;
        assert!(matches!(small, Ok(Told::Http(HttpTold { status: 200, .. }))), "{small:?}");
        let large = || Response::new(Body::from(vec![b'x'; limits::PEER_MESSAGE / 2 + 1]));
        let write = told(large(), false).await;
        assert!(matches!(write, Ok(Told::Unclear(_))), "{write:?}");
        let read = told(large(), true).await;
        assert!(read.is_err_and(|why| why.contains("handed on")));
    }
}
