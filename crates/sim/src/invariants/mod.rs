//! The named invariants that hold in every round, one file each.
//!
//! Of those of the design that concern the log, two are held here only as far as the log goes.
//! `no_confirmation_no_act`: the tokens are given and used up by the server's HTTP, behind TLS and a journal
//! that is written on a thread of its own, and none of these run in a simulation; the rounds begin where a
//! confirmed act is handed to the log. `generation_never_falls`: no agent or edge runs here; that a plan is
//! named by log, epoch and event, and that these never fall on one log, is `one_authority` and
//! `append_only`; what agents do with it is tested where they are.

pub mod acked_is_durable;
pub mod append_only;
pub mod gapless_order;
pub mod linearizable;
pub mod no_confirmation_no_act;
pub mod one_authority;
pub mod promotion_is_atomic;
pub mod request_runs_once;
pub mod views_are_folds;
