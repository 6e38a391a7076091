//! Reading: logging in, every page, without a script, with keys alone, and when the server is gone.

use crate::driver::{At, Browser, SOON};
use demo::{Platform, Role, wait_for};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub const PAGES: [&str; 11] = [
    "/",
    "/apps",
    "/routes",
    "/nodes",
    "/cluster",
    "/events",
    "/audit",
    "/requests",
    "/views",
    "/members",
    "/tokens",
];

/// A server, and nothing else.
struct Scene {
    platform: Platform,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-web-").tempdir().expect("a directory");
        let binary = Path::new(env!("CARGO_BIN_EXE_holdfast"));
        let mut platform = Platform::new(binary, &dir.path().join("run")).expect("a platform");
        platform.start_server().expect("a server");
        Self { platform, _dir: dir }
    }

    fn token(&self, name: &str, role: &str, life: &str) -> String {
        made(&self.platform, name, role, life)
    }
}

/// The first owner's token.
pub fn owner(platform: &Platform) -> String {
    let text = std::fs::read_to_string(platform.context()).expect("the saved context");
    let at = text.find("hf_").expect("a token in it");
    text[at..].split('"').next().expect("a token").to_owned()
}

/// The secret of a new token.
pub fn made(platform: &Platform, name: &str, role: &str, life: &str) -> String {
    let said = platform.cli(&["tokens", "create", name, "--role", role, "--expires-in", life, "--json"]);
    let said = said.and_then(demo::Cli::executed).and_then(|said| said.json()).expect("a token");
    said["result"]["secret"].as_str().expect("a secret").to_owned()
}

/// What axe-core finds against WCAG 2.2 AA and good practice.
pub fn accessible(browser: &Browser, what: &str) {
    let axe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/axe.min.js");
    let axe = std::fs::read_to_string(&axe)
        .unwrap_or_else(|error| panic!("{}: {error}: make setup fetches it", axe.display()));
    browser.script(&axe);
    let found = browser.script_async(
        "const done = arguments[arguments.length - 1];
         axe.run(document).then(
           (all) => done(all.violations.map((one) => [one.id, one.nodes.map((node) => node.html + ' ' + node.failureSummary)])),
           (error) => done([String(error)]));",
    );
    assert_eq!(found, Value::Array(Vec::new()), "{what} in the eyes of axe-core: {found:#}");
}

/// Where a picture goes: into the documentation if they are to be updated, or beside the build.
pub fn picture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = if std::env::var_os("UPDATE_IMAGES").is_some() { "docs/images" } else { "target/browser" };
    root.join(folder).join(name)
}

#[test]
fn a_person_logs_in_and_reads_every_page() {
    let scene = Scene::new();
    let (url, browser) = (scene.platform.url(), Browser::start(&At::here()));
    browser.go(&format!("{url}/nodes"));
    browser.reads("Log in to see this page.");
    accessible(&browser, "the login");
    browser.type_in("#token", "hf_wrong");
    browser.click("#with-token");
    browser.reads("the token is not known here");
    accessible(&browser, "a login that failed");
    browser.go(&format!("{url}/nodes"));
    browser.type_in("#token", &owner(&scene.platform));
    browser.click("#with-token");
    browser.reads("Log out");
    assert_eq!(browser.url(), format!("{url}/nodes"), "back to where one wanted to go");
    for scheme in ["light", "dark"] {
        browser.likes(scheme);
        for path in PAGES {
            browser.go(&format!("{url}{path}"));
            accessible(&browser, &format!("{path} ({scheme})"));
            let sent = browser.script(
                "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))
                   .reduce((sum, one) => sum + one.encodedBodySize, 0)",
            );
            assert!(sent.as_f64().is_some_and(|sent| sent > 1000.0 && sent < 100e3), "{path}: {sent} bytes");
        }
    }
    only_keys(&browser, &url);
    without_script(&browser, &url);
    browser.click("form.who button");
    browser.reads("You are logged out.");
    browser.go(&format!("{url}/events"));
    browser.reads("Log in to see this page.");
}

