//! The layer-4 edge: takes connections, finds who owns them, and carries bytes.
//!
//! TLS connections are routed by the server name in their ClientHello and passed through untouched:
//! the edge holds no key. Raw TCP routes have a port each. Everything the edge knows it has from
//! one numbered plan, which it keeps on disk; it serves from there when there is nobody to ask.
//!
//! What must stay true:
//! - `no_cross_env_route`: a connection never reaches an environment that does not own its name or
//!   port. There is no default backend ([`table`]).
//! - `generation_never_falls` and *stored before acted on* ([`store`]).
//! - `acked_means_unused`: once a generation is acknowledged, nothing new goes to a backend that
//!   its plan does not have ([`switch`]). What is still open to one is said in the lease.
//! - A change of plan touches no open connection, and closes no listener that it still asks for.
//! - The control plane's absence touches no connection at all ([`follow`]).
//!
//! ```text
//!   plan stream ─► store (disk) ─► switch (table in effect) ◄── connection ── relay ─► backend
//!                                     │                            ▲
//!                   lease ◄── acknowledged, draining              listen
//! ```

mod backend;
mod connection;
mod edge;
mod follow;
mod hello;
mod link;
mod listen;
mod meter;
mod proxy;
mod relay;
mod scrape;
mod store;
mod switch;
mod table;

pub use edge::{Config, Edge, Handle, StartError};
pub use link::{ControlLink, LinkError, Plans};
pub use store::OpenError;
