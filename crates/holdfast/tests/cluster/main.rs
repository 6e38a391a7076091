//! Clusters of real servers, each in a network namespace of its own, killed and cut for real: the rows
//! of `docs/failure-model.md` about several members.
//!
//! Clients write all the time and keep a book of what they were told; afterwards the log must say the
//! same of every request, on every member. Needs root, `ip` and `nft` (`make setup`).

mod audit;
mod automatic;
mod backups;
mod boundaries;
mod damage;
mod disk;
mod joining;
mod ledger;
mod net;
mod operator;
mod people;
mod scene;
mod space;
mod tls;
mod wire;
