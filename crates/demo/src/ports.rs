//! Free loopback ports.

use crate::{Failure, Outcome};
use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the kernel's own range for outgoing connections, so that no client takes one in between.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// How many ports this process has looked at.
static LOOKED_AT: AtomicU16 = AtomicU16::new(0);

/// As many different ports as asked for, free on loopback a moment ago. No port is handed out twice
/// by one process: it may be meant for a listener that comes up later.
///
/// # Errors
/// No ports left.
pub fn free_ports<const N: usize>() -> Outcome<[u16; N]> {
    // Two programs that look at once begin in different places.
    let start = std::process::id() % u32::from(COUNT);
    let mut found = Vec::new();
    while found.len() < N {
        let step = LOOKED_AT.fetch_add(1, Ordering::Relaxed);
        if step >= COUNT {
            return Err(Failure("no free loopback port".into()));
        }
        let place = (start + u32::from(step)) % u32::from(COUNT);
        let port = FIRST + u16::try_from(place).expect("below the count");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("::", port)).is_ok() {
            found.push(port);
        }
    }
    Ok(found.try_into().expect("exactly as many as asked for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice() {
        let first: [u16; 3] = free_ports().expect("ports");
        let second: [u16; 3] = free_ports().expect("ports");
        assert!(first.iter().all(|port| !second.contains(port)));
    }
}
