//! A server as a member of a cluster: its log under consensus, the other members, and what they are
//! asked besides.
//!
//! ```text
//!   settings ─┐
//!   peer/ ────┼─► opening ─► ClusterLog ◄──────── door ◄── other members, over TLS
//!   log/ ─────┘                 ▲                  │ consensus │ HTTP forwarded │ reports │ joining
//!                               │                  ▼
//!   membership: what the log says of who is a member, made so in consensus by whoever leads
//! ```
//!
//! One code path for one member and for many: a server without [`Settings`] is a cluster of one whose
//! only member nobody can reach.

mod ask;
mod door;
mod joining;
mod membership;
mod opening;
mod repairing;
mod report;
mod settings;

pub use self::{
    ask::{Forwarded, HttpAsk, HttpTold},
    joining::{Invitation, JoinError, Joined, join},
    membership::{Place, bring_nearer},
    opening::OpenError,
    repairing::Repairing,
    report::MemberReport,
    settings::{Mode, Settings, SettingsError},
};

use self::ask::{Ask, Told};
use crate::{
    audit::{Audit, JournalAsk, JournalTold},
    backups::Backups,
    peer::{Contacts, Identity, PeerTransport, serve},
    writer::Core,
};
use axum::Router;
use log::{
    Log as _,
    cluster::{ClusterLog, Member, Transport, TransportError},
};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{NodeId, limits};

/// This server's place in its cluster.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    log: ClusterLog,
    /// What tells this cluster from all others.
    name: String,
    settings: Settings,
    identity: Identity,
    data_dir: PathBuf,
    transport: PeerTransport,
    contacts: Contacts,
    /// What forwarded requests are answered by, as soon as there is one.
    served: OnceLock<(Core, Router)>,
    /// Forwarded requests under way; closed when no more are answered.
    answering: TaskTracker,
    /// What backs the log up, if it was told to.
    backups: OnceLock<Backups>,
    /// What this member's journal is asked through.
    audit: OnceLock<Audit>,
    /// Members that said that they are reached elsewhere now, and where they were when they said so.
    moved: Mutex<BTreeMap<NodeId, (Member, Member)>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.0.name)
            .field("own", &self.own())
            .finish_non_exhaustive()
    }
}

/// Who leads, as this member knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Which member.
    pub node: NodeId,
    /// Where it is reached.
    pub member: Member,
}

impl Cluster {
    /// The log.
    pub fn log(&self) -> &ClusterLog {
        &self.0.log
    }

    /// What tells this cluster from all others.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// This member.
    pub fn own(&self) -> NodeId {
        self.0.log.node()
    }

    /// What it was told of its place.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Where it keeps everything.
    pub fn data_dir(&self) -> &Path {
        &self.0.data_dir
    }

    /// What others show of the authority, and this member of itself.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// How it has been with the others.
    pub fn transport(&self) -> &PeerTransport {
        &self.0.transport
    }

    /// Who asked this member, and who was refused.
    pub fn contacts(&self) -> &Contacts {
        &self.0.contacts
    }

    /// The member that leads and was heard lately, unless that is this one.
    pub fn leader(&self) -> Option<Leader> {
        let status = self.0.log.status();
        status.heard.filter(|heard| *heard < Duration::from(limits::PEER_CURRENT))?;
        let node = status.leader.filter(|leader| *leader != status.own)?;
        let member = status.members.get(&node)?.clone();
        Some(Leader { node, member })
    }

    /// How old what can be read here is at most: on the leader, since its majority answered; elsewhere, since
    /// a leader said how far it had committed, and this member has all of it. None if never since the start.
    pub fn age(&self) -> Option<Duration> {
        let status = self.0.log.status();
        let is_alone = status.voters.iter().eq([&status.own]);
        if is_alone && status.leader == Some(status.own) { Some(Duration::ZERO) } else { status.age }
    }

    /// Whether there is another voter.
    pub fn has_others(&self) -> bool {
        self.0.log.status().voters.len() > 1
    }

    /// Why this member cannot have a write done; none if it can, as far as it knows.
    pub fn why_not_ready(&self, leads: bool) -> Option<String> {
        (!leads && self.leader().is_none()).then(|| self.why_no_leader())
    }

    /// Why a write finds nobody who takes it.
    pub fn why_no_leader(&self) -> String {
        let status = self.0.log.status();
        let sequencer = self.0.log.sequencer();
        match (self.0.settings.failover, status.leader) {
            (_, Some(leader)) if leader == status.own => {
                "this member led, and no majority of the voters answers it now".to_owned()
            }
            (Mode::Automatic, Some(leader)) => format!("member {leader} led and is not heard any more"),
            (Mode::Automatic, None) => {
                "no member leads: a majority of the voters is needed to elect one".to_owned()
            }
            (Mode::Operator, _) => {
                let named = sequencer.map_or("nobody".to_owned(), |node| node.to_string());
                format!(
                    "no member that leads is heard; the last epoch names {named}, and only an operator makes another one lead: holdfast cluster promote"
                )
            }
        }
    }

    /// Notes that a member is reached elsewhere now.
    fn note_moved(&self, node: NodeId, member: Member) {
        // Only what is a member can be moved, so this is as bounded as the members are.
        let known = self.0.log.status().members.remove(&node);
        if let Some(known) = known.filter(|known| node != self.own() && *known != member) {
            self.0.moved.lock().unwrap_or_else(PoisonError::into_inner).insert(node, (member, known));
        }
    }

