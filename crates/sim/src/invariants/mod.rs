//! The named invariants that hold in every round, one file each.

pub mod acked_is_durable;
pub mod append_only;
pub mod gapless_order;
pub mod linearizable;
pub mod one_authority;
pub mod promotion_is_atomic;
pub mod request_runs_once;
pub mod views_are_folds;
