//! Free loopback ports.

use crate::{Failure, Outcome};
use std::net::TcpListener;

/// As many different ports as asked for, free on loopback a moment ago. Below the kernel's own
/// range for outgoing connections, so that no client takes one in between.
///
/// # Errors
/// No ports left.
pub fn free_ports<const N: usize>() -> Outcome<[u16; N]> {
    let mut found = Vec::new();
    // Two programs that look at once begin in different places.
    let start = 20_000 + u16::try_from(std::process::id() % 10_000).expect("below 10,000");
    let mut candidates = (start..32_000).chain(20_000..start);
    while found.len() < N {
        let port = candidates.next().ok_or_else(|| Failure("no free port from 20000 to 32000".into()))?;
        let free = TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("::", port)).is_ok();
        if free {
            found.push(port);
        }
    }
    Ok(found.try_into().expect("exactly as many as asked for"))
}
