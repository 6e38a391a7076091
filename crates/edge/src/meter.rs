//! Counts what the edge does and writes it as Prometheus text.
//!
//! Labels are bounded: results are a closed set; routes and instances are those of the plan, with a
//! bounded number of instances that left it ([`limits::EDGE_RETIRED`]), and of each only so many have
//! lines of their own ([`limits::EDGE_ROUTES_SHOWN`], [`limits::EDGE_INSTANCES_SHOWN`]).

use crate::{
    connection::{Entry, Outcome},
    edge::Shared,
    table::{Route, Table},
};
use std::{
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use types::limits;

/// The counters that belong to no instance.
#[derive(Debug, Default)]
pub struct Meter {
    accepted_tls: AtomicU64,
    accepted_tcp: AtomicU64,
    ended: [AtomicU64; Outcome::ALL.len()],
    /// Plans put in effect.
    pub plans: AtomicU64,
    /// Plans refused: older, of another cluster, or not storable.
    pub plans_refused: AtomicU64,
    /// Parts of the plan in effect that were left out.
    pub left_out: AtomicU64,
    /// Ports of the plan that are not listened on (yet).
    pub ports_waiting: AtomicU64,
    /// Whether the control plane answers: 1 or 0.
    pub linked: AtomicU64,
    /// When the control plane answered last, in the clock of the switch; 0: never since the start.
    pub heard_ms: AtomicU64,
}

impl Meter {
    /// A connection came in.
    pub fn accepted(&self, entry: Entry) {
        let counter = match entry {
            Entry::Tls => &self.accepted_tls,
            Entry::Tcp(_) => &self.accepted_tcp,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// A connection is over.
    pub fn ended(&self, outcome: Outcome) {
        self.ended[outcome as usize].fetch_add(1, Relaxed);
    }

    /// How many connections ended so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.ended[outcome as usize].load(Relaxed)
    }
}

/// Everything, as the text that Prometheus reads (exposition format 0.0.4).
pub fn render(shared: &Shared) -> String {
    let mut text = String::with_capacity(4096);
    write(&mut text, shared).expect("writing to a string does not fail");
    text
}

fn write(text: &mut String, shared: &Shared) -> fmt::Result {
    let meter = &shared.meter;
    let read = |counter: &AtomicU64| counter.load(Relaxed);

    head(text, "accepted_total", "counter", "Connections accepted, by listener.")?;
    for (entry, counter) in [("tls", &meter.accepted_tls), ("tcp", &meter.accepted_tcp)] {
        writeln!(text, "holdfast_edge_accepted_total{{listener=\"{entry}\"}} {}", read(counter))?;
    }
    head(text, "connections_total", "counter", "Connections that are over, by how they ended.")?;
    for outcome in Outcome::ALL {
        let (result, count) = (outcome.as_str(), meter.count(outcome));
        writeln!(text, "holdfast_edge_connections_total{{result=\"{result}\"}} {count}")?;
    }
    let open = (shared.max_connections - shared.room.available_permits()) as u64;
    let table = shared.switch.table();
    let singles = [
        ("open_connections", "gauge", "Connections being served.", open),
        ("max_connections", "gauge", "The bound of open_connections.", shared.max_connections as u64),
        ("plan_generation", "gauge", "The plan in effect.", table.generation.get()),
        ("plan_routes", "gauge", "Routes in effect.", table.route_count() as u64),
        (
            "plan_acknowledged_generation",
            "gauge",
            "The plan whose predecessors no connection uses any more.",
            shared.switch.acknowledged().get(),
        ),
        ("plans_total", "counter", "Plans put in effect.", read(&meter.plans)),
        ("plans_refused_total", "counter", "Plans refused.", read(&meter.plans_refused)),
        (
            "plan_left_out",
            "gauge",
            "Parts of the plan in effect that must not be used.",
            read(&meter.left_out),
        ),
        ("ports_waiting", "gauge", "Ports of the plan that could not be opened.", read(&meter.ports_waiting)),
        ("control_linked", "gauge", "Whether the control plane answers.", read(&meter.linked)),
        (
            "backend_ejections_total",
            "counter",
            "Backends that were left alone for a while, for they refused.",
            { read(&shared.switch.ejections) },
        ),
    ];
    for (name, kind, help, value) in singles {
        head(text, name, kind, help)?;
        writeln!(text, "holdfast_edge_{name} {value}")?;
    }
    let silent_ms = shared.switch.now_ms().saturating_sub(read(&meter.heard_ms));
    head(
        text,
        "control_age_seconds",
        "gauge",
        "Since the control plane answered; since the start if it never did.",
    )?;
    writeln!(text, "holdfast_edge_control_age_seconds {}", silent_ms as f64 / 1000.0)?;
    write_routes(text, &table)?;
    drop(table);
    write_instances(text, shared)
}

fn write_routes(text: &mut String, table: &Table) -> fmt::Result {
    let routes = table.routes();
    let ejected = |route: &Route| route.ways.iter().filter(|way| way.target.is_ejected()).count();
    let without = routes.iter().filter(|route| route.ways.is_empty()).count();
    head(text, "routes_without_backend", "gauge", "Routes in effect that have no backend at all.")?;
    writeln!(text, "holdfast_edge_routes_without_backend {without}")?;
    let left_out = routes.len().saturating_sub(limits::EDGE_ROUTES_SHOWN);
    head(text, "routes_left_out", "gauge", "Routes in effect that have no lines of their own here.")?;
    writeln!(text, "holdfast_edge_routes_left_out {left_out}")?;
    type Value<'a> = &'a dyn Fn(&Route) -> u64;
    let columns: [(&str, &str, &str, Value<'_>); 4] = [
        ("route_backends", "gauge", "Backends of a route.", &|route| route.ways.len() as u64),
        ("route_backends_ejected", "gauge", "Backends of a route that are left alone for now.", &|route| {
            ejected(route) as u64
        }),
        ("route_connections_total", "counter", "Connections carried to a backend of a route.", &|route| {
            route.count.carried.load(Relaxed)
        }),
        (
            "route_closed_total",
            "counter",
            "Connections closed for want of a backend that accepts.",
            &|route| route.count.closed.load(Relaxed),
        ),
    ];
    for (name, kind, help, value) in columns {
        head(text, name, kind, help)?;
        for route in routes.iter().take(limits::EDGE_ROUTES_SHOWN) {
            writeln!(text, "holdfast_edge_{name}{{route=\"{}\"}} {}", route.id, value(route))?;
        }
    }
    Ok(())
}

fn write_instances(text: &mut String, shared: &Shared) -> fmt::Result {
    type Value = fn(&crate::switch::Shown) -> u64;
    let columns: [(&str, &str, &str, Value); 6] = [
        ("backend_open", "gauge", "Connections open to an instance.", |shown| shown.tally.open()),
        ("backend_opened_total", "counter", "Connections opened to an instance.", |shown| {
            shown.tally.opened.load(Relaxed)
        }),
        ("backend_closed_total", "counter", "Connections to an instance that are over.", |shown| {
            shown.tally.closed.load(Relaxed)
        }),
        (
            "backend_closed_first_total",
            "counter",
            "Connections that the instance ended or reset before the client did.",
            |shown| shown.tally.closed_first.load(Relaxed),
        ),
        ("backend_refused_total", "counter", "Connects to an instance that failed.", |shown| {
            shown.tally.refused.load(Relaxed)
        }),
        ("backend_ejected", "gauge", "Addresses of an instance that are left alone for now.", |shown| {
            shown.ejected as u64
        }),
    ];
    let shown = shared.switch.shown();
    for (name, kind, help, value) in columns {
        head(text, name, kind, help)?;
        for shown in shown.iter().take(limits::EDGE_INSTANCES_SHOWN) {
            let instance = shown.tally.instance;
            writeln!(text, "holdfast_edge_{name}{{instance=\"{instance}\"}} {}", value(shown))?;
        }
    }
    Ok(())
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP holdfast_edge_{name} {help}\n# TYPE holdfast_edge_{name} {kind}")
}
