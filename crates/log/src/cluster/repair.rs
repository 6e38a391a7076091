//! Repairing a member's damaged log from the others: what it asks them, what they answer, and when it
//! has everything back.
//!
//! ```text
//!   damaged ─► who leads? ─► entries up to the leader's end ──────────┐
//!      │         │ nobody, for a while                                ├─► whole: consensus may start
//!      │         └─► entries up to the end that is readable here ─────┤
//!      └─ in the middle ─► entries up to what stands behind, of anyone┘
//! ```
//!
//! Consensus does not run meanwhile: this node votes for nobody and acknowledges nothing. Decision 16
//! says why it may again afterwards.

use super::{
    log::ClusterLog,
    shape::{Member, decode_members},
    transport::TransportError,
};
use crate::{
    Head,
    wal::{Carry, Options, Repair, RepairError, Repaired},
};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use rt::{Boundary, Disk};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use types::{Index, NodeId, limits};

/// What a member with a damaged log asks another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Do you lead, and where does your log end?
    Lead,
    /// What follows this entry, up to that one?
    Entries {
        /// The head with the entry before, as [`Head::to_bytes`] gives it.
        after: Vec<u8>,
        /// The last entry that is wanted.
        until: Index,
    },
}

/// What the other answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It led after it was asked, and this is the end of its log, as [`Head::to_bytes`] gives it.
    Leads(Vec<u8>),
    /// Entries, as [`crate::wal::Carried`] carries them.
    Entries(Vec<u8>),
    /// It has another entry there.
    Differs,
    /// It has not so much.
    Short,
}

/// The way to the others.
pub trait Others: Send + Sync {
    /// Asks a member, which has [`limits::REPAIR_ANSWER`] for it.
    fn ask(
        &self,
        to: NodeId,
        member: &Member,
        question: &Question,
    ) -> BoxFuture<'static, Result<Answer, TransportError>>;

    /// Is told how it stands, as often as that changes.
    fn tell(&self, how: &str);
}

/// Why a damaged log was not repaired. The damage is as it was; what was fetched already is kept.
#[derive(Debug, thiserror::Error)]
pub enum NotRepaired {
    /// There is nobody to ask.
    #[error("{what}; and no other member is known that could give back what is lost")]
    Alone {
        /// What is damaged.
        what: String,
    },
    /// Nobody answered.
    #[error("{what}; and no other member answered within {}: {why}", limits::REPAIR_ALONE)]
    Nobody {
        /// What is damaged.
        what: String,
        /// What happened when they were asked.
        why: String,
    },
    /// It cannot be.
    #[error("{what}; and it cannot be repaired")]
    Failed {
        /// What is damaged.
        what: String,
        /// Why.
        #[source]
        source: RepairError,
    },
    /// It cannot be looked for.
    #[error(transparent)]
    Unread(RepairError),
    /// More is damaged than can be repaired at one start.
    #[error("more than {} places of the log are damaged; look at the disk", limits::REPAIR_PLACES)]
    Endless {
        /// The log directory.
        dir: PathBuf,
    },
}

/// Puts back what is damaged in the log of a member that does not run, from what the others have. Goes on
/// where an earlier run was cut short. Nothing is repaired of a log that opens as it is.
///
/// Asks as long as any member answers; drop the future to give up.
///
/// # Errors
/// See [`NotRepaired`].
pub async fn repair(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &Options,
    others: &dyn Others,
) -> Result<Vec<Repaired>, NotRepaired> {
    repair_within(disk, dir, options, others, &Waits::default()).await
}

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    pub leader: Duration,
    pub alone: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { leader: limits::REPAIR_LEADER_WAIT.into(), alone: limits::REPAIR_ALONE.into() }
    }
}

