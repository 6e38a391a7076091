//! Logging in by way of a real OpenID provider, `oidc-provider`, which `make setup` brings. It is reached as
//! `localhost` and the server as `127.0.0.1`: to a browser these are two sites, as they are for people.

use crate::{
    driver::{At, Browser, SOON},
    reading::{accessible, owner, picture},
};
use demo::{Platform, Process, free_ports, get_plain, wait_for};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration};

const SECRET: &str = "the secret of this client";

struct Scene {
    platform: Platform,
    issuer: String,
    provider: Option<Process>,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-web-").tempdir().expect("a directory");
        let binary = Path::new(env!("CARGO_BIN_EXE_holdfast"));
        let mut platform = Platform::new(binary, &dir.path().join("run")).expect("a platform");
        let [port] = free_ports().expect("a port");
        let issuer = format!("http://localhost:{port}");
        let provider = provider(dir.path(), port, &issuer, &platform.url());
        let (file, secret) = (dir.path().join("providers.toml"), dir.path().join("corp.secret"));
        fs::write(&secret, SECRET).expect("written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
        let text = format!(
            "url = \"{}\"\n[[provider]]\nname = \"corp\"\ntitle = \"Example Corp\"\nissuer = \"{issuer}\"\n\
             client_id = \"holdfast\"\nclient_secret_file = \"corp.secret\"\n",
            platform.url()
        );
        fs::write(&file, text).expect("written");
        platform.serve_with(&["--providers", &file.display().to_string()]);
        platform.start_server().expect("a server");
        Self { platform, issuer, provider: Some(provider), _dir: dir }
    }

    fn cli(&self, words: &[&str]) -> String {
        let done = self.platform.cli(words).and_then(demo::Cli::executed);
        done.unwrap_or_else(|error| panic!("{words:?}: {error}")).stdout
    }
}

fn provider(dir: &Path, port: u16, issuer: &str, server: &str) -> Process {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = root.join("../../target/tools/provider/node_modules");
    assert!(modules.is_dir(), "{}: make setup brings it", modules.display());
    let mut command = Command::new("node");
    command.arg(root.join("tests/provider/provider.mjs")).arg(modules).arg(port.to_string());
    command.args([issuer, &format!("{server}/login/corp/callback"), SECRET]);
    let mut process = Process::start(dir, "provider", &mut command).expect("node: make setup installs it");
    let address = format!("127.0.0.1:{port}");
    let place = "/.well-known/openid-configuration";
    process
        .wait_until("the provider", SOON, || {
            get_plain(&address, place, Duration::from_secs(1)).ok().filter(|answer| answer.status == 200)
        })
        .expect("a provider that answers");
    process
}

/// The provider asks who it is, and whether this server may know.
fn says_who(browser: &Browser, who: &str) {
    browser.type_in("input[name=login]", who);
    browser.type_in("input[name=password]", "anything");
    browser.click("button[type=submit]");
    browser.reads("Authorize");
    browser.click("button[type=submit]");
}

#[test]
fn a_member_logs_in_by_way_of_a_real_provider_once_it_is_linked() {
    let mut scene = Scene::new();
    let (url, browser) = (scene.platform.url(), Browser::start(&At::here()));
    scene.cli(&["members", "create", "ann", "--role", "developer", "--no-password"]);
    browser.go(&format!("{url}/login"));
    browser.reads("Log in with Example Corp");
    accessible(&browser, "a login with a provider");
    browser.picture(&picture("login-provider-light.png"));
    browser.click("#providers a");
    says_who(&browser, "ann-248289");
    browser.reads("No member belongs to this identity");
    accessible(&browser, "a login of nobody");
    let command = format!("holdfast members link NAME --issuer {} --subject ann-248289", scene.issuer);
    browser.reads(&command);
    assert!(!browser.seen().contains("Log out"));
    let linked = command.replace("NAME", "ann");
    scene.cli(&linked.split(' ').skip(1).collect::<Vec<_>>());
    let listed = scene.cli(&["members", "list"]);
    assert!(listed.contains(&format!("ann-248289 at {}", scene.issuer)), "{listed}");
    // The provider knows the browser by now and asks nothing.
    browser.go(&format!("{url}/login?to=%2Fapps"));
    browser.click("#providers a");
    browser.reads("developer in main");
    assert_eq!(browser.url(), format!("{url}/apps"), "on to where one wanted to go");
    browser.go(&format!("{url}/members"));
    browser.reads("Tokens of your own");
    browser.unfold("own-token");
    browser.type_in("#own-token-name", "laptop");
    browser.choose("#own-token-role", "developer");
    browser.send("own-token");
    browser.reads("The secret, shown this once:");
    browser.go(&format!("{url}/events"));
    scene.cli(&["members", "unlink", "ann"]);
    wait_for("the end of the session to be said", SOON, || {
        browser.text("#lost").contains("Your session has ended").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", browser.seen()));
    without_provider(&mut scene, &browser, &url);
}

/// The provider is gone: that is said, and who has a token comes in.
fn without_provider(scene: &mut Scene, browser: &Browser, url: &str) {
    scene.provider.take().expect("it ran until now").kill_hard();
    // Started anew, the server knows nothing of the provider and starts all the same.
    scene.platform.kill_hard(demo::Role::Server);
    scene.platform.start_server().expect("a server without its provider");
    browser.go(&format!("{url}/login"));
    browser.click("#providers a");
    browser.reads("The login provider cannot be asked");
    accessible(browser, "a login whose provider is gone");
    browser.log_in(url, &owner(&scene.platform));
    browser.reads("owner in main");
}
