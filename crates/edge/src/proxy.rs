//! The PROXY protocol header, version 2: tells a backend who the client is.
//!
//! Layout from the HAProxy project's `proxy-protocol.txt`, section 2.2: a 12-byte signature, one
//! byte of version and command, one of family and transport, a length, the two addresses and ports.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// The header for a connection from `client` to `edge`, the address that the client spoke to.
///
/// Addresses of IPv4 that a dual-stack listener shows as IPv6 are written as what they are.
pub fn header(client: SocketAddr, edge: SocketAddr) -> Vec<u8> {
    let (from, to) = (client.ip().to_canonical(), edge.ip().to_canonical());
    let (family, addresses) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (TCP_OVER_IPV4, [from.octets(), to.octets()].concat()),
        _ => (TCP_OVER_IPV6, [as_ipv6(from).octets(), as_ipv6(to).octets()].concat()),
    };
    let length = (addresses.len() + 4) as u16;
    let mut header = Vec::with_capacity(SIGNATURE.len() + 4 + usize::from(length));
    header.extend_from_slice(&SIGNATURE);
    header.extend_from_slice(&[VERSION_2_PROXY, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&addresses);
    header.extend_from_slice(&client.port().to_be_bytes());
    header.extend_from_slice(&edge.port().to_be_bytes());
    header
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("a socket address")
    }

    #[test]
    fn an_ipv4_client_of_a_dual_stack_listener_is_ipv4() {
        let header = header(address("[::ffff:192.0.2.1]:4000"), address("[::ffff:192.0.2.2]:443"));
        assert_eq!(&header[..12], b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(&header[12..16], &[0x21, 0x11, 0, 12]);
        assert_eq!(&header[16..], &[192, 0, 2, 1, 192, 0, 2, 2, 0x0f, 0xa0, 0x01, 0xbb]);
    }

    #[test]
    fn an_ipv6_client_is_ipv6() {
        let header = header(address("[2001:db8::1]:1"), address("[2001:db8::2]:2"));
        assert_eq!(&header[12..16], &[0x21, 0x21, 0, 36]);
        assert_eq!(header.len(), 16 + 36);
    }
}
