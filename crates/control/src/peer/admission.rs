//! Asking to be made a member, by one that has nothing but a secret and the authority's fingerprint.
//!
//! The fingerprint came with the secret, so that neither is told to anybody else: the connection is
//! used only when the other side shows an authority of that fingerprint and a certificate of it.

use super::{
    frame::{Frame, Kind, Reader, write_one},
    line::text,
};
use bytes::Bytes;
use log::cluster::TransportError;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use types::limits;

/// Asks the member at this address; gives what it answers.
///
/// # Errors
/// *Unreachable*: certainly not heard. *Refused*: with the reason. *Lost*: it may have been heard;
/// asking again with the same request is safe.
pub async fn ask_to_join(
    address: &str,
    authority: [u8; 32],
    request: Bytes,
) -> Result<Bytes, TransportError> {
    let unreachable = |why: String| TransportError::Unreachable(format!("{address}: {why}"));
    let connect = TcpStream::connect(address);
    let stream = timeout(limits::PEER_CONNECT.into(), connect)
        .await
        .map_err(|_| unreachable(format!("no connection within {}", limits::PEER_CONNECT)))?
        .map_err(|error| unreachable(error.to_string()))?;
    let name = ServerName::try_from("member").expect("letters");
    let greeted =
        timeout(limits::PEER_GREETING.into(), TlsConnector::from(config(authority)).connect(name, stream));
    let mut stream = greeted
        .await
        .map_err(|_| unreachable(format!("no greeting within {}", limits::PEER_GREETING)))?
        .map_err(|error| {
            TransportError::Refused(format!(
                "{address} is not of the cluster that the secret is for: {error}"
            ))
        })?;
    let lost = |why: String| TransportError::Lost(format!("{address}: {why}"));
    write_one(&mut stream, &Frame::new(0, Kind::Join, request))
        .await
        .map_err(|error| lost(error.to_string()))?;
    // Certificates, keys and the list of members: one piece.
    match Reader::new(limits::PEER_PIECE).read(&mut stream).await {
        Ok(Frame { kind: Kind::Admitted, bytes, .. }) => Ok(bytes),
        Ok(Frame { kind: Kind::Parting, bytes, .. }) => Err(TransportError::Refused(text(&bytes))),
        Ok(Frame { kind: Kind::Unclear, bytes, .. }) => Err(TransportError::Lost(text(&bytes))),
        Ok(Frame { kind, .. }) => Err(TransportError::Refused(format!("it answers with {kind:?}"))),
        Err(error) => Err(lost(error.to_string())),
    }
}

fn config(authority: [u8; 32]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pinned = Arc::new(Pinned { authority, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Takes a certificate that the authority of this fingerprint has issued, to whichever member.
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = others.iter().find(|shown| <[u8; 32]>::from(Sha256::digest(shown)) == self.authority);
        let another = || rustls::Error::General("it shows another authority".into());
        let mut roots = RootCertStore::empty();
        roots.add(pinned.ok_or_else(another)?.clone().into_owned())?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let own = ParsedCertificate::try_from(own)?;
        verify_server_cert_signed_by_trust_anchor(&own, &roots, &[], now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("members speak TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
