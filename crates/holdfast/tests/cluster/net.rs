//! A network of its own for each test: one namespace for each machine, joined by a bridge in another.
//!
//! Nothing of the machine's own network is touched. Names hold the id of the process that made them,
//! so that two tests never meet, and what a killed test left behind can be told and removed.

use demo::{Failure, Outcome};
use std::{
    fs::File,
    net::Ipv4Addr,
    os::fd::AsRawFd,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// Every namespace of these tests begins with this.
const MARK: &str = "hfc";
/// The table that cuts are rules of.
const TABLE: &str = "add table inet cut
    add chain inet cut in { type filter hook input priority 0; }
    add chain inet cut out { type filter hook output priority 0; }";

/// Which way packets do not go any more, seen from the machine that the rule is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nothing comes in.
    In,
    /// Nothing goes out.
    Out,
    /// Neither.
    Both,
}

/// Machines that reach each other and nobody else. Gone when dropped.
pub struct Net {
    bridge: String,
    hosts: Vec<Host>,
}

/// One machine: a network namespace with an address.
#[derive(Clone)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    entry: Arc<File>,
}

fn run(program: &str, arguments: &[&str]) -> Outcome {
    let failed = |why: &str| Failure::new(format!("{program} {}", arguments.join(" ")), why.trim());
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| failed(&error.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(&String::from_utf8_lossy(&output.stderr))),
    }
}

fn ip(arguments: &str) -> Outcome {
    run("ip", &arguments.split(' ').collect::<Vec<_>>())
}

impl Net {
    /// So many machines, with the addresses 10.77.0.1, 10.77.0.2, …
    pub fn new(count: usize) -> Outcome<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let own = format!("{MARK}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut net = Self { bridge: format!("{own}b"), hosts: Vec::new() };
        let bridge = net.bridge.clone();
        ip(&format!("netns add {bridge}"))?;
        ip(&format!("-n {bridge} link add br0 type bridge"))?;
        ip(&format!("-n {bridge} link set br0 up"))?;
        for number in 1..=count {
            net.add(&own, u8::try_from(number).expect("a few machines"))?;
        }
        Ok(net)
    }

    fn add(&mut self, own: &str, number: u8) -> Outcome {
        let (bridge, name) = (&self.bridge, format!("{own}-{number}"));
        let address = Ipv4Addr::new(10, 77, 0, number);
        ip(&format!("netns add {name}"))?;
        let entry = File::open(format!("/run/netns/{name}"));
        let entry = entry.map_err(|error| Failure::new(format!("open {name}"), error))?;
        self.hosts.push(Host { name: name.clone(), address, entry: Arc::new(entry) });
        ip(&format!("-n {name} link add eth0 type veth peer name m{number} netns {bridge}"))?;
        ip(&format!("-n {bridge} link set m{number} master br0 up"))?;
        ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        run("ip", &["netns", "exec", &name, "nft", TABLE])
    }

    pub fn host(&self, at: usize) -> &Host {
        &self.hosts[at]
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in self.hosts.iter().map(|host| &host.name).chain([&self.bridge]) {
            ip(&format!("netns del {name}")).ok();
        }
    }
}

/// Removes what tests left that were killed themselves.
fn sweep() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(MARK).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !demo::alive(pid)) {
            ip(&format!("netns del {name}")).ok();
        }
    }
}

impl Host {
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn nft(&self, rule: &str) {
        run("ip", &["netns", "exec", &self.name, "nft", rule]).expect("a rule of nftables");
    }

    /// Drops what comes from or goes to one other machine.
    pub fn cut_from(&self, other: &Self, way: Way) {
        let address = other.address;
        if way != Way::Out {
            self.nft(&format!("add rule inet cut in ip saddr {address} drop"));
        }
        if way != Way::In {
            self.nft(&format!("add rule inet cut out ip daddr {address} drop"));
        }
    }

    /// Drops what comes from or goes to every other machine. Its own clients still reach it.
    pub fn cut(&self, way: Way) {
        if way != Way::Out {
            self.nft("add rule inet cut in iifname eth0 drop");
        }
        if way != Way::In {
            self.nft("add rule inet cut out oifname eth0 drop");
        }
    }

    /// Nothing is dropped here any more.
    pub fn heal(&self) {
        self.nft("flush table inet cut");
    }

    /// Does something on this machine: sockets made there stay there.
    pub fn inside<T>(&self, act: impl FnOnce() -> T) -> T {
        let home = File::open("/proc/thread-self/ns/net").expect("the namespace of this thread");
        enter(&self.entry).expect("into the namespace");
        let done = act();
        enter(&home).expect("back into the namespace before");
        done
    }

    /// Has a program run on this machine, and end with the thread that started it.
    pub fn place(&self, command: &mut Command) {
        use std::os::unix::process::CommandExt;
        let entry = self.entry.as_raw_fd();
        // SAFETY: only two system calls, with plain numbers, between fork and exec.
        unsafe {
            command.pre_exec(move || {
                if libc::setns(entry, libc::CLONE_NEWNET) != 0
                    || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0
                {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
    }
}

fn enter(namespace: &File) -> std::io::Result<()> {
    // SAFETY: a plain system call with an open descriptor.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
