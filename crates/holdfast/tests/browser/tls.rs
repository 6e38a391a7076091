//! The page of a server that others reach.

use crate::driver::{At, Browser, SOON};
use demo::{Process, wait_for};
use std::{net::TcpListener, path::Path, process::Command};

/// The program on this machine, with nothing of the caller's own Holdfast.
fn holdfast(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOLDFAST_")) {
        command.env_remove(name);
    }
    command.current_dir(dir).env("HOLDFAST_CONFIG", dir.join("context.toml")).args(words);
    command
}

/// What a browser knows a key by.
fn key_of(certificate: &Path) -> String {
    let script = "openssl x509 -in \"$0\" -noout -pubkey | openssl pkey -pubin -outform der | \
                  openssl dgst -sha256 -binary | openssl base64";
    let said = Command::new("sh").args(["-c", script]).arg(certificate).output().expect("a shell");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

#[test]
fn the_page_over_tls_keeps_its_cookie_to_tls() {
    let dir = tempfile::Builder::new().prefix("holdfast-web-").tempdir().expect("a directory");
    let port = TcpListener::bind("0.0.0.0:0").expect("a port").local_addr().expect("bound").port();
    let listen = format!("0.0.0.0:{port}");
    let mut command = holdfast(dir.path(), &["server", "--data-dir", "data", "--listen", &listen]);
    let _server = Process::start(dir.path(), "server", &mut command).expect("a server");
    let ready = || {
        let mut command = holdfast(dir.path(), &["wait", "ready", "--timeout", "1s"]);
        command.output().ok().filter(|said| said.status.success()).map(drop)
    };
    wait_for("the server", SOON, ready).expect("ready");
    let saved = std::fs::read_to_string(dir.path().join("context.toml")).expect("saved");
    let token = &saved[saved.find("hf_").expect("a token")..];
    let token = token.split('"').next().expect("its end");

    let known =
        format!("--ignore-certificate-errors-spki-list={}", key_of(&dir.path().join("data/peer/ca.pem")));
    let browser = Browser::start_with(&At::here(), &[&known]);
    let url = format!("https://127.0.0.1:{port}");
    browser.log_in(&url, token);
    let cookies = browser.cookies();
    let cookies = cookies.as_array().expect("a list");
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let cookie = &cookies[0];
    assert_eq!(cookie["name"], "__Host-holdfast", "{cookie}");
    assert_eq!((&cookie["secure"], &cookie["httpOnly"]), (&true.into(), &true.into()), "{cookie}");
    assert_eq!((&cookie["sameSite"], &cookie["path"]), (&"Strict".into(), &"/".into()), "{cookie}");

    // The page goes on reading by itself, and its forms are taken.
    browser.go(&format!("{url}/tokens"));
    assert!(!browser.seen().contains("made-elsewhere"));
    let made = holdfast(dir.path(), &["tokens", "create", "made-elsewhere", "--role", "viewer"]).output();
    assert!(made.expect("it runs").status.success());
    browser.go(&format!("{url}/events"));
    browser.reads("token.created");
    browser.click("form.who button");
    browser.reads("You are logged out.");
    assert_eq!(browser.cookies(), serde_json::json!([]), "the browser has forgotten it");
    browser.go(&format!("http://127.0.0.1:{port}/"));
    browser.reads("this port speaks TLS");
}
