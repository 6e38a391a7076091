//! The runtime specification (OCI) of an instance, as a pure function of what was asked.
//!
//! The shape is the one of the container engines in wide use, tightened: no raw sockets, no new
//! privileges, every device denied but the harmless ones, kernel paths masked. Resource limits are
//! given in the version 1 vocabulary, which `runc` translates where the layout is version 2.
//! There are no rlimits in it: where the agent may not raise them, the start would fail.

use crate::{cgroup::Abilities, seccomp, user::Identity};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};
use types::{InstanceId, limits, plan::InstanceSpec};

/// What an image says about how it wants to be run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
}

/// Neither the plan nor the image names a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither the manifest nor the image says what to run; set processes.NAME.command")]
pub(crate) struct NoCommand;

/// All that a specification is made from.
pub(crate) struct Recipe<'a> {
    pub(crate) id: InstanceId,
    pub(crate) spec: &'a InstanceSpec,
    pub(crate) wishes: &'a Wishes,
    pub(crate) identity: &'a Identity,
    pub(crate) root: &'a Path,
    /// Where `hosts` and `hostname` lie.
    pub(crate) files: &'a Path,
    pub(crate) cgroup: String,
    pub(crate) abilities: Abilities,
}

/// What remains of root's powers: the usual set of container engines, without raw sockets.
#[rustfmt::skip]
const CAPABILITIES: [&str; 13] = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
];

const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The name an instance sees as its host's: the process and the end of the instance's id.
pub(crate) fn host_name(id: InstanceId, spec: &InstanceSpec) -> String {
    let id = id.to_string().to_ascii_lowercase();
    let process: String = spec.process.as_str().chars().take(48).collect();
    format!("{}-{}", process.trim_end_matches('-'), &id[id.len() - 8..])
}

/// What the process is to run.
///
/// # Errors
/// There is nothing to run.
pub(crate) fn command(spec: &InstanceSpec, wishes: &Wishes) -> Result<Vec<String>, NoCommand> {
    if !spec.command.is_empty() {
        return Ok(spec.command.clone());
    }
    let own: Vec<String> = wishes.entrypoint.iter().chain(&wishes.cmd).cloned().collect();
    if own.is_empty() { Err(NoCommand) } else { Ok(own) }
}

fn environment(id: InstanceId, spec: &InstanceSpec, wishes: &Wishes) -> Vec<String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    all.insert("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let own = wishes.env.iter().filter_map(|pair| pair.split_once('='));
    all.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all.insert("HOSTNAME".into(), host_name(id, spec));
    all.insert("HOLDFAST_APP".into(), spec.app.to_string());
    all.insert("HOLDFAST_ENV".into(), spec.env.to_string());
    all.insert("HOLDFAST_PROCESS".into(), spec.process.to_string());
    all.insert("HOLDFAST_INSTANCE".into(), id.to_string());
    all.insert("HOLDFAST_ADDRESS".into(), spec.address.to_string());
    all.extend(spec.variables.clone());
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The whole `config.json`.
///
/// # Errors
/// There is nothing to run.
pub(crate) fn render(recipe: &Recipe<'_>) -> Result<Value, NoCommand> {
    let namespaces: Vec<Value> =
        ["pid", "ipc", "uts", "mount", "network"].iter().map(|kind| json!({"type": kind})).collect();
    Ok(json!({
        "ociVersion": "1.0.2",
        "hostname": host_name(recipe.id, recipe.spec),
        "root": {"path": recipe.root, "readonly": false},
        "process": process(recipe)?,
        "mounts": mounts(recipe.files),
        "linux": {
            "cgroupsPath": recipe.cgroup,
            "namespaces": namespaces,
            "resources": resources(recipe),
            "seccomp": seccomp::profile(),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            // Inside a namespace of its own there is no port worth keeping from the process.
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
        }
    }))
}

fn process(recipe: &Recipe<'_>) -> Result<Value, NoCommand> {
    let Identity { uid, gid, groups } = recipe.identity;
    // A process that is not root has no capabilities; the bounding set is what a file may raise,
    // and no new privileges means that none does.
    let held: &[&str] = if *uid == 0 { &CAPABILITIES } else { &[] };
    let cwd =
        if recipe.wishes.working_dir.starts_with('/') { recipe.wishes.working_dir.as_str() } else { "/" };
    Ok(json!({
        "terminal": false,
        "user": {"uid": uid, "gid": gid, "additionalGids": groups},
        "args": command(recipe.spec, recipe.wishes)?,
        "env": environment(recipe.id, recipe.spec, recipe.wishes),
        "cwd": cwd,
        "noNewPrivileges": true,
        "capabilities": {"bounding": CAPABILITIES, "permitted": held, "effective": held},
    }))
}

fn mounts(files: &Path) -> Value {
    let bind = |name: &str| {
        json!({"destination": format!("/etc/{name}"), "type": "bind", "source": files.join(name),
               "options": ["bind", "ro", "nosuid", "noexec", "nodev"]})
    };
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        bind("hosts"),
        bind("hostname"),
    ])
}

