//! Where a command goes: server, token, org, app, environment.
//!
//! Taken from flags, then the environment, then `holdfast.toml` here (the app only), then the saved
//! context. A saved token goes only to the server it was saved for: naming another server on the
//! command line must not hand it the secret of this one.

use crate::{args::Global, failure::Failure, output::Form, private_file};
use api::{Client, Place as Server};
use rt::{Clock as _, Random as _};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use types::{DeployId, DurationMs, Name, RequestId, limits};

/// Where the API is, unless told otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7070";
/// The org that a fresh server has.
pub const DEFAULT_ORG: &str = "main";
/// The environment, unless told otherwise.
pub const DEFAULT_ENV: &str = "prod";

/// What is remembered between commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The server.
    pub server: Option<String>,
    /// The token for that server.
    pub token: Option<String>,
    /// The org.
    pub org: Option<Name>,
    /// The app.
    pub app: Option<Name>,
    /// The environment.
    pub env: Option<Name>,
}

/// Where the context is saved: `$HOLDFAST_CONFIG`, or below the user's configuration directory.
pub fn saved_path() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("HOLDFAST_CONFIG").or_else(|| {
        let base = var("XDG_CONFIG_HOME").or_else(|| Some(var("HOME")?.join(".config")))?;
        Some(base.join("holdfast").join("context.toml"))
    })
}

impl Saved {
    /// Reads the saved context; one that was never saved is empty.
    pub fn load(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(Failure::usage(
                    format!("the saved context {} cannot be read: {error}", path.display()),
                    "name another file with HOLDFAST_CONFIG",
                ));
            }
        };
        toml::from_str(&text).map_err(|error| {
            Failure::usage(
                format!("the saved context {} is damaged: {}", path.display(), error.message()),
                format!("rm {}", path.display()),
            )
        })
    }

    /// Saves it where only its owner can read it.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        private_file::replace(path, &toml::to_string(self).expect("a context is plain data"))
    }
}

/// Everything a command needs to know about where it goes and how it prints.
#[derive(Clone, Debug)]
pub struct Context {
    /// The way to the server.
    pub client: Client,
    /// Other servers of the same cluster. They are asked what became of a request whose answer was lost,
    /// and nothing else.
    pub others: Vec<Client>,
    /// The org.
    pub org: Name,
    /// The environment.
    pub env: Name,
    /// How to print.
    pub form: Form,
    /// Whether to wait for what a write begins.
    pub patience: Patience,
    /// How long, if it was said.
    pub timeout: Option<DurationMs>,
    app: Option<Name>,
    request_id: Option<RequestId>,
    /// What a command needs to mean the same servers wherever it is typed.
    flags: String,
}

/// Whether a write waits for what it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until it has succeeded or failed.
    Wait,
    /// Only until it is written.
    NoWait,
}

/// An environment by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The org.
    pub org: Name,
    /// The app.
    pub app: Name,
    /// The environment.
    pub env: Name,
}

impl Place {
    /// As calls take it.
    pub fn names(&self) -> (&Name, &Name, &Name) {
        (&self.org, &self.app, &self.env)
    }

    /// The command that waits for a deploy here.
    pub fn wait_deploy(&self, deploy: DeployId) -> String {
        format!("holdfast wait {deploy}{}", self.flags())
    }

    /// The command that waits until all here is as declared.
    pub fn wait_converged(&self) -> String {
        format!("holdfast wait converged{}", self.flags())
    }

    /// The flags that mean this place wherever they are typed.
    fn flags(&self) -> String {
        let org =
            if self.org.as_str() == DEFAULT_ORG { String::new() } else { format!(" --org {}", self.org) };
        format!("{org} --app {} --env {}", self.app, self.env)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.app, self.env)
    }
}

