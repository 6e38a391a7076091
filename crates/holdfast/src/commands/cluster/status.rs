//! `cluster status`: one node's view of all members.

use super::backups;
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Form, or_dash},
};
use api::{ApartRow, ClusterStatus, Failover, MemberRow};
use types::{DurationMs, plan::NodeRole};

/// Prints what the server that is asked knows.
pub async fn run(context: &Context) -> Result<(), Failure> {
    let status = context.client.cluster().await.map_err(Failure::of_read)?;
    match context.form {
        Form::Json => output::json(&status),
        Form::Text => {
            output::raw(text(&status).as_bytes());
            notes(&status).iter().for_each(|line| output::note(line));
        }
    }
    Ok(())
}

fn name_of(status: &ClusterStatus, node: types::NodeId) -> String {
    let found = status.members.iter().find(|row| row.node == node);
    found.map_or_else(|| node.to_string(), |row| row.name.to_string())
}

fn text(status: &ClusterStatus) -> String {
    let failover = match status.failover {
        Failover::Automatic => "automatic",
        Failover::Operator => "operator",
    };
    let leader = status.leader.map_or_else(|| "nobody".to_owned(), |node| name_of(status, node));
    let majority = if status.quorum { "a majority is heard" } else { "no majority is heard" };
    let mut text = format!(
        "cluster {}, as {} sees it: {leader} leads, {majority}\nepoch {}, term {}, event {}, failover {failover}\n",
        status.cluster,
        name_of(status, status.own),
        status.epoch,
        status.term,
        status.head
    );
    let rows: Vec<Vec<String>> = status.members.iter().map(|row| cells(status, row)).collect();
    let headings =
        ["MEMBER", "ROLE", "EPOCH", "EVENT", "BEHIND", "HEARD", "FREE", "SNAPSHOT", "PEER", "STATE"];
    text.push_str(&output::columns(&headings, &rows));
    if let Some(fingerprint) = &status.fingerprint {
        text.push_str(&format!("known over TLS by {fingerprint}\n"));
    }
    text.push_str(&status.backup.as_ref().map(backups::lines).unwrap_or_default());
    if !status.apart.is_empty() {
        let rows: Vec<Vec<String>> = status.apart.iter().map(apart).collect();
        text.push_str(&output::columns(
            &["APART", "ROLE", "HOLDS", "HERE", "STOPS", "STARTS", "KEEPS"],
            &rows,
        ));
    }
    text
}

/// A node that holds a plan which this log never made.
fn apart(row: &ApartRow) -> Vec<String> {
    let role = match row.role {
        NodeRole::Agent => "agent",
        NodeRole::Edge => "edge",
    };
    let count = |ids: &[types::InstanceId]| match row.role {
        NodeRole::Agent => ids.len().to_string(),
        NodeRole::Edge => "-".to_owned(),
    };
    vec![
        row.name.to_string(),
        role.to_owned(),
        row.holds.to_string(),
        row.here.to_string(),
        count(&row.stops),
        count(&row.starts),
        count(&row.keeps),
    ]
}

fn cells(status: &ClusterStatus, row: &MemberRow) -> Vec<String> {
    let role = match (row.leads, row.votes) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    };
    let ago = |ms: u64| format!("{} ago", output::span(DurationMs::from_ms(ms)));
    let heard = match row.node == status.own {
        true => "here".to_owned(),
        false => row.heard_ms.map_or_else(|| "never".to_owned(), ago),
    };
    let snapshot = match (row.snapshot_event, row.snapshot_age_ms) {
        (Some(event), Some(age)) => format!("{event}, {}", ago(age)),
        (event, _) => or_dash(event),
    };
    let mut state: Vec<String> = Vec::new();
    state.extend(row.fenced.then(|| "fenced".to_owned()));
    state.extend(row.short_of_space.then(|| "short of space".to_owned()));
    state.extend((!row.aside.is_empty()).then(|| format!("{} aside", row.aside.len())));
    state.extend(row.trouble.clone());
    let state = if state.is_empty() { "-".to_owned() } else { state.join("; ") };
    vec![
        row.name.to_string(),
        role.to_owned(),
        or_dash(row.epoch),
        or_dash(row.applied_event),
        or_dash(row.lag_events),
        heard,
        or_dash(row.disk_free),
        snapshot,
        row.peer.clone(),
        state,
    ]
}

