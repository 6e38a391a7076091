//! The web page in a real Chromium, against real servers: what a person sees, and that nothing happens
//! which nobody confirmed.
//!
//! Needs root, `chromium`, `chromium-driver`, `target/tools/axe.min.js` and `target/tools/provider`, all of
//! which `make setup` brings; without them it fails and says so. `UPDATE_IMAGES=1` keeps pictures in `docs/images`.

#[allow(dead_code, reason = "shared with the tests of the cluster, which use all of it")]
#[path = "../cluster/net.rs"]
mod net;
#[allow(dead_code, reason = "shared with the tests of the cluster, which use all of it")]
#[path = "../cluster/scene.rs"]
mod scene;
#[allow(dead_code, reason = "shared with the tests of the cluster, which use all of it")]
#[path = "../cluster/wire.rs"]
mod wire;

mod driver;

mod deletions;
mod deploys;
mod promotion;
mod provider;
mod reading;
mod tls;
