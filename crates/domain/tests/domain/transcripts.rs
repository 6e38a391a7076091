//! Transcripts: `given … when … then …` files, one for each life cycle, in `tests/transcripts`.
//!
//! A line under `given` or `when` is a command of the small language below; the lines under `then`
//! are what happened, written by the test itself when `UPDATE_TRANSCRIPTS=1` is set. Ids are
//! replaced by names in the order they come up: `web.1`, `release.2`, `deploy.1`.

use crate::world::{World, manifest, name, speaking};
use holdfast_domain::{
    Actor, Command, DeployFailure, Event, NewToken, Rejection, Role, Settled, Verdict, derive, plan,
    state::InstanceState,
};
use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};
use types::{
    ByteSize, InstanceId, RequestId, TokenId,
    manifest::ProxyProtocol,
    plan::{Backend, Change, NodeRole, Reason, RouteMatch},
};

struct Story {
    world: World,
    /// What an id is called, by its text.
    names: Vec<(String, String)>,
    counts: BTreeMap<String, u32>,
    instances: BTreeMap<String, InstanceId>,
    tokens: BTreeMap<String, TokenId>,
    requests: BTreeMap<String, RequestId>,
    said: usize,
    out: String,
}

fn check(feature: &str) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(format!("{feature}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let told = tell(&text);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, told).expect("tests/transcripts can be written");
        return;
    }
    assert!(text == told, "{feature} went otherwise (UPDATE_TRANSCRIPTS=1 rewrites it):\n{told}");
}

/// Runs every `given` and `when` line and puts what happened under each `then`.
fn tell(text: &str) -> String {
    let mut told = String::new();
    for (nth, scene) in text.split("\n\n\n").enumerate() {
        if nth > 0 {
            told.push_str("\n\n\n");
        }
        let mut story = Story::new();
        let mut section = "";
        for line in scene.trim_end().lines() {
            let first = line.split(' ').next().unwrap_or("");
            if ["given", "when", "then"].contains(&first) {
                section = first;
            }
            match (section, line) {
                ("then", "then") => {
                    let said = story.speak();
                    let said = if said.trim().is_empty() { "  nothing" } else { said.trim_end() };
                    let _ = writeln!(told, "then\n{said}");
                }
                ("then", _) if !line.is_empty() => {}
                ("given" | "when", _) if line.starts_with("  ") => {
                    let _ = writeln!(told, "{line}");
                    story.run(line.trim());
                    if section == "given" {
                        story.said = story.world.log.len();
                        story.name_all();
                        story.out.clear();
                    }
                }
                _ => {
                    let _ = writeln!(told, "{line}");
                }
            }
        }
        told.truncate(told.trim_end().len());
    }
    told.push('\n');
    told
}

impl Story {
    fn new() -> Self {
        let world = World::new();
        let said = world.log.len();
        Self {
            world,
            names: Vec::new(),
            counts: BTreeMap::new(),
            instances: BTreeMap::new(),
            tokens: BTreeMap::new(),
            requests: BTreeMap::new(),
            said,
            out: String::new(),
        }
    }

    fn call(&mut self, id: impl ToString, kind: &str) -> String {
        let id = id.to_string();
        if let Some((_, known)) = self.names.iter().find(|(known, _)| *known == id) {
            return known.clone();
        }
        let count = self.counts.entry(kind.to_owned()).or_insert(0);
        *count += 1;
        let called = format!("{kind}.{count}");
        self.names.push((id, called.clone()));
        called
    }

    fn learn(&mut self, event: &Event) {
        match event {
            Event::ReleaseCreated { release, .. } => drop(self.call(release, "release")),
            Event::DeployStarted { deploy, .. } => drop(self.call(deploy, "deploy")),
            Event::InstanceAllocated { instance, process, .. } => {
                let called = self.call(instance, process.as_str());
                self.instances.insert(called, *instance);
            }
            Event::RouteRequested { route, matches, .. } => {
                let called = match matches {
                    types::plan::RouteMatch::Tls { host } => host.to_string(),
                    types::plan::RouteMatch::Tcp { listen } => format!("port {listen}"),
                };
                self.names.push((route.to_string(), called));
            }
            Event::NodeEnrolled { node, name, .. } => self.names.push((node.to_string(), name.to_string())),
            Event::TokenCreated { token, name, role, .. } => {
                let called = match role {
                    Role::Node => format!("credential-of-{name}"),
                    Role::Join | Role::MemberJoin => format!("join-{name}"),
                    _ => name.to_string(),
                };
                self.tokens.insert(called.clone(), *token);
                self.names.push((token.to_string(), called));
            }
            Event::EnvironmentCreated { env, name, .. } => {
                self.names.push((env.to_string(), name.to_string()))
            }
            Event::AppCreated { app, name, .. } => self.names.push((app.to_string(), name.to_string())),
            _ => {}
        }
    }