    /// Where members said that they are reached now, this one among them, as long as the list of consensus
    /// says what it said then. They are asked there from now on.
    fn moved(&self) -> BTreeMap<NodeId, Member> {
        let known = self.0.log.status().members;
        let mut moved = {
            let mut moved = self.0.moved.lock().unwrap_or_else(PoisonError::into_inner);
            // Whatever came after it is newer.
            moved.retain(|node, (_, before)| known.get(node) == Some(before));
            let now = moved.iter().map(|(node, (now, _))| (*node, now.clone()));
            now.collect::<BTreeMap<NodeId, Member>>()
        };
        // Also by what consensus began before.
        let reached =
            known.iter().map(|(node, known)| (*node, moved.get(node).unwrap_or(known).peer.clone()));
        self.0.transport.reach(reached.collect());
        let own = self.0.settings.member();
        if !own.peer.is_empty() && known.get(&self.own()).is_some_and(|known| *known != own) {
            moved.insert(self.own(), own);
        }
        moved
    }

    /// From here on, forwarded requests are answered by this.
    pub fn answer_with(&self, core: Core, router: Router) {
        let _once = self.0.served.set((core, router));
    }

    /// From here on no forwarded request is taken: whoever hands one on is told that it was not. Returns when those
    /// under way are answered, or after a while.
    pub async fn answer_no_more(&self) {
        self.0.answering.close();
        let drained = tokio::time::timeout(limits::SERVER_DRAIN.into(), self.0.answering.wait()).await;
        if drained.is_err() {
            tracing::warn!("other members' requests were still answered after {}", limits::SERVER_DRAIN);
        }
    }

    /// From here on, other members may ask for this one's journal.
    pub(crate) fn audit_with(&self, audit: Audit) {
        let _once = self.0.audit.set(audit);
    }

    /// Asks another member for its journal.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn ask_journal(
        &self,
        to: NodeId,
        ask: &JournalAsk,
        patience: Duration,
    ) -> Result<JournalTold, String> {
        let member = self.0.log.status().members.get(&to).cloned().ok_or("it is no member any more")?;
        let told = self.ask(to, &member, &Ask::Journal(ask.clone()), patience).await;
        match told.map_err(|error| error.to_string())? {
            Told::Journal(told) => serde_json::from_slice(&told).map_err(|error| error.to_string()),
            other => Err(format!("it answered with {}", other.kind())),
        }
    }

    /// From here on, this is what backs the log up.
    pub(crate) fn back_up_with(&self, backups: Backups) {
        let _once = self.0.backups.set(backups);
    }

    /// What backs the log up, if it was told to.
    pub(crate) fn backups(&self) -> Option<&Backups> {
        self.0.backups.get()
    }

    /// Lets other members ask, until told to stop.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let Ok(tls) = self.0.identity.tls() else {
            // It was made into connections when this was opened.
            tracing::error!("this member's certificate cannot be used any more; no member is let in");
            return shutdown.cancelled().await;
        };
        let tls = tls.in_mode(self.0.settings.failover.as_str());
        serve(listener, tls, Arc::new(self.clone()), self.0.contacts.clone(), shutdown).await;
    }

    /// Notes now and then how far the log is committed, until told to stop: a backup beside this process
    /// reads it.
    pub async fn keep_note(self, shutdown: CancellationToken) {
        let mut noted = self.0.log.head().index;
        while shutdown.run_until_cancelled(tokio::time::sleep(limits::COMMIT_NOTE.into())).await.is_some() {
            let index = self.0.log.head().index;
            if index == noted {
                continue;
            }
            noted = index;
            let log = self.0.log.clone();
            match tokio::task::spawn_blocking(move || log.note_committed()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "how far the log is committed is not noted"),
                Err(error) => tracing::error!(%error, "noting how far the log is committed ended badly"),
            }
        }
    }

    /// Keeps consensus's members in step with the log's, until told to stop.
    pub async fn keep_members(self, core: Core, shutdown: CancellationToken) {
        membership::keep(self, core, shutdown).await;
    }

    /// Has another member answer a request of HTTP.
    ///
    /// # Errors
    /// *Unreachable*: certainly not heard. *Refused*: heard and not taken. *Lost*: nobody can say.
    pub async fn forward(
        &self,
        to: NodeId,
        member: &Member,
        ask: HttpAsk,
        patience: Duration,
    ) -> Result<HttpTold, TransportError> {
        match self.ask(to, member, &Ask::Http(ask), patience).await? {
            Told::Http(told) => Ok(told),
            Told::Unclear(why) => Err(TransportError::Lost(why)),
            other => Err(TransportError::Lost(format!("it answered with {}", other.kind()))),
        }
    }

    /// What every member says of itself, this one included; none of one that did not answer in time.
    pub async fn reports(&self) -> BTreeMap<NodeId, Result<MemberReport, TransportError>> {
        let status = self.0.log.status();
        let asked = status.members.iter().map(|(node, member)| async move {
            if *node == status.own {
                return (*node, Ok(self.report()));
            }
            let report = self.ask(*node, member, &Ask::Report, limits::PEER_REPORT.into());
            // Who is refused by consensus, or refuses, takes no part, however well it is otherwise.
            let (answer, taken) = tokio::join!(report, self.0.log.greet(*node));
            let report = answer.and_then(|told| match told {
                Told::Report(mut report) => {
                    if let Err(TransportError::Refused(why)) = taken {
                        report.trouble = Some(format!("takes no part: {why}"));
                    }
                    Ok(*report)
                }
                other => Err(TransportError::Refused(format!("it answered with {}", other.kind()))),
            });
            (*node, report)
        });
        futures_util::future::join_all(asked).await.into_iter().collect()
    }

    async fn ask(
        &self,
        to: NodeId,
        member: &Member,
        ask: &Ask,
        patience: Duration,
    ) -> Result<Told, TransportError> {
        let answer = self.0.transport.call(to, member, ask.write(), patience).await?;
        Told::read(&answer).map_err(TransportError::Lost)
    }
}
