//! What nodes say about themselves: leases and acknowledgements. Kept in memory only; after a
//! restart nothing has been seen, which is not the same as nothing being there
//! (`partial_view_removes_nothing`).
//!
//! A node that holds a plan which this log never made is *apart*: what it says acknowledges nothing, and
//! nothing is pushed to it until that plan is adopted. One that once named a plan newer than the log stays
//! so for as long as this process lives: the log grows past that number, and what it then calls by it is
//! another plan.

use domain::{
    State,
    plan::{NodeSeen, Observed, RoleSeen},
    state::{Apart, Standing},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, MutexGuard},
};
use types::{
    EventId, Generation, NodeId, Timestamp,
    history::Held,
    plan::{Lease, NodeRole},
};

/// The newest lease of every node and role.
#[derive(Debug)]
pub struct Observations {
    said: Mutex<Said>,
    changed: tokio::sync::watch::Sender<u64>,
}

#[derive(Debug)]
struct Said {
    seen: Observed,
    /// Who has named the plan it holds.
    heard: BTreeSet<(NodeId, NodeRole)>,
    /// Who holds a plan that this log never made.
    apart: BTreeMap<(NodeId, NodeRole), Stray>,
    /// Who holds one that this log has adopted, and has not come over yet.
    coming: BTreeSet<(NodeId, NodeRole)>,
}

/// The log that nodes are held against: its state, and the identity that only itself knows.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What it says.
    pub state: &'a State,
    /// What tells it from all others.
    pub identity: &'a str,
}

/// A plan that this log never made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The plan that the node holds.
    pub held: Held,
    /// Why it is none of this log's.
    pub why: Apart,
    /// Where the log ended when the node said so.
    pub head: EventId,
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held, why, head } = self;
        match why {
            Apart::OtherLog => write!(f, "it holds {held}, which is another log than this one"),
            Apart::Ahead => write!(
                f,
                "it holds {held}, and this log ended at event {head} when it said so: the log is older than what runs"
            ),
            Apart::Branch => write!(f, "it holds {held}, and this log has something else there"),
        }
    }
}

impl Said {
    /// Notes the plan that a role of a node holds.
    fn hear(&mut self, node: NodeId, role: NodeRole, held: &Held, line: Line<'_>) {
        self.heard.insert((node, role));
        let (Line { state, identity }, was) = (line, self.apart.get(&(node, role)).cloned());
        let standing = state.standing(identity, held);
        match standing {
            Standing::Adopted => self.coming.insert((node, role)),
            _ => self.coming.remove(&(node, role)),
        };
        let Standing::Apart(why) = standing else {
            // The log may have grown past the number: then it is the same only in name.
            let remains = |was: &Stray| was.why != Apart::OtherLog && !state.has_adopted(identity, &was.held);
            if was.is_some_and(|was| !remains(&was)) {
                tracing::info!(%node, ?role, "what the node holds is of this log, or adopted");
                self.apart.remove(&(node, role));
            }
            return;
        };
        if was.is_some_and(|was| was.held == *held) {
            return;
        }
        let stray = Stray { held: held.clone(), why, head: state.head };
        tracing::error!(%node, ?role, "nothing is pushed to a node: {stray}");
        self.apart.insert((node, role), stray);
        // What it said it acted on before were plans of that other log as well.
        let seen = self.seen.nodes.get_mut(&node).into_iter();
        for role in seen.flat_map(|seen| [&mut seen.agent, &mut seen.edge]).flatten() {
            role.generation = Generation::ZERO;
        }
    }

    /// What was adopted since it was noted, perhaps under another leader, is none.
    fn apart(&self, node: NodeId, line: Line<'_>) -> Option<&Stray> {
        let noted = [NodeRole::Agent, NodeRole::Edge].map(|role| self.apart.get(&(node, role)));
        noted.into_iter().flatten().find(|stray| !line.state.has_adopted(line.identity, &stray.held))
    }
}