    fn name_all(&mut self) {
        let events: Vec<Event> = self.world.log.iter().map(|envelope| envelope.event.clone()).collect();
        self.names.clear();
        self.counts.clear();
        events.iter().for_each(|event| self.learn(event));
        for (called, id) in &self.requests {
            self.names.push((id.to_string(), called.clone()));
        }
    }

    /// What has happened since it was last told.
    fn speak(&mut self) -> String {
        self.tell_events();
        std::mem::take(&mut self.out)
    }

    fn tell_events(&mut self) {
        self.name_all();
        let news: Vec<Event> =
            self.world.log[self.said..].iter().map(|envelope| envelope.event.clone()).collect();
        self.said = self.world.log.len();
        for event in news {
            let line = self.plain(&render(&event));
            let _ = writeln!(self.out, "  {line}");
        }
    }

    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (id, called) in &self.names {
            text = text.replace(id, called);
            text = text.replace(&format!("ins_…{}", &id[id.len() - 6..]), called);
        }
        text
    }

    fn note(&mut self, line: &str) {
        self.tell_events();
        let line = self.plain(line);
        let _ = writeln!(self.out, "  {line}");
    }

    fn submit(&mut self, command: Command) {
        if let Err(rejection) = self.world.submit(command) {
            self.refused(&rejection);
        }
    }

    fn refused(&mut self, rejection: &Rejection) {
        self.note(&format!("refused ({}): {rejection}", rejection.code()));
    }

    fn instance(&mut self, called: &str) -> InstanceId {
        self.name_all();
        *self.instances.get(called).unwrap_or_else(|| panic!("no instance {called}"))
    }

    fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["node", text, size, ref roles @ ..] => {
                let size: ByteSize = size.parse().expect("a size");
                let role = |role: &&str| if *role == "edge" { NodeRole::Edge } else { NodeRole::Agent };
                let roles: Vec<NodeRole> = roles.iter().map(role).collect();
                self.world.node(text, &roles, size);
            }
            ["apply", tag, ref rest @ ..] => self.apply("shop", tag, rest),
            ["apply-as", app, tag, ref rest @ ..] => self.apply(app, tag, rest),
            ["scale", _] | ["restart"] | ["rollback"] | ["rollback", _] => {
                let command = self.command(line);
                self.submit(command);
            }
            ["report", called, ref rest @ ..] => {
                let id = self.instance(called);
                self.world.report(id, change(rest));
            }
            ["report-again", called, ref rest @ ..] => self.report_again(called, &change(rest)),
            ["node-drain", text] => {
                let node = self.world.node_named(text);
                self.submit(Command::DrainNode { node });
            }
            ["node-activate", text] => {
                let node = self.world.node_named(text);
                self.submit(Command::ActivateNode { node });
            }
            ["delete-env" | "delete-app" | "node-disable" | "node-remove", ..] => self.take_out(&words),
            ["stops", text] => self.machine(text).up = false,
            ["starts", text] => self.machine(text).up = true,
            ["edge-waits", text] => self.machine(text).lag = u32::MAX,
            ["edge-takes", text] => self.machine(text).lag = 0,
            ["leases"] => self.world.lease_all(),
            ["plan"] => drop(self.world.plan()),
            ["wait", span] => self.world.wait(span.parse().expect("a span")),
            ["pass", count] => (0..count.parse::<u32>().expect("a number")).for_each(|_| {
                self.world.wait(types::DurationMs::from_secs(1));
                self.world.lease_all();
                self.world.agents(&mut |_, _| Change::Ready);
                self.world.plan();
            }),
            ["explain"] => self.explain(),
            ["way-back"] => {
                let env = self.world.env("shop", "prod");
                let latest = self.world.state.envs[&env].latest.expect("there was a deploy");
                let text = plan::way_back(&self.world.state, latest);
                self.note(&format!("way back: {}", text.unwrap_or_else(|| "not needed".into())));
            }
            ["instances"] => self.instances(),
            ["backends"] => self.backends(),
            ["token", text, role, ref span @ ..] => self.token(text, role, span),
            ["revoke", text] => {
                self.name_all();
                let token = *self.tokens.get(text).unwrap_or_else(|| panic!("no token {text}"));
                self.submit(Command::RevokeToken { token });
            }
            ["enrol-again", text] => self.enrol_again(text),
            ["request", called, ref rest @ ..] => self.request(called, 1, &rest.join(" ")),
            ["request-changed", called, ref rest @ ..] => self.request(called, 2, &rest.join(" ")),
            ["horizon"] => {
                let steps = plan::garbage(&self.world.state, self.world.now);
                steps.into_iter().for_each(|step| drop(self.world.step(step)));
            }
            _ => panic!("no such line: {line}"),
        }
    }

    fn take_out(&mut self, words: &[&str]) {
        let told = match *words {
            ["delete-env"] => {
                let env = self.world.env("shop", "prod");
                self.world.delete_env(env)
            }
            ["delete-app", text] => {
                let app = self.world.state.app_names[&(self.world.org, name(text))];
                self.world.delete_app(app)
            }
            ["node-disable", text] => self.world.disable(self.world.node_named(text)),
            ["node-remove", text, ref said @ ..] => self.world.remove(self.world.node_named(text), said),
            _ => panic!("no such line: {words:?}"),
        };
        drop(told.map_err(|rejection| self.refused(&rejection)));
    }

    fn token(&mut self, text: &str, role: &str, span: &[&str]) {
        let role = if role == "owner" { Role::Owner } else { Role::Viewer };
        let expires = span.first().map(|span| self.world.now.plus(span.parse().expect("a span")));
        let mut hash = [4; 32];
        hash[..text.len()].copy_from_slice(text.as_bytes());
        let token = NewToken { name: name(text), hash, expires };
        let org = self.world.org;
        self.submit(Command::CreateToken { org, role, token });
    }

    fn machine(&mut self, text: &str) -> &mut crate::world::Machine {
        let node = self.world.node_named(text);
        self.world.machines.get_mut(&node).expect("a node of this world")
    }

    /// `web=2` is a process and its replicas, `web=2@64` with its cap in Mi, a word with a dot a host,
    /// `on:web:9090` the port of all processes, `proxy-v2` what routes say before anything else,
    /// `to:worker` where they lead when not to the first process.
    fn apply(&mut self, app: &str, tag: &str, rest: &[&str]) {
        let host = rest.iter().copied().find(|word| word.contains('.'));
        let processes: Vec<(&str, u32, u64)> = rest
            .iter()
            .filter_map(|word| word.split_once('='))
            .map(|(process, count)| {
                let (count, mib) = count.split_once('@').unwrap_or((count, "64"));
                (process, count.parse().expect("a number"), mib.parse().expect("a number"))
            })
            .collect();
        let mut declared = manifest(app, tag, &processes, host);
        let port = rest.iter().find_map(|word| word.strip_prefix("on:")).unwrap_or("http:8080");
        let (port, number) = port.split_once(':').expect("name:number");
        let proxy_protocol = if rest.contains(&"proxy-v2") { ProxyProtocol::V2 } else { ProxyProtocol::Off };
        declared = speaking(declared, port, number.parse().expect("a number"), proxy_protocol);
        if let Some(process) = rest.iter().find_map(|word| word.strip_prefix("to:")) {
            declared.routes.iter_mut().for_each(|route| route.process = name(process));
        }
        if let Err(rejection) = self.world.apply(declared) {
            self.refused(&rejection);
        }
    }

    fn command(&mut self, line: &str) -> Command {
        let env = self.world.env("shop", "prod");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["scale", to] => {
                let (process, to) = to.split_once('=').expect("process=count");
                Command::Scale { env, process: name(process), replicas: to.parse().expect("a number") }
            }
            ["restart"] => Command::Restart { env },
            ["rollback"] => Command::Rollback { env, release: None },
            ["rollback", number] => {
                let number: usize = number.parse().expect("a number");
                Command::Rollback { env, release: Some(self.world.state.envs[&env].releases[number - 1]) }
            }
            ["void", called] => {
                let request = self.request_id(called);
                Command::VoidRequest { request }
            }
            _ => panic!("no such command: {line}"),
        }
    }

    fn request_id(&mut self, called: &str) -> RequestId {
        let fresh = RequestId::from_parts(self.world.now, self.requests.len() as u128 + 1);
        *self.requests.entry(called.to_owned()).or_insert(fresh)
    }

    fn request(&mut self, called: &str, body: u8, line: &str) {
        let id = self.request_id(called);
        let command = self.command(line);
        let actor = Actor::Token(TokenId::from_u128(77));
        match self.world.submit_as(actor, &command, Some((id, [body; 32])), None) {
            Settled::Now { outcome: Ok(done), .. } => self.note(&format!("answer: {}", done.summary)),
            Settled::Now { outcome: Err(rejection), .. } => self.refused(&rejection),
            Settled::Before(decided) => self.note(&format!("as before: {}", verdict(&decided.verdict))),
            Settled::Unacceptable(rejection) => self.refused(&rejection),
        }
    }

    fn report_again(&mut self, called: &str, change: &Change) {
        let instance = self.instance(called);
        let found = &self.world.state.instances[&instance];
        let (node, sequence, at) = (found.node, found.report, self.world.now);
        let transitions = vec![types::plan::Transition { instance, sequence, at, change: change.clone() }];
        if self.world.ok(Command::Report { node, transitions }).is_empty() {
            self.note("nothing new");
        }
    }

    fn enrol_again(&mut self, text: &str) {
        self.name_all();
        let join = self.tokens[&format!("join-{text}")];
        let roles = [NodeRole::Agent].into();
        let capacity = types::plan::Capacity::default();
        self.submit(Command::EnrolNode { join, name: name("second"), roles, capacity, credential: [8; 32] });
    }

    fn explain(&mut self) {
        let env = self.world.env("shop", "prod");
        let lines = plan::explain(&self.world.state, env, &self.world.observed, self.world.now);
        if lines.is_empty() {
            self.note("all is as wanted");
        }
        for line in lines {
            let text = format!("{}: {}, {}: {}", line.subject, line.desired, line.actual, line.why);
            self.note(&text);
        }
    }

    /// What edges are told of every route, as they will use it.
    fn backends(&mut self) {
        for route in derive::edge_plan(&self.world.state, "test").routes.values() {
            let RouteMatch::Tls { host } = &route.matches else { panic!("only names here") };
            let told = |backend: &Backend| {
                let proxy_protocol = backend.proxy_protocol.unwrap_or(route.proxy_protocol);
                format!("{} at port {}, proxy {proxy_protocol:?}", backend.instance, backend.address.port())
            };
            let told: Vec<String> = route.backends.iter().map(told).collect();
            let told = if told.is_empty() { "nobody".into() } else { told.join("; ") };
            self.note(&format!("{host} leads to {told}"));
        }
    }

    fn instances(&mut self) {
        self.name_all();
        for (called, id) in self.instances.clone() {
            let state = self.world.state.instances.get(&id).map(|found| {
                let released =
                    if found.released && found.state == InstanceState::Draining { ", released" } else { "" };
                format!("{:?}{released} on {}", found.state, self.world.state.nodes[&found.node].name)
                    .to_lowercase()
            });
            self.note(&format!("{called} is {}", state.unwrap_or_else(|| "gone".into())));
        }
    }
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Executed(done) => format!("executed: {}", done.summary),
        Verdict::Refused { code, text } => format!("refused ({code}): {text}"),
        Verdict::Voided => "voided".to_owned(),
    }
}

