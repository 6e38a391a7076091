//! A real Chromium, driven over WebDriver: as much of that protocol as the tests need, spoken plainly.
//!
//! A client crate would bring an HTTP stack of its own; this is a dozen calls with one JSON body each.

use demo::{Process, free_ports, wait_for};
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

/// How long something that must happen may take.
pub const SOON: Duration = Duration::from_secs(30);
/// How long one call of the driver may take.
const ANSWER: Duration = Duration::from_secs(60);
/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The flags that a headless Chromium of root's needs, and those that keep it from calling anybody.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--window-size=1200,900",
    "--hide-scrollbars",
];

/// Where a browser runs: what is done to its command, and how its driver is reached.
pub struct At {
    pub place: Box<dyn Fn(&mut Command)>,
    pub connect: Arc<dyn Fn(u16) -> io::Result<TcpStream>>,
}

impl At {
    /// On this machine.
    pub fn here() -> Self {
        let connect = |port| TcpStream::connect(("127.0.0.1", port));
        Self { place: Box::new(|_| {}), connect: Arc::new(connect) }
    }
}

/// A browser with an empty profile. It ends when it is dropped.
pub struct Browser {
    port: u16,
    connect: Arc<dyn Fn(u16) -> io::Result<TcpStream>>,
    session: String,
    /// Ended after the session, and before its profile is removed.
    driver: Option<Process>,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub fn start(at: &At) -> Self {
        Self::start_with(at, &[])
    }