impl Observations {
    /// Nothing seen yet; observing since `now`.
    pub fn new(now: Timestamp) -> Self {
        let seen = Observed { since: now, nodes: Default::default() };
        let said = Mutex::new(Said {
            seen,
            heard: BTreeSet::new(),
            apart: BTreeMap::new(),
            coming: BTreeSet::new(),
        });
        Self { said, changed: tokio::sync::watch::Sender::new(0) }
    }

    /// Forgets the leases, for they were renewed elsewhere meanwhile; observing since `now`. What is
    /// known of plans that this log never made stays: the log may have grown past their numbers.
    pub fn begin_anew(&self, now: Timestamp) {
        self.lock().seen = Observed { since: now, nodes: Default::default() };
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("no thread panics while it holds this")
    }

    /// Notes which plan a role of a node holds.
    pub fn hear(&self, node: NodeId, role: NodeRole, held: &Held, line: Line<'_>) {
        self.lock().hear(node, role, held, line);
    }

    /// Notes a lease. Reconcilers are woken only if it says something new.
    pub fn renew(&self, node: NodeId, lease: &Lease, now: Timestamp, line: Line<'_>) {
        let news = {
            let mut said = self.lock();
            let unnamed = || Held::from(lease.generation);
            let was_noted = said.apart.contains_key(&(node, lease.role));
            said.hear(node, lease.role, &lease.held.clone().unwrap_or_else(unnamed), line);
            let is_noted = said.apart.contains_key(&(node, lease.role));
            let is_apart = said.apart(node, line).is_some();
            // A plan of another log acknowledges nothing of this one, nor does one of before it took over.
            let generation = match is_apart || lease.generation < line.state.line_since() {
                true => Generation::ZERO,
                false => lease.generation,
            };
            let fresh = RoleSeen {
                last: now,
                generation,
                pressure: lease.pressure,
                running: lease.running.iter().copied().collect(),
                draining: lease.draining.iter().copied().collect(),
            };
            let slot: &mut NodeSeen = said.seen.nodes.entry(node).or_default();
            let slot = match lease.role {
                NodeRole::Agent => &mut slot.agent,
                NodeRole::Edge => &mut slot.edge,
            };
            let news = slot.as_ref().is_none_or(|old| RoleSeen { last: old.last, ..fresh.clone() } != *old);
            *slot = Some(fresh);
            news || was_noted != is_noted
        };
        if news {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Whether a role of a node has said which plan it holds since this process began.
    pub fn has_heard(&self, node: NodeId, role: NodeRole) -> bool {
        self.lock().heard.contains(&(node, role))
    }

    /// Whether an agent still acts on a plan of another log, which this one has adopted: what it reports
    /// then is of that log. One that was noted apart does until it is heard again.
    pub fn comes_over(&self, node: NodeId) -> bool {
        let (said, agent) = (self.lock(), (node, NodeRole::Agent));
        said.coming.contains(&agent) || said.apart.contains_key(&agent)
    }

    /// The plan that a node holds and this log neither made nor adopted.
    pub fn apart(&self, node: NodeId, line: Line<'_>) -> Option<Stray> {
        self.lock().apart(node, line).cloned()
    }

    /// All of them, in the order of their nodes.
    pub fn all_apart(&self, line: Line<'_>) -> BTreeMap<(NodeId, NodeRole), Stray> {
        let mut all = self.lock().apart.clone();
        all.retain(|_, stray| !line.state.has_adopted(line.identity, &stray.held));
        all
    }

    /// All of it, as planners read it.
    pub fn snapshot(&self) -> Observed {
        let said = self.lock();
        let mut seen = said.seen.clone();
        for ((node, _), stray) in &said.apart {
            let apart = &mut seen.nodes.entry(*node).or_default().apart;
            apart.get_or_insert_with(|| format!("{stray}; {HINT}"));
        }
        seen
    }

    /// Moves on whenever something new was said.
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// What is done about a node that is apart.
pub const HINT: &str = "nothing is pushed to the node until an operator adopts that: holdfast cluster adopt";

#[cfg(test)]
mod tests;
