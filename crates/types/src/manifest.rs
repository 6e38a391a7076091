//! The manifest: what a person declares about an app, after it was read and found sound.
//!
//! The text form is TOML (`holdfast.toml`), read strictly by the command line; on the wire and in
//! the log it is this structure. [`Manifest::check`] holds the rules that need no other state.

use crate::{ByteSize, DurationMs, HostName, MilliCpu, Name, SecretKey, limits};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The only schema number so far.
pub const SCHEMA: u32 = 1;

/// A whole manifest. Ordered maps only: equal manifests have equal bytes, so releases are
/// addressed by their content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Which shape of manifest this is; [`SCHEMA`].
    pub schema: u32,
    /// The app's name.
    pub app: Name,
    /// The image to run.
    pub image: Image,
    /// Named processes, each with its own replicas.
    pub processes: BTreeMap<Name, Process>,
    /// Where connections come from.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Storage that outlives instances.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Secrets that must exist before a deploy.
    #[serde(default)]
    pub secrets: Secrets,
    /// Configuration that is rendered into instances.
    #[serde(default)]
    pub config: Config,
    /// How deploys of this app go.
    #[serde(default)]
    pub deploy: DeployPolicy,
}

/// Which image to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// `registry/name:tag`, `registry/name@sha256:…` or `oci:PATH[:tag]` for a local OCI layout.
    #[serde(rename = "ref")]
    pub reference: String,
}

/// One kind of process of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The command; absent means the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// Hard cap on memory.
    pub memory: ByteSize,
    /// Soft share of processor time, in cores.
    #[serde(default = "default_cpu")]
    pub cpu: MilliCpu,
    /// How many instances.
    #[serde(default = "default_replicas")]
    pub replicas: u32,
    /// Ports it listens on.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// How to tell that an instance is ready.
    #[serde(default)]
    pub health: Option<Health>,
    /// Plain environment variables; never secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Between SIGTERM and SIGKILL.
    #[serde(default = "default_stop_grace")]
    pub stop_grace: DurationMs,
}

fn default_cpu() -> MilliCpu {
    MilliCpu::new(100)
}

fn default_replicas() -> u32 {
    1
}

fn default_stop_grace() -> DurationMs {
    limits::STOP_GRACE
}

/// A named port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// What routes and probes call it.
    pub name: Name,
    /// Where the process listens.
    pub port: u16,
}

/// A readiness probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// How to ask.
    #[serde(rename = "type")]
    pub kind: HealthKind,
    /// The name of the port to ask.
    pub port: Name,
    /// For `http`: the path; an answer of 200 to 399 is ready.
    #[serde(default)]
    pub path: Option<String>,
    /// Between two probes.
    #[serde(default = "default_interval")]
    pub interval: DurationMs,
    /// How long one probe may take.
    #[serde(default = "default_timeout")]
    pub timeout: DurationMs,
    /// How long a fresh instance may take to become ready.
    #[serde(default = "default_grace")]
    pub grace: DurationMs,
}

fn default_interval() -> DurationMs {
    DurationMs::from_secs(5)
}

fn default_timeout() -> DurationMs {
    DurationMs::from_secs(1)
}

fn default_grace() -> DurationMs {
    DurationMs::from_secs(10)
}

/// How a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthKind {
    /// A connection is accepted.
    Tcp,
    /// A GET is answered with 200 to 399.
    Http,
}

/// A way in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The name clients ask for; needed for `tls`.
    #[serde(default)]
    pub host: Option<HostName>,
    /// The process that answers.
    pub process: Name,
    /// The process's port.
    pub port: Name,
    /// How connections find the route.
    #[serde(default)]
    pub mode: RouteMode,
    /// For `tcp`: the port that edges listen on.
    #[serde(default)]
    pub listen: Option<u16>,
    /// Whether backends are told the client's address.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
}

/// How connections find a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteMode {
    /// By server name, passed through.
    #[default]
    Tls,
    /// By a port of its own.
    Tcp,
}

