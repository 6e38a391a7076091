//! The runbooks, walked: every command of every page in `docs/runbooks`, typed in its order on real servers
//! in the state that the page is about. What a page promises at its end must then be so.
//!
//! Needs root and the packages of `make setup`, and the image's program of `make app`.

#[path = "../cluster/disk.rs"]
#[allow(dead_code, reason = "the tests of clusters use more of it")]
mod disk;
#[path = "../cluster/ledger.rs"]
#[allow(dead_code, reason = "the tests of clusters use more of it")]
mod ledger;
#[path = "../cluster/net.rs"]
#[allow(dead_code, reason = "the tests of clusters use more of it")]
mod net;
#[path = "../cluster/scene.rs"]
#[allow(dead_code, reason = "the tests of clusters use more of it")]
mod scene;
#[path = "../cluster/wire.rs"]
#[allow(dead_code, reason = "the tests of clusters use more of it")]
mod wire;

mod disks;
mod hosts;
mod majority;
mod members;
mod page;
mod restores;

use scene::Cluster;
use std::process::Command;

/// A machine of a cluster.
struct At<'a>(&'a Cluster, usize);

impl page::Machine for At<'_> {
    fn program(&self, program: &str) -> Command {
        self.0.program(self.1, program)
    }
}