fn resources(recipe: &Recipe<'_>) -> Value {
    let cap = recipe.spec.memory.bytes();
    // `swap` is memory and swap together, so equal means none.
    let memory =
        if recipe.abilities.swap { json!({"limit": cap, "swap": cap}) } else { json!({"limit": cap}) };
    let mut all = json!({"memory": memory});
    if recipe.abilities.devices {
        all["devices"] = json!([{"allow": false, "access": "rwm"}]);
    }
    if recipe.abilities.cpu {
        // A whole core is 1024 shares; the kernel takes 2 at least.
        all["cpu"] = json!({"shares": (u64::from(recipe.spec.cpu.get()) * 1024 / 1000).clamp(2, 262_144)});
    }
    if recipe.abilities.pids {
        all["pids"] = json!({"limit": limits::INSTANCE_PIDS});
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{ByteSize, DurationMs, EnvId, MilliCpu, plan::PinnedImage};

    fn sample() -> InstanceSpec {
        let name = |text: &str| text.parse().expect("a name");
        InstanceSpec {
            org: name("acme"),
            app: name("shop"),
            env: name("prod"),
            process: name("web"),
            env_id: EnvId::from_u128(1),
            image: PinnedImage {
                reference: "r/x:1".into(),
                digest: format!("sha256:{}", "0".repeat(64)).parse().expect("a digest"),
            },
            command: vec!["/bin/web".into()],
            variables: [("MODE".to_owned(), "fast".to_owned())].into(),
            memory: ByteSize::from_mib(64),
            cpu: MilliCpu::new(500),
            address: "fd00::5".parse().expect("an address"),
            ports: BTreeMap::new(),
            health: None,
            stop_grace: DurationMs::from_secs(1),
        }
    }

    fn rendered(spec: &InstanceSpec, identity: &Identity, abilities: Abilities) -> Value {
        let wishes = Wishes { env: vec!["MODE=slow".into(), "OWN=1".into()], ..Wishes::default() };
        let recipe = Recipe {
            id: InstanceId::from_u128(9),
            spec,
            wishes: &wishes,
            identity,
            root: Path::new("/r"),
            files: Path::new("/f"),
            cgroup: "/p/i".into(),
            abilities,
        };
        render(&recipe).expect("there is a command")
    }

    const ALL: Abilities = Abilities { swap: true, cpu: true, pids: true, devices: true };

    #[test]
    fn memory_is_capped_with_swap_off_and_the_rest_is_limited() {
        let made = rendered(&sample(), &Identity::default(), ALL);
        let resources = &made["linux"]["resources"];
        assert_eq!(resources["memory"], json!({"limit": 64 << 20, "swap": 64 << 20}));
        assert_eq!(resources["cpu"]["shares"], 512);
        assert_eq!(resources["pids"]["limit"], limits::INSTANCE_PIDS);
        assert_eq!(made["process"]["noNewPrivileges"], true);
        assert!(made["process"].get("rlimits").is_none());
        let none = Abilities { swap: false, cpu: false, pids: false, devices: false };
        let made = rendered(&sample(), &Identity::default(), none);
        assert_eq!(made["linux"]["resources"], json!({"memory": {"limit": 64 << 20}}));
    }

    #[test]
    fn only_root_holds_capabilities_and_none_may_open_raw_sockets() {
        let made = rendered(&sample(), &Identity { uid: 7, gid: 7, groups: vec![] }, ALL);
        assert_eq!(made["process"]["capabilities"]["effective"], json!([]));
        let root = rendered(&sample(), &Identity::default(), ALL);
        assert!(!root["process"]["capabilities"].to_string().contains("NET_RAW"));
    }

    #[test]
    fn the_plan_wins_over_the_image_and_a_command_is_needed() {
        let made = rendered(&sample(), &Identity::default(), ALL);
        let env = made["process"]["env"].to_string();
        assert!(env.contains("MODE=fast") && env.contains("OWN=1") && !env.contains("MODE=slow"), "{env}");
        let bare = InstanceSpec { command: vec![], ..sample() };
        assert_eq!(command(&bare, &Wishes::default()), Err(NoCommand));
        let wishes = Wishes { entrypoint: vec!["/e".into()], cmd: vec!["c".into()], ..Wishes::default() };
        assert_eq!(command(&bare, &wishes), Ok(vec!["/e".into(), "c".into()]));
    }
}
