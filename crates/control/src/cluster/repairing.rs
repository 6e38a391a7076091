//! A member whose log is damaged: it asks the others for what is lost, says so to whoever asks it, and
//! takes no part until everything is back. See [`log::cluster::repair()`].

use super::{
    Cluster, OpenError, Settings,
    ask::{Ask, Told},
    report::MemberReport,
};
use crate::peer::{Contacts, PeerTransport, Receive, Standing, Tls, serve};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use log::{
    cluster::{Answer, Member, NotRepaired, Others, Question, Transport, TransportError},
    wal::Options,
};
use rt::{Clock, Disk};
use std::{path::Path, sync::Arc};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use types::{EventId, NodeId, limits};

/// How a member says that it is that puts its log back.
const REPAIRING: &str = "repairing";

/// How it goes with a log that may have to be repaired while it is opened.
#[derive(Clone, Debug)]
pub struct Repairing {
    told: watch::Sender<Option<String>>,
    stop: CancellationToken,
}

impl Repairing {
    /// Nothing is repaired yet; `stop` ends it if it is.
    pub fn new(stop: CancellationToken) -> Self {
        Self { told: watch::Sender::new(None), stop }
    }

    /// What is damaged and how far its repair is; none while nothing is repaired.
    pub fn told(&self) -> watch::Receiver<Option<String>> {
        self.told.subscribe()
    }

    fn tell(&self, how: Option<&str>) {
        let told = |known: &mut Option<String>| {
            let is_news = known.as_deref() != how;
            *known = how.map(str::to_owned);
            is_news
        };
        self.told.send_if_modified(told);
    }
}

/// The member whose log is repaired.
pub(super) struct Patient<'a> {
    pub disk: &'a Arc<dyn Disk>,
    pub dir: &'a Path,
    pub node: NodeId,
    pub settings: &'a Settings,
    pub options: &'a Options,
    pub tls: Tls,
    pub clock: &'a Arc<dyn Clock>,
    pub transport: &'a PeerTransport,
}

impl Patient<'_> {
    /// Puts back what is damaged. Meanwhile other members hear that, and nothing else.
    pub async fn heal(&self, repairing: &Repairing) -> Result<(), OpenError> {
        repairing.tell(Some("a record of the log is damaged"));
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        let serving = match self.settings.listen {
            Some(address) => TcpListener::bind(address).await.ok().map(|listener| {
                let own = Arc::new(Silent { node: self.node, told: repairing.told() });
                let contacts = Contacts::new(Arc::clone(self.clock));
                tokio::spawn(serve(listener, self.tls.clone(), own, contacts, stop.clone()))
            }),
            None => None,
        };
        let others = Asked { transport: self.transport.clone(), repairing: repairing.clone() };
        let repair = log::cluster::repair(self.disk, self.dir, self.options, &others);
        let repaired = repairing.stop.run_until_cancelled(repair).await;
        stop.cancel();
        if let Some(serving) = serving
            && let Err(error) = serving.await
        {
            tracing::error!(%error, "the port for other members ended badly");
        }
        repairing.tell(None);
        match repaired {
            None => Err(OpenError::Stopped),
            Some(Err(error)) => Err(OpenError::Repair(error)),
            Some(Ok(_)) => Ok(()),
        }
    }
}

/// The others, over the members' own line.
struct Asked {
    transport: PeerTransport,
    repairing: Repairing,
}

impl Others for Asked {
    fn ask(
        &self,
        to: NodeId,
        member: &Member,
        question: &Question,
    ) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let message = Ask::Repair(question.clone()).write();
        let called = self.transport.call(to, member, message, limits::REPAIR_ANSWER.into());
        async move {
            match Told::read(&called.await?).map_err(TransportError::Lost)? {
                Told::Repair(answer) => Ok(answer),
                other => Err(TransportError::Refused(format!("it answered with {}", other.kind()))),
            }
        }
        .boxed()
    }

    fn tell(&self, how: &str) {
        self.repairing.tell(Some(how));
    }
}

/// What others hear of a member that is repaired: how it is. It votes for nobody and takes nothing.
struct Silent {
    node: NodeId,
    told: watch::Receiver<Option<String>>,
}

impl Receive for Silent {
    fn receive(&self, message: Bytes) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let how = self.told.borrow().clone().unwrap_or_default();
        let is_report = Ask::is(&message) && matches!(Ask::read(&message), Ok(Ask::Report));
        let answer = match is_report {
            true => Ok(Told::Report(Box::new(MemberReport::of_damaged(&how))).write()),
            false => Err(TransportError::Refused(format!("its log is being repaired: {how}"))),
        };
        std::future::ready(answer).boxed()
    }

    fn standing(&self) -> Standing {
        // It has not read who is a member, so it is sure of nobody.
        Standing { own: Some(self.node), ..Standing::default() }
    }
}

impl MemberReport {
    /// Whether it votes and acknowledges, and does not only tell of its repair.
    pub fn takes_part(&self) -> bool {
        self.state != REPAIRING
    }

    /// A member's whose log is being repaired.
    fn of_damaged(how: &str) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: REPAIRING.to_owned(),
            sequences: false,
            term: types::Term::ZERO,
            epoch: types::Epoch::ZERO,
            index: types::Index::ZERO,
            event: EventId::ZERO,
            applied: EventId::ZERO,
            disk_free: None,
            short_of_space: false,
            snapshot: None,
            fenced: false,
            aside: Vec::new(),
            trouble: Some(how.to_owned()),
            backup: None,
        }
    }
}

impl Cluster {
    /// What people are to know of damage that was repaired here.
    pub fn damage(&self) -> Option<String> {
        let dir = self.0.data_dir.join("log");
        let kept = log::wal::quarantined(&rt::RealDisk, &dir).unwrap_or_default().len();
        (kept > 0).then(|| {
            format!(
                "its log was damaged: {kept} damaged files are kept in {}; look at the disk, then move them away",
                dir.join("quarantine").display()
            )
        })
    }

    /// Answers another member whose log is damaged.
    pub(super) async fn help(&self, question: Question) -> Result<Answer, String> {
        self.log().answer(question).await
    }
}

/// Whether there is nobody who could help: then the damage itself is what is to be said.
pub(super) fn is_alone(error: &OpenError) -> bool {
    matches!(error, OpenError::Repair(NotRepaired::Alone { .. }))
}
