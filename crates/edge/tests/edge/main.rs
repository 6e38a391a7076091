//! The edge on real sockets: real TLS clients and servers, plans from a control plane that the
//! test plays, and everything that can go wrong between them.

mod stage;

mod failing;
mod plans;
mod routing;
mod stopping;
