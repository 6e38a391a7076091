//! What operators watch: the figures of every role, the alerts over them, and the dashboard.
//!
//! `promtool` (Debian's package `prometheus`) reads them as Prometheus does. A real `up`, with backups,
//! says which figures there are; rules and dashboard may read no others. Needs root, as agents do.

use demo::{Process, free_ports, get_plain, wait_for};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

/// How long a wait for something that must happen may take.
const SOON: Duration = Duration::from_secs(40);
/// Series of one role of a small installation, at most: a label without a bound shows here.
const SERIES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(root().join("ops/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of the package prometheus: make setup");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn passes(arguments: &[&str], input: &str) {
    let said = promtool(arguments, input);
    let text = [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(said.status.success(), "promtool {arguments:?}: {text}");
}

/// What stands behind `key:` in each line that has it, without quotes.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let of = |line: &'a str| line.trim_start().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": ");
    text.lines().filter_map(of).map(|value| value.trim_matches(['"', '\''])).collect()
}

/// The names of our figures in any text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with("holdfast_")).map(str::to_owned).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("ops/grafana/holdfast.json")).expect("JSON")
}

/// Every expression of the dashboard, by the title of its panel.
fn expressions() -> Vec<(String, String)> {
    let panels = dashboard()["panels"].as_array().expect("panels").clone();
    let of = |panel: &Value| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let expr = |target: Value| target["expr"].as_str().expect("an expression").to_owned();
        targets.into_iter().map(expr).map(|expr| (title.clone(), expr)).collect::<Vec<_>>()
    };
    panels.iter().flat_map(of).collect()
}

#[test]
fn alerts_fire_when_they_should_and_are_silent_when_not() {
    passes(&["check", "config", "prometheus.yml"], "");
    passes(&["check", "rules", "holdfast.rules.yml"], "");
    passes(&["test", "rules", "holdfast.rules.test.yml"], "");
    let (rules, tests) =
        (read("ops/prometheus/holdfast.rules.yml"), read("ops/prometheus/holdfast.rules.test.yml"));
    let tried: BTreeSet<&str> = values(&tests, "name").into_iter().collect();
    let alerts = values(&rules, "alert");
    assert!(alerts.len() >= 20, "{alerts:?}");
    for alert in &alerts {
        for how in ["fires", "is silent"] {
            assert!(tried.contains(&*format!("{alert} {how}")), "no test in which {alert} {how}");
        }
    }
    for key in ["severity", "summary", "runbook"] {
        assert_eq!(values(&rules, key).len(), alerts.len(), "each alert has a {key}");
    }
    let severities: BTreeSet<&str> = values(&rules, "severity").into_iter().collect();
    assert_eq!(severities, BTreeSet::from(["critical", "warning"]));
}

#[test]
fn every_alert_has_a_page_that_says_what_to_do() {
    let index = read("docs/runbooks/README.md");
    for page in values(&read("ops/prometheus/holdfast.rules.yml"), "runbook") {
        assert!(root().join(page).exists(), "{page} is not there");
        let name = page.rsplit('/').next().expect("a file");
        assert!(index.contains(&format!("]({name})")), "docs/runbooks/README.md does not lead to {name}");
    }
}

#[test]
fn the_dashboard_is_one_and_each_of_its_expressions_parses() {
    let dashboard = dashboard();
    for key in ["uid", "title", "schemaVersion", "panels", "templating", "time", "refresh"] {
        assert!(!dashboard[key].is_null(), "{key} is missing");
    }
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "an id for each panel");
    let mut rows = Vec::new();
    for panel in panels {
        let place: Vec<_> =
            ["h", "w", "x", "y"].iter().filter_map(|key| panel["gridPos"][key].as_u64()).collect();
        assert_eq!(place.len(), 4, "{panel}");
        assert!(place[1] + place[2] <= 24, "wider than the grid: {panel}");
        if panel["type"] == "row" {
            rows.push(panel["title"].as_str().expect("a title"));
        } else {
            assert!(!panel["description"].as_str().expect("a description").is_empty(), "{panel}");
            assert!(!panel["targets"].as_array().expect("targets").is_empty(), "{panel}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "any data source can be chosen: {panel}");
        }
    }
    assert_eq!(rows, ["Overview", "Cluster", "Edges", "Agents"]);
    // As rules, so that the parser of Prometheus reads them.
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (nth, (_, expr)) in expressions().iter().enumerate() {
        let expr = serde_json::to_string(expr).expect("text");
        rules.push_str(&format!("      - record: panel:{nth}:value\n        expr: {expr}\n"));
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), rules).expect("written");
    passes(&["check", "rules", &file.path().display().to_string()], "");
}

/// A whole Holdfast that backs itself up.
struct Scene {
    dir: tempfile::TempDir,
    /// API, TLS, the agent's and the edge's metrics.
    ports: [u16; 4],
    up: Option<Process>,
}

