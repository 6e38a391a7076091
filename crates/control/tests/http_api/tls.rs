//! A server over TLS: known by the fingerprint of its cluster's authority, or by its certificate and a name.

use crate::world::{NODE_ONE, OWNER, World, name};
use api::{Client, ClientError, Fingerprint, NodeClient};
use futures_util::StreamExt;
use holdfast_control::{
    Options,
    peer::{Authority, Identity, Shown},
    router, serve_with,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use types::{DurationMs, NodeId, Timestamp, history::Held, limits};

/// What a member of a cluster of this name shows.
fn identity(authority: &Authority) -> Identity {
    authority.issue(NodeId::from_u128(7), Timestamp::from_ms(1_700_000_000_000)).expect("a certificate")
}

fn authority(cluster: &str) -> Authority {
    Authority::make(cluster, Timestamp::from_ms(1_700_000_000_000)).expect("an authority")
}

/// Serves this world over TLS as well.
async fn serve(world: &World, identity: &Identity) -> SocketAddr {
    let pin = Some(Fingerprint(identity.fingerprint().expect("a fingerprint")));
    let shown = Shown::always(identity.api().expect("a sound identity"));
    serve_this(world, shown, Options { pin, ..Options::default() }).await
}

async fn serve_this(world: &World, shown: Shown, options: Options) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let router = router(world.core.clone(), options);
    tokio::spawn(serve_with(listener, Some(shown), router, world.shutdown.clone()));
    address
}

fn at(address: SocketAddr, identity: &Identity) -> String {
    format!("https://{address}#{}", Fingerprint(identity.fingerprint().expect("a fingerprint")))
}

#[tokio::test]
async fn whoever_knows_the_fingerprint_is_served_and_a_join_secret_carries_it() {
    let world = World::start().await;
    let ours = authority("ours");
    let shown = identity(&ours);
    let address = serve(&world, &shown).await;
    let client = Client::new(&at(address, &shown), Some(OWNER.to_owned())).expect("a client");
    assert_eq!(client.whoami().await.expect("served").org, Some(name("main")));
    assert_eq!(client.server(), at(address, &shown));
    // Another member's certificate is as good: all have one authority.
    let other = ours.issue(NodeId::from_u128(8), Timestamp::from_ms(1_700_000_000_000)).expect("issued");
    let second = serve(&world, &other).await;
    let client = Client::new(&at(second, &shown), Some(OWNER.to_owned())).expect("a client");
    client.whoami().await.expect("served by the other");

    let request = api::JoinTokenRequest { expires_in: types::DurationMs::from_secs(60) };
    let receipt = client.create_join_token(world.id(), &request).await.expect("made");
    let secret = receipt.result.secret.expect("a secret");
    let pin = Fingerprint(shown.fingerprint().expect("a fingerprint")).to_string();
    assert!(secret.starts_with("hf") && secret.ends_with(&format!(".{pin}")), "{secret}");

    let node = NodeClient::new(&at(address, &shown), NODE_ONE).expect("a client");
    let mut plans = Box::pin(node.agent_stream(Held::default()).await.expect("a stream"));
    plans.next().await.expect("goes on").expect("a plan");
}

#[tokio::test]
async fn another_authority_is_refused_with_both_shown_and_is_sent_nothing() {
    let world = World::start().await;
    let (ours, theirs) = (identity(&authority("ours")), identity(&authority("theirs")));
    let head = world.core.head().event;
    let address = serve(&world, &theirs).await;
    let client = Client::new(&at(address, &ours), Some(OWNER.to_owned())).expect("a client");
    let request = api::JoinTokenRequest { expires_in: types::DurationMs::from_secs(60) };
    let error = client.create_join_token(world.id(), &request).await.expect_err("not the one that is meant");
    assert!(matches!(error, ClientError::NotSent { .. }), "{error:?}");
    let text = error.to_string();
    for identity in [&ours, &theirs] {
        let print = Fingerprint(identity.fingerprint().expect("a fingerprint")).to_string();
        assert!(text.contains(&print), "{text}");
    }
    assert_eq!(world.core.head().event, head);
    // Without a fingerprint the roots of this machine are asked, and none knows it.
    let unpinned = Client::new(&format!("https://{address}"), Some(OWNER.to_owned())).expect("a client");
    let error = unpinned.whoami().await.expect_err("nobody vouches for it");
    assert!(matches!(error, ClientError::NotSent { .. }), "{error:?}");
    assert!(error.to_string().contains("URL#sha256="), "{error}");
}

