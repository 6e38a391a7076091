//! What other members ask of this one.

use super::{
    Cluster,
    ask::{Ask, Forwarded, HttpAsk, HttpTold, Told},
};
use crate::peer::{Receive, Standing};
use axum::{
    body::{Body, to_bytes},
    http::{HeaderName, HeaderValue, Request},
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
        if Ask::is(message) { None } else { Receive::sender(self.log(), message) }
    }

    fn standing(&self) -> Standing {
        Receive::standing(self.log())
    }

    fn admit(&self, join: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let cluster = self.clone();
        async move { cluster.admit_here_or_there(join).await }.boxed()
    }
}

impl Cluster {
    async fn answer(&self, ask: Ask) -> Result<Told, String> {
        match ask {
            Ask::Http(ask) => self.answer_http(ask).await.map(Told::Http),
            Ask::Report => Ok(Told::Report(Box::new(self.report()))),
            Ask::Admit(join) => self.admit(&join).await.map(Told::Admitted),
            Ask::Moved { node, member } => {
                self.note_moved(node, member);
                Ok(Told::Noted)
            }
            Ask::Repair(question) => self.help(question).await.map(Told::Repair),
        }
    }

    /// Lets one in here if this member leads, and asks the one that does otherwise.
    async fn admit_here_or_there(&self, join: Bytes) -> Result<Bytes, String> {
        if log::Log::authority(self.log()).borrow().is_some() {
            return self.admit(&join).await.map(Bytes::from);
        }
        let Some(leader) = self.leader() else {
            return Err("no member is known to lead: nobody can be let in now; ask again".to_owned());
        };
        let ask = Ask::Admit(join.to_vec());
        match self.ask(leader.node, &leader.member, &ask, limits::PEER_JOIN.into()).await {
            Ok(Told::Admitted(admission)) => Ok(admission.into()),
            Ok(other) => Err(format!("member {} answered with {}", leader.node, other.kind())),
            Err(TransportError::Refused(why)) => Err(why),
            Err(error) => Err(format!("the leader, {}, {error}; ask again", leader.node)),
        }
    }

    async fn answer_http(&self, ask: HttpAsk) -> Result<HttpTold, String> {
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
        let response = match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        // Streams are never forwarded, so a body that has no end is a mistake.
        let body = tokio::time::timeout(BODY_WAIT, to_bytes(body, limits::PEER_MESSAGE / 2)).await;
        let body = body.map_err(|_| "the answer's body did not end".to_owned())?;
        let headers = parts.headers.iter();
        Ok(HttpTold {
            status: parts.status.as_u16(),
            headers: headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
            body: body.map_err(|error| error.to_string())?.to_vec(),
        })
    }
}

/// How long the body of an answer that has begun may take: it is made from memory.
const BODY_WAIT: Duration = Duration::from_secs(10);
