//! OpenID providers that people may log in by way of: what a server is told of them.

use crate::Secret;
use reqwest::Url;
use std::{collections::BTreeSet, net::IpAddr};
use types::{Name, limits};

/// The longest title of a provider, in characters.
const TITLE: usize = 64;

/// All providers of one server, and how browsers reach it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where browsers reach this server, as in `https://holdfast.example`: providers send them back there.
    pub url: String,
    /// Each has a name of its own.
    pub providers: Vec<Provider>,
}

/// One provider, as it knows this server.
#[derive(Clone, Debug)]
pub struct Provider {
    /// In paths: browsers come back to `/login/NAME/callback`.
    pub name: Name,
    /// As the page shows it: "Log in with TITLE".
    pub title: String,
    /// Its URL, exactly as it says itself.
    pub issuer: String,
    /// As what this server is registered there.
    pub client_id: String,
    /// By which it shows that it is that client.
    pub client_secret: Secret,
}

/// Why a server cannot use what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A URL is none, or not one to log in over.
    #[error("{what} {url:?}: {why}")]
    Url {
        /// Which one.
        what: &'static str,
        /// As it was told.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// No provider, or more than [`limits::PROVIDERS`].
    #[error("{0} providers, and there are to be 1 to {most}", most = limits::PROVIDERS)]
    Count(usize),
    /// Two have one name.
    #[error("two providers are called {0}")]
    Twice(Name),
    /// Something of one is empty or too long.
    #[error("provider {name}: its {what} is empty or too long")]
    Text {
        /// Which provider.
        name: Name,
        /// What of it.
        what: &'static str,
    },
}

impl Settings {
    /// Whether all of it can be used.
    ///
    /// # Errors
    /// The first thing that cannot.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.providers.is_empty() || self.providers.len() > limits::PROVIDERS {
            return Err(SettingsError::Count(self.providers.len()));
        }
        let base = secure("url", &self.url)?;
        if base.path() != "/" {
            let why = "wants no path: the page is at the root of its server".to_owned();
            return Err(SettingsError::Url { what: "url", url: self.url.clone(), why });
        }
        let mut names = BTreeSet::new();
        for provider in &self.providers {
            provider.check()?;
            if !names.insert(&provider.name) {
                return Err(SettingsError::Twice(provider.name.clone()));
            }
        }
        Ok(())
    }

    /// Where browsers come back to from a provider.
    pub fn callback(&self, name: &Name) -> String {
        format!("{}/login/{name}/callback", self.url.trim_end_matches('/'))
    }
}

impl Provider {
    fn check(&self) -> Result<(), SettingsError> {
        secure("issuer", &self.issuer)?;
        for (what, text, longest) in [
            ("title", self.title.as_str(), TITLE),
            ("issuer", &self.issuer, limits::ISSUER),
            ("client_id", &self.client_id, limits::ISSUER),
            ("client_secret", self.client_secret.reveal(), limits::ISSUER),
        ] {
            if text.trim().is_empty() || text.chars().count() > longest {
                return Err(SettingsError::Text { name: self.name.clone(), what });
            }
        }
        Ok(())
    }
}

/// A URL over TLS, or over plain HTTP to this very machine.
fn secure(what: &'static str, text: &str) -> Result<Url, SettingsError> {
    let wrong = |why: String| SettingsError::Url { what, url: text.to_owned(), why };
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !(url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url)) {
        return Err(wrong("wants https; plain http is for a loopback address".to_owned()));
    }
    let has_more = url.query().is_some() || url.fragment().is_some();
    if has_more || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("wants no user, query or fragment".to_owned()));
    }
    Ok(url)
}

/// Whether a URL leads to this very machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let by_name = || url.host_str().is_some_and(|host| host == "localhost" || host.ends_with(".localhost"));
    address(url).map_or_else(by_name, |address| address.is_loopback())
}

/// The address that stands in a URL, if it is no name.
pub(crate) fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let corp = Provider {
            name: "corp".parse().expect("a name"),
            title: "Example Corp".into(),
            issuer: "https://login.example/realm".into(),
            client_id: "holdfast".into(),
            client_secret: Secret::from_text("s"),
        };
        Settings { url: "https://holdfast.example".into(), providers: vec![corp] }
    }

    #[test]
    fn what_can_be_used_is_told_from_what_cannot() {
        let good = settings();
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.callback(&good.providers[0].name), "https://holdfast.example/login/corp/callback");
        for (url, fits) in [
            ("http://127.0.0.1:7070", true),
            ("http://[::1]:7070/", true),
            ("http://localhost:7070", true),
            ("http://holdfast.localhost:7070", true),
            ("http://holdfast.example", false),
            ("http://localhost.example", false),
            ("https://holdfast.example/below", false),
            ("https://me@holdfast.example", false),
            ("https://holdfast.example/?x", false),
            ("holdfast.example", false),
            ("ftp://127.0.0.1", false),
        ] {
            assert_eq!(Settings { url: url.into(), ..settings() }.check().is_ok(), fits, "{url}");
        }
        let changed = |change: fn(&mut Provider)| {
            let mut settings = settings();
            change(&mut settings.providers[0]);
            settings.check()
        };
        assert!(changed(|corp| corp.issuer = "http://login.example".into()).is_err());
        assert!(changed(|corp| corp.client_id.clear()).is_err());
        assert!(changed(|corp| corp.title = "x".repeat(65)).is_err());
        assert!(changed(|corp| corp.client_secret = Secret::from_text(" \n")).is_err());
        let twice =
            Settings { providers: [settings().providers, settings().providers].concat(), ..settings() };
        assert!(matches!(twice.check(), Err(SettingsError::Twice(_))));
        let none = Settings { providers: Vec::new(), ..settings() };
        assert_eq!(none.check(), Err(SettingsError::Count(0)));
    }
}
