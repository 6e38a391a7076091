//! What a person writes to name an image, and what it means.
//!
//! `registry.example:5000/team/shop:1.4`, `…@sha256:…`, or `oci:/absolute/path[:tag]` for an OCI
//! layout on this machine. Short names mean what they mean elsewhere: `busybox` is
//! `docker.io/library/busybox:latest`.

use std::{net::IpAddr, path::PathBuf, str::FromStr};
use types::{Digest, ParseError};

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A repository in a registry.
    Registry(RegistryName),
    /// An OCI layout: a directory.
    Layout(LayoutName),
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryName {
    /// Host and port, as a URL has them.
    pub registry: String,
    /// The repository, without a leading slash.
    pub repository: String,
    /// The tag; `latest` where neither tag nor digest is written.
    pub tag: Option<String>,
    /// The digest, where one is written. It wins over the tag.
    pub digest: Option<Digest>,
}

/// An image in an OCI layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutName {
    /// The directory, absolute.
    pub path: PathBuf,
    /// The tag; without one the layout must hold one image only.
    pub tag: Option<String>,
}

/// A longer reference is no name that anybody would write.
const REFERENCE_CHARS: usize = 1024;

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |why| ParseError::new("image reference", text, why);
        if text.len() > REFERENCE_CHARS || text.chars().any(char::is_control) {
            return Err(refuse("wants at most 1024 characters, none of them a control character"));
        }
        match text.strip_prefix("oci:") {
            Some(rest) => layout(rest).map(Self::Layout).map_err(refuse),
            None => registry(text).map(Self::Registry).map_err(refuse),
        }
    }
}

fn layout(rest: &str) -> Result<LayoutName, &'static str> {
    if !rest.starts_with('/') {
        return Err("wants an absolute path after oci:, as in oci:/srv/images/shop:1.4");
    }
    // A tag has no slash, so a colon before the last slash belongs to the path.
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(str::is_empty) || path.is_empty() {
        return Err("wants a path, and a tag after the colon, as in oci:/srv/images/shop:1.4");
    }
    Ok(LayoutName { path: path.into(), tag: tag.map(str::to_owned) })
}

fn registry(text: &str) -> Result<RegistryName, &'static str> {
    // The usual grammar has no IPv6 address; take it off and put it back.
    let (address, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once('/')) {
        Some((host, rest)) => (Some(bracketed(host)?), format!("placeholder.invalid/{rest}")),
        None => (None, text.to_owned()),
    };
    let parsed: oci_client::Reference =
        rest.parse().map_err(|_| "wants registry/name:tag, name@sha256:…, or oci:/absolute/path:tag")?;
    let digest = match parsed.digest() {
        Some(digest) => {
            Some(digest.parse().map_err(|_| "wants sha256: and 64 lower-case hexadecimal digits after @")?)
        }
        None => None,
    };
    Ok(RegistryName {
        registry: address.unwrap_or_else(|| parsed.resolve_registry().to_owned()),
        repository: parsed.repository().to_owned(),
        tag: parsed.tag().map(str::to_owned),
        digest,
    })
}

fn bracketed(host: &str) -> Result<String, &'static str> {
    const WHY: &str = "wants [address]:port before the name where the registry is an IPv6 address";
    let (address, port) = host.split_once(']').ok_or(WHY)?;
    address.parse::<std::net::Ipv6Addr>().map_err(|_| WHY)?;
    match port.strip_prefix(':') {
        Some(port) if port.parse::<u16>().is_ok() => {}
        None if port.is_empty() => {}
        _ => return Err(WHY),
    }
    Ok(format!("[{host}"))
}

impl RegistryName {
    /// `http` for a registry on this machine, `https` for every other.
    pub fn scheme(&self) -> &'static str {
        if self.is_loopback() { "http" } else { "https" }
    }

    fn is_loopback(&self) -> bool {
        let host = match self.registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.registry.split(':').next().unwrap_or_default(),
        };
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> RegistryName {
        match text.parse() {
            Ok(Reference::Registry(name)) => name,
            other => panic!("{text} became {other:?}"),
        }
    }

    #[test]
    fn registries_are_named_as_people_name_them() {
        let name = parsed("127.0.0.1:5000/team/shop:1.4");
        assert_eq!((name.registry.as_str(), name.repository.as_str()), ("127.0.0.1:5000", "team/shop"));
        assert_eq!((name.tag.as_deref(), name.scheme()), (Some("1.4"), "http"));
        let short = parsed("busybox");
        assert_eq!((short.repository.as_str(), short.tag.as_deref()), ("library/busybox", Some("latest")));
        assert_eq!(short.scheme(), "https");
        let pinned = parsed(&format!("registry.example/shop@sha256:{}", "ab".repeat(32)));
        assert!(pinned.digest.is_some());
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (text, scheme) in [
            ("localhost:5000/x", "http"),
            ("127.9.9.9:5000/x", "http"),
            ("[::1]:5000/x:2", "http"),
            ("[fd00::1]:5000/x", "https"),
            ("127.0.0.1.evil.example/x", "https"),
            ("localhost.evil.example:5000/x", "https"),
            ("10.0.0.1:5000/x", "https"),
        ] {
            assert_eq!(parsed(text).scheme(), scheme, "{text}");
        }
        assert_eq!(parsed("[::1]:5000/x:2").registry, "[::1]:5000");
    }

    #[test]
    fn layouts_are_absolute_paths() {
        let Ok(Reference::Layout(name)) = "oci:/srv/a:b/shop:1.4".parse() else { panic!("a layout") };
        assert_eq!((name.path.to_str(), name.tag.as_deref()), (Some("/srv/a:b/shop"), Some("1.4")));
        let Ok(Reference::Layout(name)) = "oci:/srv/a:b/shop".parse() else { panic!("a layout") };
        assert_eq!((name.path.to_str(), name.tag), (Some("/srv/a:b/shop"), None));
        for bad in [
            "oci:./x",
            "oci:",
            "oci:/x:",
            "",
            "UPPER/Case",
            "a b",
            "x@sha256:12",
            "[::1/x",
            "[no]:1/x",
            "a\nb",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }
}
