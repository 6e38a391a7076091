//! `POST /v1/cluster/adopt`: go on with nodes that hold plans which this log never made.
//!
//! It is explained and confirmed where the log is written, for there it is known what nodes hold. What is
//! confirmed is one event; every plan made since follows the plans that it names, and no other.

use crate::http::{
    Http,
    access::Caller,
    act::{By, Came, before, elsewhere, guarded, proof},
    answer::{At, Refused, Result, refused},
    apart::{self, Apart},
    guard::{Reason, Shown},
    input::Said,
    write::{self, Write},
};
use api::{ActDone, ApartRow, ClusterActRequest, Code, Problem};
use axum::{extract::State, response::Response};
use domain::{
    Command, State as Decided,
    state::{InstanceState, Taken},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use types::{Generation, InstanceId, limits, plan::NodeRole};

#[cfg(test)]
mod tests;

/// Explains, or adopts what the nodes hold.
pub(in crate::http) async fn adopt(State(http): State<Http>, caller: Caller, said: Said) -> Result<Response> {
    let asked: ClusterActRequest = write::parse(&said)?;
    if let Some(cluster) = &http.cluster
        && let Some(answer) = elsewhere(&http, cluster, &said, By::Leader, true).await?
    {
        return Ok(answer);
    }
    if asked.node.is_some() {
        return Err(refused(Code::InvalidRequest, "an adoption is of all nodes, and names none"));
    }
    let write = Write::read(&http, &said, &caller)?;
    if let Some(answer) = before(&http, &write, "it was adopted before, by this very request")? {
        return Ok(answer);
    }
    let state = http.core.state();
    let plan = Plan::of(&state, http.core.identity(), apart::known(&http.core));
    let shown = if plan.apart.rows.is_empty() { Err(nothing()) } else { Ok(plan.shown(&state)) };
    let core = http.clone();
    guarded(&http, &caller, said, "cluster adopt", shown, move |confirmed| async move {
        let Plan { identity, taken, absent, .. } = plan;
        let command = Command::Adopt { cluster: identity, taken, absent, confirmed };
        let executed = match write.submit(&core, command).await {
            Ok(executed) => executed,
            Err(refused) => return Came::refused(refused),
        };
        let event = executed.event;
        let done = "adopted: the nodes are sent the plans of this log as they ask for them";
        let epoch = Some(core.core.head().epoch);
        let done = ActDone { epoch, event: Some(event), ..ActDone::executed(done) };
        Came::in_log(At::new(event, done))
    })
    .await
}

fn nothing() -> Refused {
    let detail = "there is nothing to adopt: no node has said that it holds a plan which this log never made";
    let hint = "a node says so when it connects; holdfast nodes list tells who has been heard";
    Problem::new(Code::Conflict, detail).with_hint(hint).into()
}

/// What an adoption would write, and what it is shown with.
struct Plan {
    identity: String,
    taken: Vec<Taken>,
    /// Ready by this log, and not running where they should.
    absent: Vec<InstanceId>,
    apart: Apart,
}

impl Plan {
    fn of(state: &Decided, identity: String, mut apart: Apart) -> Self {
        // Those that stop something, or have not said what, stand first: the first are told one by one.
        let is_harmless = |row: &ApartRow| row.stops.is_empty() && !apart.silent.contains(&row.node);
        apart.rows.sort_by_key(is_harmless);
        let mut taken: BTreeMap<String, Taken> = BTreeMap::new();
        for row in &apart.rows {
            // A node that names no log holds a plan that this one, or an older copy of it, has made.
            let cluster = Some(row.holds.cluster.clone()).filter(|name| !name.is_empty());
            let cluster = cluster.unwrap_or_else(|| identity.clone());
            let (generation, epoch) = (row.holds.generation, row.holds.epoch);
            let each = taken.entry(cluster.clone()).or_insert(Taken { cluster, generation, epoch });
            if generation > each.generation {
                (each.generation, each.epoch) = (generation, epoch);
            }
        }
        let is_ready = |id: &InstanceId| {
            state.instances.get(id).is_some_and(|instance| instance.state == InstanceState::Ready)
        };
        let absent = apart.rows.iter().flat_map(|row| &row.starts).copied().filter(is_ready).collect();
        Self { identity, taken: taken.into_values().collect(), absent, apart }
    }

    /// The highest plan that is taken over.
    fn highest(&self) -> Generation {
        self.taken.iter().map(|each| each.generation).max().unwrap_or_default()
    }

    fn shown(&self, state: &Decided) -> Shown {
        let Self { identity, taken, apart, .. } = self;
        let first = apart.rows.iter().take(limits::ADOPT_NAMED);
        let held: BTreeMap<String, String> = first.map(|row| (place(row), row.holds.to_string())).collect();
        Shown {
            act: "cluster adopt".to_owned(),
            will: self.will(state),
            touches: vec![
                format!(
                    "{}: each takes the plan of log {identity} in the place of the one it holds",
                    named(apart.rows.iter().map(place))
                ),
                "connections to an instance that is stopped end with it, after the time it has to finish"
                    .to_owned(),
            ],
            irreversible: vec![
                "what is stopped is removed from its node, and this log knows nothing to start it again from"
                    .to_owned(),
                format!(
                    "from then on these nodes refuse plans of {}",
                    named(taken.iter().map(|each| format!("log {}", each.cluster)))
                ),
            ],
            invariants: vec![
                proof(
                    "generation_never_falls",
                    format!(
                        "plans go on above {}, the highest that any of these nodes holds",
                        self.highest()
                    ),
                ),
                proof(
                    "partial_view_removes_nothing",
                    "what is stopped is what agents say that they run; who has not been heard is named",
                ),
            ],
            overrides: Vec::new(),
            facts: self.facts(),
            state: json!({
                "the log": format!("{identity} in epoch {}", state.epoch_of(state.head)),
                "the plans held": held,
                "what all of them hold and would change": self.difference(),
            }),
            reason: Reason::Required,
        }
    }

    /// What is known of each node; bound by its fingerprint alone.
    fn facts(&self) -> Value {
        let rows = &self.apart.rows;
        let fact = |row: &ApartRow| {
            json!({
                "node": row.name,
                "role": role(row.role),
                "holds": row.holds.to_string(),
                "this log has": row.here.to_string(),
                "stops": row.stops.len(), "starts": row.starts.len(), "keeps": row.keeps.len(),
            })
        };
        let mut facts: Vec<Value> = rows.iter().take(limits::ADOPT_NODES).map(fact).collect();
        let more = &rows[facts.len()..];
        if !more.is_empty() {
            let (stops, starts, keeps) = totals(more.iter());
            let node = format!("and {} more", more.len());
            facts.push(json!({ "node": node, "stops": stops, "starts": starts, "keeps": keeps }));
        }
        json!(facts)
    }

    fn will(&self, state: &Decided) -> Vec<String> {
        let Self { taken, apart, .. } = self;
        let mut will = vec![format!(
            "one event takes over {}; plans are made anew, above generation {}",
            named(
                taken.iter().map(|each| format!("plans up to {} of log {}", each.generation, each.cluster))
            ),
            self.highest(),
        )];
        self.on_agents(state, &mut will);
        let edges = apart.rows.iter().filter(|row| row.role == NodeRole::Edge).map(|row| &row.name);
        if edges.clone().next().is_some() {
            will.push(format!(
                "{}: routes the {} routes of this log, and nothing else any more; agents stop nothing before edges have let go of it, for {} at most",
                named(edges), state.routes.len(), limits::ADOPT_EDGES,
            ));
        }
        if !apart.unheard.is_empty() {
            will.push(format!(
                "not heard yet: {}; what they hold of these logs, up to the same plans, is taken over when they come",
                named(&apart.unheard)
            ));
        }
        will
    }

    /// What agents stop, start and keep: the first one by one, the rest by numbers.
    fn on_agents(&self, state: &Decided, will: &mut Vec<String>) {
        let label = |id: &InstanceId| match state.instances.get(id) {
            Some(instance) => format!("{id} ({}/{})", state.env_label(instance.env), instance.process),
            None => format!("{id} (not known to this log)"),
        };
        let agents = || self.apart.rows.iter().filter(|row| row.role == NodeRole::Agent);
        let is_silent = |row: &ApartRow| self.apart.silent.contains(&row.node);
        for row in agents().take(limits::ADOPT_NAMED) {
            let mut line = |what: &str, ids: &[InstanceId]| {
                if !ids.is_empty() {
                    let (count, ids) = (ids.len(), named(ids.iter().map(label)));
                    will.push(format!("{}: {what} {count}: {ids}", row.name));
                }
            };
            line("stops and removes", &row.stops);
            line("starts", &row.starts);
            line("goes on with, untouched,", &row.keeps);
            if is_silent(row) {
                will.push(format!(
                    "{}: stops what it runs and this log does not know; its agent has not said what that is",
                    row.name
                ));
            }
        }
        let more = || agents().skip(limits::ADOPT_NAMED);
        if more().next().is_some() {
            let (stops, starts, keeps) = totals(more());
            let silent = more().filter(|row| is_silent(row)).count();
            will.push(format!(
                "and {} more agents: stop and remove {stops}, start {starts}, go on with {keeps}, untouched; \
                 {silent} of them have not said what they run",
                more().count(),
            ));
        }
    }

    /// A fingerprint of who holds, stops and starts what, over all of them.
    fn difference(&self) -> String {
        let rows =
            self.apart.rows.iter().map(|row| (&row.node, row.role, &row.holds, &row.stops, &row.starts));
        let all = (&self.identity, rows.collect::<Vec<_>>());
        let text = serde_json::to_vec(&all).expect("names and ids can be written as JSON");
        Sha256::digest(&text)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

const fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Agent => "agent",
        NodeRole::Edge => "edge",
    }
}

/// Instances that are stopped, started and kept.
fn totals<'a>(rows: impl Iterator<Item = &'a ApartRow>) -> (usize, usize, usize) {
    rows.fold((0, 0, 0), |(stops, starts, keeps), row| {
        (stops + row.stops.len(), starts + row.starts.len(), keeps + row.keeps.len())
    })
}

fn place(row: &ApartRow) -> String {
    format!("{} of {}", role(row.role), row.name)
}

/// The first few by name, and how many more there are.
fn named<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|each| each.to_string()).collect();
    let more = all.len().saturating_sub(limits::ADOPT_NAMED);
    let first = all[..all.len() - more].join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}
