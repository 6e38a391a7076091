//! A registry over HTTP, as the OCI distribution specification describes it.
//!
//! References and the token exchange are `oci-client`'s. The two requests that matter are made
//! here, because that client takes a manifest of any length into memory, and this one must not.

use crate::{FetchError, RegistryName, document::DOCUMENTS};
use oci_client::{
    RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use reqwest::{Response, StatusCode, header, redirect};
use std::{sync::OnceLock, time::Duration};
use types::{Digest, limits};

/// Talks to one registry about one repository.
pub(crate) struct Registry {
    name: RegistryName,
    place: String,
    http: reqwest::Client,
}

/// Redirects followed for one request; blobs are often kept elsewhere.
const REDIRECTS: usize = 5;

/// Text of a refusal that is repeated to people.
const REFUSAL_CHARS: usize = 300;

impl Registry {
    pub(crate) fn new(name: RegistryName) -> Result<Self, FetchError> {
        let place = format!("the registry {}", name.registry);
        let http = client(name.scheme()).map_err(|error| FetchError::Unreachable {
            place: place.clone(),
            why: format!("no TLS here ({}); install ca-certificates", chain(&error)),
        })?;
        Ok(Self { name, place, http })
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// What is asked for where no digest is known: the written one, or the tag.
    pub(crate) fn wanted(&self) -> String {
        match (&self.name.digest, &self.name.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }

    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.name.digest.as_ref()
    }

    /// The bytes of a manifest or index, unchecked.
    pub(crate) async fn document(&self, tag_or_digest: &str) -> Result<Vec<u8>, FetchError> {
        let mut response = self.get("manifests", tag_or_digest, DOCUMENTS).await?;
        let limit = limits::IMAGE_DOCUMENT.bytes() as usize;
        let mut bytes = Vec::new();
        while let Some(more) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + more.len() > limit {
                return Err(FetchError::Invalid {
                    place: self.place.clone(),
                    what: self.what(tag_or_digest),
                    why: format!("its manifest has more than {}", limits::IMAGE_DOCUMENT),
                });
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    }

    /// The answer that carries a blob, unchecked.
    pub(crate) async fn blob(&self, digest: &Digest) -> Result<Response, FetchError> {
        self.get("blobs", digest.as_str(), "*/*").await
    }

    async fn get(&self, kind: &str, which: &str, accept: &str) -> Result<Response, FetchError> {
        let RegistryName { registry, repository, .. } = &self.name;
        let url = format!("{}://{registry}/v2/{repository}/{kind}/{which}", self.name.scheme());
        let ask = |token: Option<String>| {
            let request = self.http.get(&url).header(header::ACCEPT, accept);
            match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            }
            .send()
        };
        let mut response = ask(None).await.map_err(|error| self.unreachable(&error))?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(token) = self.token().await?
        {
            response = ask(Some(token)).await.map_err(|error| self.unreachable(&error))?;
        }
        if response.status() == StatusCode::OK {
            Ok(response)
        } else {
            Err(self.refusal(which, response).await)
        }
    }

    /// An anonymous token, as public images of large registries want one.
    async fn token(&self) -> Result<Option<String>, FetchError> {
        let RegistryName { registry, repository, .. } = &self.name;
        let protocol = match self.name.scheme() {
            "http" => ClientProtocol::Http,
            _ => ClientProtocol::Https,
        };
        let config = ClientConfig {
            protocol,
            connect_timeout: Some(limits::IMAGE_CONNECT.into()),
            read_timeout: Some(limits::IMAGE_STALL.into()),
            ..ClientConfig::default()
        };
        let client = oci_client::Client::new(config);
        let image = oci_client::Reference::with_tag(registry.clone(), repository.clone(), "latest".into());
        let asked = client.auth(&image, &RegistryAuth::Anonymous, RegistryOperation::Pull);
        match tokio::time::timeout(Duration::from(limits::IMAGE_STALL), asked).await {
            Ok(Ok(token)) => Ok(token),
            // A refusal is told by the answer to the request itself.
            Ok(Err(oci_client::errors::OciDistributionError::AuthenticationFailure(_))) => Ok(None),
            Ok(Err(error)) => Err(FetchError::Unreachable { place: self.place.clone(), why: chain(&error) }),
            Err(_) => Err(self.slow()),
        }
    }

    fn what(&self, which: &str) -> String {
        let mark = if which.starts_with("sha256:") { '@' } else { ':' };
        format!("{}{mark}{which}", self.name.repository)
    }

    async fn refusal(&self, which: &str, mut response: Response) -> FetchError {
        let status = response.status();
        let text = response.chunk().await.ok().flatten().unwrap_or_default();
        let text: String = String::from_utf8_lossy(&text)
            .chars()
            .map(|each| if each.is_control() { ' ' } else { each })
            .take(REFUSAL_CHARS)
            .collect();
        let (place, what) = (self.place.clone(), self.what(which));
        match status.as_u16() {
            404 | 410 => FetchError::NotFound {
                place,
                what,
                why: "check the name and the tag, and that it was pushed".into(),
            },
            401 | 403 => FetchError::NotFound {
                place,
                what,
                why: format!(
                    "it answers {status}; the name is wrong, or the image is private, which cannot be pulled yet"
                ),
            },
            408 | 429 | 300..=399 | 500..=599 => {
                FetchError::Unreachable { place, why: format!("it answers {status} {}", text.trim()) }
            }
            _ => FetchError::Invalid { place, what, why: format!("the answer is {status} {}", text.trim()) },
        }
    }

    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> FetchError {
        FetchError::Unreachable { place: self.place.clone(), why: chain(error) }
    }

    fn slow(&self) -> FetchError {
        FetchError::Unreachable {
            place: self.place.clone(),
            why: format!("no answer within {}", limits::IMAGE_STALL),
        }
    }
}

fn client(scheme: &str) -> reqwest::Result<reqwest::Client> {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    // Whoever came first has installed one that serves as well.
    PROVIDER.get_or_init(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let redirects = redirect::Policy::custom(|attempt| {
        let secure = attempt.previous().first().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS {
            attempt.error("too many redirects")
        } else if secure && attempt.url().scheme() != "https" {
            attempt.error("a redirect from https to plain http")
        } else {
            attempt.follow()
        }
    });
    let builder = reqwest::Client::builder()
        .connect_timeout(limits::IMAGE_CONNECT.into())
        .read_timeout(limits::IMAGE_STALL.into())
        .redirect(redirects);
    match scheme {
        // No certificates are wanted, so a machine without any can still pull from itself; and no
        // proxy can reach our own loopback.
        "http" => builder.no_proxy().tls_certs_only([]).build(),
        _ => builder.build(),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
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