pub(super) async fn repair_within(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &Options,
    others: &dyn Others,
    waits: &Waits,
) -> Result<Vec<Repaired>, NotRepaired> {
    let mut repaired = Vec::new();
    for _ in 0..limits::REPAIR_PLACES {
        let Some(work) = Repair::begin(disk, dir, options).map_err(NotRepaired::Unread)? else {
            return Ok(repaired);
        };
        let what = work.wrong().to_string();
        let failed = |source| NotRepaired::Failed { what: what.clone(), source };
        let own = work.node();
        let members = work.members().map_err(|error| failed(error.into()))?;
        let members = members.and_then(|members| decode_members(&members).ok());
        let known = members.iter().flat_map(|members| members.nodes());
        let known: BTreeMap<NodeId, Member> =
            known.filter(|(node, _)| **node != own).map(|(node, member)| (*node, member.clone())).collect();
        if known.is_empty() {
            return Err(NotRepaired::Alone { what });
        }
        Boundary::RepairBegun.reached();
        others.tell(&what);
        tracing::warn!(%what, members = known.len(), "a damaged record: what is lost is asked for");
        let scene = Scene { others, known, what: what.clone(), waits: *waits };
        let done = scene.put_back(work).await?;
        tracing::warn!(%what, first = %done.entries.0, last = %done.entries.1, kept = ?done.kept,
            "what was damaged is repaired; the damaged files are kept");
        repaired.push(done);
    }
    Err(NotRepaired::Endless { dir: dir.into() })
}

/// One damaged place, and who may help.
struct Scene<'a> {
    others: &'a dyn Others,
    known: BTreeMap<NodeId, Member>,
    what: String,
    waits: Waits,
}

/// What came of fetching entries from one member.
enum Fetched {
    /// Everything up to the goal is here.
    All,
    /// It has other entries before the damage already.
    Differs,
    /// It did not give what is wanted.
    Not(String),
}

/// When somebody answered last, and what was said.
struct Heard {
    at: Instant,
    said: BTreeMap<NodeId, String>,
}

impl Heard {
    fn note(&mut self, of: NodeId, answer: Result<&str, &TransportError>) {
        let answered = matches!(answer, Ok(_) | Err(TransportError::Refused(_)));
        if answered {
            self.at = Instant::now();
        }
        let text = answer.map_or_else(ToString::to_string, str::to_owned);
        self.said.insert(of, text);
    }

    fn text(&self) -> String {
        let each = self.said.iter().map(|(node, text)| format!("{node}: {text}"));
        each.collect::<Vec<_>>().join("; ")
    }
}

impl Scene<'_> {
    async fn put_back(&self, mut work: Repair) -> Result<Repaired, NotRepaired> {
        let failed = |source| NotRepaired::Failed { what: self.what.clone(), source };
        let begun = Instant::now();
        let mut heard = Heard { at: begun, said: BTreeMap::new() };
        let mut pause = Duration::from(limits::PEER_RETRY_MIN);
        loop {
            if work.is_end()
                && let Some((leader, end)) = self.by_leader(&mut work, &mut heard).await.map_err(failed)?
            {
                return work.finish(&end, Some(leader)).map_err(failed);
            }
            let patient = begun.elapsed() < self.waits.leader;
            if let Some(end) = work.goal().filter(|_| !(work.is_end() && patient))
                && self.by_own_end(&mut work, end, &mut heard).await.map_err(failed)?
            {
                return work.finish(&end, None).map_err(failed);
            }
            if heard.at.elapsed() >= self.waits.alone {
                return Err(NotRepaired::Nobody { what: self.what.clone(), why: heard.text() });
            }
            self.others.tell(&format!("{}; what is lost is asked for: {}", self.what, heard.text()));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(limits::PEER_RETRY_MAX.into());
        }
    }

    /// Everything up to the end of the log of a member that leads now; which one, and that end.
    async fn by_leader(
        &self,
        work: &mut Repair,
        heard: &mut Heard,
    ) -> Result<Option<(NodeId, Head)>, RepairError> {
        let Some((node, end)) = self.leader(heard).await else { return Ok(None) };
        loop {
            match self.fetch(work, node, &end, heard).await? {
                Fetched::All => return Ok(Some((node, end))),
                Fetched::Differs => work.step_back()?,
                Fetched::Not(why) => {
                    heard.said.insert(node, why);
                    return Ok(None);
                }
            }
        }
    }

    /// Everything up to an end that is known from what can be read here, of whoever has it.
    async fn by_own_end(&self, work: &mut Repair, end: Head, heard: &mut Heard) -> Result<bool, RepairError> {
        let mut differ = 0;
        for node in self.known.keys() {
            match self.fetch(work, *node, &end, heard).await? {
                Fetched::All => return Ok(true),
                Fetched::Differs => {
                    heard.note(*node, Ok("it has another history there"));
                    differ += 1;
                }
                Fetched::Not(why) => {
                    heard.said.insert(*node, why);
                }
            }
        }
        if differ == self.known.len() && work.give_up_what_follows()? {
            tracing::warn!(
                what = self.what,
                "no member has what stands behind the damage: it was never committed"
            );
        }
        Ok(false)
    }

    /// Who leads, and where its log ends.
    async fn leader(&self, heard: &mut Heard) -> Option<(NodeId, Head)> {
        let asked = self.known.iter().map(|(node, member)| {
            let answer = self.others.ask(*node, member, &Question::Lead);
            async move { (*node, answer.await) }
        });
        let mut found = None;
        for (node, answer) in join_all(asked).await {
            match answer {
                Ok(Answer::Leads(end)) => {
                    heard.note(node, Ok("it leads"));
                    let end = end.try_into().ok().map(|end| Head::from_bytes(&end));
                    found = found.or(end.map(|end| (node, end)));
                }
                Ok(_) => heard.note(node, Ok("its answer is none")),
                Err(error) => heard.note(node, Err(&error)),
            }
        }
        found
    }

    async fn fetch(
        &self,
        work: &mut Repair,
        node: NodeId,
        goal: &Head,
        heard: &mut Heard,
    ) -> Result<Fetched, RepairError> {
        let member = &self.known[&node];
        if work.head().index > goal.index {
            work.start_over()?;
        }
        loop {
            let (at, begun) = (work.head(), work.has_begun());
            if at.index >= goal.index {
                return match (at == *goal, begun) {
                    (true, _) => Ok(Fetched::All),
                    (false, true) => {
                        work.start_over()?;
                        Ok(Fetched::Not("it gave what does not end as it must".into()))
                    }
                    (false, false) => Ok(Fetched::Differs),
                };
            }
            let question = Question::Entries { after: at.to_bytes().to_vec(), until: goal.index };
            let answer = self.others.ask(node, member, &question).await;
            heard.note(node, answer.as_ref().map(|_| "it answers"));
            match answer {
                Ok(Answer::Entries(entries)) if !entries.is_empty() => {
                    match work.take(Bytes::from(entries)) {
                        Ok(()) => self.others.tell(&format!(
                            "{}; entry {} of {} is back",
                            self.what,
                            work.head().index,
                            goal.index
                        )),
                        Err(RepairError::Foreign(why)) => {
                            work.start_over()?;
                            return Ok(Fetched::Not(why));
                        }
                        Err(error) => return Err(error),
                    }
                }
                // What was fetched before may be what nobody has any more.
                Ok(Answer::Differs) if begun => work.start_over()?,
                Ok(Answer::Differs) => return Ok(Fetched::Differs),
                Ok(Answer::Short) => return Ok(Fetched::Not("it has not so much".into())),
                Ok(_) => return Ok(Fetched::Not("its answer is none".into())),
                Err(error) => return Ok(Fetched::Not(error.to_string())),
            }
        }
    }
}