/// Whether a PROXY protocol header goes before a connection's own bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// No header.
    #[default]
    Off,
    /// A header of version 2.
    V2,
}

/// Storage that outlives instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its name.
    pub name: Name,
    /// The process that mounts it.
    pub process: Name,
    /// Where it is mounted.
    pub path: String,
    /// Its size.
    pub size: ByteSize,
    /// When it is backed up.
    #[serde(default)]
    pub backup: Option<BackupPolicy>,
}

/// When a volume is backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupPolicy {
    /// Between two backups.
    pub every: DurationMs,
    /// How many are kept.
    pub keep: u32,
}

/// Secrets a deploy waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// Their names.
    #[serde(default)]
    pub required: BTreeSet<SecretKey>,
}

/// Configuration namespaces that are rendered into instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Namespace paths.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// How deploys of an app go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployPolicy {
    /// How long a deploy may take before it fails.
    #[serde(default = "default_deadline")]
    pub deadline: DurationMs,
    /// How many failures of its instances end a deploy.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
}

impl Default for DeployPolicy {
    fn default() -> Self {
        Self { deadline: default_deadline(), attempts: default_attempts() }
    }
}

fn default_deadline() -> DurationMs {
    limits::DEPLOY_DEADLINE
}

fn default_attempts() -> u32 {
    limits::DEPLOY_ATTEMPTS
}

/// A manifest that reads well and means nothing sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Unsound {
    /// Where, as keys joined by dots: `processes.web.replicas`, `routes[1].process`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

fn unsound(path: impl Into<String>, problem: impl Into<String>) -> Result<(), Unsound> {
    Err(Unsound { path: path.into(), problem: problem.into() })
}

impl Manifest {
    /// Checks every rule that the manifest alone can break.
    ///
    /// # Errors
    /// The first broken rule, with its place.
    pub fn check(&self) -> Result<(), Unsound> {
        if self.schema != SCHEMA {
            return unsound("schema", format!("is {}, and this Holdfast reads schema {SCHEMA}", self.schema));
        }
        if self.image.reference.is_empty() || self.image.reference.len() > 512 {
            return unsound("image.ref", "wants 1 to 512 characters");
        }
        if self.processes.is_empty() || self.processes.len() > limits::PROCESSES {
            return unsound("processes", format!("wants 1 to {} processes", limits::PROCESSES));
        }
        self.processes.iter().try_for_each(|(name, process)| process.check(name))?;
        if self.routes.len() > limits::ROUTES {
            return unsound("routes", format!("wants at most {} routes", limits::ROUTES));
        }
        let mut taken = BTreeSet::new();
        for (place, route) in self.routes.iter().enumerate() {
            self.check_route(&format!("routes[{place}]"), route)?;
            if !taken.insert((route.mode, route.host.clone(), route.listen)) {
                return unsound(format!("routes[{place}]"), "is the same way in as an earlier route");
            }
        }
        if let Some(volume) = self.volumes.first() {
            return unsound(
                "volumes",
                format!("volume {:?}: volumes are not built yet; leave [[volumes]] out", volume.name),
            );
        }
        if !self.secrets.required.is_empty() {
            return unsound("secrets.required", "secrets are not built yet; leave [secrets] out");
        }
        if !self.config.namespaces.is_empty() {
            return unsound("config.namespaces", "configuration is not built yet; leave [config] out");
        }
        if !(1000..=86_400_000).contains(&self.deploy.deadline.as_ms()) {
            return unsound("deploy.deadline", "wants 1s to 1d");
        }
        if !(1..=100).contains(&self.deploy.attempts) {
            return unsound("deploy.attempts", "wants 1 to 100");
        }
        Ok(())
    }

