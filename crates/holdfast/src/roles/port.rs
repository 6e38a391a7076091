//! Who has a port: whether it can be had, and whether a certain process has it.
//!
//! A server that answers on the port which a child was told to listen on need not be that child.
//! Only the kernel knows, and it tells in `/proc`.

use std::{
    fs,
    io::Error,
    net::{SocketAddr, TcpListener},
};

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// The first of these addresses, each under its flag, that cannot be listened on together with those
/// before it.
pub fn first_refused(wanted: &[(&'static str, SocketAddr)]) -> Option<(&'static str, SocketAddr, Error)> {
    let mut held = Vec::new();
    for &(flag, address) in wanted {
        match TcpListener::bind(address) {
            Ok(listener) => held.push(listener),
            Err(error) => return Some((flag, address, error)),
        }
    }
    None
}

/// Whether this process has a listening socket on the port of `address`; none if the kernel keeps the
/// open files of that process to itself, as it does for a program with capabilities of its own.
pub fn held_by(pid: u32, address: SocketAddr) -> Option<bool> {
    let sockets: Vec<String> = ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .flat_map(|table| listening(&table, address.port()))
        .collect();
    let open = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(open) => open,
        Err(error) => return (error.kind() == std::io::ErrorKind::NotFound).then_some(false),
    };
    let mut targets = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Some(targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str())))
}

/// The sockets of a table that listen on this port, as the links of open files name them.
fn listening(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.ends_with(&suffix) && *state == LISTENING).then(|| format!("socket:[{inode}]"))
    };
    table.lines().skip(1).filter_map(socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::TcpStream;

    #[test]
    fn a_port_is_its_listeners_alone() {
        let own = std::process::id();
        for any in ["127.0.0.1:0", "[::1]:0"] {
            // A machine need not have both families.
            let Ok(listener) = TcpListener::bind(any) else { continue };
            let address = listener.local_addr().expect("bound");
            let other = ("--other", SocketAddr::new(address.ip(), 0));
            let refused = first_refused(&[other, ("--listen", address)]).expect("it is taken");
            assert_eq!((refused.0, refused.1, refused.2.kind()), ("--listen", address, ErrorKind::AddrInUse));
            assert_eq!(held_by(own, address), Some(true));
            assert_ne!(held_by(1, address), Some(true), "another process has not");
            let client = TcpStream::connect(address).expect("connected");
            drop(listener);
            let other = client.local_addr().expect("connected");
            assert_eq!(held_by(own, other), Some(false), "a connection is no listener");
            assert_eq!(held_by(own, address), Some(false));
        }
    }
}
