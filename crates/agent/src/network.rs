//! The network of an instance: its own namespace, one veth pair, one address, one way out.
//!
//! The namespace is made by `runc` and has no name: it goes when the instance's processes go, and
//! the veth pair goes with it, so a crash at any point leaves nothing to collect. On the host's
//! side the pair has `fe80::1` and a host route to the instance's address; inside, that is the
//! default route. Addresses are set without duplicate detection, which would cost a second.

use crate::{
    preflight::Tools,
    tool::{self, ToolError},
};
use sha2::{Digest as _, Sha256};
use std::{net::Ipv6Addr, path::Path};
use types::InstanceId;

/// The network of an instance could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The host has no IPv6.
    #[error(
        "IPv6 is off on this host; turn it on: sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 (and no ipv6.disable=1 on the kernel's command line)"
    )]
    NoIpv6,
    /// `ip` refused.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// The metric of the route that says *unreachable*: behind that to the running instance. While the
/// instance is down, whoever connects learns so at once, and nothing leaves by the default route.
const BEHIND: u32 = 8192;

/// The name of the host's end: at most 15 bytes, the same for the same instance.
pub(crate) fn host_end(id: InstanceId) -> String {
    let digest = Sha256::digest(id.as_u128().to_be_bytes());
    let tail: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("hf{tail}")
}

fn ipv6_is_on() -> bool {
    ["all", "default"].iter().all(|scope| {
        std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"))
            .is_ok_and(|text| text.trim() == "0")
    })
}

/// Gives the namespace of this process its network.
///
/// # Errors
/// IPv6 is off, or `ip` refused.
pub(crate) async fn connect(
    tools: &Tools,
    id: InstanceId,
    pid: i32,
    address: Ipv6Addr,
) -> Result<(), NetworkError> {
    if !ipv6_is_on() {
        return Err(NetworkError::NoIpv6);
    }
    let host = host_end(id);
    let pair = format!(
        "link add {host} type veth peer name eth0 netns {pid}\nlink set {host} addrgenmode none\naddress add fe80::1/64 dev {host} nodad\nlink set {host} up\n"
    );
    let inside = format!(
        "link set lo up\n\
         link set eth0 addrgenmode none\n\
         address add {address}/128 dev eth0 nodad\n\
         link set eth0 up\n\
         route replace default via fe80::1 dev eth0\n"
    );
    // The route comes last: who connects before the inside is up would wait a second for a
    // neighbour's second chance to answer.
    let outside = format!(
        "route replace {address}/128 dev {host}\n\
         route replace unreachable {address}/128 metric {BEHIND}\n"
    );
    tool::run(&tools.ip, &["-6", "-batch", "-"], &pair).await?;
    let namespace = format!("--net=/proc/{pid}/ns/net");
    let ip = tools.ip.to_string_lossy();
    tool::run(&tools.nsenter, &[namespace.as_str(), "--", &ip, "-6", "-batch", "-"], &inside).await?;
    tool::run(&tools.ip, &["-6", "-batch", "-"], &outside).await?;
    Ok(())
}

/// Removes the host's end where it is still there: the kernel takes a namespace apart in its own
/// time, and the next run of the same instance wants the name and the route at once.
///
/// # Errors
/// `ip` refused.
pub(crate) async fn disconnect(tools: &Tools, id: InstanceId) -> Result<(), ToolError> {
    let host = host_end(id);
    if !Path::new("/sys/class/net").join(&host).exists() {
        return Ok(());
    }
    match tool::run(&tools.ip, &["link", "del", &host], "").await {
        Err(error) if Path::new("/sys/class/net").join(&host).exists() => Err(error),
        _ => Ok(()),
    }
}

/// Forgets the address for good.
pub(crate) async fn forget(tools: &Tools, address: Ipv6Addr) {
    let line = format!("route del unreachable {address}/128 metric {BEHIND}\n");
    // It may never have been made, or be gone since a reboot.
    let _ = tool::run(&tools.ip, &["-6", "-batch", "-"], &line).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_the_kernel_and_tell_instances_apart() {
        let names: std::collections::BTreeSet<String> =
            (0..1000).map(|bits| host_end(InstanceId::from_u128(bits))).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| name.len() <= 15));
    }
}
