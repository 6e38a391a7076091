//! Roles as processes: what they say when they cannot start, and how they end.

use std::{
    io::{BufRead, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

fn holdfast(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOLDFAST_")) {
        command.env_remove(name);
    }
    command.current_dir(dir).env("HOLDFAST_CONFIG", dir.join("context.toml")).args(args).stdin(Stdio::null());
    command
}

/// Runs to the end, and answers with the exit code and what it said on standard error.
fn said(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().expect("the program runs");
    (status.code().unwrap_or(-1), String::from_utf8_lossy(&stderr).into_owned())
}

/// A server that ends with the test.
struct Server {
    child: Child,
    token: String,
}

impl Server {
    /// Starts one, and waits for the token that it prints when it is up for the first time.
    fn start(dir: &Path, listen: &str) -> Self {
        let mut command = holdfast(dir, &["server", "--data-dir", "data", "--listen", listen]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("it speaks");
        let token = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        assert!(token.starts_with("hf_"), "{line:?}");
        Self { child, token }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").to_string()
}

#[test]
fn a_server_hands_over_its_token_and_keeps_its_directory_to_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let listen = free_address();
    let mut server = Server::start(dir.path(), &listen);

    let context = dir.path().join("context.toml");
    let (code, err) = said(&mut holdfast(dir.path(), &["wait", "ready", "--timeout", "10s"]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(std::fs::metadata(&context).expect("saved").permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&context).expect("saved").contains(&server.token));
    assert!(!dir.path().join("data/owner-token").exists(), "only the owner has it now");
    let (code, err) = said(&mut holdfast(dir.path(), &["whoami"]));
    assert_eq!(code, 0, "the next command simply works: {err}");

    let other = free_address();
    let (code, err) = said(&mut holdfast(dir.path(), &["server", "--data-dir", "data", "--listen", &other]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("in use by another process"), "{err}");
    let (code, err) =
        said(&mut holdfast(dir.path(), &["server", "--data-dir", "other", "--listen", &listen]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("cannot listen on") && err.contains("--listen"), "{err}");

    let pid = i32::try_from(server.child.id()).expect("a pid");
    // SAFETY: a plain system call on a child that was not waited for yet.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0), "SIGTERM is an orderly end");
    let (code, err) = said(&mut holdfast(dir.path(), &["log", "verify", "--data-dir", "data"]));
    assert_eq!(code, 0, "{err}");
    let output =
        holdfast(dir.path(), &["log", "cat", "--data-dir", "data", "--json"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().next().is_some_and(|line| line.contains("\"kind\":\"cluster.created\"")), "{text}");
    assert!(!text.contains("\"hash\""), "hashes of secrets are nobody's to read: {text}");
}

#[test]
fn a_server_outlives_whoever_read_its_lines() {
    let dir = tempfile::tempdir().expect("a directory");
    let listen = free_address();
    let mut command = holdfast(dir.path(), &["server", "--data-dir", "data", "--listen", &listen]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    // As `holdfast server 2>&1 | head` does: nobody reads what it prints.
    drop((child.stdout.take(), child.stderr.take()));
    let mut server = Server { child, token: String::new() };
    let url = format!("http://{listen}");
    let (code, err) =
        said(&mut holdfast(dir.path(), &["wait", "ready", "--timeout", "20s", "--server", &url]));
    assert_eq!(code, 0, "{err}");
    let (code, err) = said(&mut holdfast(dir.path(), &["whoami"]));
    assert_eq!(code, 0, "the token was saved, though nobody saw it: {err}");
    let pid = i32::try_from(server.child.id()).expect("a pid");
    // SAFETY: a plain system call on a child that was not waited for yet.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0), "SIGTERM is an orderly end");
}

#[test]
fn a_flipped_byte_in_the_log_stops_the_start_and_says_where() {
    let dir = tempfile::tempdir().expect("a directory");
    let listen = free_address();
    drop(Server::start(dir.path(), &listen));
    let log = dir.path().join("data/log");
    let segment = std::fs::read_dir(&log)
        .expect("a log")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|kind| kind == "seg"))
        .expect("a segment");
    let mut bytes = std::fs::read(&segment).expect("read");
    bytes[8] ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    let (code, err) = said(&mut holdfast(dir.path(), &["server", "--data-dir", "data", "--listen", &listen]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains(".seg") && err.contains("damaged"), "{err}");
    let (code, err) = said(&mut holdfast(dir.path(), &["log", "verify", "--data-dir", "data"]));
    assert_eq!(code, 1, "{err}");
}

#[test]
fn a_machine_that_is_no_node_says_how_to_become_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (code, err) = said(&mut holdfast(dir.path(), &["edge", "--data-dir", "edge"]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("holdfast nodes join-token"), "{err}");
    let (code, err) = said(&mut holdfast(dir.path(), &["log", "verify", "--data-dir", "none"]));
    assert_eq!(code, 4, "{err}");
}

/// Runs with one line on standard input; the exit code and all that it said.
fn with_line(command: &mut Command, line: &str) -> (i32, String) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let mut input = child.stdin.take().expect("piped");
    writeln!(input, "{line}").expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code().unwrap_or(-1), text.concat())
}

#[test]
fn a_member_logs_in_on_the_command_line_and_is_out_when_it_is_removed() {
    const PASSWORD: &str = "tables of green rain";
    let dir = tempfile::tempdir().expect("a directory");
    let listen = free_address();
    let server = Server::start(dir.path(), &listen);
    let (code, err) = said(&mut holdfast(dir.path(), &["wait", "ready", "--timeout", "20s"]));
    assert_eq!(code, 0, "{err}");
    let create = ["members", "create", "ann", "--role", "developer"];
    let (code, said_all) = with_line(&mut holdfast(dir.path(), &create), PASSWORD);
    assert_eq!(code, 0, "{said_all}");
    let (code, said_all) =
        with_line(&mut holdfast(dir.path(), &["members", "create", "bea", "--role", "admin"]), "short");
    assert_eq!(code, 2, "{said_all}");

    let hers = dir.path().join("hers");
    std::fs::create_dir(&hers).expect("a directory");
    let url = format!("http://{listen}");
    let login = ["login", "ann", "--server", &url];
    let (code, said_all) = with_line(&mut holdfast(&hers, &login), "not the password at all");
    assert_eq!(code, 3, "{said_all}");
    let (code, said_all) = with_line(&mut holdfast(&hers, &login), PASSWORD);
    assert_eq!((code, said_all.contains(PASSWORD)), (0, false), "{said_all}");
    let saved = hers.join("context.toml");
    assert_eq!(std::fs::metadata(&saved).expect("saved").permissions().mode() & 0o777, 0o600);
    let whoami = holdfast(&hers, &["whoami"]).output().expect("it runs").stdout;
    let whoami = String::from_utf8_lossy(&whoami).into_owned();
    assert!(whoami.contains("(ann) is developer of main"), "{whoami}");
    let (code, said_all) = with_line(&mut holdfast(&hers, &login), PASSWORD);
    assert_eq!(code, 2, "a token is not forgotten by the way: {said_all}");
    let changed = "tables of green rain\nseven rivers in winter";
    let (code, said_all) = with_line(&mut holdfast(&hers, &["members", "password"]), changed);
    assert_eq!((code, said_all.contains("holdfast login")), (0, true), "{said_all}");
    let (code, err) = said(&mut holdfast(&hers, &["whoami"]));
    assert_eq!(code, 3, "it ended with the password by which it was made: {err}");
    let again = [&login[..], &["--replace"]].concat();
    let (code, said_all) = with_line(&mut holdfast(&hers, &again), PASSWORD);
    assert_eq!(code, 3, "{said_all}");
    let (code, said_all) = with_line(&mut holdfast(&hers, &again), "seven rivers in winter");
    assert_eq!(code, 0, "{said_all}");
    let (code, err) = said(&mut holdfast(&hers, &["logout"]));
    assert_eq!(code, 0, "{err}");
    let (code, err) = said(&mut holdfast(&hers, &["whoami"]));
    assert_eq!(code, 3, "forgotten: {err}");
    let (code, said_all) = with_line(&mut holdfast(&hers, &login), "seven rivers in winter");
    assert_eq!(code, 0, "{said_all}");
    let (code, err) = said(&mut holdfast(&hers, &["tokens"]));
    assert_eq!(code, 3, "a developer reads no tokens: {err}");
    let (code, err) = said(&mut holdfast(dir.path(), &["members", "set", "ann", "--role", "viewer"]));
    assert_eq!(code, 0, "{err}");
    let (code, err) = said(&mut holdfast(&hers, &["whoami"]));
    assert_eq!(code, 3, "her token may more than she may now: {err}");
    let (code, err) = said(&mut holdfast(dir.path(), &["members", "delete", "ann"]));
    assert_eq!(code, 0, "{err}");
    let (code, err) = said(&mut holdfast(&hers, &["whoami"]));
    assert_eq!(code, 3, "{err}");
    drop(server);
    let log =
        holdfast(dir.path(), &["log", "cat", "--data-dir", "data", "--json"]).output().expect("it runs");
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(log.contains("person.removed"), "{log}");
    assert!(!log.contains("argon2") && !log.contains(PASSWORD), "{log}");
}

/// A port that is free on every address of this machine.
fn free_everywhere() -> u16 {
    TcpListener::bind("0.0.0.0:0").expect("a port").local_addr().expect("bound").port()
}

#[test]
fn a_server_that_others_reach_serves_tls_and_is_known_by_its_fingerprint() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = free_everywhere();
    let server = Server::start(dir.path(), &format!("0.0.0.0:{port}"));
    let (code, err) = said(&mut holdfast(dir.path(), &["wait", "ready", "--timeout", "20s"]));
    assert_eq!(code, 0, "the saved context has the fingerprint: {err}");
    let saved = std::fs::read_to_string(dir.path().join("context.toml")).expect("saved");
    let pin = saved.split("sha256=").nth(1).expect("a fingerprint").split('"').next().expect("its end");
    let status = holdfast(dir.path(), &["cluster", "status", "--json"]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&status.stdout).contains(&format!("sha256={pin}")), "{status:?}");

    // Another fingerprint, none, and plain HTTP: nothing is sent, and the token is shown to nobody.
    let url = format!("https://127.0.0.1:{port}");
    let ask = |url: &str| {
        said(holdfast(dir.path(), &["whoami", "--server", url]).env("HOLDFAST_TOKEN", &server.token))
    };
    let (code, err) = ask(&format!("{url}#sha256={}", "ab".repeat(32)));
    assert_eq!(code, 6, "{err}");
    assert!(
        err.contains(&format!("sha256={pin}")) && err.contains(&"ab".repeat(32)),
        "both are shown: {err}"
    );
    assert!(err.contains("nothing was sent") && err.contains("next: holdfast cluster status"), "{err}");
    assert_eq!(ask(&url).0, 0, "the one that is known is kept");
    let (code, err) = ask(&format!("https://localhost:{port}"));
    assert!(code == 6 && err.contains("name it with its fingerprint"), "{err}");
    let (code, err) = ask(&format!("http://127.0.0.1:{port}"));
    assert!(code == 2 && err.contains("speaks TLS") && err.contains("next: https://"), "{err}");
    assert_eq!(ask(&format!("http://0.0.0.0:{port}")).0, 2, "plain HTTP is for loopback addresses");
    assert_eq!(ask(&format!("{url}#sha256={pin}")).0, 0);

    // What knows no fingerprints is given the authority's certificate, and goes by names.
    let curl = |server: &str| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20", "--cacert", "data/peer/ca.pem"]).arg(server);
        command.current_dir(dir.path()).output().expect("curl: make setup installs it")
    };
    for host in ["127.0.0.1", "localhost"] {
        let Output { status, stderr, .. } = curl(&format!("https://{host}:{port}/health/ready"));
        assert!(status.success(), "{host}: {}", String::from_utf8_lossy(&stderr));
    }

    // A machine that joins believes the fingerprint that came with its secret, now and later.
    let pinned = format!("{url}#sha256={pin}");
    let made = holdfast(dir.path(), &["nodes", "join-token", "--server", &pinned, "--json"])
        .env("HOLDFAST_TOKEN", &server.token)
        .output()
        .expect("it runs");
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let secret = made["result"]["secret"].as_str().expect("a secret").to_owned();
    assert!(secret.ends_with(&format!(".sha256={pin}")), "{secret}");
    let edge = ["edge", "--data-dir", "edge", "--name", "e1", "--tls-listen", "127.0.0.1:0"];
    let join = ["--edge-metrics", "127.0.0.1:0", "--join-token", &secret, "--server", &url];
    let mut child = holdfast(dir.path(), &[&edge[..], &join].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut seen = String::new();
    while std::time::Instant::now() < until && (!seen.contains("e1") || seen.contains("never")) {
        let nodes = holdfast(dir.path(), &["nodes", "list"]).output().expect("it runs");
        seen = String::from_utf8_lossy(&nodes.stdout).into_owned();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let _ended = child.kill().and_then(|()| child.wait());
    assert!(seen.contains("e1") && !seen.contains("never"), "its leases come: {seen}");
    let node = std::fs::read_to_string(dir.path().join("edge/node.toml")).expect("kept");
    assert!(node.contains(&pinned), "{node}");
}
