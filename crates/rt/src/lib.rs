//! The only doors to disk, clock, randomness and tasks, each real and simulated.
//!
//! Code that goes through these doors can be run by the simulator on a disk that loses, tears and
//! reorders writes, with a clock that stands still and dice that are known. Nothing else in the
//! workspace's logic opens a file, asks for the time or starts a thread.
//!
//! On the door to the disk stand two small things that everyone needs and nobody should write
//! twice: [`replace_file`], which survives a crash at any instruction, and [`Slot`], a checksummed
//! file that keeps its previous content. And [`Boundary`], where a test may end the process.

mod boundary;
mod clock;
mod disk;
mod random;
mod real_disk;
mod replace;
mod sim_disk;
mod sim_tasks;
mod slot;
mod spawn;
mod tasks;

pub use boundary::Boundary;
pub use clock::{Clock, SimClock, SystemClock};
pub use disk::{Disk, DiskError, DiskFile, DiskLock, Operation};
pub use random::{OsRandom, Random, SimRandom};
pub use real_disk::RealDisk;
pub use replace::replace_file;
pub use sim_disk::{Fault, SimDisk};
pub use sim_tasks::{Process, SimTaskSpawner, SimTasks};
pub use slot::{Fallback, Loaded, Slot, SlotError};
pub use spawn::{SimSpawner, Spawner, Task, TaskHandle, ThreadSpawner, step_back};
pub use tasks::{JoinHandle, TaskGone, blocking, give_way, spawn};