/// What somebody should do something about.
fn notes(status: &ClusterStatus) -> Vec<String> {
    let mut notes = Vec::new();
    if status.leader.is_none() || !status.quorum {
        let page = if status.quorum { "leader-lost" } else { "majority-lost" };
        notes.push(format!("note: writes are refused here; see docs/runbooks/{page}.md"));
    }
    if !status.apart.is_empty() {
        let command = "holdfast cluster adopt --reason \"…\" --explain";
        notes.push(format!(
            "note: nothing is pushed to nodes that are apart; what going on would change: {command}"
        ));
    }
    for row in status.members.iter().filter(|row| !row.aside.is_empty()) {
        let files = row.aside.join(", ");
        notes.push(format!("note: {} keeps entries that were never committed: {files}", row.name));
    }
    if let Some(refused) = &status.refused {
        let (from, why, at) = (&refused.from, &refused.why, output::time(refused.at));
        notes.push(format!("note: a connection of {from} was refused at {at}: {why}"));
    }
    notes.extend(status.backup.iter().flat_map(backups::notes));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::PeerRefused;
    use types::{ByteSize, Epoch, EventId, Generation, NodeId, Term, Timestamp, history::Held};

    fn row(id: u128, name: &str) -> MemberRow {
        MemberRow {
            node: NodeId::from_u128(id),
            name: name.parse().expect("a name"),
            peer: format!("10.0.0.{id}:7071"),
            api: String::new(),
            votes: true,
            leads: false,
            epoch: None,
            applied_event: None,
            index: None,
            lag_events: None,
            heard_ms: None,
            disk_free: None,
            snapshot_event: None,
            snapshot_age_ms: None,
            fenced: false,
            short_of_space: false,
            aside: Vec::new(),
            trouble: None,
        }
    }

    fn held(cluster: &str, epoch: u64, event: u64) -> Held {
        let (epoch, generation) = (Epoch::new(epoch), Generation::new(event));
        Held { cluster: cluster.into(), epoch, event: EventId::new(event), generation }
    }

    #[test]
    fn what_is_known_of_each_member_stands_in_its_line() {
        let one = MemberRow {
            leads: true,
            epoch: Some(Epoch::new(3)),
            applied_event: Some(EventId::new(42)),
            lag_events: Some(0),
            disk_free: Some(ByteSize::from_mib(2048)),
            snapshot_event: Some(EventId::new(40)),
            snapshot_age_ms: Some(90_000),
            ..row(1, "one")
        };
        let two = MemberRow {
            heard_ms: Some(1500),
            fenced: true,
            aside: vec!["aside/8-9-1.seg".into()],
            trouble: Some("its clock is behind".into()),
            ..row(2, "two")
        };
        let three = MemberRow { votes: false, ..row(3, "three") };
        let refused =
            PeerRefused { from: "10.0.0.9".into(), why: "another cluster".into(), at: Timestamp::ZERO };
        let status = ClusterStatus {
            cluster: "c1".into(),
            fingerprint: Some("sha256=ab".into()),
            own: NodeId::from_u128(1),
            failover: Failover::Operator,
            leader: Some(NodeId::from_u128(1)),
            epoch: Epoch::new(3),
            term: Term::new(5),
            quorum: true,
            head: EventId::new(42),
            members: vec![one, two, three],
            refused: Some(refused),
            backup: None,
            apart: vec![ApartRow {
                node: NodeId::from_u128(7),
                name: "eu-1".parse().expect("a name"),
                role: NodeRole::Agent,
                holds: held("c0", 9, 150),
                here: held("c1", 3, 42),
                why: "another log".into(),
                stops: vec![types::InstanceId::from_u128(1)],
                starts: Vec::new(),
                keeps: Vec::new(),
            }],
        };
        let expected = "\
cluster c1, as one sees it: one leads, a majority is heard
epoch 3, term 5, event 42, failover operator
MEMBER  ROLE     EPOCH  EVENT  BEHIND  HEARD     FREE  SNAPSHOT        PEER           STATE
one     leader   3      42     0       here      2Gi   40, 1m 30s ago  10.0.0.1:7071  -
two     voter    -      -      -       1.5s ago  -     -               10.0.0.2:7071  fenced; 1 aside; its clock is behind
three   learner  -      -      -       never     -     -               10.0.0.3:7071  -
known over TLS by sha256=ab
APART  ROLE   HOLDS                                      HERE                                     STOPS  STARTS  KEEPS
eu-1   agent  plan 150 of log c0 (event 150 in epoch 9)  plan 42 of log c1 (event 42 in epoch 3)  1      0       0
";
        assert_eq!(text(&status), expected);
        assert_eq!(notes(&status).len(), 3, "{:?}", notes(&status));
        let alone = ClusterStatus { leader: None, quorum: false, refused: None, ..status };
        assert!(notes(&alone)[0].contains("majority-lost.md"), "{:?}", notes(&alone));
    }
}
