//! Deterministic simulator: production code on simulated doors, one file per invariant.
