//! One plan, made ready for looking up: which backends may take a connection.
//!
//! Built whole from a plan and never changed. Invariants, settled here and nowhere else:
//! - `no_cross_env_route`: a route holds no backend of another environment than its own;
//! - a name or a port belongs to one route: of two that claim it, the lower route id has it.
//!
//! What breaks one of them is left out and listed in [`Table::left_out`], and the rest serves.

use crate::backend::Target;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
};
use tokio::sync::Notify;
use types::{
    EnvId, Generation, HostName, InstanceId, RouteId,
    history::Held,
    manifest::ProxyProtocol,
    plan::{Backend, EdgePlan, EdgeRoute, RouteMatch},
};

/// All routes of one plan.
#[derive(Debug)]
pub struct Table {
    /// The plan it was made from.
    pub generation: Generation,
    /// What that plan is called.
    pub name: Held,
    /// What of the plan was refused.
    pub left_out: Vec<LeftOut>,
    tls: HashMap<HostName, Route>,
    tcp: BTreeMap<u16, Route>,
    /// Told when the table is gone: the last attempt that took its backends from it has ended.
    released: Arc<Notify>,
}

/// One route and the targets that may take its connections.
#[derive(Debug)]
pub struct Route {
    /// Its id.
    pub id: RouteId,
    /// Where its connections may go; all of the route's environment.
    pub ways: Vec<Way>,
    /// What is counted; goes on from table to table.
    pub count: Arc<Count>,
}

/// What is counted for one route.
#[derive(Debug, Default)]
pub struct Count {
    /// Whose turn it is.
    pub turn: AtomicUsize,
    /// Connections carried to one of its backends.
    pub carried: AtomicU64,
    /// Connections closed, for it had no backend or none that accepted.
    pub closed: AtomicU64,
}

/// One target of a route, and how it is spoken to there.
#[derive(Debug)]
pub struct Way {
    /// Where connections go.
    pub target: Arc<Target>,
    /// Whether it is told the client's address: as its own release says, which during a rollout is
    /// not what the release beside it says.
    pub proxy_protocol: ProxyProtocol,
}

/// A part of a plan that must not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// A backend that belongs to another environment than the route.
    ForeignBackend {
        /// The route.
        route: RouteId,
        /// Who owns it.
        owner: EnvId,
        /// The backend.
        backend: Backend,
    },
    /// A route whose name or port another route has.
    Doubled {
        /// The route that was left out.
        route: RouteId,
        /// What it claims.
        matches: RouteMatch,
    },
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignBackend { route, owner, backend } => write!(
                f,
                "{} of {} may not serve {route}, which belongs to {owner}",
                backend.instance, backend.env
            ),
            Self::Doubled { route, matches: RouteMatch::Tls { host } } => {
                write!(f, "{route} claims the name {host}, which another route has")
            }
            Self::Doubled { route, matches: RouteMatch::Tcp { listen } } => {
                write!(f, "{route} claims the port {listen}, which another route has")
            }
        }
    }
}

/// Where a table gets what outlives it.
pub trait Lasting {
    /// The target for this backend, the same one as in earlier tables.
    fn target(&mut self, backend: &Backend) -> Arc<Target>;
    /// What is counted for this route, the same as in earlier tables.
    fn count(&mut self, route: RouteId) -> Arc<Count>;
}

impl Table {
    /// A table that routes nothing: what an edge has before its first plan.
    pub fn empty(released: Arc<Notify>) -> Self {
        Self {
            generation: Generation::ZERO,
            name: Held::default(),
            left_out: Vec::new(),
            tls: HashMap::new(),
            tcp: BTreeMap::new(),
            released,
        }
    }

    /// Makes the table of a plan.
    pub fn build(plan: &EdgePlan, lasting: &mut impl Lasting, released: Arc<Notify>) -> Self {
        let mut table = Self::empty(released);
        table.generation = plan.generation;
        table.name = plan.name();
        for (id, route) in &plan.routes {
            let taken = match &route.matches {
                RouteMatch::Tls { host } => table.tls.contains_key(host),
                RouteMatch::Tcp { listen } => table.tcp.contains_key(listen),
            };
            if taken {
                table.left_out.push(LeftOut::Doubled { route: *id, matches: route.matches.clone() });
                continue;
            }
            let (own, foreign): (Vec<_>, Vec<_>) =
                route.backends.iter().partition(|backend| backend.env == route.env);
            table.left_out.extend(foreign.into_iter().map(|backend| LeftOut::ForeignBackend {
                route: *id,
                owner: route.env,
                backend: backend.clone(),
            }));
            let ready = Route {
                id: *id,
                ways: own.into_iter().map(|backend| way(route, backend, lasting)).collect(),
                count: lasting.count(*id),
            };
            match &route.matches {
                RouteMatch::Tls { host } => drop(table.tls.insert(host.clone(), ready)),
                RouteMatch::Tcp { listen } => drop(table.tcp.insert(*listen, ready)),
            }
        }
        table
    }

    /// The route that owns a server name. There is no default.
    pub fn by_name(&self, name: &HostName) -> Option<&Route> {
        self.tls.get(name)
    }

    /// The route that owns a port.
    pub fn by_port(&self, port: u16) -> Option<&Route> {
        self.tcp.get(&port)
    }

    /// The ports to listen on.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.tcp.keys().copied()
    }

    /// How many routes it has.
    pub fn route_count(&self) -> usize {
        self.tls.len() + self.tcp.len()
    }

    /// Every route, in the order of their ids.
    pub fn routes(&self) -> Vec<&Route> {
        let mut routes: Vec<&Route> = self.tls.values().chain(self.tcp.values()).collect();
        routes.sort_unstable_by_key(|route| route.id);
        routes
    }

    /// Every instance that new connections may go to; one with several routes comes several times.
    pub fn instances(&self) -> impl Iterator<Item = InstanceId> + '_ {
        let ways = self.tls.values().chain(self.tcp.values()).flat_map(|route| &route.ways);
        ways.map(|way| way.target.tally.instance)
    }
}

fn way(route: &EdgeRoute, backend: &Backend, lasting: &mut impl Lasting) -> Way {
    let proxy_protocol = backend.proxy_protocol.unwrap_or(route.proxy_protocol);
    Way { target: lasting.target(backend), proxy_protocol }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.released.notify_one();
    }
}