impl Context {
    /// Puts together what flags, environment, directory and saved context say.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let saved = Saved::load(saved_path().as_deref())?;
        let here = app_of(Path::new("holdfast.toml"));
        Self::compose(global, saved, here)
    }

    fn compose(global: &Global, saved: Saved, here: Option<Name>) -> Result<Self, Failure> {
        let known = servers(saved.server.as_deref().unwrap_or(DEFAULT_SERVER));
        let given = |list| servers(list).iter().map(|given| as_known(given, &known)).collect();
        let named: Vec<String> = global.server.as_deref().map_or_else(|| known.clone(), given);
        if named.is_empty() || named.len() > limits::CLIENT_SERVERS {
            let what = format!("--server takes 1 to {} URLs, with commas between", limits::CLIENT_SERVERS);
            return Err(Failure::usage(what, "holdfast --server http://127.0.0.1:7070 …"));
        }
        let is_known = named.iter().all(|server| known.contains(server));
        let token = global.token.clone().or_else(|| saved.token.filter(|_| is_known));
        let answer = limits::CLIENT_ANSWER.as_ms();
        let answer = global.timeout.map_or(answer, |timeout| timeout.as_ms().clamp(1, answer));
        let client = |server: &String| match Client::new(server, token.clone()) {
            Ok(client) => Ok(client.with_timeout(Duration::from_millis(answer))),
            Err(error) => Err(Failure::usage(error.to_string(), "holdfast --server http://127.0.0.1:7070 …")),
        };
        let mut clients = named.iter().map(client).collect::<Result<Vec<_>, _>>()?;
        let others = clients.split_off(1);
        let client = clients.pop().expect("there is a first one");
        let flags = if named == known { String::new() } else { format!(" --server {}", named.join(",")) };
        let default = |text: &str| text.parse::<Name>().expect("a valid name");
        Ok(Self {
            client,
            others,
            flags,
            org: global.org.clone().or(saved.org).unwrap_or_else(|| default(DEFAULT_ORG)),
            env: global.env.clone().or(saved.env).unwrap_or_else(|| default(DEFAULT_ENV)),
            app: global.app.clone().or(here).or(saved.app),
            form: global.form(),
            patience: if global.no_wait { Patience::NoWait } else { Patience::Wait },
            timeout: global.timeout,
            request_id: global.request_id,
        })
    }

    /// The app that is meant.
    pub fn app(&self) -> Result<Name, Failure> {
        self.app.clone().ok_or_else(|| {
            Failure::usage(
                "no app is named, and there is no holdfast.toml here",
                "add --app NAME (holdfast apps lists them)",
            )
        })
    }

    /// The environment that is meant.
    pub fn place(&self) -> Result<Place, Failure> {
        Ok(Place { org: self.org.clone(), app: self.app()?, env: self.env.clone() })
    }

    /// The request id of this command's write: as given or, for a new intent, a fresh one.
    pub fn intent(&self) -> RequestId {
        self.request_id.unwrap_or_else(fresh_request_id)
    }

    /// The two commands that make it certain what became of a request.
    pub fn resolves(&self, id: RequestId) -> String {
        let flags = &self.flags;
        format!(
            "holdfast requests show {id}{flags} (or, so that it can never run: holdfast requests void {id}{flags})"
        )
    }

    /// The command that shows the cluster, at the same server.
    pub fn shows_cluster(&self) -> String {
        format!("holdfast cluster status{}", self.flags)
    }

    /// Whether the request of this command's write was named by whoever runs it.
    pub const fn names_request(&self) -> bool {
        self.request_id.is_some()
    }

    /// The end of what this command may wait for.
    pub fn deadline(&self, otherwise: DurationMs) -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from(self.timeout.unwrap_or(otherwise))
    }
}

/// The URLs of a list, each without the slash at its end.
fn servers(list: &str) -> Vec<String> {
    let each = list.split(',').map(|server| server.trim().trim_end_matches('/'));
    each.filter(|server| !server.is_empty()).map(str::to_owned).collect()
}

/// A server as it was named, with the fingerprint that is known of it if it was named without one.
pub fn as_known(given: &str, known: &[String]) -> String {
    let read = |text: &String| text.parse::<Server>().ok();
    let Ok(place) = given.parse::<Server>() else { return given.to_owned() };
    let same = |known: &Server| known.url == place.url && place.pin.is_none();
    known.iter().filter_map(read).find(same).unwrap_or(place).to_string()
}

/// A new request id, born now.
pub fn fresh_request_id() -> RequestId {
    RequestId::from_parts(rt::SystemClock.now(), rt::OsRandom.u128())
}

