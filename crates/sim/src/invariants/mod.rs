//! The named invariants that hold in every round, one file each.

pub mod acked_is_durable;
pub mod append_only;
pub mod gapless_order;
