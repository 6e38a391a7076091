//! The HTTP API from outside: a real listener on loopback, the real client or bare requests, a core
//! over a log in memory whose disk the test holds in its hand.

#[path = "http_api/world.rs"]
mod world;

#[path = "http_api/access.rs"]
mod access;
#[path = "http_api/acts.rs"]
mod acts;
#[path = "http_api/adoption.rs"]
mod adoption;
#[path = "http_api/audit.rs"]
mod audit;
#[path = "http_api/events.rs"]
mod events;
#[path = "http_api/issuer.rs"]
mod issuer;
#[path = "http_api/logs.rs"]
mod logs;
#[path = "http_api/nodes.rs"]
mod nodes;
#[path = "http_api/oidc.rs"]
mod oidc;
#[path = "http_api/operate.rs"]
mod operate;
#[path = "http_api/people.rs"]
mod people;
#[path = "http_api/reads.rs"]
mod reads;
#[path = "http_api/roles.rs"]
mod roles;
#[path = "http_api/server.rs"]
mod server;
#[path = "http_api/tls.rs"]
mod tls;
#[path = "http_api/web.rs"]
mod web;
#[path = "http_api/writes.rs"]
mod writes;
