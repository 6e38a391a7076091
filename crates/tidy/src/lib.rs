//! The rules of the house that a compiler does not check, as plain functions over text.
//!
//! The tests in `tests/` apply them to the whole repository:
//!
//! - a file has at most [`FILE_LINES`] lines, a function at most [`FUNCTION_LINES`];
//! - nothing is called by one of the [`EMPTY_NAMES`], and no leftover marker stays behind;
//! - every path and every test that a document names exists;
//! - crates use each other as the golden file says, and that file obeys the layers.

mod documents;
mod functions;
mod tree;

pub use documents::{Claim, claims};
pub use functions::{Function, blank_text, functions};
pub use tree::{Source, root, sources};

/// The most lines in a file.
pub const FILE_LINES: usize = 800;
/// The most lines in a function, signature and closing brace included.
pub const FUNCTION_LINES: usize = 70;
/// Names that say nothing: a crate or module called so has no reason to exist.
pub const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "manager", "core"];
/// What stands where work was left. Spelled in halves, so that this file does not trip over itself.
pub const MARKERS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("HA", "CK:"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];
