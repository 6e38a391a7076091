//! What carries the messages of consensus between members: TLS in which both sides show who they are.
//!
//! ```text
//!   ClusterLog ─► PeerTransport ─ one line per member ─► TLS ─► serve ─► the other's ClusterLog
//!                     │  ▲                                        │
//!                     │  └──────── answers, in any order ─────────┘
//!                     └─ health, by member
//! ```
//!
//! A member asks on a connection of its own making and is asked on those of others. A connection
//! carries many requests at once: `frame` cuts what is large into pieces, so that a sign of life
//! never waits for a batch.
//!
//! Invariants:
//!
//! - Nothing is said to, nor taken from, one whose certificate is not of the cluster's authority and
//!   does not name the very member it is taken for.
//! - A length that somebody sent is never trusted with memory: what is held is what has arrived.
//! - Every request ends, and says which: answered, refused with the reason, surely not sent
//!   (*unreachable*) or perhaps heard (*lost*).

mod admission;
pub mod ca;
mod frame;
mod greeting;
mod line;
mod serve;
mod shown;
mod transport;

pub use admission::ask_to_join;
pub use ca::{Authority, CaError, Identity, Tls};
pub use serve::{Contact, Contacts, NotAdmitted, Receive, Refusal, Standing, serve};
pub use shown::{Shown, hosts};
pub use transport::{Health, PeerTransport};