    /// With more flags of Chromium's.
    pub fn start_with(at: &At, flags: &[&str]) -> Self {
        let profile = tempfile::Builder::new().prefix("holdfast-browser-").tempdir().expect("a directory");
        let [port] = free_ports().expect("a port");
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).env("HOME", profile.path()).current_dir(profile.path());
        (at.place)(&mut command);
        let mut driver = Process::start(profile.path(), "chromedriver", &mut command)
            .expect("chromedriver: make setup installs it");
        let mut browser = Self {
            port,
            connect: at.connect.clone(),
            session: String::new(),
            driver: None,
            _profile: profile,
        };
        driver
            .wait_until("the driver", SOON, || browser.tell("GET", "/status", None).ok())
            .expect("a driver that answers");
        browser.driver = Some(driver);
        let data = format!("--user-data-dir={}", browser._profile.path().join("data").display());
        let args: Vec<&str> =
            FLAGS.iter().copied().chain(flags.iter().copied()).chain([data.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": args },
        } } });
        let made = browser.tell("POST", "/session", Some(&wanted)).expect("a browser");
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// One call, and the value of its answer.
    fn tell(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let lost = |error: io::Error| error.to_string();
        let mut stream = (self.connect)(self.port).map_err(lost)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(lost)?;
        let body = body.map_or(String::new(), Value::to_string);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).map_err(lost)?;
        let mut whole = Vec::new();
        let mut piece = vec![0; 64 << 10];
        let answer = loop {
            if let Some(answer) = parsed(&whole) {
                break answer;
            }
            match stream.read(&mut piece).map_err(lost)? {
                0 => return Err("the driver hung up".into()),
                count => whole.extend_from_slice(&piece[..count]),
            }
        };
        match answer["value"].get("error") {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].clone()),
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        self.tell(method, &format!("/session/{}{path}", self.session), body)
    }

    fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = (method == "POST").then_some(body);
        self.ask(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn go(&self, url: &str) {
        self.must("POST", "/url", &json!({ "url": url }));
    }

    pub fn url(&self) -> String {
        self.must("GET", "/url", &Value::Null).as_str().expect("text").to_owned()
    }

    /// What the browser keeps for the page's host.
    pub fn cookies(&self) -> Value {
        self.must("GET", "/cookie", &Value::Null)
    }

    fn find(&self, css: &str) -> Option<String> {
        let found =
            self.ask("POST", "/element", Some(&json!({ "using": "css selector", "value": css }))).ok()?;
        found[ELEMENT].as_str().map(str::to_owned)
    }

    pub fn has(&self, css: &str) -> bool {
        self.find(css).is_some()
    }

    fn element(&self, css: &str) -> String {
        wait_for(css, SOON, || self.find(css)).unwrap_or_else(|error| panic!("{error}: {}", self.seen()))
    }

    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.must("POST", &format!("/element/{element}/click"), &json!({}));
    }

    pub fn type_in(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.must("POST", &format!("/element/{element}/clear"), &json!({}));
        self.must("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Chooses of a list the entry with this value.
    pub fn choose(&self, css: &str, value: &str) {
        self.click(&format!("{css} option[value=\"{value}\"]"));
    }

    /// What a person reads there.
    pub fn text(&self, css: &str) -> String {
        let element = self.element(css);
        self.must("GET", &format!("/element/{element}/text"), &Value::Null).as_str().expect("text").to_owned()
    }

    /// Everything that a person reads.
    pub fn seen(&self) -> String {
        let body = self.find("body").and_then(|body| {
            self.ask("GET", &format!("/element/{body}/text"), None).ok()?.as_str().map(str::to_owned)
        });
        body.unwrap_or_default()
    }

    /// Waits until a person reads this somewhere on the page.
    pub fn reads(&self, text: &str) {
        wait_for(text, SOON, || self.seen().contains(text).then_some(()))
            .unwrap_or_else(|error| panic!("{error} at {}: {}", self.url(), self.seen()));
    }

    /// Runs a script in the page. What it returns.
    pub fn script(&self, script: &str) -> Value {
        self.must("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The same with a callback as its last argument.
    pub fn script_async(&self, script: &str) -> Value {
        self.must("POST", "/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Presses keys where the focus is.
    pub fn press(&self, key: &str) {
        let keys = json!({ "actions": [{ "type": "key", "id": "keys", "actions": [
            { "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }] }] });
        self.must("POST", "/actions", &keys);
    }

    fn devtools(&self, command: &str, params: &Value) {
        self.must("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": params }));
    }

    /// From now on pages run no script, or do again.
    pub fn without_script(&self, without: bool) {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": without }));
    }

    /// What the person's system says it likes: `light` or `dark`.
    pub fn likes(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// A picture of the whole page, up to 1,800 pixels of it, as people scroll.
    pub fn picture(&self, path: &Path) {
        let window = self.must("GET", "/window/rect", &Value::Null);
        let whole = self.script("return document.documentElement.scrollHeight").as_u64().expect("a number");
        let shown = self.script("return window.innerHeight").as_u64().expect("a number");
        let height = window["height"].as_u64().expect("a number");
        let tall = (height + whole.saturating_sub(shown)).min(1800);
        self.must("POST", "/window/rect", &json!({ "width": window["width"], "height": tall }));
        let shot = self.must("GET", "/screenshot", &Value::Null);
        self.must("POST", "/window/rect", &json!({ "width": window["width"], "height": height }));
        let bytes = base64(shot.as_str().expect("text"));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("written");
    }

    /// Opens another window and goes on in it. The one before.
    pub fn another_window(&self) -> String {
        let before = self.must("GET", "/window", &Value::Null).as_str().expect("a window").to_owned();
        let made = self.must("POST", "/window/new", &json!({ "type": "tab" }));
        self.must("POST", "/window", &json!({ "handle": made["handle"] }));
        before
    }

    /// Goes on in another window.
    pub fn window(&self, handle: &str) -> String {
        let before = self.must("GET", "/window", &Value::Null).as_str().expect("a window").to_owned();
        self.must("POST", "/window", &json!({ "handle": handle }));
        before
    }

    /// Logs in with a token.
    pub fn log_in(&self, url: &str, token: &str) {
        self.go(&format!("{url}/login"));
        self.type_in("#token", token);
        self.click("#with-token");
        self.reads("Log out");
    }

    /// Opens an act that is folded away.
    pub fn unfold(&self, act: &str) {
        self.click(&format!("details:has(form[action=\"/do/{act}\"]) > summary"));
    }

    /// Ends the browser and its driver by SIGKILL, with whatever was on its way.
    pub fn kill(mut self) {
        let driver = self.driver.take().expect("a driver");
        let mut all = vec![driver.pid()];
        for at in 0.. {
            let Some(parent) = all.get(at).copied() else { break };
            all.extend(children(parent));
        }
        let is_browser = |pid: &u32| name(*pid).starts_with("chromium");
        assert!(all.iter().any(is_browser), "the browser itself is among them");
        all.iter().for_each(|pid| demo::kill(*pid, 9));
        wait_for("its end", SOON, || (!all.iter().any(is_browser)).then_some(())).expect("it is gone");
    }

    /// Sends the form of an act.
    pub fn send(&self, act: &str) {
        self.click(&format!("form[action=\"/do/{act}\"] button"));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to end its browser; what it leaves ends with it.
        let _gone_already = self.ask("DELETE", "", None);
        self.driver.take();
    }
}

/// The processes that a process has started, by any of its threads.
fn children(of: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    texts
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// What a process calls itself; nothing once it has ended.
fn name(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_dead = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    let name = stat.split('(').nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default();
    if is_dead { String::new() } else { name.to_owned() }
}

/// A whole answer, if it is there.
fn parsed(bytes: &[u8]) -> Option<Value> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    let length: usize = length.trim().parse().ok()?;
    serde_json::from_slice(bytes.get(end + 4..end + 4 + length)?).ok()
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = text.bytes().filter(|byte| *byte != b'=').map(digit).collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
        bits.to_be_bytes().into_iter().skip(1).take(four.len() - 1)
    });
    bytes.collect()
}
