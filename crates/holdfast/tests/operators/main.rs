//! Operators' control: the rows of `docs/failure-model.md` about who asks, who is asked, and what is
//! between them.
//!
//! The real command line against real servers, one and three of them, on loopback. Whoever a row names is
//! killed with SIGKILL at the very instruction (see `rt::Boundary`), or the connection is cut by a proxy of
//! these tests, which counts what was sent. Afterwards the log says what is true: of every request whether
//! it ran, once and wholly, and that nobody ran it again.

mod cut;
mod prompt;
mod proxy;
mod rows;
mod scene;
mod twice;