fn change(words: &[&str]) -> Change {
    let reason = |text: &str| match text {
        "oom_killed" => Reason::OomKilled,
        "exited" => Reason::Exited,
        "image_unavailable" => Reason::ImageUnavailable,
        "command_invalid" => Reason::CommandInvalid,
        _ => panic!("no such reason here: {text}"),
    };
    match words {
        ["preparing"] => Change::Preparing,
        ["booting"] => Change::Booting,
        ["ready"] => Change::Ready,
        ["unready"] => Change::Unready { detail: "no answer".into() },
        ["stopped"] => Change::Stopped,
        ["collected"] => Change::Collected,
        ["waiting", why] => Change::Waiting { reason: reason(why), detail: "tries again".into() },
        ["crashed", why, times] => {
            let restarts = times.parse().expect("a number");
            Change::Crashed { reason: reason(why), detail: String::new(), restarts }
        }
        ["failed", why] => Change::Failed { reason: reason(why), detail: "no such file".into() },
        _ => panic!("no such change: {words:?}"),
    }
}

fn render(event: &Event) -> String {
    let kind = event.kind();
    match event {
        Event::ReleaseCreated { release, number, .. } => format!("{kind} {release} number {number}"),
        Event::ReleaseAvailable { release }
        | Event::ReleasePromoted { release }
        | Event::ReleaseSuperseded { release }
        | Event::ReleaseRolledBack { release } => format!("{kind} {release}"),
        Event::DeployStarted { deploy, release, kind: why, .. } => {
            format!("{kind} {deploy} of {release} ({})", format!("{why:?}").to_lowercase())
        }
        Event::DeployRolling { deploy }
        | Event::DeployCutOver { deploy }
        | Event::DeploySucceeded { deploy } => {
            format!("{kind} {deploy}")
        }
        Event::DeployFailed { deploy, failure } => match failure {
            DeployFailure::Attempts { reason, .. } => format!("{kind} {deploy}: attempts used up, {reason}"),
            DeployFailure::Deadline { waiting } => {
                format!("{kind} {deploy}: deadline, waiting for {waiting}")
            }
            DeployFailure::Superseded { by } => format!("{kind} {deploy}: superseded by {by}"),
            DeployFailure::Deleted => format!("{kind} {deploy}: deleted"),
        },
        Event::ScaleSet { process, replicas, .. } => format!("{kind} {process} to {replicas}"),
        Event::InstanceAllocated { instance, deploy, node, .. } => {
            format!("{kind} {instance} on {node} for {deploy}")
        }
        Event::InstanceChanged { instance, .. }
        | Event::InstanceDraining { instance }
        | Event::InstanceLost { instance } => format!("{kind} {instance}"),
        Event::InstanceReleased { instance, forced } => {
            format!("{kind} {instance}{}", if *forced { " (forced)" } else { "" })
        }
        Event::RouteRequested { route, process, .. } => format!("{kind} {route} to {process}"),
        Event::RouteUpdating { route, process, .. } => format!("{kind} {route} to {process}"),
        Event::RouteValidated { route } | Event::RouteActivated { route } | Event::RouteRemoved { route } => {
            format!("{kind} {route}")
        }
        Event::NodeEnrolled { node, .. }
        | Event::NodeActivated { node }
        | Event::NodeDraining { node }
        | Event::NodeDisabled { node, .. }
        | Event::NodeRemoved { node, .. } => format!("{kind} {node}"),
        Event::EnvironmentDeleted { env, .. } => format!("{kind} {env}"),
        Event::AppDeleted { app, .. } => format!("{kind} {app}"),
        Event::NodeHealthChanged { node, health } => {
            format!("{kind} {node} {}", format!("{health:?}").to_lowercase())
        }
        Event::TokenCreated { token, role, .. } => {
            format!("{kind} {token} ({})", format!("{role:?}").to_lowercase())
        }
        Event::TokenRevoked { token } => format!("{kind} {token}"),
        Event::RequestDecided { request, verdict: came, .. } => {
            format!("{kind} {request}: {}", verdict(came))
        }
        _ => kind.to_owned(),
    }
}

#[test]
fn deletion() {
    check("deletion");
}

#[test]
fn release() {
    check("release");
}

#[test]
fn deploy() {
    check("deploy");
}

#[test]
fn instance() {
    check("instance");
}

#[test]
fn route() {
    check("route");
}

#[test]
fn node() {
    check("node");
}

#[test]
fn token() {
    check("token");
}

#[test]
fn request() {
    check("request");
}
