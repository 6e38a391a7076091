//! The write-ahead log on one disk.
//!
//! ```text
//! log/
//!   format                       what this directory is, in which version, of which cluster
//!   lock                         held by the one process that may write
//!   vote                         the last vote of this node; used by a cluster only. It, the next but one
//!                                and the one after are replaced in place, which needs no space
//!   committed                    up to here a cluster had committed, and who its members were there
//!   incarnation                  which life of this node this is, and the last it heard of others
//!   fence                        whether this node must not sequence until another authority has begun
//!   refused                      if there: another member knows this directory for an older copy
//!   aside/….seg                  entries that were cut because they were never committed
//!   quarantine/                  damaged files as they were found
//!   mark                         up to here everything was durable once: a later end is damage
//!   00000000000000000001.seg     entries from index 1 on
//!   00000000000000004711.seg     … the last one is written to, its end is reserved and zero
//!   archive/….seg.zst            segments behind the oldest kept snapshot
//!   snapshots/….snap             the last two, named by the event they reflect
//! ```
//!
//! [`Wal`] is a plain state machine over a [`rt::Disk`]: no threads, no clock. The simulator drives
//! it as it is. [`WalLog`] puts it behind a writer thread, with group commit: everything that
//! waits goes in one write and one sync, and then all are answered.
//!
//! Invariants:
//!
//! - Nothing is answered or read before the sync that covers it has returned.
//! - After a failed write or sync nothing more is written: the process must end.
//! - Every record says up to which index the log was durable when it was written. So recovery can
//!   tell a torn tail (nothing after it knows of it as durable) from damage (something does).
//! - A file gets its final name only when its content is durable.

mod archive;
mod aside;
mod carried;
mod entries;
mod fence;
mod format;
mod frame;
mod in_place;
mod incarnation;
mod inspect;
mod machine;
mod member;
mod new_log;
mod offline;
mod quarantine;
mod read;
mod recover;
mod refusal;
mod repair;
mod replica;
#[cfg(test)]
mod replica_tests;
mod snapshot;
mod store;
mod survey;
mod thread;

pub use aside::{Aside, aside};
pub use carried::{Carried, Carry};
pub use entries::{Entries, EntriesError, Identity};
pub use format::{CreateError, Vote, VoteError};
pub use incarnation::{Has, Incarnation, Incarnations, Stale};
pub use inspect::{Problem, Report, ScanError, scan, scan_aside, verify};
pub use machine::{Entry, GroupError, Mistake, Options, Wal};
pub use member::{Done, Halted, MemberLog, OpenMemberError, epoch_payload, read_epoch};
pub use new_log::{NewLog, NewLogError};
pub use offline::{Anew, Found, RecoverError, fence, position, recover};
pub use quarantine::quarantined;
pub use recover::{Dropped, OpenError, Recovered, node_of, owner};
pub use repair::{Repair, RepairError, Repaired};
pub use replica::{Committed, RawEntry, check as check_entry};
pub use thread::{Fatal, OpenLogError, WalLog};