/// The app that a manifest names; a manifest with errors elsewhere still names its app.
fn app_of(path: &Path) -> Option<Name> {
    let text = std::fs::read_to_string(path).ok()?;
    let table: toml::Table = text.parse().ok()?;
    table.get("app")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved {
            server: Some("https://10.0.0.1:7070".into()),
            token: Some("secret".into()),
            org: Some("acme".parse().expect("valid")),
            app: Some("old".parse().expect("valid")),
            env: None,
        }
    }

    #[test]
    fn flags_win_over_the_directory_and_that_over_what_was_saved() {
        let shop: Name = "shop".parse().expect("valid");
        let context = Context::compose(&Global::default(), saved(), Some(shop.clone())).expect("composed");
        assert_eq!(context.client.server(), "https://10.0.0.1:7070");
        assert_eq!((context.org.as_str(), context.env.as_str()), ("acme", "prod"));
        assert_eq!(context.app().expect("an app"), shop);
        let global = Global { app: Some("flag".parse().expect("valid")), ..Global::default() };
        let context = Context::compose(&global, saved(), Some(shop)).expect("composed");
        assert_eq!(context.app().expect("an app").as_str(), "flag");
        let context = Context::compose(&Global::default(), saved(), None).expect("composed");
        assert_eq!(context.app().expect("an app").as_str(), "old");
        let context = Context::compose(&Global::default(), Saved::default(), None).expect("composed");
        assert_eq!(context.app().expect_err("no app").exit, 2);
        assert_eq!(context.client.server(), DEFAULT_SERVER);
    }

    #[test]
    fn a_saved_token_is_not_given_to_another_server() {
        let has =
            |global: &Global| Context::compose(global, saved(), None).expect("composed").client.has_token();
        assert!(has(&Global::default()));
        let other = Global { server: Some("https://elsewhere:7070".into()), ..Global::default() };
        assert!(!has(&other));
        let same = Global { server: Some("https://10.0.0.1:7070/".into()), ..Global::default() };
        assert!(has(&same));
    }

    #[test]
    fn other_servers_are_named_behind_the_first() {
        let two = |server: Option<&str>, saved: Saved| {
            let global = Global { server: server.map(str::to_owned), ..Global::default() };
            Context::compose(&global, saved, None).expect("composed")
        };
        let listed = Saved { server: Some("https://10.0.0.1:7070,https://10.0.0.2:7070/".into()), ..saved() };
        let context = two(None, listed.clone());
        assert_eq!(context.client.server(), "https://10.0.0.1:7070");
        assert_eq!(context.others.len(), 1);
        assert_eq!(context.others[0].server(), "https://10.0.0.2:7070");
        assert!(context.others[0].has_token());
        let id = context.intent();
        assert!(!context.resolves(id).contains("--server"));
        // One of those that are known is known; one more is not.
        assert!(two(Some("https://10.0.0.2:7070"), listed.clone()).client.has_token());
        let context = two(Some("https://10.0.0.2:7070, https://10.0.0.3:7070"), listed.clone());
        assert!(!context.client.has_token() && !context.others[0].has_token());
        let shows =
            format!("holdfast requests show {id} --server https://10.0.0.2:7070,https://10.0.0.3:7070 ");
        assert!(context.resolves(id).starts_with(&shows), "{}", context.resolves(id));
        let none = Global { server: Some(" , ".into()), ..Global::default() };
        assert_eq!(Context::compose(&none, listed, None).expect_err("none").exit, 2);
    }

    #[test]
    fn a_fingerprint_that_was_saved_is_not_lost_and_not_mixed_up() {
        let (one, two) = (format!("sha256={}", "ab".repeat(32)), format!("sha256={}", "cd".repeat(32)));
        let known = format!("https://10.0.0.1:7070#{one}");
        let composed = |given: Option<&str>| {
            let saved = Saved { server: Some(known.clone()), ..saved() };
            let global = Global { server: given.map(str::to_owned), ..Global::default() };
            Context::compose(&global, saved, None).expect("composed").client
        };
        for given in [None, Some("https://10.0.0.1:7070"), Some("https://10.0.0.1:7070/"), Some(&*known)] {
            let client = composed(given);
            assert_eq!((client.server(), client.has_token()), (known.clone(), true), "{given:?}");
        }
        let other = format!("https://10.0.0.1:7070#{two}");
        let client = composed(Some(&other));
        assert_eq!((client.server(), client.has_token()), (other.clone(), false), "another server");
        let plain = Global { server: Some("http://10.0.0.1:7070".into()), ..Global::default() };
        let refused = Context::compose(&plain, saved(), None).expect_err("plain HTTP off loopback");
        assert_eq!(refused.exit, 2);
    }

    #[test]
    fn the_saved_context_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b/context.toml");
        saved().save(&path).expect("saved");
        saved().save(&path).expect("saved over itself");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(Saved::load(Some(&path)).expect("read"), saved());
        std::fs::write(&path, "server = 5").expect("written");
        assert_eq!(Saved::load(Some(&path)).expect_err("damaged").exit, 2);
        assert_eq!(Saved::load(Some(&dir.path().join("none"))).expect("empty"), Saved::default());
    }
}