impl ClusterLog {
    /// Answers another member whose log is damaged.
    ///
    /// # Errors
    /// Why there is no answer, for it to read.
    pub async fn answer(&self, question: Question) -> Result<Answer, String> {
        match question {
            Question::Lead => {
                let lead = tokio::time::timeout(limits::REPAIR_LEAD.into(), self.end_of_leader()).await;
                let end = lead.map_err(|_| "it did not show that it leads in time".to_owned())??;
                Ok(Answer::Leads(end.to_bytes().to_vec()))
            }
            Question::Entries { after, until } => {
                let after: [u8; Head::BYTES] =
                    after.try_into().map_err(|_| "a head of another length".to_owned())?;
                let (log, after) = (self.clone(), Head::from_bytes(&after));
                let read = rt::blocking(move || {
                    let log = log.member_log();
                    let read = log.carry(&after, until, limits::REPAIR_PIECE);
                    // This member goes on: the next start repairs it, and another may be asked.
                    read.inspect_err(|error| log.note_damage(error))
                });
                match read.await.map_err(|error| error.to_string())? {
                    Ok(Carry::Entries(entries)) => Ok(Answer::Entries(entries)),
                    Ok(Carry::Differs) => Ok(Answer::Differs),
                    Ok(Carry::Short) => Ok(Answer::Short),
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    }

    /// The end of this log, if this node leads now: a majority has said so since this was asked, and what
    /// had been handed over by then is durable.
    async fn end_of_leader(&self) -> Result<Head, String> {
        self.linearizable().await?;
        let log = self.member_log();
        let newest = log.newest();
        let mut durable = log.durable();
        durable.wait_for(|at| *at >= newest).await.map_err(|_| "its log has stopped".to_owned())?;
        let end = log.tail();
        if end.index < newest { Err("it leads no more".into()) } else { Ok(end) }
    }
}
