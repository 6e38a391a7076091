//! Pages about hosts, agents, edges and what runs: a whole Holdfast with real containers.

use crate::page::{Machine, Page};
use api::{EnrolRequest, NodeClient};
use demo::{
    Authority, Cli, Manifest, Outcome, Platform, Registry, Role, Running, Target, get_blocking,
    image::{Recipe, Temper, build},
    wait_for,
};
use rt::{Clock as _, Random as _};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use types::{
    ByteSize, MilliCpu, RequestId,
    plan::{Capacity, NodeRole},
};

pub const HOST: &str = "shop.example";
/// How long a wait for something that must happen may take.
pub const SOON: Duration = Duration::from_secs(40);

/// Server, agent and edge, with version 1 of an app deployed.
pub struct Site {
    pub platform: Platform,
    pub layout: PathBuf,
    pub dir: tempfile::TempDir,
}

impl Machine for Site {
    fn program(&self, program: &str) -> Command {
        let mut command = self.platform.program(program);
        command.env("HOLDFAST_SERVER", self.platform.url());
        command
    }
}

impl Site {
    /// Nothing runs yet.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-rb-").tempdir().expect("a directory");
        let authority = Authority::new().expect("an authority");
        let sound = ["v1", "v2"].map(|version| Recipe { version, temper: Temper::Sound });
        let broken = [Recipe { version: "v3", temper: Temper::Unready }];
        let layout = dir.path().join("image");
        let recipes: Vec<Recipe<'_>> = sound.into_iter().chain(broken).collect();
        build(&layout, &authority, &[HOST], &recipes).expect("the demo's image");
        let binary = Path::new(env!("CARGO_BIN_EXE_holdfast"));
        let platform = Platform::new(binary, &dir.path().join("run")).expect("a platform");
        Self { platform, layout, dir }
    }

    /// All three roles run, and version 1 serves.
    pub fn serve(&mut self) {
        self.platform.start().expect("server, agent and edge");
        self.apply("v1").expect("an answer").executed().expect("version 1 deployed");
        self.answered("v1");
    }

    pub fn apply(&self, tag: &str) -> Outcome<Cli> {
        self.platform.apply(&self.manifest(&format!("oci:{}:{tag}", self.layout.display())))
    }

    fn manifest(&self, image: &str) -> String {
        Manifest { image, host: HOST, tcp: self.platform.tcp_port(), replicas: 1 }.text()
    }

    /// Declares an image, and waits for nothing.
    fn declare(&self, image: &str) {
        fs::write(self.platform.dir().join("holdfast.toml"), self.manifest(image)).expect("a manifest");
        let said = self.platform.cli(&["apply", "--yes", "--no-wait"]).expect("an answer");
        said.executed().expect("declared");
    }

    /// Waits until this version answers by way of the edge.
    pub fn answered(&self, version: &str) {
        let target = Target::plain(self.platform.tcp_port());
        wait_for(&format!("version {version} to answer"), SOON, || {
            let answer = get_blocking(&target, "/version", Duration::from_secs(3)).ok()?;
            (String::from_utf8_lossy(&answer.body).trim() == version).then_some(())
        })
        .expect("served");
    }

    /// Waits until an instance says this.
    fn told(&self, words: &str) {
        wait_for(words, SOON, || {
            let rows = self.platform.cli(&["ps", "--all", "--json"]).ok()?.stdout;
            rows.contains(words).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {:?}", self.platform.cli(&["ps", "--all", "--json"])));
    }

    fn one(&self) -> Running {
        wait_for("an instance to run", SOON, || self.platform.running().into_iter().next()).expect("it runs")
    }

    pub fn data(&self, role: Role) -> String {
        self.platform.data(role).display().to_string()
    }
}

#[test]
fn pages_about_roles_that_are_gone() {
    let mut site = Site::new();
    site.serve();
    let before = site.one().main();
    the_server(&mut site);
    the_agent(&mut site);
    the_edge(&mut site);
    cut_off(&mut site);
    assert_eq!(site.one().main(), before, "no page asked for a restart of what runs");
    an_instance(&site);
    site.platform.stop().expect("an orderly end");
}

fn the_server(site: &mut Site) {
    let mut page = Page::read("control-plane-down");
    site.platform.kill_hard(Role::Server);
    let data = site.data(Role::Server);
    let words = [("DATA", data.as_str())];
    page.walk("look", site, &words);
    site.answered("v1");
    page.walk("check", site, &words);
    page.walk("start", site, &words);
    site.platform.start_server().expect("the server again");
    let over = page.says("over", site, &words);
    assert!(over.contains("is as declared"), "{over}");
}

fn the_agent(site: &mut Site) {
    let (mut page, mut lost) = (Page::read("agent-down"), Page::read("host-lost"));
    site.platform.kill_hard(Role::Agent);
    let data = site.data(Role::Agent);
    let words = [("DATA", data.as_str()), ("NODE", "agent")];
    assert!(page.says("look", site, &words).contains("agent"));
    lost.walk("look", site, &words);
    page.walk("start", site, &words);
    site.platform.start_agent().expect("the agent again");
    page.walk("over", site, &words);
    // A host that comes and goes. There is no other, so what runs stays until it is active again.
    lost.walk("drain", site, &words);
    assert!(page.says("look", site, &words).contains("draining"));
    lost.walk("activate", site, &words);
    // And one that was enrolled and never came back.
    spare(site);
    let words = [("NODE", "spare")];
    lost.walk("disable", site, &words);
    lost.walk("remove", site, &words);
    lost.walk("over", site, &words);
    let left = site.platform.cli(&["nodes", "list"]).expect("an answer").executed().expect("a list");
    assert!(!left.stdout.contains("spare"), "{left:?}");
}

/// A node of which nothing runs.
fn spare(site: &Site) {
    let secret =
        site.platform.cli(&["nodes", "join-token"]).expect("an answer").executed().expect("a secret");
    let request = EnrolRequest {
        join_token: secret
            .stdout
            .split_whitespace()
            .find(|word| word.starts_with("hf_"))
            .expect("a secret")
            .into(),
        name: "spare".parse().expect("a name"),
        roles: vec![NodeRole::Agent],
        capacity: Capacity { memory: ByteSize::from_mib(64), cpu: MilliCpu::new(100) },
    };
    let id = RequestId::from_parts(rt::SystemClock.now(), rt::OsRandom.u128());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    runtime.block_on(NodeClient::enrol(&site.platform.url(), id, &request)).expect("enrolled");
}

fn the_edge(site: &mut Site) {
    let mut page = Page::read("edge-down");
    site.platform.kill_hard(Role::Edge);
    let data = site.data(Role::Edge);
    let words = [("DATA", data.as_str()), ("NODE", "edge")];
    assert!(page.says("look", site, &words).contains(HOST));
    page.walk("drain", site, &words);
    page.walk("start", site, &words);
    site.platform.start_edge().expect("the edge again");
    page.walk("activate", site, &words);
    site.answered("v1");
    page.walk("over", site, &words);
}

/// The agent says nothing for a while.
fn cut_off(site: &mut Site) {
    let mut page = Page::read("node-cut-off");
    let agent = site.platform.process(Role::Agent).expect("it runs").pid();
    demo::kill(agent, libc::SIGSTOP);
    wait_for("its silence to be seen", SOON, || {
        let said = page.says("look", site, &[]);
        let row = said.lines().find(|line| line.starts_with("agent "))?;
        ["4s ago", "5s ago", "6s ago", "7s ago"].iter().any(|age| row.contains(age)).then_some(())
    })
    .expect("it is told");
    page.walk("node", site, &[]);
    demo::kill(agent, libc::SIGCONT);
    page.walk("over", site, &[]);
}

/// The one instance is killed.
fn an_instance(site: &Site) {
    let mut page = Page::read("backends-lost");
    let victim = site.one().main();
    victim.kill(libc::SIGKILL);
    page.walk("look", site, &[]);
    page.walk("instances", site, &[]);
    page.walk("restart", site, &[]);
    page.walk("over", site, &[]);
    site.answered("v1");
    assert_ne!(site.one().main(), victim);
}

#[test]
fn pages_about_deploys_that_wait() {
    let mut site = Site::new();
    let disk = SmallDisk::at(&site.platform.data(Role::Agent));
    site.serve();
    a_deploy_that_cannot_succeed(&site);
    a_registry_that_is_gone(&mut site);
    a_full_host(&site, &disk);
    site.platform.stop().expect("an orderly end");
}

fn a_deploy_that_cannot_succeed(site: &Site) {
    let mut page = Page::read("deploy-stuck");
    site.declare(&format!("oci:{}:v3", site.layout.display()));
    wait_for("an instance that is not ready", SOON, || {
        let rows = site.platform.cli(&["ps", "--json"]).ok()?.stdout;
        rows.contains("booting").then_some(())
    })
    .expect("it begins");
    assert!(page.says("look", site, &[]).contains("web"));
    page.walk("instances", site, &[]);
    site.answered("v1");
    page.walk("back", site, &[]);
    page.walk("over", site, &[]);
    site.answered("v1");
}

fn a_registry_that_is_gone(site: &mut Site) {
    let mut page = Page::read("registry-gone");
    let mut registry = Registry::start(site.dir.path()).expect("a registry");
    let image = registry.push(&site.layout, "v2", "shop").expect("a push");
    // Pinned while the registry is there, and not fetched before it is gone.
    site.platform.kill_hard(Role::Agent);
    site.declare(&image);
    registry.kill_hard();
    site.platform.start_agent().expect("the agent again");
    site.told("image_unavailable");
    assert!(page.says("look", site, &[]).contains("image"));
    page.walk("back", site, &[]);
    page.walk("over", site, &[]);
    site.answered("v1");
}

/// A small disk for one role.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("made");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=192m", "holdfast-test"]).arg(dir).status();
        assert!(status.expect("mount").success(), "this needs root");
        Self(dir.to_owned())
    }

    /// Leaves a few mebibytes: less than an agent takes new instances with, also where it was filled before.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.0.join("fill")).expect("a file");
        while file.write_all(&vec![1; 1 << 20]).is_ok() {}
        let size = file.metadata().expect("known").len();
        file.set_len(size.saturating_sub(3 << 20)).expect("a little less");
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("fill")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open on it is being ended.
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(std::process::Stdio::null()).status();
    }
}

fn a_full_host(site: &Site, disk: &SmallDisk) {
    let mut page = Page::read("host-disk-full");
    let data = site.data(Role::Agent);
    let words = [("DATA", data.as_str()), ("NODE", "agent")];
    wait_for("the agent to say so", SOON, || {
        // It makes room first, by dropping images that nobody uses: that is filled up as well.
        disk.fill();
        let nodes = site.platform.cli(&["nodes", "list"]).ok()?.stdout;
        nodes.contains("disk_full").then_some(())
    })
    .expect("said");
    let said = site.platform.cli(&["scale", "web=2", "--no-wait"]).expect("an answer");
    said.executed().expect("declared");
    page.walk("look", site, &words);
    site.answered("v1");
    page.walk("drain", site, &words);
    page.walk("activate", site, &words);
    disk.clear();
    page.walk("over", site, &words);
    assert_eq!(site.platform.running().len(), 2, "what waited runs");
}