/// The first stop of the tabulator jumps over the menu; what has the focus can be seen.
fn only_keys(browser: &Browser, url: &str) {
    browser.go(&format!("{url}/events"));
    browser.press("\u{E004}");
    let focus = "const at = document.activeElement; const style = getComputedStyle(at);
                 return [at.className || at.id, at.getBoundingClientRect().left >= 0, style.outlineStyle]";
    assert_eq!(browser.script(focus), serde_json::json!(["skip", true, "solid"]));
    browser.press("\u{E007}");
    assert_eq!(browser.script("return document.activeElement.id"), "main");
    browser.press("\u{E004}");
    let inside = browser.script("return document.getElementById('main').contains(document.activeElement)");
    assert_eq!(inside, true);
}

/// Everything is there without a script: rows, ages, forms.
fn without_script(browser: &Browser, url: &str) {
    browser.without_script(true);
    for (path, text) in [
        ("/", "The last events"),
        ("/events", "cluster.created"),
        ("/tokens", "Make a token"),
        ("/views", "Fingerprint"),
    ] {
        browser.go(&format!("{url}{path}"));
        browser.reads(text);
        browser.reads("Read again");
    }
    browser.go(&format!("{url}/tokens"));
    browser.unfold("token");
    browser.type_in("#token-name", "from-a-form");
    browser.send("token");
    browser.reads("The secret, shown this once:");
    browser.without_script(false);
}

#[test]
fn the_first_page_is_there_at_once() {
    let scene = Scene::new();
    let (url, browser) = (scene.platform.url(), Browser::start(&At::here()));
    browser.log_in(&url, &owner(&scene.platform));
    let mut times: Vec<f64> = (0..10)
        .map(|_| {
            browser.go(&format!("{url}/"));
            let took = "const [page] = performance.getEntriesByType('navigation');
                        return page.responseEnd - page.requestStart";
            browser.script(took).as_f64().expect("a time")
        })
        .collect();
    times.sort_by(f64::total_cmp);
    eprintln!("the first page, asked to whole, in ms: {times:?}");
    // The best of ten: what others do on the machine is not the page's.
    assert!(times[0] < 50.0, "{times:?}");
}

#[test]
fn a_server_that_is_gone_is_said_and_so_is_a_session_that_ended() {
    let mut scene = Scene::new();
    let (url, browser) = (scene.platform.url(), Browser::start(&At::here()));
    browser.log_in(&url, &owner(&scene.platform));
    browser.go(&format!("{url}/events"));
    browser.script(WATCHED);
    scene.token("seen-live", "viewer", "1h");
    wait_for("the page to show it by itself", SOON, || {
        browser.text("#events").contains("token.created").then_some(())
    })
    .expect("a page that follows");
    let reads = wait_for("the page to read by itself", SOON, || {
        browser.script("return window.read").as_array().filter(|reads| !reads.is_empty()).cloned()
    })
    .expect("a page that reads");
    assert!(reads.iter().all(|said| said == "true"), "not in a visitor's name: {reads:?}");
    // Stopped, not dead: the connection stays and nothing comes.
    let pid = scene.platform.process(Role::Server).expect("it runs").pid();
    demo::kill(pid, libc::SIGSTOP);
    let since = Instant::now();
    wait_for("the silence to be said", Duration::from_secs(60), || {
        browser.text("#lost").contains("No answer from the server since").then_some(())
    })
    .expect("a banner");
    eprintln!("silence was said after {:?}", since.elapsed());
    demo::kill(pid, libc::SIGCONT);
    wait_for("the banner to go", SOON, || browser.text("#lost").is_empty().then_some(())).expect("it goes");
    browser.reads("The server answers again.");
    // Dead: said at once, and what was there stays readable.
    scene.platform.kill_hard(Role::Server);
    wait_for("the loss to be said", SOON, || {
        browser.text("#lost").contains("What stands here is from before").then_some(())
    })
    .expect("a banner");
    accessible_without_server(&browser);
    assert!(browser.text("#events").contains("token.created"));
    scene.platform.start_server().expect("it starts again");
    // Sessions end with the process that keeps them.
    wait_for("the end of the session to be said", SOON, || {
        browser.text("#lost").contains("Your session has ended").then_some(())
    })
    .expect("a banner");
    browser.click("#lost a");
    browser.type_in("#token", &owner(&scene.platform));
    browser.click("#with-token");
    browser.reads("token.created");
}

