//! Backups of real directories: made, damaged, restored, interrupted.

mod bucket;
mod damage;
mod events;
mod interrupted;
mod online;
mod world;
