//! Machines: what they can give, what they are given, and when each was last heard of.

use super::{more, rows};
use crate::web::{
    acts, forms,
    frame::{Place, Renewed},
    parts::{self, Table},
    visit::Visit,
};
use api::{NodeRow, routes};
use axum::response::Response;
use maud::{Markup, html};
use types::{Timestamp, plan::NodeRole};

/// `GET /nodes`
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let page = rows::<NodeRow>(&visit, routes::NODES).await;
    let content = page.map(|page| {
        html! {
            h1 { "Nodes" }
            (table(&page.rows, visit.now))
            (more(&visit, page.next.as_deref()))
            (change(&visit, &page.rows))
        }
    });
    visit.page(Place::Nodes, "Nodes", Renewed::ByEventsAndTime, content)
}

fn change(visit: &Visit, rows: &[NodeRow]) -> Markup {
    let all: Vec<(String, String)> =
        rows.iter().map(|row| (row.id.to_string(), format!("{} ({})", row.name, row.state))).collect();
    let which = || vec![forms::Input::choice("node", "Node", &all)];
    let life = vec![forms::Input::text("expires_in", "How long it may be used", "1h")];
    let mut offered = vec![(&acts::JOIN_TOKEN, life)];
    // By its name, which a person can read and type.
    let named: Vec<(String, String)> =
        rows.iter().map(|row| (row.name.to_string(), format!("{} ({})", row.name, row.state))).collect();
    let guarded =
        || vec![forms::Input::choice("node", "Node", &named), forms::Input::text("reason", "Why", "")];
    if !rows.is_empty() {
        offered.insert(0, (&acts::REMOVE_NODE, guarded()));
        offered.insert(0, (&acts::DISABLE, guarded()));
        offered.insert(0, (&acts::ACTIVATE, which()));
        offered.insert(0, (&acts::DRAIN, which()));
    }
    forms::section(visit, &offered, &[])
}

fn table(rows: &[NodeRow], now: Timestamp) -> Markup {
    Table {
        id: "nodes",
        caption: "Nodes",
        headings: &[
            "Node",
            "State",
            "Roles",
            "Memory given",
            "Cores given",
            "Last heard of",
            "Plan made, acted on",
            "What is wrong",
        ],
        rows: rows.iter().map(|node| row(node, now)).collect(),
        empty: "there are none",
    }
    .show()
}

fn row(node: &NodeRow, now: Timestamp) -> Vec<Markup> {
    let roles: Vec<&str> = node
        .roles
        .iter()
        .map(|role| match role {
            NodeRole::Agent => "agent",
            NodeRole::Edge => "edge",
        })
        .collect();
    vec![
        html! { (node.name) br; span .id { (node.id) } },
        html! { (node.state) },
        html! { (roles.join(", ")) },
        html! { (parts::size(node.used.memory)) " of " (parts::size(node.capacity.memory)) },
        html! { (node.used.cpu) " of " (node.capacity.cpu) },
        parts::maybe_time(node.last_seen, now, "not since this server started"),
        html! {
            "agent " (node.generation) ", " (parts::or_dash(node.acknowledged))
            br;
            "edge " (parts::or_dash(node.edge_acknowledged))
        },
        html! {
            @if let Some(short) = &node.pressure { "takes nothing new: " (short) ". " }
            @if let Some(apart) = &node.apart { (apart) }
            @if node.pressure.is_none() && node.apart.is_none() { "nothing known" }
        },
    ]
}