/// The authority's own certificate in the chain proves nothing: it has to have issued the other one.
#[tokio::test]
async fn showing_the_authority_without_its_signature_is_not_enough() {
    let world = World::start().await;
    let (ours, theirs) = (identity(&authority("ours")), identity(&authority("theirs")));
    let pem = |text: &str| -> rustls::pki_types::CertificateDer<'static> {
        rustls::pki_types::pem::PemObject::from_pem_slice(text.as_bytes()).expect("a certificate")
    };
    let [_, certificate, key] = theirs.parts();
    let chain = vec![pem(certificate), pem(ours.parts()[0])];
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a configuration");
    let address = serve_this(&world, Shown::always(config), Options::default()).await;
    let client = Client::new(&at(address, &ours), Some(OWNER.to_owned())).expect("a client");
    let error = client.whoami().await.expect_err("it was not issued by the one that is meant");
    assert!(matches!(error, ClientError::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn plain_http_is_told_that_tls_is_spoken_and_silence_holds_nobody_up() {
    let world = World::start().await;
    let ours = identity(&authority("ours"));
    let address = serve(&world, &ours).await;
    // One that says nothing at all keeps no other from being served.
    let silent = TcpStream::connect(address).await.expect("connected");
    let mut plain = TcpStream::connect(address).await.expect("connected");
    let asked = format!("GET /v1/whoami HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {OWNER}\r\n\r\n");
    plain.write_all(asked.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), plain.read_to_end(&mut answer)).await;
    read.expect("it is closed").expect("a whole answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("speaks TLS"), "{answer}");
    // Neither TLS nor HTTP.
    let mut noise = TcpStream::connect(address).await.expect("connected");
    noise.write_all(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).await.expect("sent");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), noise.read_to_end(&mut answer)).await;
    read.expect("it is closed").ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let client = Client::new(&at(address, &ours), Some(OWNER.to_owned())).expect("a client");
    client.whoami().await.expect("served meanwhile");
    drop(silent);
    let plain = Client::new(&format!("http://{address}"), Some(OWNER.to_owned())).expect("a client");
    let error = plain.whoami().await.expect_err("nothing is served in plain").to_string();
    assert!(error.contains("speaks TLS"), "{error}");
    // The other way round, too.
    let known = at(address, &ours);
    let (_, pin) = known.split_once('#').expect("a fingerprint");
    let encrypted = format!("{}#{pin}", world.url().replace("http://", "https://"));
    let client = Client::new(&encrypted, None).expect("a client");
    let error = client.whoami().await.expect_err("there is no TLS").to_string();
    assert!(error.contains("speaks no TLS"), "{error}");
    // Off loopback plain HTTP is not even tried.
    let refused =
        Client::new("http://192.0.2.1:7070", Some(OWNER.to_owned())).expect_err("would show the token");
    assert!(matches!(refused, ClientError::NotSent { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_certificate_that_ends_is_replaced_while_the_server_runs() {
    let world = World::start().await;
    let now = rt::Clock::now(&rt::SystemClock);
    // This server's clock was so far behind that what it makes has ended for everybody else.
    let behind = now.minus(limits::API_CERTIFICATE_LIFE).minus(DurationMs::from_secs(3600));
    let clock = Arc::new(rt::SimClock::new(behind));
    let ours = Authority::make("ours", behind).expect("an authority");
    let print = identity(&ours).fingerprint().expect("a fingerprint");
    let shown = Shown::issued(ours, Vec::new(), clock.clone());
    let address = serve_this(&world, shown, Options::default()).await;
    let client = Client::new(&format!("https://{address}#{}", Fingerprint(print)), Some(OWNER.to_owned()));
    let client = client.expect("a client");
    let error = client.whoami().await.expect_err("it has ended").to_string();
    assert!(error.contains("expired") && error.contains("clock"), "{error}");
    clock.set(now);
    client.whoami().await.expect("another is shown");
}

/// A client that goes by names and the authority's certificate, and speaks these versions.
fn with_authority(
    identity: &Identity,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ClientConfig> {
    let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(identity.parts()[0].as_bytes());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.expect("a certificate")).expect("of an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    Arc::new(config.expect("versions").with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test]
async fn whoever_has_the_authoritys_certificate_goes_by_address_and_name_from_tls_1_2_on() {
    let world = World::start().await;
    let ours = authority("ours");
    let known = identity(&ours);
    let names = holdfast_control::peer::hosts(["one.example:7071"]);
    let shown = Shown::issued(ours, names, Arc::new(rt::SystemClock));
    let address = serve_this(&world, shown, Options::default()).await;
    let greet = async |config: Arc<rustls::ClientConfig>, name: &'static str| {
        let stream = TcpStream::connect(address).await.expect("connected");
        let name = rustls::pki_types::ServerName::try_from(name).expect("a name");
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
        std::io::Result::Ok(stream.get_ref().1.protocol_version().expect("agreed"))
    };
    use rustls::{
        ProtocolVersion,
        version::{TLS12, TLS13},
    };
    for name in ["127.0.0.1", "localhost", "one.example"] {
        let agreed = greet(with_authority(&known, &[&TLS13, &TLS12]), name).await.expect(name);
        assert_eq!(agreed, ProtocolVersion::TLSv1_3);
        let agreed = greet(with_authority(&known, &[&TLS12]), name).await.expect(name);
        assert_eq!(agreed, ProtocolVersion::TLSv1_2);
    }
    let error =
        greet(with_authority(&known, &[&TLS13]), "elsewhere.example").await.expect_err("not its name");
    assert!(error.to_string().contains("not valid for name"), "{error}");

    // The same greeting but for its version is answered as TLS 1.2, and refused as 1.1 with the alert that
    // says why (`protocol_version`, RFC 5246, 7.2.2).
    let said = async |minor: u8| {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(&hello(minor)).await.expect("sent");
        let mut record = [0; 7];
        stream.read_exact(&mut record).await.expect("a record");
        record
    };
    assert_eq!(said(3).await[0], 22, "a greeting");
    assert_eq!(said(2).await, [21, 3, 3, 0, 2, 2, 70]);
}

/// The greeting of a client whose newest TLS is 1.`minor - 1`.
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session; ECDHE-ECDSA with AES-128; no compression; groups, point formats, signatures.
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x09, 1, 0]);
    body.extend([0, 22, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3]);
    let length = u8::try_from(body.len()).expect("short");
    [vec![22, 3, 1, 0, length + 4, 1, 0, 0, length], body].concat()
}
