//! This machine: programs, control groups, ports, space.

use super::Finding;
use agent::PreflightError;
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};
use types::limits;

/// How long a local port may take to say what it is.
const PORT_ANSWER: Duration = Duration::from_secs(1);
/// Less than this part of a file system free wants attention.
const FREE_PART: u64 = 5;

pub(super) fn look(data_dir: &Path) -> Vec<Finding> {
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let mut findings = vec![programs(&data_dir), cgroups(Path::new("/sys/fs/cgroup")), disk(&data_dir)];
    findings.extend(ports());
    findings
}

fn programs(data_dir: &Path) -> Finding {
    match agent::preflight(data_dir) {
        Ok(()) => Finding::ok("programs", "what an agent calls is installed"),
        Err(error) => {
            let next = match &error {
                PreflightError::NotRoot => "sudo holdfast doctor".to_owned(),
                PreflightError::ToolMissing { package, .. } => format!("apt-get install -y {package}"),
                PreflightError::NoSeccomp | PreflightError::ToolBroken { .. } => {
                    "apt-get install -y --reinstall runc".to_owned()
                }
                PreflightError::DataDir { .. } => "holdfast doctor --data-dir DIR".to_owned(),
                PreflightError::NoMemoryController => "mount | grep cgroup".to_owned(),
            };
            Finding::attention("programs", format!("no agent can run here: {error}"), next)
        }
    }
}

/// Whether memory can be capped: by the one hierarchy, or by one of its own.
fn cgroups(root: &Path) -> Finding {
    let one = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let has_memory = one.split_whitespace().any(|controller| controller == "memory");
    if has_memory || root.join("memory/memory.limit_in_bytes").exists() {
        return Finding::ok("cgroups", "memory can be capped");
    }
    let what = "no control group can cap memory, so no agent can run here; boot with cgroup_enable=memory";
    Finding::attention("cgroups", what, "cat /proc/cmdline")
}

/// The file system that the directory is on, or will be.
fn disk(data_dir: &Path) -> Finding {
    let there: PathBuf = data_dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/")).to_owned();
    let next = format!("df -h {}", there.display());
    let Ok(stat) = rustix::fs::statvfs(&there) else {
        return Finding::attention("disk", format!("the space of {} is not told", there.display()), next);
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let usable = stat.f_blocks.saturating_sub(stat.f_bfree).saturating_add(stat.f_bavail);
    judge_space(free, usable.saturating_mul(stat.f_frsize), &there, next)
}

fn judge_space(free: u64, usable: u64, there: &Path, next: String) -> Finding {
    let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let what = format!("{:.1} of {:.1} GiB free at {}", gibibytes(free), gibibytes(usable), there.display());
    match free < usable / FREE_PART || free < limits::DISK_SHORT.bytes() {
        true => Finding::attention("disk", what, next),
        false => Finding::ok("disk", what),
    }
}

/// What the ports of Holdfast are to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Free,
    Ours,
    Foreign,
}

fn ports() -> Vec<Finding> {
    [(7070, "the API"), (7072, "an edge's figures"), (7073, "an agent's figures")]
        .map(|(port, what)| told(port, what, tried(port)))
        .to_vec()
}

fn told(port: u16, what: &str, found: Port) -> Finding {
    match found {
        Port::Free => Finding::ok("ports", format!("{port} for {what} is free")),
        Port::Ours => Finding::ok("ports", format!("{port}: Holdfast serves {what} here")),
        Port::Foreign => Finding::attention(
            "ports",
            format!("{port} for {what} is taken by another program"),
            format!("ss -ltnp 'sport = :{port}'"),
        ),
    }
}

fn tried(port: u16) -> Port {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpListener::bind(address).is_ok() {
        return Port::Free;
    }
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PORT_ANSWER)?;
        stream.set_read_timeout(Some(PORT_ANSWER))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(limits::METRICS_REQUEST as u64).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    if asked().is_ok_and(|answer| answer.contains("# HELP holdfast_")) { Port::Ours } else { Port::Foreign }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_fifth_of_the_disk_must_be_free() {
        let gib = 1u64 << 30;
        let judge = |free, usable| judge_space(free, usable, Path::new("/d"), "df -h /d".into()).verdict;
        assert_eq!(judge(21 * gib, 100 * gib), Verdict::Ok);
        assert_eq!(judge(19 * gib, 100 * gib), Verdict::Attention);
        assert_eq!(judge(1 << 20, 2 << 20), Verdict::Attention, "a disk too small for anything");
    }

    #[test]
    fn control_groups_are_told_from_none() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(cgroups(dir.path()).verdict, Verdict::Attention);
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu io memory pids\n").expect("written");
        assert_eq!(cgroups(dir.path()).verdict, Verdict::Ok);
    }

    #[test]
    fn a_port_of_another_program_wants_attention() {
        let other = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = other.local_addr().expect("bound").port();
        let answering = std::thread::spawn(move || drop(other.accept()));
        assert_eq!(tried(port), Port::Foreign);
        answering.join().expect("it was asked");
        assert_eq!(tried(port), Port::Free);
        assert!(told(port, "x", Port::Foreign).next.is_some_and(|next| next.contains(&port.to_string())));
    }
}