/// Keeps what the page says of each of its own reads.
const WATCHED: &str = "const sent = window.fetch; window.read = []; window.fetch = (url, how) => { \
                       window.read.push(how.headers['holdfast-unattended']); return sent(url, how); };";

fn accessible_without_server(browser: &Browser) {
    accessible(browser, "a page whose server is gone");
}

#[test]
fn a_session_ends_with_its_token_and_a_viewer_can_do_nothing() {
    let scene = Scene::new();
    let (url, browser) = (scene.platform.url(), Browser::start(&At::here()));
    browser.log_in(&url, &scene.token("looks", "viewer", "1h"));
    browser.reads("viewer in main");
    browser.go(&format!("{url}/nodes"));
    browser.reads("Not allowed");
    accessible(&browser, "a page that a viewer may not see");
    browser.go(&format!("{url}/views"));
    browser.reads("it may read only");
    assert!(!browser.has("form[action^=\"/do/\"]"));
    // A page is open while its token is revoked.
    let (short, other) = (scene.token("short", "owner", "6s"), Browser::start(&At::here()));
    other.log_in(&url, &short);
    other.reads("owner in main");
    wait_for("the end of the session to be said", SOON, || {
        other.text("#lost").contains("Your session has ended").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", other.seen()));
    other.go(&format!("{url}/tokens"));
    other.reads("Log in to see this page.");
}

#[test]
fn attempts_are_read_and_chosen_and_members_are_made_and_log_in() {
    let scene = Scene::new();
    let (url, browser) = (scene.platform.url(), Browser::start(&At::here()));
    let asked = ["tokens", "create", "for-ever", "--role", "viewer", "--expires-in", "36500d"];
    let said = scene.platform.cli(&asked).expect("an answer");
    assert_ne!(said.code, 0, "{said:?}");
    browser.log_in(&url, &owner(&scene.platform));
    browser.go(&format!("{url}/audit"));
    browser.reads("invalid_request");
    browser.choose("#type", "refused");
    browser.click("form.choose button");
    browser.reads("holdfast audit --limit 30 --type refused");
    browser.click("#attempts details summary");
    browser.reads("\"role\": \"viewer\"");
    accessible(&browser, "an attempt, unfolded");
    browser.choose("#type", "executed");
    browser.click("form.choose button");
    browser.reads("holdfast audit --limit 30 --type executed");
    assert!(!browser.seen().contains("invalid_request"), "{}", browser.seen());
    browser.go(&format!("{url}/members"));
    browser.unfold("add-member");
    browser.type_in("#add-member-name", "ann");
    browser.choose("#add-member-role", "auditor");
    browser.type_in("#add-member-password", "correct horse battery");
    accessible(&browser, "a form for a new member");
    browser.send("add-member");
    browser.reads("Add a member: executed");
    let other = Browser::start(&At::here());
    other.go(&format!("{url}/members"));
    other.type_in("#name", "ann");
    other.type_in("#password", "correct horse battery");
    other.click("form button");
    other.reads("as ann, with a password");
    other.reads("Members, who may log in");
    assert!(!other.has("form[action=\"/do/add-member\"]"), "an auditor adds nobody");
    accessible(&other, "the members, for an auditor");
    other.go(&format!("{url}/audit"));
    other.reads("invalid_request");
}