impl Scene {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-watch-").tempdir().expect("a directory");
        fs::create_dir(dir.path().join("backups")).expect("made");
        let key = dir.path().join("key");
        fs::write(&key, "A".repeat(43) + "=").expect("written");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("private");
        let mut scene = Self { dir, ports: free_ports().expect("ports"), up: None };
        let [api, tls, agent, edge] = scene.ports.map(|port| format!("127.0.0.1:{port}"));
        let mut command = scene.command();
        command.args(["up", "--data-dir", "data", "--listen", &api, "--tls-listen", &tls]);
        command.args(["--tcp-address", "127.0.0.1", "--agent-metrics", &agent, "--edge-metrics", &edge]);
        command.args(["--backup-to", "backups", "--backup-key-file", "key", "--backup-archive", "1s"]);
        command.args(["--backup-every", "2s", "--backup-drill", "2s"]);
        scene.up = Some(Process::start(scene.dir.path(), "up", &mut command).expect("up starts"));
        scene
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOLDFAST_")) {
            command.env_remove(name);
        }
        command.current_dir(self.dir.path()).env("HOLDFAST_CONFIG", self.dir.path().join("context.toml"));
        command
    }

    /// The figures of server, agent and edge.
    fn pages(&self) -> Option<[String; 3]> {
        let [api, _, agent, edge] = self.ports;
        let page = |port: u16| {
            let answer = get_plain(&format!("127.0.0.1:{port}"), "/metrics", Duration::from_secs(2)).ok()?;
            (answer.status == 200).then(|| String::from_utf8_lossy(&answer.body).into_owned())
        };
        Some([page(api)?, page(agent)?, page(edge)?])
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(up) = self.up.take() {
            up.terminate(SOON).ok();
        }
        demo::clear_host(self.dir.path()).ok();
    }
}

/// The kind of each figure of a page. Every line must belong to one that has its help and its kind before it.
fn kinds(page: &str) -> BTreeMap<String, String> {
    let (mut kinds, mut helped) = (BTreeMap::new(), BTreeSet::new());
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(!help.trim().is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            assert!(helped.contains(name), "no help before: {line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
        } else {
            let name = line.split(['{', ' ']).next().expect("a name");
            let ends = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let histogram = ends.and_then(|name| kinds.get(name)).is_some_and(|kind| kind == "histogram");
            assert!(kinds.contains_key(name) || histogram, "no kind before: {line}");
        }
    }
    kinds
}

/// What the doctor says of a server that is well, and of one that is not there.
fn the_doctor_looks(scene: &Scene, server: &str) {
    let look = |server: &str| {
        let output =
            scene.command().args(["doctor", "--json", "--data-dir", "data", "--server", server]).output();
        let output = output.expect("it runs");
        let said: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let findings = said["findings"].as_array().expect("findings").clone();
        let wanting = findings.iter().filter(|finding| finding["verdict"] == "attention");
        assert!(wanting.clone().all(|finding| finding["next"].is_string()), "each has a command: {said}");
        let code = i32::from(wanting.count() > 0);
        assert_eq!((output.status.code(), &said["ok"]), (Some(code), &Value::Bool(code == 0)), "{said}");
        findings
    };
    let verdict = |findings: &[Value], check: &str| {
        let found = findings.iter().find(|finding| finding["check"] == check);
        found.map(|finding| finding["verdict"].as_str().expect("a word").to_owned())
    };
    let well = look(server);
    for check in
        ["programs", "cgroups", "server", "clock", "ready", "token", "members", "nodes", "views", "backups"]
    {
        assert_eq!(verdict(&well, check).as_deref(), Some("ok"), "{check}: {well:?}");
    }
    let away = look("http://127.0.0.1:1");
    assert_eq!(verdict(&away, "server").as_deref(), Some("attention"), "{away:?}");
    let bash = scene.command().args(["completion", "bash"]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&bash.stdout).contains("__doctor"), "{bash:?}");
}

#[test]
fn what_rules_and_dashboard_read_is_what_the_roles_export() {
    let scene = Scene::start();
    let wanted = [
        "holdfast_backup_age_seconds ",
        "holdfast_backup_drill_age_seconds ",
        "holdfast_archive_age_seconds ",
    ];
    let pages = wait_for("the figures of all roles, a backup and a drill", SOON, || {
        // The owner's token is handed over by way of the saved context.
        let pages = scene.pages().filter(|_| scene.dir.path().join("context.toml").exists())?;
        let leases = pages[0].matches("\nholdfast_lease_age_seconds{").count() == 2;
        (leases && wanted.iter().all(|name| pages[0].contains(name))).then_some(pages)
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", scene.pages()));
    let server = format!("http://127.0.0.1:{}", scene.ports[0]);
    let snapshot =
        scene.command().args(["cluster", "snapshot", "--server", &server]).output().expect("it runs");
    assert!(snapshot.status.success(), "{snapshot:?}");
    the_doctor_looks(&scene, &server);
    let mut exported = BTreeSet::new();
    for page in scene.pages().into_iter().chain([pages]).flatten() {
        passes(&["check", "metrics"], &page);
        for (name, kind) in kinds(&page) {
            if kind == "histogram" {
                exported.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
            }
            exported.insert(name);
        }
        let series = page.lines().filter(|line| !line.starts_with('#')).count();
        assert!(series <= SERIES, "{series} series");
    }
    let rules = values(&read("ops/prometheus/holdfast.rules.yml"), "alert").len();
    assert!(rules > 0);
    let mut read_by: Vec<(String, String)> = expressions();
    read_by.push(("rules".into(), read("ops/prometheus/holdfast.rules.yml")));
    read_by.push(("tests of rules".into(), read("ops/prometheus/holdfast.rules.test.yml")));
    for (where_from, text) in read_by {
        for name in names(&text) {
            assert!(exported.contains(&name), "{name} of {where_from} is exported by nobody: {exported:?}");
        }
    }
}