    fn check_route(&self, path: &str, route: &Route) -> Result<(), Unsound> {
        let Some(process) = self.processes.get(&route.process) else {
            let known: Vec<&str> = self.processes.keys().map(Name::as_str).collect();
            return unsound(
                format!("{path}.process"),
                format!("no process {:?}; there is {}", route.process, known.join(", ")),
            );
        };
        if !process.ports.iter().any(|port| port.name == route.port) {
            let known: Vec<&str> = process.ports.iter().map(|port| port.name.as_str()).collect();
            let known = if known.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has {}", known.join(", "))
            };
            return unsound(
                format!("{path}.port"),
                format!("process {:?} has no port {:?}; {known}", route.process, route.port),
            );
        }
        match (route.mode, &route.host, route.listen) {
            (RouteMode::Tls, None, _) => {
                unsound(format!("{path}.host"), "a tls route needs the host name it answers to")
            }
            (RouteMode::Tls, _, Some(_)) => {
                unsound(format!("{path}.listen"), "only a tcp route has a port of its own")
            }
            (RouteMode::Tcp, _, None | Some(0)) => {
                unsound(format!("{path}.listen"), "a tcp route needs the port to listen on")
            }
            (RouteMode::Tcp, Some(_), _) => {
                unsound(format!("{path}.host"), "a tcp route carries no host name; leave it out")
            }
            _ => Ok(()),
        }
    }
}

impl Process {
    fn check(&self, name: &Name) -> Result<(), Unsound> {
        let at = |key: &str| format!("processes.{name}.{key}");
        if !(1..=limits::REPLICAS).contains(&self.replicas) {
            return unsound(
                at("replicas"),
                format!(
                    "is {}; wants 1 to {} (to stop a process: holdfast scale {name}=0)",
                    self.replicas,
                    limits::REPLICAS
                ),
            );
        }
        if self.memory < limits::MEMORY_MIN || self.memory > limits::MEMORY_MAX {
            return unsound(
                at("memory"),
                format!("is {}; wants {} to {}", self.memory, limits::MEMORY_MIN, limits::MEMORY_MAX),
            );
        }
        if self.command.len() > limits::ARGUMENTS || self.env.len() > limits::ARGUMENTS {
            return unsound(
                at("command"),
                format!("wants at most {} arguments and as many variables", limits::ARGUMENTS),
            );
        }
        if self
            .command
            .iter()
            .chain(self.env.iter().flat_map(|(key, value)| [key, value]))
            .any(|text| text.contains('\0'))
        {
            return unsound(at("command"), "a NUL character cannot be passed to a program");
        }
        if let Some(key) = self.env.keys().find(|key| key.is_empty() || key.contains('=')) {
            return unsound(at("env"), format!("{key:?} cannot be the name of a variable"));
        }
        if self.ports.len() > limits::PORTS {
            return unsound(at("ports"), format!("wants at most {} ports", limits::PORTS));
        }
        let mut names = BTreeSet::new();
        for (place, port) in self.ports.iter().enumerate() {
            if port.port == 0 || !names.insert(&port.name) {
                return unsound(
                    at(&format!("ports[{place}]")),
                    "wants a port from 1 to 65535 and a name of its own",
                );
            }
        }
        if let Some(health) = &self.health {
            if !names.contains(&health.port) {
                return unsound(at("health.port"), format!("the process has no port {:?}", health.port));
            }
            match (health.kind, &health.path) {
                (HealthKind::Http, Some(path))
                    if path.starts_with('/') && !path.contains(char::is_whitespace) => {}
                (HealthKind::Http, _) => {
                    return unsound(at("health.path"), "an http probe needs a path that begins with /");
                }
                (HealthKind::Tcp, Some(_)) => return unsound(at("health.path"), "a tcp probe has no path"),
                (HealthKind::Tcp, None) => {}
            }
            if health.interval.as_ms() < 100 || health.timeout.as_ms() < 10 {
                return unsound(
                    at("health"),
                    "wants an interval of at least 100ms and a timeout of at least 10ms",
                );
            }
        }
        if self.stop_grace.as_ms() > 3_600_000 {
            return unsound(at("stop_grace"), "wants at most 1h");
        }
        Ok(())
    }
}
