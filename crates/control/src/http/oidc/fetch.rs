//! Asking a provider: over TLS, within bounds, and nowhere that it has no business to send this server.
//!
//! A provider names the addresses of its own parts. The one that was configured may be anywhere; another
//! host that it names must be one of the internet, so that a provider that was taken over cannot have
//! this server knock at doors behind its own firewall. Nothing is followed elsewhere and nothing is sent
//! again, and no proxy is used.

use crate::providers::{address, is_loopback};
use reqwest::{
    RequestBuilder, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, CONTENT_TYPE},
};
use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};
use types::limits;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct FetchError(String);

/// What was answered.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// The way to one provider.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    client: reqwest::Client,
    reach: Reach,
}

/// Where a provider may send this server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reach {
    /// The host that was configured.
    host: String,
    /// It is on this machine, and then so is everything of it.
    here: bool,
}

impl Reach {
    fn of(issuer: &Url) -> Self {
        let here = issuer.scheme() == "http" && is_loopback(issuer);
        Self { host: issuer.host_str().unwrap_or_default().to_owned(), here }
    }

    fn allows(&self, url: &Url) -> Result<(), FetchError> {
        let host = url.host_str().unwrap_or_default();
        let refused = |why: &str| Err(FetchError(format!("{url} is not asked: {why}")));
        if self.here {
            return match is_loopback(url) {
                true => Ok(()),
                false => refused("a provider on this machine is on it with all its parts"),
            };
        }
        match address(url) {
            _ if url.scheme() != "https" => refused("a provider is asked over TLS only"),
            Some(address) if host != self.host && is_inside(address) => {
                refused("another host of the provider has to be one of the internet")
            }
            _ => Ok(()),
        }
    }

    fn allows_address(&self, host: &str, address: IpAddr) -> bool {
        match self.here {
            true => address.to_canonical().is_loopback(),
            false => host == self.host || !is_inside(address.to_canonical()),
        }
    }
}

/// Whether an address means something on this machine or in its own network only.
fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let [first, second, ..] = four.octets();
            let shared = first == 100 && (64..128).contains(&second);
            first == 0
                || shared
                || four.is_loopback()
                || four.is_private()
                || four.is_link_local()
                || four.is_broadcast()
                || four.is_multicast()
        }
        IpAddr::V6(six) => {
            six.is_loopback()
                || six.is_unspecified()
                || six.is_unique_local()
                || six.is_unicast_link_local()
                || six.is_multicast()
        }
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, host) = (self.clone(), name.as_str().to_owned());
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let all: Vec<SocketAddr> =
                found.filter(|address| reach.allows_address(&host, address.ip())).collect();
            if all.is_empty() {
                return Err(FetchError(format!("{host} has no address that may be asked")).into());
            }
            Ok(Box::new(all.into_iter()) as Addrs)
        })
    }
}

impl Fetch {
    /// The way to the provider of this URL.
    ///
    /// # Errors
    /// This machine has no certificates to hold a provider's against.
    pub(super) fn new(issuer: &Url) -> Result<Self, FetchError> {
        static CRYPTO: OnceLock<()> = OnceLock::new();
        // Whoever came first has installed one that serves as well.
        CRYPTO.get_or_init(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let reach = Reach::of(issuer);
        let builder = reqwest::Client::builder()
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limits::PROVIDER_WAIT.into())
            .timeout(limits::PROVIDER_WAIT.into())
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .dns_resolver(Arc::new(reach.clone()));
        // A machine without certificate roots can still ask itself.
        let builder = if reach.here { builder.tls_certs_only([]) } else { builder };
        let client = builder.build().map_err(|error| FetchError(whole(&error)))?;
        Ok(Self { client, reach })
    }

    /// Whether browsers may be sent there.
    pub(super) fn may_send_to(&self, url: &Url) -> Result<(), FetchError> {
        match url.scheme() == "https" || self.reach.here && is_loopback(url) {
            true => Ok(()),
            false => Err(FetchError(format!("nobody is sent to {url}: a login goes over TLS only"))),
        }
    }

    /// Reads what is at a place.
    ///
    /// # Errors
    /// There is no answer, or too much of one, or this server may not ask there.
    pub(super) async fn get(&self, url: &Url) -> Result<Told, FetchError> {
        self.ask(url, self.client.get(url.clone())).await
    }

    /// Sends a form, by whom if that goes into the head.
    ///
    /// # Errors
    /// As [`Fetch::get`].
    pub(super) async fn post(
        &self,
        url: &Url,
        form: String,
        by: Option<(String, String)>,
    ) -> Result<Told, FetchError> {
        let request = self.client.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = match by {
            Some((id, secret)) => request.basic_auth(id, Some(secret)),
            None => request,
        };
        self.ask(url, request.body(form)).await
    }

    /// One question, sent once.
    async fn ask(&self, url: &Url, request: RequestBuilder) -> Result<Told, FetchError> {
        let failed = |error: reqwest::Error| FetchError(whole(&error));
        self.reach.allows(url)?;
        let mut answer = request.header(ACCEPT, "application/json").send().await.map_err(failed)?;
        let mut told = Told { status: answer.status(), body: Vec::new() };
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if told.body.len() + piece.len() > limits::PROVIDER_ANSWER {
                let most = limits::PROVIDER_ANSWER;
                return Err(FetchError(format!("{url} answers with more than {most} bytes")));
            }
            told.body.extend_from_slice(&piece);
        }
        Ok(told)
    }
}

/// An error and its causes in one line.
pub(super) fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    #[test]
    fn a_provider_sends_this_server_to_itself_and_to_the_internet_only() {
        let corp = Reach::of(&url("https://10.1.2.3/realm"));
        for (asked, allowed) in [
            ("https://10.1.2.3/token", true),
            ("https://192.0.2.1/token", true),
            ("https://keys.example/jwks", true),
            ("http://10.1.2.3/token", false),
            ("https://10.1.2.4/token", false),
            ("https://127.0.0.1:7070/v1/whoami", false),
            ("https://[::1]/", false),
            ("https://[::ffff:169.254.169.254]/", false),
            ("https://169.254.169.254/latest", false),
            ("https://100.64.0.1/", false),
            ("https://0.0.0.0/", false),
            ("https://[fd00::1]/", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(corp.allows(&url(asked)).is_ok(), allowed, "{asked}");
        }
        let named = Reach::of(&url("https://login.example"));
        assert!(named.allows_address("login.example", [10, 0, 0, 1].into()), "where it was configured to be");
        assert!(!named.allows_address("keys.example", [10, 0, 0, 1].into()));
        assert!(named.allows_address("keys.example", [192, 0, 2, 1].into()));
    }

    #[test]
    fn a_provider_on_this_machine_stays_on_it() {
        let here = Reach::of(&url("http://localhost:9000"));
        for (asked, allowed) in [
            ("http://127.0.0.1:9000/token", true),
            ("http://login.example/", false),
            ("https://192.0.2.1/", false),
        ] {
            assert_eq!(here.allows(&url(asked)).is_ok(), allowed, "{asked}");
        }
        assert!(here.allows_address("localhost", [127, 0, 0, 1].into()));
        assert!(!here.allows_address("localhost", [192, 0, 2, 1].into()));
    }
}
