//! Where a server is, and by what it is known.
//!
//! ```text
//!   http://127.0.0.1:7070                      plain: only on a loopback address
//!   https://10.0.0.5:7070#sha256=3f…           known by the fingerprint of its authority's certificate
//!   https://holdfast.example                   known by a name and the roots that this machine trusts
//! ```
//! The fingerprint is that of the certificate authority of a cluster, which all of its members share, or
//! of the very certificate that is shown. Nothing but it counts then: no name, no date of the authority,
//! no root of this machine.

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest as _, Sha256};
use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

/// What is said after the fingerprint that a server should have.
pub(crate) const EXPECTED: &str = " is expected of it";
/// What stands before a fingerprint.
const KIND: &str = "sha256=";

/// SHA-256 over a certificate, in DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// That of a certificate.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KIND)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("a fingerprint is {KIND} and 64 hexadecimal digits");
        let digits = text.strip_prefix(KIND).ok_or_else(form)?;
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(form());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| form())?;
        }
        Ok(Self(bytes))
    }
}

/// A server's address, and what it is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Without a slash at its end.
    pub url: String,
    /// The only authority or certificate that is believed; none means that of the machine's roots.
    pub pin: Option<Fingerprint>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        self.pin.map_or(Ok(()), |pin| write!(f, "#{pin}"))
    }
}

impl FromStr for Place {
    type Err = String;

    /// # Errors
    /// It is no URL of a server, names no fingerprint where there should be one, or would show a token to
    /// a network.
    fn from_str(text: &str) -> Result<Self, String> {
        let (url, pin) = match text.split_once('#') {
            Some((url, pin)) => (url, Some(pin.parse::<Fingerprint>()?)),
            None => (text, None),
        };
        let url = url.trim_end_matches('/').to_owned();
        let parsed = reqwest::Url::parse(&url);
        let host = parsed.as_ref().ok().and_then(|parsed| parsed.host_str());
        let Some(host) = host.filter(|_| url.starts_with("http://") || url.starts_with("https://")) else {
            return Err("the server's URL must begin with http:// or https://, and name a host".to_owned());
        };
        let plain = url.starts_with("http://");
        if plain && pin.is_some() {
            return Err("a fingerprint is of a certificate, and http:// shows none: use https://".to_owned());
        }
        if plain && !is_loopback(host) {
            return Err(format!(
                "http:// would show tokens to everybody between here and {host}: use https://, or a loopback \
                 address"
            ));
        }
        Ok(Self { url, pin })
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// How to connect to a server that is known by a fingerprint.
pub(crate) fn pinned(pin: Fingerprint) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let known = Arc::new(Known { pin, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(known)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Believes one authority, or one certificate.
#[derive(Debug)]
struct Known {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Fingerprint::of(certificate) == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(authority) = others.iter().find(|other| Fingerprint::of(other) == self.pin) else {
            let shown = Fingerprint::of(others.last().unwrap_or(certificate));
            return Err(Error::General(format!("it shows {shown}, and {}{EXPECTED}", self.pin)));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, others, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Place, String> {
        text.parse()
    }

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let pin = "ab".repeat(32);
        for text in [
            "http://127.0.0.1:7070".to_owned(),
            "http://[::1]:7070".to_owned(),
            "http://localhost".to_owned(),
            "https://holdfast.example".to_owned(),
            format!("https://10.0.0.5:7070#sha256={pin}"),
        ] {
            assert_eq!(read(&text).expect("a place").to_string(), text);
        }
        let place = read(&format!("https://10.0.0.5:7070/#sha256={}", pin.to_uppercase())).expect("a place");
        assert_eq!(place.to_string(), format!("https://10.0.0.5:7070#sha256={pin}"));
    }

    #[test]
    fn what_would_show_a_token_is_no_place() {
        let pin = "ab".repeat(32);
        for (text, why) in [
            ("http://10.0.0.5:7070", "would show tokens"),
            ("http://holdfast.example", "would show tokens"),
            ("http://127.0.0.1.example", "would show tokens"),
            ("http://0.0.0.0:7070", "would show tokens"),
            (&format!("http://127.0.0.1:7070#sha256={pin}"), "use https://"),
            ("https://10.0.0.5:7070#sha256=ab", "64 hexadecimal digits"),
            ("https://10.0.0.5:7070#", "64 hexadecimal digits"),
            ("ftp://10.0.0.5", "must begin with"),
            ("10.0.0.5:7070", "must begin with"),
            ("https://", "must begin with"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
